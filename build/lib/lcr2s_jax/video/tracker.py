"""Boxes of one frame after the other become tracks: one a person, as long as somebody is seen often enough.

Ours, and simple: a box belongs to the track whose last box, or that box moved on as it moved before, it overlaps most;
the largest overlap of a frame is given first. No appearance is used: two people who walk through each other may change
places, and who is hidden for long comes back as another track.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

OVERLAP = 0.3  # intersection over union, from which a box may go on with a track
GAP = 5  # frames in a row in which a track may be missed
CROPS = 16  # crops kept of a track


class Seen(NamedTuple):
    """One box of a track.

    Attributes:
      seconds: since the beginning of the video.
      box: left, top, right, bottom, whole pixels.
      score: the detector's.
      jpeg: the crop.
    """

    seconds: float
    box: tuple[int, int, int, int]
    score: float
    jpeg: bytes


class Tracker:
    """Gives every box the number of its track.

    Args:
      overlap: 0..1, see OVERLAP.
      gap: see GAP.
    """

    def __init__(self, overlap: float = OVERLAP, gap: int = GAP):
        self._overlap, self._gap, self._open, self._next = overlap, gap, {}, 1

    def step(self, box_n4: np.ndarray) -> tuple[list[int], list[int]]:
        """Take the next frame's boxes.

        Returns:
          The number of each box's track, from 1 in the order of their beginning; the tracks that are at their end.
        """
        number_n, taken = [0] * len(box_n4), set()
        for number, place in self._pairs(box_n4):
            if number not in taken and not number_n[place]:
                self._open[number].go_on(box_n4[place])
                number_n[place] = number
                taken.add(number)
        missed = [number for number in self._open if number not in taken]
        for number in missed:
            self._open[number].missed += 1
        ended = [number for number in missed if self._open[number].missed > self._gap]
        for number in ended:
            del self._open[number]
        for place in (place for place, number in enumerate(number_n) if not number):
            number_n[place] = self._next
            self._open[self._next] = _Track(box_n4[place])
            self._next += 1
        return number_n, ended

    def _pairs(self, box_n4: np.ndarray) -> list[tuple[int, int]]:
        """(track, place of a box), the largest overlap first."""
        numbers = list(self._open)
        if not numbers or not len(box_n4):
            return []
        last_T4 = np.array([track.box for track in self._open.values()])
        ahead_T4 = np.array([track.ahead() for track in self._open.values()])
        overlap_Tn = np.maximum(overlap(last_T4, box_n4), overlap(ahead_T4, box_n4))
        order = np.argsort(-overlap_Tn, axis=None, kind='stable')
        pairs = zip(*np.unravel_index(order, overlap_Tn.shape), strict=True)
        return [(numbers[t], int(n)) for t, n in pairs if overlap_Tn[t, n] >= self._overlap]


class _Track:
    """Attributes: box, the last one; missed, frames in a row without it."""

    def __init__(self, box_4: np.ndarray):
        self.box, self.missed, self._speed = box_4, 0, np.zeros(2)

    def ahead(self) -> np.ndarray:
        """Where the box would be now, had it kept its speed and size."""
        return self.box + np.tile(self._speed * (self.missed + 1), 2)

    def go_on(self, box_4: np.ndarray) -> None:
        moved = (box_4[:2] + box_4[2:] - self.box[:2] - self.box[2:]) / 2
        self.box, self.missed, self._speed = box_4, 0, moved / (self.missed + 1)


class Kept:
    """At most CROPS of a track's crops, evenly over its time, however long it becomes.

    Attributes:
      crops: those that are kept.
      count: frames in which it was seen.
      begins, ends: seconds.
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
