"""Metrics of a large gallery beside the usual way:  python -m benchmarks.ranking [--size 19848] [--rounds 5]

From embeddings to R@k, mAP and mINP at ICFG-PEDES's shape: 19,848 captions and images of 1,000 people, 512 numbers
each. Ours ranks in blocks; the usual way of the field, written here with torch, has the whole similarity matrix, its
argsort and cumulative sums. Each runs in processes of its own, in turns; memory is what its process grew by.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np

from benchmarks import common

OURS, USUAL = 'lcr2s_jax.evaluation.metrics, blocks', 'torch, whole matrix and argsort'
PEOPLE, WIDTH = 1000, 512


def main() -> None:
    """Measure both, or, with --contestant, be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=int, default=19_848, help='captions, and images')
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--contestant', choices=[OURS, USUAL], help='one method alone, in this process')
    args = parser.parse_args()
    if args.contestant:
        print(json.dumps(measured(args.contestant, args.size)))
        return
    found = {OURS: [], USUAL: []}
    for _ in range(args.rounds):
        for name in found:
            found[name].append(alone(name, args.size))
    seconds = {name: [one['seconds'] for one in runs] for name, runs in found.items()}
    blocks, whole = (found[name][0]['metrics'] for name in (OURS, USUAL))
    rows = [
        {
            'what': name,
            'size': args.size,
            'seconds': float(np.median(seconds[name])),
            'time_ratio': common.ratio(seconds, name, USUAL),
            'peak_mb': float(np.median([one['peak_mb'] for one in runs])),
            'largest_difference': max(abs(blocks[metric] - whole[metric]) for metric in whole) / 100,
        }
        for name, runs in found.items()
    ]
    for row in rows:
        row['memory_ratio'] = row['peak_mb'] / rows[1]['peak_mb']
    common.write('ranking', rows)


def alone(name: str, size: int) -> dict:
    """`measured` in a process of its own, whose memory goes back when it is freed.

    With the Makefile's allocator setting it would not, and torch's way lets go of one large matrix after another.
    """
    command = [sys.executable, '-m', 'benchmarks.ranking', '--contestant', name, '--size', str(size)]
    environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)


def features(size: int):
    """Captions and images of PEOPLE people that are found more often than not: query, gallery, identities."""
    rng = np.random.default_rng(0)
    pid = np.arange(size) % PEOPLE
    people = rng.normal(size=(PEOPLE, WIDTH)).astype(np.float32)
    query, gallery = (people[pid] + 3 * rng.normal(size=(size, WIDTH)).astype(np.float32) for _ in range(2))
    return query, gallery, pid


def measured(name: str, size: int) -> dict:
    """Seconds of the second run, compilation apart; the peak memory beyond what features and library need."""
    query, gallery, pid = features(size)
    call = ours if name == OURS else usual
    call(query[:64], gallery[:64], pid[:64])
    before = peak_kb(forget=True)  # making the features took more than they need now
    call(query, gallery, pid)
    clock = time.perf_counter()
    found = call(query, gallery, pid)
    seconds = time.perf_counter() - clock
    return {'seconds': seconds, 'peak_mb': (peak_kb() - before) / 1024, 'metrics': found}


def peak_kb(forget: bool = False) -> int:
    """Most resident memory of this process so far, or, on Linux, since it was told to forget.

    Linux's own count, since getrusage's begins with the parent's peak.
    """
    if sys.platform != 'linux':
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if forget:
        pathlib.Path('/proc/self/clear_refs').write_text('5')
    status = pathlib.Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith('VmHWM'))


def ours(query, gallery, pid) -> dict:
    """In blocks, from ranks alone."""
    from lcr2s_jax.evaluation import metrics

    found = metrics.retrieval(query, gallery, pid, pid)
    return {name: found[name] for name in metrics.NAMES}


def usual(query, gallery, pid) -> dict:
    """The field's way: similarity, argsort, matches in ranked order, cumulative sums."""
    import torch

    q, g = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (query, gallery))
    ids = torch.from_numpy(pid)
    order = torch.argsort(q @ g.T, dim=1, descending=True)
    matches = ids[order] == ids[:, None]
    found = matches.cumsum(1)
    result = {f'R{k}': 100 * float((found[:, k - 1] > 0).double().mean()) for k in (1, 5, 10)}
    relevant = matches.sum(1)
    places = torch.arange(1, matches.shape[1] + 1)
    precision = found / places * matches
    result['mAP'] = 100 * float((precision.double().sum(1) / relevant).mean())
    last = (matches * places).max(1).values
    result['mINP'] = 100 * float((relevant.double() / last).mean())
    return result


if __name__ == '__main__':
    main()
