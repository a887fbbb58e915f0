"""lcr2s expire --index=I --older-than=30d: pictures leave an index by age."""

import argparse

from lcr2s_jax.cli import delete
from lcr2s_jax.cli.parser import place

ABOUT = 'Erase pictures that were indexed long ago.'


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--index', required=True, type=place, metavar='I', help='Folder of the index, or URL of an object store.')
    add('--older-than', required=True, metavar='AGE', help='Age since a picture was indexed: 30d, 12h, 45m.')
    add('--yes', action='store_true', help='Erase; without this flag, only say what would be erased.')


def run(args: argparse.Namespace) -> None:
    from lcr2s_jax.search import retention

    delete.forget(args.index, retention.older_than(args.older_than), args.yes)
    if told := retention.to_come(args.index):
        print(told)
