"""How cost grows, beside the line that theory draws:  python -m benchmarks.growth [--tables rows views ...]

Time and memory of a training step against rows of a batch, image size, views K and devices, with the demo's model, and
of ranking and exact search against the gallery. In a table every size takes its turn; `grown` is the time over that of
the first size, `theory` what operations alone would make it. Memory of a step is XLA's own count of its temporaries on
a device, with `theory` again for that. Devices are XLA's virtual ones on the same cores: they can show what dividing
costs and how memory falls, and no gain in time.
"""

import argparse
import json
import os
import subprocess
import sys

import numpy as np

from benchmarks import batches, common, flops, ranking, search, step
from lcr2s_jax.method import stages
from lcr2s_jax.search.topk import Exact
from lcr2s_jax.training.parallel import Parallel

ROWS, VIEWS = 64, 4
DEVICES = (1, 2, 4, 8)


def main() -> None:
    """Measure the tables that are asked for; the others stay in the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--tables', nargs='+', default=list(TABLES), choices=list(TABLES), help='what grows')
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--devices', type=int, default=0, help='be the process that has so many, and print its row')
    args = parser.parse_args()
    if args.devices:
        print(json.dumps([on_devices(args.rounds, fsdp) for fsdp in (False, True)]))
        return
    found = []
    for name in args.tables:
        for row in TABLES[name](args.rounds):
            found.append({'table': name} | row)
            print(found[-1], flush=True)
    common.write('growth', common.kept('growth', 'table', args.tables) + found)


def compiled(stage, batch, fsdp: bool = False):
    """A step of `stage` as benchmarks.step times it, and the MiB of XLA's temporaries on a device."""
    run, *given = step.program(stage, batch, Parallel('jit', 0, fsdp=fsdp))
    run = run.lower(*given).compile()
    memory = run.memory_analysis()
    mebibytes = {'step_mib': memory.temp_size_in_bytes / 2**20, 'state_mib': memory.argument_size_in_bytes / 2**20}
    return step.caller(run, *given), mebibytes


def demo_stage(kind: str, **changes):
    """(clip, stage) of the demo's sizes with random weights."""
    clip, params = step.load('demo', 'float32', **changes)
    given = (clip, params, step.PEOPLE['demo'])
    if kind == 'teacher':
        return clip, stages.teacher_stage(*given, **step.TEACHER)
    return clip, stages.baseline_stage(*given, **step.BASE)


def table(sizes: dict, theory: dict, rounds: int, memory_theory: dict | None = None) -> list[dict]:
    """A row a size; `sizes` are (call, more columns) by name."""
    seconds = common.interleaved({name: call for name, (call, _) in sizes.items()}, rounds)
    first = next(iter(sizes))
    rows = []
    for name, (_, more) in sizes.items():
        row = {'size': name, 'seconds': float(np.median(seconds[name]))}
        row |= {'grown': common.ratio(seconds, name, first), 'theory': theory[name] / theory[first], **more}
        if memory_theory:
            row['memory_grown'] = more['step_mib'] / sizes[first][1]['step_mib']
            row['memory_theory'] = memory_theory[name] / memory_theory[first]
        rows.append(row)
    return rows


