"""Videos into an index: the people of each, a row and a vector for every track.

A track's picture is its best crop; its vector is made of all its crops. The crops are files of the index itself.
"""

import hashlib
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.files import named
from lcr2s_jax.locks import alone
from lcr2s_jax.progress import QUIET, Progress
from lcr2s_jax.search import appearance, columns, folder, ingest, retention, storage
from lcr2s_jax.search.gallery import OK, Gallery, Row
from lcr2s_jax.video import crops as cutting
from lcr2s_jax.video import detectors, tracker
from lcr2s_jax.video import frames as video

COLUMNS = {
    'video': 'string',
    'track': 'string',
    'time': 'double',
    'begins': 'double',
    'ends': 'double',
    'box': 'string',
    'detected': 'double',
    'crops': 'int64',
    'pooling': 'string',
}
_COMMIT = 512  # crops a commit, about: what a kill can cost
_NAME = 16  # hex digits of a video's hash that name its folder
_BUSY = '{}: another process is looking at it for this index; waiting'


class VideoOptions(NamedTuple):
    files: Sequence[str]
    every: float  # seconds from frame to frame
    detector: str  # see `lcr2s_jax.video.detectors.open_detector`
    min_seen: int = cutting.MIN_SEEN  # frames in which a track must have been seen; others are left out


def check(options: VideoOptions, uri: str) -> None:
    """Raise for what cannot work, before a model is opened."""
    if storage.is_remote(uri):
        raise ConfigError(f'--video: found the index {uri}; expected a local folder, where the crops can be kept')
    video.opencv()
    tracker.installed()
    detectors.open_detector(options.detector)


def update(
    gallery: Gallery, model, options: VideoOptions, pool: Callable, *, readmit: bool = False, progress: Progress = QUIET
) -> list[dict]:
    """Bring an index up to date with videos; what was done with each. `readmit` takes tracks that were deleted, too.

    The options have passed `check`; `pool`, of `lcr2s_jax.video.pooling`, makes one vector of a track's pictures.
    """
    other = {name: kind for name, kind in gallery.columns.items() if COLUMNS.get(name, kind) != kind}
    if other:
        raise SearchError(
            f'{gallery.uri}: its columns {other} came with --metadata, and videos need them as '
            f'{ {name: COLUMNS[name] for name in other} }; choose another --index'
        )
    root = storage.tracks_folder(gallery.uri)
    columns.join(gallery, storage.TRACKED, COLUMNS, {})  # the columns
    told = []
    for file in options.files:
        try:
            name = video.fingerprint(pathlib.Path(file))[:_NAME]
            with alone(storage.cutting_lock(root / name), lambda file=file: progress.say(_BUSY.format(file))):
                done = _one(gallery, model, pool, root / name, pathlib.Path(file), options, readmit, progress)
            told.append({'video': file, 'fault': ''} | done)
        except video.VideoError as fault:
            told.append({'video': file, 'fault': str(fault)})
    return told


def _one(gallery, model, pool, cut, path: pathlib.Path, options: VideoOptions, readmit: bool, progress) -> dict:
    """One video: cut out unless it was, then every track embedded unless it was."""
    forgotten, name = set() if readmit else retention.forgotten(gallery), cut.name
    found = cutting.read(cut)
    if found and found['settings'] != cutting.settings(options.every, options.detector, options.min_seen):
        if any(retention.key('bytes', _hash(track)) in forgotten for track in found['tracks']):
            raise video.VideoError(
                'tracks of it were deleted, and with another --every, --detector or --min-seen, or this version of the '
                'tracker, they would come back; --readmit takes them again'
            )
        found = None
    if found and readmit and not all((cut / track['track']).is_dir() for track in found['tracks']):
        found = None  # what was deleted had its pictures deleted
    fresh = found is None
    if fresh:
        seconds = video.Frames(path, options.every).seconds
        with named(cut), progress.counting('seconds of video', seconds) as tell:
            found = cutting.cut(path, cut, options.every, options.detector, tell, options.min_seen)
    if readmit:
        retention.readmit(gallery, [retention.key('bytes', _hash(track)) for track in found['tracks']])
    left = [track for track in found['tracks'] if retention.key('bytes', _hash(track)) not in forgotten]
    for track in (track for track in found['tracks'] if track not in left):
        shutil.rmtree(cut / track['track'], ignore_errors=True)  # cut out again, as others were missing
    embedded = _embed(gallery, model, pool, cut, path.name, left)
    status = {row: one[3] for row, one in gallery.known(storage.TRACKED).items()}
    statuses = {track['track']: status.get(f'{name}/{_best(track)["file"]}', OK) for track in left}
    return {
        **{name: found[name] for name in ('frames', 'read', 'expected', 'notes', 'left_out')},
        'tracks': len(left),
        'crops': sum(len(track['crops']) for track in left),
        'embedded': embedded,
        'cut': fresh,
        'kept_out': len(found['tracks']) - len(left),
        'unusable': {track: why for track, why in statuses.items() if why != OK},
    }


