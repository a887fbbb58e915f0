"""How long until something happens:  python -m benchmarks.startup [--rounds 5]

Seconds of a new process until the library is imported, until help is printed, and until the demo's first training step
is done, cold and with JAX's compilation cache. Processes are started in turns; medians.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import common

_STEP = """
from benchmarks import batches, step
from lcr2s_jax.weights import pretrained
from lcr2s_jax.method import stages
sizes = step.MODELS['demo'] | {'pretrained': 'data/demo_clip', 'resize': 'bicubic', 'dtype': 'float32'}
clip, params = pretrained.load(**sizes, kernel='einsum', remat=False, scan=False, chunks=1)
stage = stages.teacher_stage(clip, params, step.PEOPLE['demo'], **step.TEACHER)
step.stepper(stage, batches.random_batch(clip, 16, 4))()
"""
_LARGE = """
from benchmarks import batches, step
from lcr2s_jax.method import stages
clip, params = step.load('vit-b16', 'float32', scan=%s)
stage = stages.teacher_stage(clip, params, step.PEOPLE['vit-b16'], **step.TEACHER)
step.stepper(stage, batches.random_batch(clip, 2, 4))()
"""
COMMANDS = {
    'python -c pass': ['-c', 'pass'],
    'import jax': ['-c', 'import jax'],
    'import lcr2s_jax.method.stages': ['-c', 'import lcr2s_jax.method.stages'],
    'main.py search --help': ['main.py', 'search', '--help'],
    "the demo's first teacher step, cold": ['-c', _STEP],
    "the demo's first teacher step, compilation cache": ['-c', _STEP],
    "ViT-B/16's first teacher step of 8 rows, cold": ['-c', _LARGE % False],
    "ViT-B/16's first teacher step of 8 rows, scan, cold": ['-c', _LARGE % True],
}


def main() -> None:
    """Start everything in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(args.rounds + 1):  # the first fills caches of files and programs
            for name, command in COMMANDS.items():
                seconds[name].append(started(command, cache if name.endswith('cache') else ''))
    common.write(
        'startup',
        [{'what': name, 'seconds': statistics.median(values[1:])} for name, values in seconds.items()],
    )


def started(command: list[str], cache: str) -> float:
    """Seconds of a process from start to end."""
    kept = {'JAX_COMPILATION_CACHE_DIR': cache, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'} if cache else {}
    environment = {k: v for k, v in os.environ.items() if k != 'JAX_COMPILATION_CACHE_DIR'} | kept
    root = pathlib.Path(__file__).parents[1]
    clock = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'{command}: {done.stderr}')
    return time.perf_counter() - clock


if __name__ == '__main__':
    main()
