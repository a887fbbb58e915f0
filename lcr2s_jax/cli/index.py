"""lcr2s index: embed a folder of pictures, or the people of videos, so that `search` can find in it.

The same again embeds only what is new or changed; killed at any moment, it goes on from its last commit.
"""

import argparse
import contextlib
import functools
import json
import pathlib
import shlex
import sys
import time

from lcr2s_jax.cli import model as models
from lcr2s_jax.cli.parser import REPEATED, UsageError, integer, number, one_of, place
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.progress import Shown
from lcr2s_jax.texts import counted, difference

ABOUT = 'Index a folder of pictures, or the people in videos. Repeat to add what changed.'
_LISTED = 10  # unusable files that are named on the terminal
_OF_IMAGES = ('metadata', 'name_pattern', 'moved_from', 'prune', 'ray_address', 'workers')
_FILMS = ('.mp4', '.avi', '.mov', '.mkv', '.m4v', '.webm', '.mpg', '.mpeg', '.ts', '.wmv', '.3gp', '.flv')
_PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.heic')  # in which OpenCV finds one frame
_STREAMS = ('rtsp://', 'rtmp://', 'http://', 'https://', 'udp://')


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--index', required=True, type=place, metavar='I', help='Folder of the index, or URL of an object store.')
    add('--images', type=place, metavar='DIR', help='Folder, or s3://bucket/folder; every picture below it.')
    add('--video', **REPEATED, type=place, metavar='FILE', help='Video file; may be repeated.')
    add('--metadata', type=place, metavar='FILE', help='CSV with a column path (below --images) and others: camera ...')
    add('--name-pattern', default='', metavar='P',
        help="Read columns from file names: '{camera}_{time:%%Y%%m%%d_%%H%%M%%S}_{*}'.")  # fmt: skip
    add('--moved-from', type=place, metavar='OLD', help='Former folder of the pictures in --images.')
    add('--prune', action='store_true', help='Remove pictures whose file is gone.')
    add('--readmit', action='store_true', help='Allow pictures again that were deleted or expired.')
    add('--json', action='store_true', help='Print JSON instead of text.')
    models.arguments(parser)
    richer = parser.add_argument_group('gallery enrichment (docs/search.md)').add_argument
    help_ = "Compare sentences with each picture and its nearest: averaged, or by the run's teacher."
    models.enriching(richer, 'neighbours', 'fusion', 'none', help=help_, near='an index of the same pictures')
    many = parser.add_argument_group('a cluster, for --images (docs/cluster.md)').add_argument
    many('--engine', type=one_of('here', 'ray'), default='here', metavar='here|ray', help='This process, or Ray.')
    many('--ray-address', default='', metavar='A', help='HOST:PORT, ray://HOST:PORT or auto; without, Ray starts here.')
    many('--workers', type=integer(1), default=0, metavar='N', help='Embedding workers; default: one a GPU or 2 cores.')
    video = parser.add_argument_group('videos').add_argument
    video('--every', type=number(0.001), default=0.2, metavar='S', help='Seconds between two frames.')
    video('--detector', default='hog', metavar='D',
          help='hog, rtdetr, a hub name or folder, frame (the whole frame), module:callable.')  # fmt: skip
    video('--min-seen', type=integer(1), default=3, metavar='N', help='Least number of frames of a track; 1 keeps all.')
    poolings = ('mean', 'teacher')
    video('--pooling', type=one_of(*poolings), default='mean', metavar='|'.join(poolings),
          help="One vector from a track's crops, by the model or by the run's teacher.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Bring the index up to date and print it: 0, or 1 where a video cannot be used or no picture can."""
    _check(args)
    models.ask_ahead(args)
    from lcr2s_jax.search import index as indexing
    from lcr2s_jax.search import metadata, storage
    from lcr2s_jax.search.model import open_model
    from lcr2s_jax.search.rows import OWN

    clock, progress = time.perf_counter(), Shown()
    if args.prune and args.images and not storage.is_remote(args.images) and not pathlib.Path(args.images).exists():
        return _forget_copies(args)
    table = metadata.Table(args.metadata, OWN) if args.metadata else None
    indexing.check(args.index, args.images, table, args.name_pattern)
    options = _videos(args)
    with contextlib.redirect_stdout(sys.stderr):
        model = open_model(args.index, models.load(args) if models.source(args) else None)
    with _engine(args) as engine:
        told = indexing.bring_up_to_date(
            args.index,
            model,
            args.images,
            table=table,
            name_pattern=args.name_pattern,
            moved_from=args.moved_from or '',
            prune=args.prune,
            readmit=args.readmit,
            videos=_update(args, model, options, progress) if options else None,
            enriched=_enrich(args),
            progress=progress,
            engine=engine,
        )
    told['seconds'] = round(time.perf_counter() - clock, 1)
    print(json.dumps(told, indent=2) if args.json else _text(told))
    nothing = 'files' in told and not told['pictures'] and not told['kept_out']
    return int(nothing or any(one['fault'] for one in told.get('videos', ())))


def _engine(args: argparse.Namespace):
    """What embeds and commits, for as long as a block."""
    from lcr2s_jax.search import cluster, ingest

    here = contextlib.nullcontext(ingest.here)
    return cluster.engine(args.ray_address, args.workers) if args.engine == 'ray' else here


def _check(args: argparse.Namespace) -> None:
    from lcr2s_jax.search import enrichment

    models.check_enriching(args)
    if not args.images and not args.video and not args.enrich and not enrichment.read(args.index):
        raise UsageError('index needs --images or --video, or --enrich for an index that is there')
    if not args.images and (given := [name for name in _OF_IMAGES if getattr(args, name)]):
        raise UsageError(f'index takes --{given[0].replace("_", "-")} only with --images')
    if args.pooling == 'teacher' and not args.workdir:
        raise UsageError('--pooling=teacher: found no --workdir; the teacher is in the run that the student is of')
    if args.engine == 'here' and (args.ray_address or args.workers):
        raise UsageError('--ray-address and --workers are of --engine=ray')
    models.source(args)
    for file in args.video:
        if file.startswith(_STREAMS):
            raise ConfigError(
                f'--video: found the stream {file}, expected a file; record a piece of it first, such as: '
                f"ffmpeg -i '{file}' -t 600 -c copy part.mp4"
            )
        if pathlib.Path(file).is_dir():
            raise ConfigError(_of_folder(pathlib.Path(file)))
        if pathlib.Path(file).suffix.lower() in _PICTURES:
            raise ConfigError(f'--video: found the picture {file}, expected a video; a folder of pictures is --images')


def _of_folder(folder: pathlib.Path) -> str:
    films = sorted(path for path in folder.iterdir() if path.suffix.lower() in _FILMS)
    each = ' '.join(shlex.quote(f'--video={path}') for path in films[:3])
    change = f'name each: {each}' if films else f'there is no video in it; pictures are --images={folder}'
    more = f' ... ({len(films)} in all)' if len(films) > 3 else ''
    return f'--video: found the folder {folder}, expected a file; {change}{more}'


def _videos(args: argparse.Namespace):
    if not args.video:
        return None
    from lcr2s_jax.video import update as video

    options = video.VideoOptions(tuple(args.video), args.every, args.detector, args.min_seen)
    video.check(options, args.index)
    return options


def _update(args: argparse.Namespace, model, options, progress):
    from lcr2s_jax.training.run import Run
    from lcr2s_jax.video import pooling
    from lcr2s_jax.video import update as video

    pool = pooling.of_run(Run.open(args.workdir, 'teacher')) if args.pooling == 'teacher' else pooling.Mean(model)
    more = dict(model=model, options=options, pool=pool, readmit=args.readmit, progress=progress)
    return functools.partial(video.update, **more)


def _enrich(args: argparse.Namespace):
    """What says how vectors are enriched; None leaves that as it is."""
    if not args.enrich:
        return None
    from lcr2s_jax.search import enrich

    if args.neighbours_by:  # told before pictures are embedded
        enrich.check_near(args.index, args.neighbours_by)
    return functools.partial(enrich.choose, how=args.enrich, near=args.neighbours_by, **models.enriched(args))


def _forget_copies(args: argparse.Namespace) -> int:
    """--prune of a folder that is gone: rows of it that are elsewhere, too."""
    from lcr2s_jax.search import moved
    from lcr2s_jax.search.gallery import Gallery

    gallery = Gallery(args.index)
    done = moved.forget_copies(gallery, args.images)
    if gallery.enriched:
        from lcr2s_jax.search import enrich

        enrich.renew(gallery)
    if args.json:
        print(json.dumps({'index': args.index, 'root': done.old, 'pruned': done.moved, 'left': done.left}, indent=2))
        return 0
    print(f'{done.old} is gone; in another folder of the index too, and forgotten: {counted(done.moved, "picture")}')
    if done.left:
        print(
            f'nowhere else, and kept, as their disk may come back: {counted(done.left, "picture")}; to forget them: '
            f'delete --where="root = \'{done.old}\'"'
        )
    return 0


def _text(told: dict) -> str:
    lines = [f'{told["index"]}: {counted(told["pictures"], "picture")} can be found (model {told["model"][:16]})']
    lines += _text_of_move(told)
    if 'root' in told:
        lines += _text_of_folder(told)
    if 'name_pattern' in told:
        lines += _text_of_names(told['name_pattern'])
    lines += map(_text_of_video, told.get('videos', ()))
    lines += _text_of_enrichment(told.get('enriched'))
    return '\n'.join([*lines, *_text_of_knowledge(told), f'in {told["seconds"]} s'])


def _text_of_knowledge(told: dict) -> list[str]:
    from lcr2s_jax.search import answer_text
    from lcr2s_jax.search.likeness import UNCHECKED

    lines = [answer_text.trained_on(told['trained_on'])]
    if told.get('foreign'):
        lines.append(
            f'these pictures are unlike those that the model was calibrated on ({told["outside"]:.0%} of them lie '
            'outside): searches give scores and ranks, no probabilities'
        )
    elif not told['calibrated']:
        lines.append('searches give scores and ranks, no probabilities: the model has no people to calibrate on')
    elif 'outside' not in told:
        lines.append(UNCHECKED)
    return lines


def _text_of_enrichment(told: dict | None) -> list[str]:
    if told is None:
        return []
    now = told.get('in_words', 'each picture by itself')
    before = f'; before: {told["before"]}' if 'before' in told else ''
    return [f'sentences are compared with {now}{before} (in {told["seconds"]} s)']


def _text_of_move(told: dict) -> list[str]:
    lines = []
    for one in told.get('moved', ()):
        left = f'; not there, or of another size: {one["left"]:,}' * bool(one['left'])
        lines.append(f'{counted(one["moved"], "picture")} of {one["old"]} known in the new folder{left}')
    for old in told.get('seems_moved', ()):
        lines.append(
            f'{old} is gone, and pictures of it are in this folder now: --moved-from={old} takes over their columns '
            'and shows them once'
        )
    return lines


def _text_of_folder(told: dict) -> list[str]:
    from lcr2s_jax.search import folder

    lines = [
        f'{told["root"]}: {counted(told["files"], "file")}, {told["new"]:,} new, {told["changed"]:,} changed, '
        f'{told["unchanged"]:,} as before; {told["embedded"]:,} embedded, {told["copied"]:,} known by their bytes',
    ]
    lines += [folder.summary(told['passed_over'])] * bool(told['passed_over'])
    for old, now in list(told.get('renamed', {}).items())[:1]:
        lines.append(f'there before by another name: {len(told["renamed"]):,}, such as {old!r}, now {now!r}')
    if told['gone']:
        can = 'forgotten' if told['pruned'] else 'which can still be found: --prune forgets them'
        lines.append(f'gone from the folder: {told["gone"]:,}, {can}')
    if told['kept_out']:
        lines.append(f'deleted from this index once, and kept out: {told["kept_out"]:,} (--readmit takes them again)')
    if 'metadata' in told:
        strange = told['metadata']['without_picture']
        lines.append(
            f'new metadata of {counted(told["metadata"]["changed"], "row")}'
            + (f'; {counted(len(strange), "line")} of it of no picture here, such as {strange[0]!r}' if strange else '')
        )
        for path, there in list(told['metadata']['nearly'].items())[:1]:
            lines.append(
                f'  nearly of one: {len(told["metadata"]["nearly"]):,}, such as {path!r}, where {there!r} is there, '
                f'{difference(path, there)}; write the names in one way'
            )
    unusable = told['unusable']
    if unusable:
        lines.append(f'{len(unusable):,} cannot be used:')
        lines += [f'  {path!r}: {why}' for path, why in list(unusable.items())[:_LISTED]]
        lines += ['  ... (all of them with --json)'] * (len(unusable) > _LISTED)
    return lines


def _text_of_names(told: dict) -> list[str]:
    strange = told['unmatched']
    names = ', '.join(f'{name} ({kind})' for name, kind in told['columns'].items())
    line = f'{counted(told["matched"], "file name")} gave {names}'
    return [line + (f'; not of the pattern: {len(strange):,}, such as {strange[0]!r}' if strange else '')]


def _text_of_video(told: dict) -> str:
    if told['fault']:
        return f'{told["video"]}: cannot be used: {told["fault"]}'
    bad = list(told['unusable'].items())
    out = f', {counted(len(bad), "track")} cannot be used, such as {bad[0][0]}: {bad[0][1]}' if bad else ''
    out += f', {told["kept_out"]:,} deleted once and kept out (--readmit takes them again)' * bool(told['kept_out'])
    if told['left_out']:
        out += f'; {counted(told["left_out"], "track")} seen in too few frames left out (--min-seen=1 keeps them)'
    expected = '' if told['expected'] is None else f' of {told["expected"]:,} expected'
    line = (
        f'{told["video"]}: {counted(told["frames"], "frame")} looked at ({told["read"]:,} read{expected}), '
        f'{counted(told["tracks"], "track")} of {counted(told["crops"], "crop")}; {told["embedded"]:,} embedded{out}'
    )
    return '\n'.join([line, *(f'  {note}' for note in told['notes'])])
