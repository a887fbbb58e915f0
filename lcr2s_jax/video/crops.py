"""A video into the pictures of its people: one folder a track, and tracks.json, which says what is in them.

The folder appears whole or not at all. What the detector found is kept in a log meanwhile, frame by frame: it takes
nearly all of the time, and a call that was killed should not cost it twice.
"""

import functools
import hashlib
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from lcr2s_jax import files
from lcr2s_jax.errors import DataError
from lcr2s_jax.search import storage
from lcr2s_jax.video import detectors
from lcr2s_jax.video import frames as video
from lcr2s_jax.video import tracker as tracks

FORMAT = 2  # of all that follows: tracker, margin, JPEG; another number cuts again
FILE = 'tracks.json'
_CROP = {'file': str, 'sha256': str, 'time': float, 'box': [float], 'score': float}
_TRACK = {'track': str, 'begins': float, 'ends': float, 'seen': int, 'crops': [_CROP]}
_TRACKS = {'settings': dict, 'tracks': [_TRACK]}  # of every format
_CONTENT = _TRACKS | {'frames': int, 'read': int, 'expected': (None, int), 'notes': [str], 'left_out': int}
MIN_SEEN = 3  # frames in which a track must have been seen, as of SORT and DeepSORT
_MARGIN = 0.05  # of a box's sides, added on every side
_QUALITY = 95


def settings(every: float, detector: str, min_seen: int) -> dict:
    """What decides which pictures come of a video, beside the video."""
    return {'format': FORMAT, 'every': every, 'detector': detector, 'min_seen': min_seen}


def read(folder: pathlib.Path) -> dict | None:
    """What `cut` wrote, of an earlier format its settings and tracks at least; None where there is nothing whole."""
    try:
        found = files.read_json(folder / FILE, DataError, '', _TRACKS)
    except DataError:
        return None
    return None if found['settings'].get('format') == FORMAT and files.misfit(found, _CONTENT) else found


def cut(
    path: pathlib.Path,
    folder: pathlib.Path,
    every: float,
    name: str,
    tell: Callable[[float], None] = lambda seconds: None,
    min_seen: int = MIN_SEEN,
) -> dict:
    """Find, follow and cut out the people of a video, in frames `every` so many seconds, into a folder made anew.

    `tell` is called with seconds that are done; tracks seen in fewer than min_seen frames are left out.

    Returns settings; frames (looked at), read, expected (by the container, or None), notes (what is not as it should
    be); left_out (tracks); tracks, each with its name, begins, ends, seen (frames) and crops: file (below the folder),
    sha256, time, box, score, in the order of time.

    Raises VideoError where the video cannot be used, DataError where the detector cannot.
    """
    aside = folder.with_name(f'{folder.name}{storage.HALF_CUT}')
    found = {'settings': settings(every, name, min_seen), 'frames': 0, 'left_out': 0, 'tracks': []}
    detector, kept = detectors.open_detector(name), {}

    def end(numbers):
        ended = [(number, kept.pop(number)) for number in numbers]
        seen = [(number, one) for number, one in ended if one.count >= min_seen]
        found['left_out'] += len(ended) - len(seen)
        found['tracks'].extend(_write(aside, number, one) for number, one in seen)

    next(video.Frames(path, every))  # nothing is left of what is no video
    reading = video.Frames(path, every)
    with _Log(aside / 'detections.jsonl', found['settings']) as log:
        for one in follow(reading, lambda seconds, image: log.get(seconds, lambda: detectors.detect(detector, image))):
            for number, box in one.boxes():
                kept.setdefault(number, tracks.Kept()).add(one.seconds, functools.partial(_crop, one, box))
            end(one.ended)
            found['frames'] += 1
            tell(every)
    end(sorted(kept))
    found |= {'read': reading.read, 'expected': reading.expected, 'notes': reading.notes()}
    found['tracks'].sort(key=lambda track: track['track'])
    (aside / FILE).write_text(json.dumps(found, indent=1) + '\n')
    (aside / 'detections.jsonl').unlink()
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return found


