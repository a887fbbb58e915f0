"""lcr2s evaluate --weights=W --images=DIR --table=CSV: how well a model ranks described pictures."""

import argparse
import json

from lcr2s_jax.cli import model as models
from lcr2s_jax.cli.parser import UsageError, integer, one_of, place

ABOUT = 'Measure how well a model ranks pictures that a table describes.'
WORDS = ''
_NAMES = ('R1', 'R5', 'R10', 'mAP', 'mINP')


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--images', type=place, metavar='DIR', help='Folder that the pictures are below.')
    add('--table', type=place, metavar='FILE', help='CSV with the columns image, caption and id, a row a caption.')
    dtypes = ('float32', 'bfloat16')
    add('--dtype', type=one_of(*dtypes), default='float32', metavar='|'.join(dtypes), help='Compute type.')
    add('--json', action='store_true', help='Print JSON instead of text.')
    hows = ('neighbours', 'fusion')
    help_ = "Also each picture with its nearest, averaged or fused by the run's teacher; and re-ranked."
    add('--enrich', type=one_of(*hows), metavar='|'.join(hows), help=help_)
    add('--neighbours', type=integer(1, 100), metavar='N', help='Of each picture, with --enrich; 2.')
    models.arguments(parser)


def gallery_side(args: argparse.Namespace) -> dict | None:
    """What --enrich asks for, as `evaluate.gallery_side` takes it; None without. Raises UsageError."""
    if not args.enrich:
        if args.neighbours:
            raise UsageError('--neighbours is of --enrich')
        return None
    if args.enrich == 'fusion' and not args.workdir:
        raise UsageError('--enrich=fusion: found no --workdir; the fusion is of the teacher of the run')
    from lcr2s_jax.evaluation import neighbours
    from lcr2s_jax.evaluation.gallery_fusion import GalleryFusion
    from lcr2s_jax.training.run import Run

    fusion = GalleryFusion.of_run(Run.open(args.workdir, 'teacher')) if args.enrich == 'fusion' else None
    return {'count': args.neighbours or neighbours.NEIGHBOURS, 'fusion': fusion}


def run(args: argparse.Namespace) -> None:
    missing = [f'--{name}' for name in ('images', 'table') if not getattr(args, name)]
    missing += ['--weights or --workdir'] * (not models.source(args))
    if missing:
        raise UsageError(f'evaluate needs {" and ".join(missing)}')
    from lcr2s_jax.evaluation import pictures

    enriched = gallery_side(args)
    told = pictures.evaluate(models.load(args, args.dtype), pictures.read(args.table, args.images), enriched)
    told |= {'model': models.source(args), 'dtype': args.dtype}
    print(json.dumps(told, indent=2) if args.json else _text(told))


def _text(told: dict) -> str:
    lines = [
        f'{told["model"]}: {told["images"]:,} pictures and {told["captions"]:,} captions of {told["people"]:,} people, '
        f'in {told["dtype"]}',
        f'{"percent":28}' + ''.join(f'{name:>7}' for name in _NAMES),
    ]
    for way, words in (('t2i', 'sentences find pictures'), ('i2t', 'pictures find sentences')):
        lines.append(f'{words:28}' + ''.join(f'{told[way][name]:7.1f}' for name in _NAMES))
    for name, found in told.get('gallery_side', {}).items():
        if name == 'first neighbours':
            lines.append(f'with neighbours in the gallery, no labels, apart ({found:.1f} % of the first are right):')
        else:
            lines.append(f'{name:28}' + ''.join(f'{found["t2i"][one]:7.1f}' for one in _NAMES))
    return '\n'.join(lines)
