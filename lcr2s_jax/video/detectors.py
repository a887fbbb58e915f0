"""Where people stand in a frame: an interface, and what implements it.

A detector is any callable: frame uint8 [h, w, 3] RGB -> rows of left, top, right, bottom in pixels, closely around one
person each, and a score of 0 to 1, higher where it is surer. `--detector=module:callable` takes anybody's.
"""

import importlib
from collections.abc import Callable, Sequence

import numpy as np

from lcr2s_jax.errors import DataError
from lcr2s_jax.video import frames as video
from lcr2s_jax.video import rtdetr
from lcr2s_jax.video import tracker as tracks

Detector = Callable[[np.ndarray], Sequence[Sequence[float]]]

_LONGEST = 960  # pixels of a frame's longer side that HOG looks at: twice that takes four times as long
_ENLARGED = 2.0  # at most: more shows nothing that was not recorded
_WINDOW = (64, 128)  # pixels, width and height, of what it was trained on
_BODY = (0.25, 0.125)  # share of that window beside and above the person: 16 pixels on every side (Dalal & Triggs)
_SURE = 0.0  # margin of the support vector machine, above which a window counts: its own boundary
# Share of windows that are a person, by their margin: 1 / (1 + exp(-slope * (margin - half))), fitted to 218 windows of
# other footage than that of benchmarks/video.py (TUD-Campus, TUD-Stadtmitte of MOT15).
_SLOPE, _HALF = 1.6, 0.85
_SAME = 0.5  # overlap from which two windows are one person


def whole_frame(image_hwc: np.ndarray) -> list[list[float]]:
    """The frame is the person: for videos of crops, and for tests."""
    height, width = image_hwc.shape[:2]
    return [[0, 0, width, height, 1.0]]


class Hog:
    """OpenCV's HOG people detector (Dalal & Triggs, 2005); its weights come with OpenCV.

    It finds upright, whole people from about 100 pixels of height on, in a frame brought to 960, and takes lamp posts
    for people now and then.
    """

    def __init__(self):
        self._cv2 = video.opencv()
        self._hog = self._cv2.HOGDescriptor()
        self._hog.setSVMDetector(self._cv2.HOGDescriptor_getDefaultPeopleDetector())

    def __call__(self, image_hwc: np.ndarray) -> np.ndarray:
        """float [n, 5], the surest first."""
        height, width = image_hwc.shape[:2]
        # at least one window must fit
        scale = max(min(_ENLARGED, _LONGEST / max(height, width)), _WINDOW[0] / width, _WINDOW[1] / height)
        small = self._cv2.resize(image_hwc, (round(width * scale), round(height * scale)))
        found, score = self._hog.detectMultiScale(small, hitThreshold=_SURE, winStride=(8, 8), scale=1.05)
        if not len(found):
            return np.empty((0, 5))
        left, top, wide, high = np.asarray(found, float).T / scale
        beside, above = _BODY[0] * wide, _BODY[1] * high
        box_n4 = np.stack([left + beside, top + above, left + wide - beside, top + high - above], axis=1)
        return _surest(np.column_stack([box_n4, 1 / (1 + np.exp(-_SLOPE * (np.ravel(score) - _HALF)))]))


def open_detector(name: str) -> Detector:
    """'hog', 'frame', 'rtdetr', weights of a detector (hub name, folder), or module:callable. Raises DataError."""
    if name in ('hog', 'frame'):
        return Hog() if name == 'hog' else whole_frame
    if rtdetr.is_name(name):
        return rtdetr.Rtdetr(name)
    module, _, attribute = name.partition(':')
    try:
        found = getattr(importlib.import_module(module), attribute) if module and attribute else None
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f'--detector: {name} cannot be imported ({error}); is its folder in PYTHONPATH?') from None
    if not callable(found):
        raise DataError(
            f"--detector: found '{name}', expected hog, frame, rtdetr, the folder or hub name of a detector's weights, "
            'or module:callable'
        )
    return found


def detect(detector: Detector, image_hwc: np.ndarray) -> np.ndarray:
    """float64 [n, 5] of a detector, within the frame, scores at most 1, no box below one pixel. Raises DataError."""
    try:
        found = np.array(list(detector(image_hwc)), np.float64).reshape(-1, 5)
    except (TypeError, ValueError) as error:
        raise DataError(
            f'--detector: found something else than rows of left, top, right, bottom and score ({error})'
        ) from None
    height, width = image_hwc.shape[:2]
    found[:, 4] = np.minimum(found[:, 4], 1)
    found[:, :4] = np.clip(found[:, :4], 0, [width, height, width, height])
    whole = (found[:, 2] - found[:, 0] >= 1) & (found[:, 3] - found[:, 1] >= 1) & np.isfinite(found).all(axis=1)
    return found[whole]


def _surest(found_n5: np.ndarray) -> np.ndarray:
    """Of windows on the same person the one with the highest score."""
    left, kept = found_n5[np.argsort(-found_n5[:, 4], kind='stable')], []
    while len(left):
        kept.append(left[0])
        left = left[tracks.overlap(left[:1, :4], left[:, :4])[0] < _SAME]
    return np.array(kept)