class Followed(NamedTuple):
    """A frame whose boxes belong to tracks."""

    seconds: float
    image_hwc: np.ndarray  # uint8, RGB
    box_n5: np.ndarray  # left, top, right, bottom, score
    number_n: list[int]  # of each box's track; 0 where it has none
    ended: list[int]  # tracks that are at their end

    def boxes(self) -> list[tuple[int, np.ndarray]]:
        """(track, box) of those that have one."""
        return [(number, box) for number, box in zip(self.number_n, self.box_n5, strict=True) if number]


def follow(reading: video.Frames, detect: Callable[[float, np.ndarray], np.ndarray]) -> Iterator[Followed]:
    """The frames of a video, their boxes as (seconds, image) -> box_n5 finds them, and the tracks of these."""
    tracker = tracks.Tracker(reading.interval)
    for seconds, image_hwc in reading:
        box_n5 = detect(seconds, image_hwc)
        yield Followed(seconds, image_hwc, box_n5, *tracker.step(seconds, box_n5, reading.piece))


def _crop(one: Followed, box_5: np.ndarray) -> tracks.Seen:
    height, width = one.image_hwc.shape[:2]
    left, top, right, bottom = box_5[:4]
    x, y = _MARGIN * (right - left), _MARGIN * (bottom - top)
    area = max(0, int(left - x)), max(0, int(top - y)), min(width, round(right + x)), min(height, round(bottom + y))
    out = io.BytesIO()
    Image.fromarray(one.image_hwc).crop(area).save(out, 'JPEG', quality=_QUALITY)
    box = tuple(round(float(side)) for side in box_5[:4])
    return tracks.Seen(round(one.seconds, 3), box, round(float(box_5[4]), 4), out.getvalue())


def _write(aside: pathlib.Path, number: int, kept: tracks.Kept) -> dict:
    name = f'{number:05}'
    (aside / name).mkdir(exist_ok=True)
    crops = []
    for one in kept.crops:
        file = f'{name}/{one.seconds:09.3f}.jpg'
        (aside / file).write_bytes(one.jpeg)
        sha256 = hashlib.sha256(one.jpeg).hexdigest()
        crops.append({'file': file, 'sha256': sha256, 'time': one.seconds, 'box': one.box, 'score': one.score})
    when = {'begins': round(kept.begins, 3), 'ends': round(kept.ends, 3), 'seen': kept.count}
    return {'track': name, **when, 'crops': crops}


def _found(line: str) -> tuple[float, list]:
    """A line of a log, see `_Log.get`. Raises ValueError where it is none."""
    value = files.parse_json(line)
    if files.misfit(value, list) or len(value) != 2:
        raise ValueError('no frame')
    seconds, box_n5 = value
    if files.misfit(seconds, float) or files.misfit(box_n5, [[float]]) or any(len(box_5) != 5 for box_5 in box_n5):
        raise ValueError('no boxes')
    return seconds, box_n5


class _Log:
    """What a detector found, frame by frame: looked up where an earlier call got so far, else asked for and kept.

    The folder of the file is made; a log of other settings goes, with all that lies beside it.
    """

    def __init__(self, file: pathlib.Path, settings_: dict):
        self._file, self._first = file, json.dumps(settings_)
        self._known: dict[float, list] = {}

    def __enter__(self):
        try:
            first, *whole, _ = self._file.read_text().split('\n')  # the last may be torn
            self._known = {seconds: box_n5 for seconds, box_n5 in map(_found, whole)}
            sound = first == self._first
        except (OSError, ValueError):  # none yet, or a damaged one
            sound = False
        if not sound:
            shutil.rmtree(self._file.parent, ignore_errors=True)
            self._file.parent.mkdir(parents=True)
            self._known, whole = {}, []
        self._file.write_text(''.join(f'{line}\n' for line in (self._first, *whole)))
        self._out = self._file.open('a', buffering=1)
        return self

    def __exit__(self, *_):
        self._out.close()

    def get(self, seconds: float, ask: Callable[[], np.ndarray]) -> np.ndarray:
        """float64 [n, 5]."""
        if seconds not in self._known:
            box_n5 = ask()
            self._out.write(json.dumps([seconds, box_n5.tolist()]) + '\n')
            return box_n5
        return np.array(self._known[seconds], np.float64).reshape(-1, 5)
