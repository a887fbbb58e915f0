"""How trained rows rank val together, without any student:  python -m benchmarks.ensembles [--work runs/testbed]

Of the testbed's rows in <work>/rows (`python -m benchmarks.device_compare` trains them): R@1 and mAP of the mean cosine
of several, the mean over the seeds that all of them have. What a student of theirs has to learn from.
"""

import argparse
import pathlib

import numpy as np

from benchmarks import common, device_compare
from commands import rows as row_files
from lcr2s_jax.evaluation import metrics
from lcr2s_jax.method import targets

ONE, BALANCED = ('sdm', 'sdm-b', 'sdm-c'), ('matched', 'matched-b', 'matched-c')
HALVES = tuple(f'sdm-{half}{order}' for half in ('even', 'odd') for order in ('', '-b', '-c'))
TOGETHER = {
    'one-to-one': ONE[:1],
    'balanced': BALANCED[:1],
    'three one-to-one': ONE,
    'three balanced': BALANCED,
    'one of each': (ONE[0], BALANCED[0]),
    'three of each': ONE + BALANCED,
    'three one-to-one of each half of the people': HALVES,
}


def main() -> None:
    """Print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work', type=pathlib.Path, default=pathlib.Path('runs/testbed'), help='folder of the testbed')
    parser.add_argument('--seeds', type=int, default=5, help='at most')
    args = parser.parse_args()
    material, _ = device_compare.prepare(args.work, row_files.read(device_compare.ROWS), print)
    found = []
    for what, names in TOGETHER.items():
        seeds = [
            seed
            for seed in range(args.seeds)
            if all((args.work / 'rows' / f'{name}-{seed}.json').exists() for name in names)
        ]
        each = []
        for seed in seeds:
            e = targets.mean_relation([material.features(name, seed, 'val') for name in names])
            scores = metrics.retrieval(e.text_QE, e.image_GE, e.text_pid_Q, e.image_pid_G, block=2048)
            each.append([scores['R1'], scores['mAP']])
        if seeds:
            r1, ap = np.mean(each, axis=0)
            found.append({'what': what, 'models': len(names), 'seeds': len(seeds), 'R1': r1, 'mAP': ap})
            print(found[-1], flush=True)
    common.write('ensembles', found)


if __name__ == '__main__':
    main()
