"""Frames of a video file, so many seconds apart. OpenCV reads them; it is an extra, imported when it is needed."""

import contextlib
import hashlib
import math
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from lcr2s_jax.errors import DataError
from lcr2s_jax.texts import near
from lcr2s_jax.video.clock import Clock

_BOXES = 10_000  # parts of a file that are looked at
_AGAIN = 1000  # times that a reader which gives no frame is asked again while some should be left: damage in the middle
_SYNC, _PACKETS = 0x47, ((188, 0), (192, 4), (204, 0))  # MPEG-TS: bytes of a packet, and where its mark is
_SLACK = (2, 0.01)  # frames, and share of all, by which a container may be wrong about their number


class VideoError(DataError):
    """This file cannot be used; the message is half a sentence. Others may be."""


def opencv():
    """The module cv2. Raises DataError where it is not installed."""
    for name, quiet in (('OPENCV_FFMPEG_LOGLEVEL', '-8'), ('OPENCV_LOG_LEVEL', 'SILENT')):
        os.environ.setdefault(name, quiet)  # what is wrong with a file is told here
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
        raise VideoError((error.strerror or 'cannot be read') + near(path)) from None


class Frames:
    """The first frame at or after 0, `every`, 2 `every`, ... seconds: an iterator.

    Yields seconds since the first frame, which never go back, and uint8 [h, w, 3], RGB.

    Attributes:
      expected: frames that the container tells of; None where it does not. An estimate in some formats (MPEG-TS).
      read: frames that were there, used or not; more as it goes on.
      broken: of them, those that could not be decoded.
      piece: how often another scene may have begun up to this frame: the clock jumped, or the size changed.
      interval: seconds from one given frame to the next, if all goes well.

    Raises VideoError where it cannot be opened, or has no frame.
    """

    def __init__(self, path: pathlib.Path, every: float):
        self._cv2, self._every = opencv(), every
        if path.is_file() and not path.stat().st_size:
            raise VideoError('empty: a file of 0 bytes')
        self._beyond, self._counts, self._cut = _beyond(path), _is_avi(path), _is_cut(path)
        self._capture = self._cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise VideoError(
                'no video that OpenCV can open: sound alone, another kind of file, or one that was cut off '
                'while it was recorded, which may lack its index (.mp4, .mov)'
            )
        rate, count = self._capture.get(self._cv2.CAP_PROP_FPS), self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)
        self._clock = Clock(rate)
        self.expected = int(count) if 0 < count < 1e9 else None
        self.read, self.broken, self.piece, self._end = 0, 0, 0, 0.0
        self.interval = max(every, self._clock.step)
        self._rows = self._all()

    def __iter__(self):
        return self

    def __next__(self) -> tuple[float, np.ndarray]:
        return next(self._rows)

    @property
    def seconds(self) -> float | None:
        """How long the container says that it is."""
        return self.expected * self._clock.step if self.expected else None

    def notes(self) -> list[str]:
        """What is not as it should be, a sentence each; after the last frame."""
        back = [jump for jump in self._clock.jumps if jump.by < 0]
        ahead = [jump for jump in self._clock.jumps if jump.by > 0]
        found = []
        if back:
            found.append(
                f'its clock goes back {_times(len(back))}, first at {back[0].seconds:.1f} s (joined streams?): '
                'times go on from the last one, and tracks end there'
            )
        if ahead:
            found.append(
                f'its clock leaps ahead {_times(len(ahead))}, first by {ahead[0].by:.1f} s to '
                f'{ahead[0].seconds:.1f} s: times after it are those of its clock'
            )
        found += self._missing()
        if self._cut:
            found.append(
                'it does not end with a whole packet: it was cut off, or bytes within it are lost, and no transport '
                'stream tells how many frames it should have'
            )
        if self._beyond:
            found.append(
                f'its last {self._beyond:,} bytes are of another recording, put behind it as it is, which is not read: '
                'give each file by itself, or join them with ffmpeg'
            )
        if self.broken:
            found.append(f'{self.broken:,} of its frames could not be decoded')
        return found

    def _missing(self) -> list[str]:
        slack = _SLACK[0] if self._counts else max(_SLACK[0], _SLACK[1] * (self.expected or 0))
        if not self.expected or self.expected - self.read <= slack or self._clock.wrapped:
            return self._gaps()
        count = f'{self.read:,} of the {self.expected:,} frames that its container tells of could be read'
        if self._end < self.seconds - (slack + 1) * self._clock.step:
            avi = ', or frames within it are lost and the times after them are too early (an AVI has no clock)'
            return [f'it ends early: {count}, up to {self._end:.1f} s{avi * self._counts}']
        if any(jump.by > 0 for jump in self._clock.jumps):
            return []  # the number is an estimate, and what is missing is the leap
        return [f'{count}: some are damaged, or its rate varies and the number is an estimate']

    def _gaps(self) -> list[str]:
        if not (gaps := self._clock.gaps):
            return []
        more = f' and {_times(len(gaps) - 1)} more, {sum(gap.by for gap in gaps):.1f} s in all' * (len(gaps) > 1)
        return [
            f'it has no frame for {gaps[0].by:.1f} s up to {gaps[0].seconds:.1f} s{more}: they are damaged, or nothing '
            'was recorded'
        ]

    def _all(self) -> Iterator[tuple[float, np.ndarray]]:
        due, shape, breaks = 0.0, None, 0
        try:
            while self._grab():
                self._end = self._clock.at(self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000)
                self.read += 1
                if self._end < due - 1e-6:
                    continue
                done, image = self._capture.retrieve()
                if not done:
                    self.broken += 1
                    continue
                self.piece += self._clock.breaks > breaks or shape not in (None, image.shape)
                shape, breaks = image.shape, self._clock.breaks
                due = (math.floor(self._end / self._every + 1e-6) + 1) * self._every
                yield self._end, np.ascontiguousarray(image[..., ::-1])
        finally:
            self._capture.release()
        if self.read == self.broken:
            raise VideoError(
                'no frame in it that OpenCV can read'
                + f' of the {self.expected:,} that it should have' * bool(self.expected)
            )

    def _grab(self) -> bool:
        """Whether there is another frame; damage in the middle is passed over."""
        return any(self._capture.grab() for _ in range(_AGAIN if self.read < (self.expected or 0) else 1))


