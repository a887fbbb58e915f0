"""How long until something happens:  python -m benchmarks.startup [--rounds 5]

Seconds of a new process until the library is imported, until help is printed, until a search is answered, and until the
demo's first training step is done, cold and with JAX's compilation cache. Processes are started in turns; medians.
`cpu_seconds`, of all threads, says less of what a user waits for, and more where other work shares the machine.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

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
_INDEX = 'INDEX'  # stands for a folder that is made first
_SEARCH = ['main.py', 'search', f'--index={_INDEX}', 'a man in a red coat']
COMMANDS = {
    'python -c pass': ['-c', 'pass'],
    'import jax': ['-c', 'import jax'],
    'import lcr2s_jax.method.stages': ['-c', 'import lcr2s_jax.method.stages'],
    'main.py search --help': ['main.py', 'search', '--help'],
    'import lancedb': ['-c', 'import lancedb'],
    'an answer, cold': _SEARCH,
    'an answer, compilation cache': _SEARCH,
    "the demo's first teacher step, cold": ['-c', _STEP],
    "the demo's first teacher step, compilation cache": ['-c', _STEP],
    "ViT-B/16's first teacher step of 8 rows, cold": ['-c', _LARGE % False],
    "ViT-B/16's first teacher step of 8 rows, scan, cold": ['-c', _LARGE % True],
}


def main() -> None:
    """Start everything in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--only', default='', help='what has these words in it')
    args = parser.parse_args()
    commands = {name: command for name, command in COMMANDS.items() if args.only in name}
    if not commands:
        parser.error(f"--only: found '{args.only}' in none of {', '.join(COMMANDS)}")
    found: dict[str, list[tuple]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        index = make_index(pathlib.Path(folder)) if _SEARCH in commands.values() else ''
        for _ in range(args.rounds + 1):  # the first fills caches of files and programs
            for name, command in commands.items():
                words = [word.replace(_INDEX, index) for word in command]
                found[name].append(started(words, f'{folder}/programs' if name.endswith('cache') else ''))
    medians = {name: [statistics.median(x) for x in zip(*values[1:], strict=True)] for name, values in found.items()}
    rows = [{'what': name, 'seconds': wall, 'cpu_seconds': cpu} for name, (wall, cpu) in medians.items()]
    common.write('startup', ([] if not args.only else common.kept('startup', 'what', list(commands))) + rows)


def make_index(folder: pathlib.Path) -> str:
    """An index of a hundred pictures of noise, by the small CLIP that comes with the library."""
    from PIL import Image

    (folder / 'pictures').mkdir()
    for i in range(100):
        noise = np.random.default_rng(i).integers(0, 256, (96, 48, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / 'pictures' / f'{i}.png')
    given = f'--index={folder}/index --images={folder}/pictures --weights=synthetic-pedestrians'
    started(['main.py', 'index', *given.split()], '')
    return f'{folder}/index'


def started(command: list[str], cache: str) -> tuple[float, float]:
    """Seconds of a process from start to end, and processor seconds of it."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output(command, cache)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - clock, cpu


def output(command: list[str], cache: str) -> str:
    """What a process prints; JAX keeps compiled programs in `cache`, or nowhere where that is ''."""
    kept = {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
    if cache:
        kept = {'JAX_COMPILATION_CACHE_DIR': cache, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run([sys.executable, *command], cwd=root, env=os.environ | kept, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'{command}: {done.stderr}')
    return done.stdout


if __name__ == '__main__':
    main()
