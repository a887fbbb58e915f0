"""What a picture is made of, whatever it shows: colours, edges and grain, in 27 numbers that need no model.

    mean and deviation of red, green, blue; strength and spread of two colour differences; of three octaves of the grey
    picture, the strength of its steps from pixel to pixel, how rare they are, and the share of flat ones; the strength
    of its Laplacian and its contrast

Drawings, photographs and logos differ in these more than in an embedding, which was trained to see people (ours,
measured by benchmarks/domain.py). `domain` compares them with val's.
"""

import numpy as np

COUNT = 27  # numbers
_PIXELS = 8192  # of a picture at most; what was measured has 4,608, and looking should cost no more than decoding
_OCTAVES = 3
_LEAST = 1e-3  # of a step, in units of the range of grey: what is less counts as that
_LEVEL = 0.9 / 255  # less than a step of one level, however it is rounded


def statistics(pixels_hwc: np.ndarray) -> np.ndarray:
    """Of uint8 [h, w, 3] as the model gets it: float32 [COUNT]. A large picture is halved first."""
    x = pixels_hwc.astype(np.float32) / 255
    while x.shape[0] * x.shape[1] > _PIXELS:
        x = _halved(x)
    first, second = x[..., 0] - x[..., 1], (x[..., 0] + x[..., 1]) / 2 - x[..., 2]
    found = [*x.mean(axis=(0, 1)), *x.std(axis=(0, 1))]
    found += [np.abs(first).mean(), np.abs(second).mean(), first.std(), second.std()]
    grey = octave = x.mean(axis=2)
    for number in range(_OCTAVES):
        for axis in (0, 1):
            found += _steps(np.diff(octave, axis=axis))[: 3 if number == 0 else 2]
        octave = _halved(octave)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    strength, rms = _strength(4 * grey[1:-1, 1:-1] - around)
    low, high = np.quantile(grey, (0.05, 0.95))
    return np.array([*found, np.log(strength), np.log(rms), high - low], np.float32)


def _steps(step_hw: np.ndarray) -> list[float]:
    """Log of their strength, log of how rare they are, share of pixels without any."""
    strength, rms = _strength(step_hw)
    flat = float((np.abs(step_hw) < _LEVEL).mean()) if step_hw.size else 1.0
    return [np.log(strength), np.log(rms / strength), flat]


def _strength(x: np.ndarray) -> tuple[float, float]:
    """Mean of the absolute values, and root of the mean of the squares; of nothing, the least."""
    if not x.size:
        return _LEAST, _LEAST
    return float(np.abs(x).mean()) + _LEAST, float(np.sqrt((x**2).mean())) + _LEAST


def _halved(x: np.ndarray) -> np.ndarray:
    """Means of two by two pixels, [h, w, ...]."""
    height, width = (side // 2 * 2 for side in x.shape[:2])
    even = x[:height, :width]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
