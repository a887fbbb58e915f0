"""Frames of a video file, so many seconds apart. OpenCV reads them; it is an extra, imported when it is needed."""

import hashlib
import math
import pathlib
from collections.abc import Iterator

import numpy as np

from lcr2s_jax.errors import DataError


class VideoError(DataError):
    """This file cannot be used; the message is half a sentence. Others may be."""


def opencv():
    """The module cv2. Raises DataError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise DataError(
            f'--video: found no OpenCV ({error}); it is an extra: python -m pip install -r requirements-video.txt'
        ) from None
    return cv2


def fingerprint(path: pathlib.Path) -> str:
    """SHA-256 in hex of a file's bytes. Raises VideoError."""
    try:
        with path.open('rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:
        raise VideoError(error.strerror or 'cannot be read') from None


def frames(path: pathlib.Path, every: float) -> Iterator[tuple[float, np.ndarray]]:
    """The first frame at or after 0, `every`, 2 `every`, ... seconds.

    Yields:
      Seconds since the beginning, and uint8 [h, w, 3], RGB.

    Raises:
      VideoError: it cannot be opened.
    """
    cv2 = opencv()
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise VideoError('no video that OpenCV can open')
        rate, number, due = capture.get(cv2.CAP_PROP_FPS), 0, 0.0
        while capture.grab():
            told = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            seconds = told if told > 0 or number == 0 or rate <= 0 else number / rate  # not every format has clocks
            number += 1
            if seconds < due - 1e-6:
                continue
            done, image = capture.retrieve()
            if done:
                due = (math.floor(seconds / every + 1e-6) + 1) * every
                yield seconds, np.ascontiguousarray(image[..., ::-1])
    finally:
        capture.release()
