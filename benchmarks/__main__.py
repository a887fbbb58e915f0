"""Every benchmark, one after the other, each in a process of its own:  python -m benchmarks [--list] [NAME ...]

Each writes docs/evidence/NAME.json. What trains for long (testbed, device_compare, ensembles), needs a run (attributes,
calibration, tracks), footage (video) or a GPU (device) is listed and left out unless it is named.
"""

import argparse
import ast
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent
NO_CLAIM = {'__init__', '__main__', 'common', 'flops', 'torch_step', 'demo_clip', 'train_tokenizer', 'page_picture'}
NO_CLAIM |= {'batches', 'device_parts', 'device_steps', 'device_table', 'device_tools', 'tracking'}
ON_REQUEST = {'attributes', 'calibration', 'device', 'device_compare', 'ensembles', 'testbed', 'tracks', 'video'}


def names() -> list[str]:
    """The benchmarks that there are."""
    return sorted(path.stem for path in FOLDER.glob('*.py') if path.stem not in NO_CLAIM)


def summary(name: str) -> str:
    """First line of a benchmark's docstring."""
    return (ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text())) or '').splitlines()[0]


def main() -> int:
    """Run what is asked for; the first exit status that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='all but those on request, if none is given')
    parser.add_argument('--list', action='store_true', help='tell what there is and run nothing')
    args = parser.parse_args()
    unknown = set(args.names) - set(names())
    if unknown:
        parser.error(f'found {", ".join(sorted(unknown))}, expected some of {", ".join(names())}')
    if args.list:
        for name in names():
            print(f'{name:14} {summary(name)}' + ' (on request)' * (name in ON_REQUEST))
        return 0
    status = 0
    for name in args.names or [name for name in names() if name not in ON_REQUEST]:
        print(f'\n{name}: {summary(name)}', flush=True)
        status = subprocess.call([sys.executable, '-m', f'benchmarks.{name}']) or status
    return status


if __name__ == '__main__':
    sys.exit(main())
