"""lcr2s export --workdir=W --format=hf --out=DIR: a trained model for other programs."""

import argparse
import pathlib
import time

from lcr2s_jax.cli.parser import one_of, place

ABOUT = "Write a run's model for other programs, and check it there."


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--workdir', required=True, type=place, metavar='W', help='Folder of the run.')
    add('--stage', default='', metavar='NAME', help='Stage of the run; by default its student or last stage.')
    formats = ('hf', 'open_clip', 'stablehlo')
    add('--format', required=True, type=one_of(*formats), metavar='|'.join(formats), help='Layout of the files.')
    add('--out', required=True, type=place, metavar='DIR', help='Folder to make.')
    add('--unchecked', action='store_true', help='Skip the check of the exported files.')


def run(args: argparse.Namespace) -> None:
    from lcr2s_jax.weights.export import export

    clock, out = time.perf_counter(), pathlib.Path(args.out)
    for line in export(pathlib.Path(args.workdir), args.format, out, args.unchecked, args.stage):
        print(line)
    print(f'{out}: {"  ".join(sorted(path.name for path in out.iterdir()))}  ({time.perf_counter() - clock:.0f} s)')
