"""lcr2s evaluate --weights=W --images=DIR --table=CSV: how well a model ranks described pictures."""

import argparse
import json

from lcr2s_jax.cli import model as models
from lcr2s_jax.cli.parser import UsageError, one_of, place

ABOUT = 'Measure how well a model ranks pictures that a table describes.'
_NAMES = ('R1', 'R5', 'R10', 'mAP', 'mINP')


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--images', type=place, metavar='DIR', help='Folder of the pictures.')
    add('--table', type=place, metavar='FILE', help='CSV with the columns image, caption and id, a row a caption.')
    dtypes = ('float32', 'bfloat16')
    add('--dtype', type=one_of(*dtypes), default='float32', metavar='|'.join(dtypes), help='Compute type.')
    add('--json', action='store_true', help='Print JSON instead of text.')
    help_ = "Also evaluate enrichment by neighbours (averaged, or fused by the run's teacher), and re-ranking."
    models.enriching(add, 'neighbours', 'fusion', help=help_, near='weights, a run or an export')
    models.arguments(parser)


def run(args: argparse.Namespace) -> None:
    missing = [f'--{name}' for name in ('images', 'table') if not getattr(args, name)]
    missing += ['--weights or --workdir'] * (not models.source(args))
    if missing:
        raise UsageError(f'evaluate needs {" and ".join(missing)}')
    models.ask_ahead(args)
    from lcr2s_jax.evaluation import pictures

    models.check_enriching(args)
    table = pictures.read(args.table, args.images)
    told = pictures.evaluate(models.load(args, args.dtype), table, models.enriched(args), models.near(args, args.dtype))
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
