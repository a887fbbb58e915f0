"""python main.py index --workdir=W --video=FILE --index=I: the people of a video, a row and a vector for each track.

A track's picture is its best crop; its vector is made of all its crops. The crops are files of the index itself.
"""

import hashlib
import pathlib
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import ConfigError, SearchError

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


class Wanted(NamedTuple):
    """What the command line asks for.

    Attributes:
      files: the videos.
      every: seconds from frame to frame.
      detector: see `lcr2s_jax.video.detectors.open_detector`.
      pooling: of `lcr2s_jax.video.pooling.POOLINGS`.
    """

    files: Sequence[str]
    every: float
    detector: str
    pooling: str


def check(wanted: Wanted, uri: str, workdir: str | None) -> None:
    """Raise for what cannot work, before a model is opened."""
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.video import detectors, pooling
    from lcr2s_jax.video import frames as video

    if wanted.pooling not in pooling.POOLINGS:
        raise ConfigError(f"--pooling: found '{wanted.pooling}', expected one of {', '.join(pooling.POOLINGS)}")
    if wanted.pooling == 'teacher' and workdir is None:
        raise ConfigError('--pooling=teacher: found no --workdir; the teacher is in the run that the student is of')
    if place.is_remote(uri):
        raise ConfigError(f'--video: found the index {uri}; expected a local folder, where the crops can be kept')
    video.opencv()
    detectors.open_detector(wanted.detector)


def update(gallery, searcher, wanted: Wanted, workdir: str | None, again: bool, bar: Callable) -> list[dict]:
    """Bring an index up to date with videos, this host's share of them; what was done with each.

    Args:
      gallery, searcher: of the index.
      wanted: has passed `check`.
      workdir: of the teacher, where it pools.
      again: take tracks that were deleted, too.
      bar: of seconds of video.
    """
    import jax

    from lcr2s_jax import files
    from lcr2s_jax.search import columns
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.training import parallel
    from lcr2s_jax.video import frames as video

    other = {name: kind for name, kind in gallery.columns.items() if COLUMNS.get(name, kind) != kind}
    if other:
        raise SearchError(
            f'{gallery.uri}: its columns {other} came with --metadata, and videos need them as '
            f'{ {name: COLUMNS[name] for name in other} }; choose another --index'
        )
    root = place.tracks_folder(gallery.uri)
    if parallel.first():
        columns.join(gallery, place.TRACKED, COLUMNS, {})  # the columns
    parallel.wait_for_all('the columns are there')
    gallery.refresh()
    pool, told = open_pool(searcher, wanted, workdir), []
    for file in wanted.files[jax.process_index() :: jax.process_count()]:
        try:
            name = video.fingerprint(pathlib.Path(file))[:_NAME]
            with files.alone(root / f'.{name}.lock', lambda file=file: print(_BUSY.format(file), file=sys.stderr)):
                done = _one(gallery, searcher, pool, root / name, pathlib.Path(file), wanted, again, bar)
            told.append({'video': file, 'fault': ''} | done)
        except video.VideoError as fault:
            told.append({'video': file, 'fault': str(fault)})
    parallel.wait_for_all('all videos are done')
    gallery.refresh()
    return told


def text(told: dict) -> str:
    """What was done with a video, in a line."""
    if told['fault']:
        return f'{told["video"]}: cannot be used: {told["fault"]}'
    bad = list(told['unusable'].items())
    out = f', {len(bad):,} tracks cannot be used, such as {bad[0][0]}: {bad[0][1]}' if bad else ''
    out += f', {told["kept_out"]:,} deleted once and kept out (--readmit takes them again)' * bool(told['kept_out'])
    return (
        f'{told["video"]}: {told["frames"]:,} frames, {told["tracks"]:,} tracks of {told["crops"]:,} crops; '
        f'{told["embedded"]:,} crops embedded{out}'
    )


def open_pool(searcher, wanted: Wanted, workdir: str | None):
    """What makes one vector of a track's pictures."""
    from lcr2s_jax.video import pooling

    if wanted.pooling == 'mean':
        return pooling.Mean(searcher)
    from commands import student

    return pooling.Teacher(*student.open_teacher(pathlib.Path(workdir)))