def _embed(gallery, model, pool, cut, title: str, found: list[dict]) -> int:
    """Rows of a video's tracks; those that are there stay, those of an earlier cutting go. How many crops it took."""
    name = cut.name
    with gallery.writing():
        known = gallery.of_root(storage.TRACKED, ['path', 'sha256', 'pooling']).to_pylist()
    there = {one['path']: (one['sha256'], one['pooling']) for one in known if one['path'].startswith(f'{name}/')}
    wanted = {f'{name}/{_best(track)["file"]}': track for track in found}
    gone = [path for path in there if path not in wanted or there[path] != (_hash(wanted[path]), pool.name)]
    if gone:
        retention.prune(gallery, storage.TRACKED, gone)
    values = {path: _values(track, name, title, pool.name) for path, track in wanted.items()}
    # a row without its columns is of a call that was killed: it is among those that are gone
    left, embedded = [(path, track) for path, track in wanted.items() if path not in there or path in gone], 0
    while left:
        count = np.cumsum([len(track['crops']) for _, track in left])
        some, left = left[: 1 + int((count < _COMMIT).sum())], left[1 + int((count < _COMMIT).sum()) :]
        embedded += _commit(gallery, model, pool, cut, some, values)
    columns.join(gallery, storage.TRACKED, COLUMNS, values)  # the same video may have another name now
    return embedded


def _commit(gallery, model, pool, cut, some: list, values: dict[str, dict]) -> int:
    """Embed some tracks and put their rows; how many crops that took."""
    root, name = cut.parent, cut.name
    files = [folder.look(root, root / name / crop['file']) for _, track in some for crop in track['crops']]
    track_N = np.repeat(np.arange(len(some)), [len(track['crops']) for _, track in some])
    size = model.image_size
    pictures = list(folder.read(files, root, size))
    used = [place for place, picture in enumerate(pictures) if not picture.fault]
    numbers: dict[int, ingest.Numbers] = {}  # by track
    if used:
        pixels, owner = np.stack([pictures[place].pixels for place in used]), track_N[used]
        for number, vector in zip(np.unique(owner).tolist(), pool(pixels, owner), strict=True):
            look = appearance.statistics(pixels[owner == number]).mean(axis=0)
            numbers[number] = ingest.Numbers(vector, look)
    rows = []
    for number, (path, track) in enumerate(some):
        _, size, modified = folder.look(root, root / path)
        fault = next(pictures[place].fault for place in np.flatnonzero(track_N == number))  # told where all have one
        status = OK if number in numbers else fault
        rows.append(Row(path, _hash(track), size, modified, status, *numbers.get(number, ())))
    gallery.put(storage.TRACKED, rows, new=True)
    columns.join(gallery, storage.TRACKED, COLUMNS, {path: values[path] for path, _ in some})
    return len(used)


def _values(track: dict, name: str, title: str, pooling: str) -> dict:
    best = _best(track)
    return {
        'video': title,
        'track': f'{name[:8]}/{track["track"]}',
        'time': best['time'],
        'begins': track['begins'],
        'ends': track['ends'],
        'box': ','.join(map(str, best['box'])),
        'detected': best['score'],
        'crops': len(track['crops']),
        'pooling': pooling,
    }


def _best(track: dict) -> dict:
    """The crop that is shown: the one that the detector was surest of, of equals the largest, then the first."""

    def rank(crop):
        left, top, right, bottom = crop['box']
        return crop['score'], (right - left) * (bottom - top)

    return max(track['crops'], key=rank)


def _hash(track: dict) -> str:
    """SHA-256 in hex of what a track's vector is made of; of no file, so that no file is taken for it."""
    return hashlib.sha256('\n'.join(crop['sha256'] for crop in track['crops']).encode()).hexdigest()