def by_rows(rounds: int) -> list[dict]:
    """Rows N of a batch: the towers, and their memory, are linear in them."""
    clip, stage = demo_stage('baseline')
    counts = (16, 32, 64, 128, 256)
    sizes = {str(n): compiled(stage, batches.random_batch(clip, n // VIEWS, VIEWS)) for n in counts}
    linear = {str(n): n for n in counts}
    return table(sizes, linear, rounds, linear)


def by_image(rounds: int) -> list[dict]:
    """Image size: operations of `flops.train_pair`."""
    sizes, theory = {}, {}
    for image_size in ((48, 24), (96, 48), (192, 96)):
        clip, stage = demo_stage('baseline', image_size=image_size)
        name = f'{image_size[0]} x {image_size[1]}'
        sizes[name] = compiled(stage, batches.random_batch(clip, ROWS // VIEWS, VIEWS))
        theory[name] = flops.train_pair(clip)
    return table(sizes, theory, rounds)


def by_views(rounds: int) -> list[dict]:
    """K at equal rows: the fusion alone grows, with 2 K more of its width squared a row; the towers do not."""
    clip, stage = demo_stage('teacher')
    counts = (2, 4, 8, 16)
    sizes = {f'K = {k}': compiled(stage, batches.random_batch(clip, ROWS // k, k)) for k in counts}
    width = clip.embed_dim
    fusion = {k: 2 * 3 * 2.0 * (12 * width**2 + 2 * k * width) for k in counts}
    return table(sizes, {f'K = {k}': flops.train_pair(clip) + fusion[k] for k in counts}, rounds)


def by_gallery(rounds: int) -> list[dict]:
    """Metrics of n captions in n images of 1,000 people: time n^2, memory linear, as blocks are all that is held.

    `theory` leaves out that each of a query's n / 1,000 right images is compared with the whole gallery.
    """
    counts, found = (2_500, 5_000, 10_000, 20_000), {}
    for _ in range(rounds):
        for n in counts:
            found.setdefault(n, []).append(ranking.alone(ranking.OURS, n))
    seconds = {str(n): [one['seconds'] for one in runs] for n, runs in found.items()}
    first = str(counts[0])
    return [
        {
            'size': str(n),
            'seconds': float(np.median(seconds[str(n)])),
            'grown': common.ratio(seconds, str(n), first),
            'theory': (n / counts[0]) ** 2,
            'step_mib': float(np.median([one['peak_mb'] for one in found[n]])),
        }
        for n in counts
    ]


def by_search(rounds: int) -> list[dict]:
    """Exact search of one query, G x 512: bound by reading the vectors, so linear."""
    counts = (25_000, 100_000, 400_000)
    vector_GE, query_QE = search.vectors(counts[-1], 1)
    sizes = {}
    for count in counts:
        exact = Exact(vector_GE[:count])
        sizes[f'{count:,}'] = (lambda exact=exact: exact(query_QE, 10)), {'state_mib': count * 2048 / 2**20}
    return table(sizes, {f'{count:,}': count for count in counts}, rounds)


def by_devices(rounds: int) -> list[dict]:
    """Devices d at equal rows, in turns: a device holds 1/d of the activations, with fsdp of the state too."""
    runs: dict = {}
    for _ in range(rounds):
        for count in DEVICES:
            command = [sys.executable, '-m', 'benchmarks.growth', '--devices', str(count), '--rounds', '3']
            flags = {'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}', 'JAX_PLATFORMS': 'cpu'}
            done = subprocess.run(command, check=True, capture_output=True, env=os.environ | flags)
            for row in json.loads(done.stdout.splitlines()[-1]):
                runs.setdefault((count, row['fsdp']), []).append(row)
    found = []
    for fsdp in (False, True):
        seconds = {str(count): [row['seconds'] for row in runs[count, fsdp]] for count in DEVICES}
        for count in DEVICES:
            row, first = runs[count, fsdp][0], runs[DEVICES[0], fsdp][0]
            found.append(
                {
                    'size': f'{count}{", fsdp" * fsdp}',
                    'seconds': float(np.median(seconds[str(count)])),
                    'grown': common.ratio(seconds, str(count), str(DEVICES[0])),
                    'theory': 1.0,  # the same cores do the same work
                    'step_mib': row['step_mib'],
                    'memory_grown': row['step_mib'] / first['step_mib'],
                    'memory_theory': 1 / count,
                    'state_mib': row['state_mib'],
                }
            )
    return found


def on_devices(rounds: int, fsdp: bool) -> dict:
    """A teacher step on all devices of this process."""
    clip, stage = demo_stage('teacher')
    call, memory = compiled(stage, batches.random_batch(clip, ROWS // VIEWS, VIEWS), fsdp)
    return {'fsdp': fsdp, 'seconds': float(np.median(common.interleaved({'step': call}, rounds)['step'])), **memory}


TABLES = {
    'rows': by_rows, 'image': by_image, 'views': by_views, 'gallery': by_gallery, 'search': by_search,
    'devices': by_devices,
}  # fmt: skip

if __name__ == '__main__':
    main()
