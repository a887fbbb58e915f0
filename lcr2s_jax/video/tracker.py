"""Boxes of one frame after the other become tracks: one a person, as long as somebody is seen often enough.

ByteTrack (Zhang et al., ECCV 2022), as `supervision` has it (MIT): a Kalman filter a track, sure boxes matched by
overlap times score, unsure ones with what is left. No appearance is used: two people who walk through each other may
change places, and who is hidden for long comes back as another track.
"""

import importlib.metadata
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import DataError

_VERSION = '0.30'  # of supervision
LOST = 1.0  # seconds for which a track that is missed is waited for: ByteTrack's 30 frames of 30 a second
CROPS = 16  # crops kept of a track
_SURE = 0.25  # score from which a box may take up a lost track; ByteTrack's own, as is a new track's: 0.1 more
_MATCH = 0.8  # 1 - overlap * score up to which a sure box may go on with a track; ByteTrack's own
_SAME = 0.5  # overlap of a box with the track that has taken it
_RATE = 30  # frames a second that ByteTrack's noise of the velocity is meant for
# Who walks has left a narrow box behind at the next frame. Boxes are matched with half of that way on every side (the
# buffered overlap of C-BIoU, Yang et al., WACV 2023, which has 0.3 and 0.5 of a side).
_WALK, _WIDTH, _REACH = 1.4, 0.6, 0.5  # metres a second, metres of a box, most of a box's width


class Seen(NamedTuple):
    seconds: float  # since the beginning of the video
    box: tuple[int, int, int, int]  # left, top, right, bottom, whole pixels
    score: float  # the detector's
    jpeg: bytes  # the crop


class Tracker:
    """Gives every box the number of its track, in frames `interval` seconds apart.

    Raises DataError where `supervision` is not installed, or is another version.
    """

    def __init__(self, interval: float):
        self._wait = max(LOST, 3 * interval)
        self._byte, self._last, self._scene = _byte_track(max(1, round(LOST / interval)), interval), 0.0, 0
        self._reach = min(_REACH, _WALK * interval / _WIDTH / 2)
        self._numbers, self._next = {}, 1

    def step(self, seconds: float, box_n5: np.ndarray, scene: int = 0) -> tuple[list[int], list[int]]:
        """Take the next frame's boxes: left, top, right, bottom, score of 0 to 1; up to 0.1 a box is passed over.

        All tracks end after a pause longer than they are waited for, and with another number of the scene. Returns the
        number of each box's track, from 1 in the order of their beginning, 0 where it is none; tracks that ended.
        """
        ended = self._end() if seconds - self._last > self._wait or scene != self._scene else []
        self._last, self._scene = seconds, scene
        box_n5 = _enlarged(box_n5, self._reach)
        self._byte.update_with_tensors(np.asarray(box_n5, np.float32))
        tracks = [track for track in self._byte.tracked_tracks if track.frame_id == self._byte.frame_id]
        number_n = [0] * len(box_n5)
        for track, place in _taken(np.array([track.tlbr for track in tracks]).reshape(-1, 4), box_n5[:, :4]):
            number_n[place] = self._number(tracks[track].internal_track_id)
        alive = {track.internal_track_id for track in (*self._byte.tracked_tracks, *self._byte.lost_tracks)}
        gone = [inner for inner in self._numbers if inner not in alive]
        return number_n, ended + [self._numbers.pop(inner) for inner in gone]

    def _end(self) -> list[int]:
        ended, self._numbers = list(self._numbers.values()), {}
        self._byte.reset()
        return ended

    def _number(self, inner: int) -> int:
        if inner not in self._numbers:
            self._numbers[inner], self._next = self._next, self._next + 1
        return self._numbers[inner]


def installed() -> None:
    """Raise DataError where ByteTrack is not there, without importing it."""
    try:
        found = f'supervision {importlib.metadata.version("supervision")}'
    except importlib.metadata.PackageNotFoundError:
        found = 'no supervision'
    if not found.startswith(f'supervision {_VERSION}.'):
        raise DataError(
            f'--video: found {found}, expected {_VERSION}, which has ByteTrack: '
            'python -m pip install -r requirements-video.txt'
        )


def _byte_track(frames: int, interval: float):
    installed()
    with warnings.catch_warnings():  # it left the package for one that needs another OpenCV; the version is pinned
        warnings.simplefilter('ignore', FutureWarning)
        import supervision

        byte = supervision.ByteTrack(_SURE, frames, _MATCH, frame_rate=30)
    for noise in (byte.kalman_filter, byte.shared_kalman):  # of a random walk: it grows with the root of time
        noise._std_weight_velocity *= max(1.0, _RATE * interval) ** 0.5
    return byte


def _enlarged(box_n5: np.ndarray, reach: float) -> np.ndarray:
    """The boxes, larger on every side by a share of their width."""
    side_n = reach * (box_n5[:, 2] - box_n5[:, 0])
    return box_n5 + np.stack([-side_n, -side_n, side_n, side_n, 0 * side_n], axis=1)


def _taken(track_T4: np.ndarray, box_n4: np.ndarray) -> list[tuple[int, int]]:
    """(track, box) of each track of this frame: its filtered box lies on the one that it took."""
    overlap_Tn, pairs = overlap(track_T4, box_n4), []
    while overlap_Tn.size and overlap_Tn.max() >= _SAME:
        track, place = np.unravel_index(overlap_Tn.argmax(), overlap_Tn.shape)
        pairs.append((int(track), int(place)))
        overlap_Tn[track], overlap_Tn[:, place] = 0, 0
    return pairs


class Kept:
    """At most `limit` of a track's crops, evenly over its time.

    `count` is in how many frames it was seen, `begins` and `ends` are seconds.
    """

    def __init__(self, limit: int = CROPS):
        self.crops: list[Seen] = []
        self.count, self.begins, self.ends = 0, 0.0, 0.0
        self._limit, self._stride = limit, 1

    def add(self, seconds: float, crop: Callable[[], Seen]) -> None:
        """Once a frame in which the track was seen; `crop` is called where it is wanted."""
        if self.count % self._stride == 0:
            self.crops.append(crop())
            if len(self.crops) > self._limit:
                self.crops, self._stride = self.crops[::2], 2 * self._stride
        self.begins, self.ends = seconds if not self.count else self.begins, seconds
        self.count += 1


def overlap(box_A4: np.ndarray, box_B4: np.ndarray) -> np.ndarray:
    """[A, B]: intersection over union."""
    one, other = box_A4[:, None], box_B4[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    both = np.maximum(sides, 0).prod(axis=-1)
    areas = ((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (one, other))
    return both / np.maximum(sum(areas) - both, 1e-9)
