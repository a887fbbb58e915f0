"""The flags that say which model embeds, and what they open."""

import argparse
from collections.abc import Callable

from lcr2s_jax.cli.parser import UsageError, integer, one_of, place, size

_OF_WEIGHTS = ('image_size', 'context_length', 'tokenizer', 'activation', 'heads')


def arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir or --weights, and what bare weights may lack."""
    group = parser.add_argument_group('the model')
    add = group.add_argument
    add('--workdir', type=place, metavar='W', help='Folder of a run.')
    add('--stage', default='', metavar='NAME', help='Stage of the run; by default its student or last stage.')
    add('--weights', type=place, metavar='W',
        help='Any CLIP: a name on the hub, a folder, a file; an export; a run; hf://owner/name/file.')  # fmt: skip
    add('--image-size', type=size, metavar='HxW', help='Pixels, if not those of the weights; such as 384x128.')
    add('--context-length', type=integer(3), metavar='N', help='Tokens of a sentence, if not those of the weights.')
    add('--tokenizer', type=place, metavar='T', help='Folder, hub name or vocabulary, if none is beside the weights.')
    add('--activation', type=one_of('quick_gelu', 'gelu'), metavar='gelu|quick_gelu', help='If the weights do not say.')
    add('--heads', type=_heads, default=0, metavar='N', help='Attention heads, if unsaid; 12,8 for images and texts.')


def _heads(text: str) -> int | tuple[int, int]:
    """A type of flag: heads of the image tower, or of the image and the text tower, such as 12,8."""
    both = [integer(1)(one) for one in text.split(',', 1)]
    return both[0] if len(both) == 1 else tuple(both)


def source(args: argparse.Namespace) -> str | None:
    """What is to be loaded; None where neither flag is given. Raises UsageError."""
    if args.workdir and args.weights:
        raise UsageError('--workdir and --weights both name a model; expected one of them')
    if (given := of_weights(args)) and not args.weights:
        raise UsageError(f'--{given[0]} is of --weights, and there is none')
    if args.stage and not (args.workdir or args.weights):
        raise UsageError('--stage is of --workdir, and there is none')
    return args.workdir or args.weights


def ask_ahead(args: argparse.Namespace) -> None:
    """Have the config of a hub name here before JAX is imported: without a network, that is told at once."""
    if args.weights:
        from lcr2s_jax.weights import hub

        name = args.weights.removeprefix(hub.SCHEME)
        if hub.is_meant(name):
            hub.folder_of(name, hub.TEXT_FILES)
        elif name != args.weights:
            hub.file_of(args.weights)


def of_weights(args: argparse.Namespace) -> list[str]:
    return [name.replace('_', '-') for name in _OF_WEIGHTS if getattr(args, name)]


def load(args: argparse.Namespace, dtype: str = 'float32'):
    import lcr2s_jax

    given = {name: getattr(args, name) for name in _OF_WEIGHTS if getattr(args, name)}
    return lcr2s_jax.load(source(args), stage=args.stage, dtype=dtype, **given)


def enriching(add: Callable, *hows: str, help: str, near: str) -> None:
    """--enrich, one of `hows`, --neighbours, and --neighbours-by, which is `near`."""
    add('--enrich', type=one_of(*hows), metavar='|'.join(hows), help=help)
    help_ = 'Number of neighbours, with --enrich; by default 8, of a fusion 2.'
    add('--neighbours', type=integer(1, 100), metavar='N', help=help_)
    add('--neighbours-by', type=place, metavar='M', help=f'Neighbours as another model finds them: {near}.')


def check_enriching(args: argparse.Namespace) -> None:
    """Raise UsageError where flags of neighbours come without --enrich, or a fusion without a run."""
    for name in ('neighbours', 'neighbours_by'):
        if getattr(args, name) and args.enrich not in ('neighbours', 'fusion'):
            raise UsageError(f'--{name.replace("_", "-")} is of --enrich=neighbours or --enrich=fusion')
    if args.enrich == 'fusion' and not args.workdir:
        raise UsageError('--enrich=fusion: found no --workdir; the fusion is of the teacher of the run')


def enriched(args: argparse.Namespace) -> dict | None:
    """How many neighbours and which fusion --enrich asks for; None without it. Raises UserError."""
    if not args.enrich:
        return None
    from lcr2s_jax.evaluation import neighbours
    from lcr2s_jax.evaluation.gallery_fusion import GalleryFusion
    from lcr2s_jax.training.run import Run

    fusion = GalleryFusion.of_run(Run.open(args.workdir, 'teacher')) if args.enrich == 'fusion' else None
    return {'count': args.neighbours or neighbours.NEIGHBOURS.get(args.enrich, 0), 'fusion': fusion}


def near(args: argparse.Namespace, dtype: str):
    """The `lcr2s_jax.Model` by which neighbours are found; None without one. Raises UserError."""
    import lcr2s_jax

    return lcr2s_jax.load(args.neighbours_by, dtype=dtype) if args.neighbours_by else None
