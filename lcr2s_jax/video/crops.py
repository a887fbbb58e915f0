"""A video into the pictures of its people: one folder a track, and tracks.json, which says what is in them.

The folder appears whole or not at all. What the detector found is kept in a log meanwhile, frame by frame: it takes
nearly all of the time, and a call that was killed should not cost it twice.
"""

import hashlib
import io
import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
from PIL import Image

from lcr2s_jax.video import detectors
from lcr2s_jax.video import frames as video
from lcr2s_jax.video import tracker as tracks

FORMAT = 1  # of all that follows: tracker, margin, JPEG; another number cuts again
FILE = 'tracks.json'
_MARGIN = 0.05  # of a box's sides, added on every side
_QUALITY = 95


def settings(every: float, detector: str) -> dict:
    """What decides which pictures come of a video, beside the video."""
    return {'format': FORMAT, 'every': every, 'detector': detector}


def read(folder: pathlib.Path) -> dict | None:
    """What `cut` wrote; None where there is nothing whole."""
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {'settings', 'frames', 'tracks'} <= found.keys() else None


def cut(
    path: pathlib.Path,
    folder: pathlib.Path,
    every: float,
    name: str,
    tell: Callable[[float], None] = lambda seconds: None,
) -> dict:
    """Find, follow and cut out the people of a video.

    Args:
      path: of the video.
      folder: to make, or to make anew.
      every: seconds from frame to frame.
      name: of the detector.
      tell: called with seconds that are done.

    Returns:
      settings, frames and tracks, each with its name, begins, ends, seen (frames) and crops: file (below the folder),
      sha256, time, box, score, in the order of time.

    Raises:
      VideoError: the video cannot be used; DataError: the detector cannot.
    """
    aside = folder.with_name(f'{folder.name}.partial')
    found = {'settings': settings(every, name), 'frames': 0, 'tracks': []}
    detector, tracker, kept = detectors.open_detector(name), tracks.Tracker(), {}

    def end(numbers):
        found['tracks'].extend(_write(aside, number, kept.pop(number)) for number in numbers)

    if not next(video.frames(path, every), None):  # nothing is left of what is no video
        raise video.VideoError('no frame in it that OpenCV can read')
    with _Log(aside / 'detections.jsonl', found['settings']) as log:
        for seconds, image in video.frames(path, every):
            box_n5 = log.get(seconds, lambda image=image: detectors.detect(detector, image))
            number_n, ended = tracker.step(box_n5[:, :4])
            for number, box in zip(number_n, box_n5, strict=True):
                one = kept.setdefault(number, tracks.Kept())
                one.add(seconds, lambda box=box, image=image, seconds=seconds: _crop(seconds, image, box))
            end(ended)
            found['frames'] += 1
            tell(every)
    end(sorted(kept))
    found['tracks'].sort(key=lambda track: track['track'])
    (aside / FILE).write_text(json.dumps(found, indent=1) + '\n')
    (aside / 'detections.jsonl').unlink()
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return found


def _crop(seconds: float, image_hwc: np.ndarray, box_5: np.ndarray) -> tracks.Seen:
    height, width = image_hwc.shape[:2]
    left, top, right, bottom = box_5[:4]
    x, y = _MARGIN * (right - left), _MARGIN * (bottom - top)
    area = max(0, int(left - x)), max(0, int(top - y)), min(width, round(right + x)), min(height, round(bottom + y))
    out = io.BytesIO()
    Image.fromarray(image_hwc).crop(area).save(out, 'JPEG', quality=_QUALITY)
    box = tuple(round(float(side)) for side in box_5[:4])
    return tracks.Seen(round(seconds, 3), box, round(float(box_5[4]), 4), out.getvalue())


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


class _Log:
    """What a detector found, frame by frame: looked up where an earlier call got so far, else asked for and kept.

    Args:
      file: its folder is made; a log of other settings goes, with all that lies beside it.
      settings: of the cutting.
    """

    def __init__(self, file: pathlib.Path, settings_: dict):
        self._file, self._first = file, json.dumps(settings_)
        self._known: dict[float, list] = {}

    def __enter__(self):
        lines = self._file.read_text().splitlines(keepends=True) if self._file.is_file() else []
        whole = [line for line in lines if line.endswith('\n')]  # the last may be torn
        if not whole or whole[0].rstrip() != self._first:
            shutil.rmtree(self._file.parent, ignore_errors=True)
            self._file.parent.mkdir(parents=True)
            whole = [self._first + '\n']
        self._known = dict(map(json.loads, whole[1:]))
        self._file.write_text(''.join(whole))
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
