"""All rows of the testbed, on an accelerator seeds side by side:  python -m benchmarks.device_compare --out FOLDER

Draws the people, lets the baseline's regime choose the testbed (benchmarks/testbed.py), then trains the rows of
benchmarks/testbed.toml in order until the time is over; of each family the best on val goes to test. Typed again, it
goes on with what is left. <out>/compare.zip holds a .json and .npz a row and seed and is written again after every
group; <out>/table.md and .json say at the end what is in it. `--test_draw 2` is for a last claim: other test people,
with a --work of their own. `--pilot` trains few rows on one seed, to see on a
CPU that all of it works.
"""

import argparse
import json
import pathlib
import sys
import time
import zipfile

import jax
import numpy as np

from benchmarks import common, testbed
from commands import rows as row_files
from commands.comparison import Comparison
from lcr2s_jax import files
from lcr2s_jax.errors import UserError
from lcr2s_jax.evaluation import compare

ROWS = pathlib.Path('benchmarks/testbed.toml')
AGAINST = ('sdm', 'matched', 'self')
PILOT = ('sdm', 'fusion', 'self', 'rich')


def main() -> None:
    """Train what there is time for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=pathlib.Path, required=True, help='folder of the tables')
    parser.add_argument('--work', type=pathlib.Path, default=pathlib.Path('runs/testbed'), help='all the rest')
    parser.add_argument('--seconds', type=float, default=330, help='after so many no row is begun')
    parser.add_argument('--seeds', type=int, default=5, help='seeds of each row')
    parser.add_argument('--rows', nargs='+', help='these alone')
    parser.add_argument('--test_draw', type=int, default=1, choices=testbed.TEST_DRAWS, help='which people test has')
    parser.add_argument('--pilot', action='store_true', help='few rows of one seed, to see that they train')
    parser.add_argument('--tiny', action='store_true', help='sizes that say nothing, to test the program itself')
    args = parser.parse_args()
    clock = time.perf_counter()
    deadline = clock + args.seconds - 15  # for the tables

    def say(line: str) -> None:
        print(f'[{time.perf_counter() - clock:5.0f} s] {line}', flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    rows = row_files.read(ROWS)
    names = list(args.rows or (PILOT if args.pilot else rows))
    seeds = [0] if args.pilot else list(range(args.seeds))
    comparison, regime = prepare(args.work, rows, say, args.test_draw, args.tiny)
    ran(comparison, names, seeds, deadline, say, lambda: archive(comparison.out, args.out / 'compare.zip'))
    report(comparison, args.out, regime, rows, clock)
    say('done')


def prepare(work: pathlib.Path, rows: dict, say, test_draw: int = 1, tiny: bool = False) -> tuple[Comparison, dict]:
    """The chosen testbed with the rows in it."""
    if tiny:
        testbed.shrink()
    everything = testbed.splits(test_draw)
    say(f'drawn: {", ".join(f"{name} {len(split.image_pid_G)} images" for name, split in everything.items())}')
    regime = testbed.choose(everything, work, say)
    say(f'testbed: {json.dumps(regime)}')
    config = testbed.CONFIG | {'optim': testbed.CONFIG['optim'] | {'learning_rate': regime['learning_rate']}}
    together = jax.default_backend() != 'cpu'  # a CPU is full with one
    if test_draw != 1:
        config['made_of'] = {'test_draw': test_draw}  # its results are not those of other people
    splits = everything | {'train': everything['train'].people(regime['people'])}
    return Comparison(splits, config, rows, work / 'rows', testbed.load(splits), together=together, say=say), regime


def ran(comparison: Comparison, names, seeds, deadline: float, say, tell) -> None:
    """Compile, train, evaluate families on test; what fails is told and the rest goes on."""
    if comparison.together:
        comparison.prepare(names, seeds)
    try:
        comparison.run(names, seeds, deadline, after=tell)
    except UserError as error:
        say(str(error))
    for name in best_of_families(comparison, names, seeds):
        say(f'{name}: best of its family on val, to test')
        comparison.test(name, seeds)
    tell()


def best_of_families(comparison: Comparison, names, seeds) -> list[str]:
    """Of each family the row with the best mean val R@1, where all seeds of all its finished rows are there."""
    found: dict[str, tuple[float, str]] = {}
    for name in names:
        family = comparison.rows[name].family
        paths = [comparison.out / f'{name}-{seed}.json' for seed in seeds]
        if family and all(path.exists() for path in paths):
            score = float(np.mean([json.loads(path.read_text())['val']['single']['R1'] for path in paths]))
            found[family] = max(found.get(family, (-1.0, '')), (score, name))
    return [name for _, name in found.values()]


def report(comparison: Comparison, out: pathlib.Path, regime: dict, rows: dict, clock: float) -> None:
    """Table and JSON of all results."""
    try:
        results = compare.read(comparison.out)
    except UserError:
        return
    made = {
        'command': ' '.join(['python', *sys.orig_argv[1:]]), 'machine': common.machine(), 'regime': regime,
        'candidates': json.loads((comparison.out.parent / 'regime.json').read_text()),
        'seconds': time.perf_counter() - clock, 'config': comparison.config,
    }  # fmt: skip
    text = [compare.regime_line(regime)]
    for split in ('test', 'val'):
        lines = made[split] = compare.summarise(results, split, AGAINST, rows)
        text += ['', f'## {split}', '', compare.markdown(lines, AGAINST)]
    files.write(out / 'table.md', '\n'.join(text))
    files.write(out / 'table.json', json.dumps(made, indent=1) + '\n')


def archive(folder: pathlib.Path, path: pathlib.Path) -> None:
    """All results so far in one file."""
    with files.aside(path) as partial, zipfile.ZipFile(partial, 'w', zipfile.ZIP_DEFLATED) as content:
        for one in [*sorted(folder.glob('*-[0-9]*.*')), *folder.parent.glob('regime.json')]:
            if one.suffix in ('.json', '.npz') and not one.name.startswith('.'):
                content.write(one, one.name)


if __name__ == '__main__':
    main()
