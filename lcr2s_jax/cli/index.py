"""lcr2s index: embed a folder of pictures, or the people of videos, so that `search` can find in it."""

import contextlib
import functools
import json
import sys
import time

from lcr2s_jax.errors import ConfigError

_LISTED = 10  # unusable files that are named on the terminal


def index(uri, images, workdir, table, prune, readmit, as_json, videos=None, pooling='mean') -> int:
    """Bring the index at `uri` up to date, and print what was done.

    Args:
      uri, images, table, prune, readmit: as of `lcr2s_jax.search.index.bring_up_to_date`.
      workdir: of the run whose student embeds; may be left out where the index is there.
      as_json: print JSON instead of text.
      videos: `lcr2s_jax.video.update.VideoOptions`, or None.
      pooling: of `lcr2s_jax.video.pooling.POOLINGS`.

    Returns:
      0, or 1 where a video cannot be used.
    """
    from lcr2s_jax import api
    from lcr2s_jax.cli.progress import Shown
    from lcr2s_jax.search import index as indexing
    from lcr2s_jax.training import parallel
    from lcr2s_jax.training.run import Run
    from lcr2s_jax.video import pooling as poolings
    from lcr2s_jax.video import update as video

    clock, progress = time.perf_counter(), Shown()
    indexing.check(uri, images, table)
    if videos:
        if pooling not in poolings.POOLINGS:
            raise ConfigError(f"--pooling: found '{pooling}', expected one of {', '.join(poolings.POOLINGS)}")
        if pooling == 'teacher' and workdir is None:
            raise ConfigError('--pooling=teacher: found no --workdir; the teacher is in the run that the student is of')
        video.check(videos, uri)
    with contextlib.redirect_stdout(sys.stderr):
        model = indexing.open_model(uri, api.load(workdir) if workdir else None)
    update = None
    if videos:
        pool = poolings.of_run(Run.open(workdir, 'teacher')) if pooling == 'teacher' else poolings.Mean(model)
        more = dict(model=model, options=videos, pool=pool, readmit=readmit, progress=progress)
        update = functools.partial(video.update, **more)
    told = indexing.bring_up_to_date(
        uri, model, images, table=table, prune=prune, readmit=readmit, videos=update, progress=progress
    )
    if parallel.is_primary():
        told['seconds'] = round(time.perf_counter() - clock, 1)
        print(json.dumps(told, indent=2) if as_json else _text(told))
    return int(any(one['fault'] for one in told.get('videos', ())))


def _text(told: dict) -> str:
    lines = [f'{told["index"]}: {told["pictures"]:,} pictures can be found (model {told["model"][:16]})']
    if 'root' in told:
        lines += _text_of_folder(told)
    lines += map(_text_of_video, told.get('videos', ()))
    return '\n'.join([*lines, f'in {told["seconds"]} s'])


def _text_of_folder(told: dict) -> list[str]:
    lines = [
        f'{told["root"]}: {told["files"]:,} files, {told["new"]:,} new, {told["changed"]:,} changed, '
        f'{told["unchanged"]:,} as before; {told["embedded"]:,} embedded, {told["copied"]:,} known by their bytes',
    ]
    if told['gone'] and not told['pruned']:
        lines.append(f'{told["gone"]:,} are gone from the folder and can still be found: --prune forgets them')
    if told['pruned']:
        lines.append(f'{told["pruned"]:,} are gone from the folder and were forgotten')
    if told['kept_out']:
        lines.append(f'{told["kept_out"]:,} were deleted from this index once and stay out: --readmit takes them again')
    if 'metadata' in told:
        strange = told['metadata']['without_picture']
        lines.append(
            f'{told["metadata"]["changed"]:,} rows have new metadata'
            + (f'; {len(strange):,} lines of it are of no picture here, such as {strange[0]!r}' if strange else '')
        )
    unusable = told['unusable']
    if unusable:
        lines.append(f'{len(unusable):,} cannot be used:')
        lines += [f'  {path!r}: {why}' for path, why in list(unusable.items())[:_LISTED]]
        lines += ['  ... (all of them with --json)'] * (len(unusable) > _LISTED)
    return lines


def _text_of_video(told: dict) -> str:
    if told['fault']:
        return f'{told["video"]}: cannot be used: {told["fault"]}'
    bad = list(told['unusable'].items())
    out = f', {len(bad):,} tracks cannot be used, such as {bad[0][0]}: {bad[0][1]}' if bad else ''
    out += f', {told["kept_out"]:,} deleted once and kept out (--readmit takes them again)' * bool(told['kept_out'])
    return (
        f'{told["video"]}: {told["frames"]:,} frames, {told["tracks"]:,} tracks of {told["crops"]:,} crops; '
        f'{told["embedded"]:,} crops embedded{out}'
    )
