"""Where a step's time goes, by jax.profiler:  python -m benchmarks.profile [--model vit-b16] [--rows 16]

Profiles a few baseline steps and adds up the operations of XLA by what they are: matrix products, fusions by name,
copies. On a CPU several run at once, so shares are of the busy time of all threads. The trace stays in --out for
Perfetto or XProf.
"""

import argparse
import collections
import pathlib
import re

import jax
from jax.profiler import ProfileData

from benchmarks import batches, common, step
from lcr2s_jax.method import stages

STEPS = 3


def main() -> None:
    """Profile what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='vit-b16', choices=list(step.MODELS), help='sizes of the model')
    parser.add_argument('--rows', type=int, default=16, help='rows of a batch')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'], help='compute type')
    parser.add_argument('--top', type=int, default=15, help='operations to print')
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/profile'), help='folder of the trace')
    args = parser.parse_args()
    clip, params = step.load(args.model, args.dtype)
    stage = stages.baseline_stage(clip, params, step.PEOPLE[args.model], **step.BASE)
    call = step.stepper(stage, batches.random_batch(clip, args.rows // step.VIEWS, step.VIEWS))
    for _ in range(2):
        call()
    with jax.profiler.trace(str(args.out)):
        for _ in range(STEPS):
            call()
    newest = max(args.out.rglob('*.xplane.pb'), key=lambda path: path.stat().st_mtime)
    spent = operations(ProfileData.from_file(str(newest)))
    total = sum(seconds for seconds, _ in spent.values())
    common.write(
        'profile',
        [
            {
                'model': args.model,
                'rows': args.rows,
                'operation': name,
                'ms_a_step': 1e3 * seconds / STEPS,
                'share': seconds / total,
                'calls_a_step': count // STEPS,
            }
            for name, (seconds, count) in sorted(spent.items(), key=lambda item: -item[1][0])[: args.top]
        ],
    )


def operations(profile: ProfileData) -> dict[str, tuple[float, int]]:
    """Seconds and calls by name without its number: operations of XLA on a CPU, kernels on a GPU."""
    spent: dict = collections.defaultdict(lambda: (0.0, 0))
    planes = list(profile.planes)
    devices = [plane for plane in planes if plane.name.startswith('/device:')]
    for plane in devices or planes:
        for line in plane.lines:
            if devices and not line.name.startswith('Stream'):
                continue  # the same kernels again, put together otherwise
            for event in line.events:
                if devices or any(name == 'hlo_op' for name, _ in event.stats):
                    name = re.sub(r'[.\d]+$', '', event.name)
                    seconds, count = spent[name]
                    spent[name] = seconds + event.duration_ns / 1e9, count + 1
    return dict(spent)


if __name__ == '__main__':
    main()