def _one(gallery, searcher, pool, folder, path: pathlib.Path, wanted: Wanted, again: bool, bar: Callable) -> dict:
    """One video: cut into the folder unless it was, then every track embedded unless it was."""
    from lcr2s_jax.search import retention
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.search.gallery import OK
    from lcr2s_jax.video import crops as cutting
    from lcr2s_jax.video import frames as video

    forgotten, name = set() if again else retention.forgotten(gallery), folder.name
    found = cutting.read(folder)
    if found and found['settings'] != cutting.settings(wanted.every, wanted.detector):
        if any(retention.key('bytes', _hash(track)) in forgotten for track in found['tracks']):
            raise video.VideoError(
                'tracks of it were deleted, and with another --every or --detector they would come back; --readmit '
                'takes them again'
            )
        found = None
    if found and again and not all((folder / track['track']).is_dir() for track in found['tracks']):
        found = None  # what was deleted had its pictures deleted
    fresh = found is None
    if fresh:
        with bar() as tell:
            found = cutting.cut(path, folder, wanted.every, wanted.detector, tell)
    if again:
        retention.readmit(gallery, [retention.key('bytes', _hash(track)) for track in found['tracks']])
    left = [track for track in found['tracks'] if retention.key('bytes', _hash(track)) not in forgotten]
    for track in (track for track in found['tracks'] if track not in left):
        shutil.rmtree(folder / track['track'], ignore_errors=True)  # cut out again, as others were missing
    embedded = _embed(gallery, searcher, pool, folder, path.name, left)
    status = {row: one[3] for row, one in gallery.known(place.TRACKED).items()}
    statuses = {track['track']: status.get(f'{name}/{_best(track)["file"]}', OK) for track in left}
    return {
        'frames': found['frames'],
        'tracks': len(left),
        'crops': sum(len(track['crops']) for track in left),
        'embedded': embedded,
        'cut': fresh,
        'kept_out': len(found['tracks']) - len(left),
        'unusable': {track: why for track, why in statuses.items() if why != OK},
    }


def _embed(gallery, searcher, pool, folder, title: str, found: list[dict]) -> int:
    """Rows of a video's tracks; those that are there stay, those of an earlier cutting go. How many crops it took."""
    from lcr2s_jax.search import columns, retention
    from lcr2s_jax.search import storage as place

    name = folder.name
    with gallery.writing():
        known = gallery.of_root(place.TRACKED, ['path', 'sha256', 'pooling']).to_pylist()
    there = {one['path']: (one['sha256'], one['pooling']) for one in known if one['path'].startswith(f'{name}/')}
    wanted = {f'{name}/{_best(track)["file"]}': track for track in found}
    gone = [path for path in there if path not in wanted or there[path] != (_hash(wanted[path]), pool.name)]
    if gone:
        retention.prune(gallery, place.TRACKED, gone)
    # a row without its columns is of a call that was killed: it is among those that are gone
    left, embedded = [(path, track) for path, track in wanted.items() if path not in there or path in gone], 0
    while left:
        count = np.cumsum([len(track['crops']) for _, track in left])
        some, left = left[: 1 + int((count < _COMMIT).sum())], left[1 + int((count < _COMMIT).sum()) :]
        embedded += _commit(gallery, searcher, pool, folder, title, some)
    values = {path: _values(track, name, title, pool.name) for path, track in wanted.items()}
    columns.join(gallery, place.TRACKED, COLUMNS, values)  # the same video may have another name now
    return embedded


def _commit(gallery, searcher, pool, cut, title: str, some: list) -> int:
    """Embed some tracks and put their rows; how many crops that took."""
    from lcr2s_jax.search import columns, folder
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.search.gallery import OK, Row

    root, name = cut.parent, cut.name
    files = [folder.look(root, root / name / crop['file']) for _, track in some for crop in track['crops']]
    track_N = np.repeat(np.arange(len(some)), [len(track['crops']) for _, track in some])
    size, most = searcher.clip.image_size, searcher.facts['origin']['max_pixels']
    pictures = list(folder.read(files, root, size, most))
    used = [place for place, picture in enumerate(pictures) if not picture.fault]
    vectors: dict = {}
    if used:
        vector_PE = pool(np.stack([pictures[place].pixels for place in used]), track_N[used])
        vectors = dict(zip(np.unique(track_N[used]).tolist(), vector_PE, strict=True))
    rows = []
    for number, (path, track) in enumerate(some):
        _, size, modified = folder.look(root, root / path)
        fault = next(pictures[place].fault for place in np.flatnonzero(track_N == number))  # told where all have one
        status = OK if number in vectors else fault
        rows.append(Row(path, _hash(track), size, modified, status, vectors.get(number)))
    values = {path: _values(track, name, title, pool.name) for path, track in some}
    gallery.put(place.TRACKED, rows, new=True)
    columns.join(gallery, place.TRACKED, COLUMNS, values)
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
