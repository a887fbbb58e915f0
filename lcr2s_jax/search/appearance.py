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
    x_chw = np.ascontiguousarray(pixels_hwc.transpose(2, 0, 1), np.float32) / 255  # sums over planes are the fast ones
    while x_chw[0].size > _PIXELS:
        x_chw = _halved(x_chw)
    red, green, blue = x_chw
    first, second = red - green, (red + green) / 2 - blue
    found = [*x_chw.mean(axis=(1, 2)), *x_chw.std(axis=(1, 2))]
    found += [np.abs(first).mean(), np.abs(second).mean(), first.std(), second.std()]
    grey = octave = (red + green + blue) / 3
    for number in range(_OCTAVES):
        for axis in (0, 1):
            found += _steps(np.diff(octave, axis=axis), with_flat=number == 0)
        octave = _halved(octave)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    strength, rms = _strength(np.abs(4 * grey[1:-1, 1:-1] - around))
    low, high = np.interp((0.05, 0.95), np.linspace(0, 1, grey.size), np.sort(grey, axis=None))  # a quick np.quantile
    return np.array([*found, np.log(strength), np.log(rms), high - low], np.float32)


def _steps(step_hw: np.ndarray, with_flat: bool) -> list[float]:
    """Log of their strength, log of how rare they are; and share of pixels without any."""
    size_hw = np.abs(step_hw)
    strength, rms = _strength(size_hw)
    found = [np.log(strength), np.log(rms / strength)]
    return found + [np.count_nonzero(size_hw < _LEVEL) / size_hw.size if size_hw.size else 1.0] * with_flat


def _strength(size_hw: np.ndarray) -> tuple[float, float]:
    """Mean of absolute values, and root of the mean of their squares; of nothing, the least."""
    if not size_hw.size:
        return _LEAST, _LEAST
    return float(size_hw.mean()) + _LEAST, float(np.sqrt((size_hw**2).mean())) + _LEAST


def _halved(x: np.ndarray) -> np.ndarray:
    """Means of two by two pixels, [..., h, w]."""
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    even = x[..., :height, :width]
    return (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4