def _beyond(path: pathlib.Path) -> int:
    """Bytes of further files that were put behind an MP4, whose index tells of the first alone; else 0."""
    with contextlib.suppress(OSError), path.open('rb') as file:
        size, at = file.seek(0, os.SEEK_END), 0
        for number in range(_BOXES):
            file.seek(at)
            head = file.read(16)
            begins = head[4:8] == b'ftyp'
            if number and begins:
                return size - at
            length = int.from_bytes(head[:4], 'big')
            length = int.from_bytes(head[8:16], 'big') if length == 1 else length
            if length < 8 or not (number or begins):  # a last box goes to the end
                return 0
            at += length
    return 0


def _is_avi(path: pathlib.Path) -> bool:
    """Whether a file counts its frames and has no clock: where some are lost, only their number tells."""
    with contextlib.suppress(OSError), path.open('rb') as file:
        head = file.read(12)
        return head[:4] == b'RIFF' and head[8:] == b'AVI '
    return False


def _is_cut(path: pathlib.Path) -> bool:
    """Whether a transport stream (MPEG-TS) ends within a packet; it has no number of frames that would tell."""
    with contextlib.suppress(OSError), path.open('rb') as file:
        head = file.read(5 * max(length for length, _ in _PACKETS))
        size = file.seek(0, os.SEEK_END)
        for length, sync in _PACKETS:
            if size >= 4 * length and all(byte == _SYNC for byte in head[sync : sync + 4 * length : length]):
                return size % length != 0
    return False


def _times(count: int) -> str:
    return 'once' if count == 1 else f'{count:,} times'
