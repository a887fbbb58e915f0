"""lcr2s delete --index=I --where=..., or --path=...: pictures leave an index."""

import argparse
from collections.abc import Sequence

from lcr2s_jax.cli.parser import REPEATED, UsageError, place
from lcr2s_jax.texts import counted

ABOUT = 'Erase pictures of an index, by a condition or by their paths.'


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--index', required=True, type=place, metavar='I', help='Folder of the index, or URL of an object store.')
    add('--where', default='', metavar='SQL', help='Condition over the columns, such as "camera = \'c1\'".')
    add('--path', **REPEATED, type=place, metavar='FILE',
        help='A picture, by its path as `search` shows it, or as a file; may be repeated.')  # fmt: skip
    add('--yes', action='store_true', help='Erase; without this flag, only say what would be erased.')


def run(args: argparse.Namespace) -> None:
    from lcr2s_jax.search import describe

    if bool(args.where.strip()) == bool(args.path):
        raise UsageError('delete needs either --where or --path, such as --where="camera = \'c1\'" or --path=a/1.jpg')
    forget(args.index, describe.rows_of(args.index, args.path) if args.path else args.where, args.yes)


def forget(uri: str, what: str | Sequence[tuple[str, str]], sure: bool) -> None:
    """Forget what is chosen by condition or (root, path), and write down who did; without `sure` say what it is."""
    from lcr2s_jax.search import audit, enrichment, retention

    chosen, gone = retention.forget(uri, what, audit.user(), sure)
    first, *more = chosen.lines()
    print('\n'.join([f'{uri}: {first} {"to be" if sure else "would be"} forgotten', *more]))
    if gone is None:
        print('The same with --yes forgets them.')
        return
    files = [f'the files of {counted(gone.uploads, "upload")}'] * bool(gone.uploads)
    files += [f'the crops of {counted(gone.tracks, "track")}'] * bool(gone.tracks)
    print(
        f'{uri}: {counted(gone.rows, "row")} forgotten, the bytes erased'
        + (f', and {" and ".join(files)}; no other file' if files else '; no picture file')
        + ' was touched. The audit log still names what searches have found.'
    )
    if gone.left:
        print(f'changed or removed by others meanwhile, and left as they are: {counted(gone.left, "row")}')
    if enrichment.read(uri):
        from lcr2s_jax.search import enrich  # imports JAX, for which few deletions should wait
        from lcr2s_jax.search.gallery import Gallery

        enrich.renew(Gallery(uri))
