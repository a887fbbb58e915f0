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


def statistics(pixels_Nhwc: np.ndarray) -> np.ndarray:
    """Of uint8 [..., h, w, 3] as the model gets it: float32 [..., COUNT]. Large pictures are halved first.

    Many at once cost a quarter of as many single calls.
    """
    x_Nchw = np.ascontiguousarray(np.moveaxis(pixels_Nhwc, -1, -3), np.float32) / 255  # sums over planes are fast
    while x_Nchw.shape[-2] * x_Nchw.shape[-1] > _PIXELS:
        x_Nchw = _halved(x_Nchw)
    red, green, blue = np.moveaxis(x_Nchw, -3, 0)
    first, second = red - green, (red + green) / 2 - blue
    found = [_mean(colour) for colour in (red, green, blue)] + [_deviation(colour) for colour in (red, green, blue)]
    found += [_mean(np.abs(first)), _mean(np.abs(second)), _deviation(first), _deviation(second)]
    grey = octave = (red + green + blue) / 3
    for number in range(_OCTAVES):
        for axis in (-2, -1):
            found += _steps(np.diff(octave, axis=axis), with_flat=number == 0)
        octave = _halved(octave)
    around = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    strength, rms = _strength(np.abs(4 * grey[..., 1:-1, 1:-1] - around))
    low, high = _quantile(grey, 0.05, 0.95)
    return np.stack([*found, np.log(strength), np.log(rms), high - low], axis=-1).astype(np.float32)


def _steps(step_Nhw: np.ndarray, with_flat: bool) -> list[np.ndarray]:
    """Log of their strength, log of how rare they are; and share of pixels without any."""
    size_Nhw = np.abs(step_Nhw)
    strength, rms = _strength(size_Nhw)
    found = [np.log(strength), np.log(rms / strength)]
    if with_flat:
        found.append(_mean(size_Nhw < _LEVEL) if size_Nhw.size else np.ones_like(strength))
    return found


def _strength(size_Nhw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of absolute values, and root of the mean of their squares; of nothing, the least."""
    if not size_Nhw.size:
        least = np.full(size_Nhw.shape[:-2], _LEAST)
        return least, least
    return _mean(size_Nhw) + _LEAST, np.sqrt(_mean_square(_flat(size_Nhw))) + _LEAST


def _flat(x_Nhw: np.ndarray) -> np.ndarray:
    return x_Nhw.reshape(*x_Nhw.shape[:-2], -1)


def _mean(x_Nhw: np.ndarray) -> np.ndarray:
    return _flat(x_Nhw).mean(axis=-1)


def _mean_square(x_NP: np.ndarray) -> np.ndarray:
    return np.einsum('...p,...p->...', x_NP, x_NP) / x_NP.shape[-1]  # no array of squares is written


def _deviation(x_Nhw: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean_square(_flat(x_Nhw) - _flat(x_Nhw).mean(axis=-1, keepdims=True)))


def _quantile(x_Nhw: np.ndarray, *shares: float) -> list[np.ndarray]:
    """As np.quantile, of few shares in a quarter of its time."""
    x_NP = np.sort(_flat(x_Nhw), axis=-1)
    last = x_NP.shape[-1] - 1
    below = [int(share * last) for share in shares]
    part = [share * last - k for share, k in zip(shares, below, strict=True)]
    return [x_NP[..., k] * (1 - p) + x_NP[..., min(k + 1, last)] * p for k, p in zip(below, part, strict=True)]


def _halved(x: np.ndarray) -> np.ndarray:
    """Means of two by two pixels, [..., h, w]."""
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    even = x[..., :height, :width]
    return (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4
