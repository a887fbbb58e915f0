"""A GPU, asked everything in ten minutes:  python -m benchmarks.device --out DIR [--compare 'COMMAND'] [--seconds 570]

Parts, in the order of their importance: the peak of a matrix product; training steps of ViT-B/16 at 384 x 128; the same
step of torch's CLIPModel; exact search of 10 M vectors; embedding a gallery; a profile. Each is a process of its own
with a time limit, and DIR/<part>.json is written with every row: a part that fails, hangs or does not fit costs itself.
Then COMMAND, another program, has the time that is left ({seconds} and {out} are put in). At the end a table;
--table DIR prints it again from the files alone. Needs jax, flax, optax, orbax; for its part torch and transformers.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

from benchmarks import device_table
from lcr2s_jax import files

# Parts of the time after which a part begins nothing new; seconds, where there are 570 in all and a program to compare.
SHARES = {'peak': 15, 'step': 110, 'torch': 50, 'search': 25, 'gallery': 20, 'profile': 20}
BESIDE_COMPARE, ALONE = 240 / 570, 0.8  # what all parts get of the time
GRACE = 45  # what is under way then may take so many more, such as torch's compiler
MARGIN = 5  # kept for the table
ENVIRONMENT = {
    'JAX_COMPILATION_CACHE_DIR': '/tmp/lcr2s-device-cache',  # a second run compiles nothing again
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
    'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.92',  # each part has the device alone
    'TF_CPP_MIN_LOG_LEVEL': '2',
}


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for and print the table; 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/device'), help='where the files go')
    parser.add_argument('--seconds', type=float, default=570, help='for everything')
    parser.add_argument('--parts', nargs='*', default=list(SHARES), choices=list(SHARES), help='what is measured')
    parser.add_argument(
        '--waves', nargs='*', type=int, default=[], help='of training steps these alone, see device_steps'
    )
    parser.add_argument('--compare', default='', metavar='COMMAND', help='another program, run last')
    parser.add_argument('--tiny', action='store_true', help='sizes for a CPU: that everything runs, and no figure')
    parser.add_argument('--table', type=pathlib.Path, metavar='DIR', help='print the table of files that are there')
    args = parser.parse_args(words)
    if args.table:
        print(device_table.text(args.table))
        return 0
    end = time.monotonic() + args.seconds - MARGIN
    args.out.mkdir(parents=True, exist_ok=True)
    good = run_parts(args, end)
    if args.compare:
        good = compare(args.compare, args.out, end - time.monotonic()) and good
    table = device_table.text(args.out)
    (args.out / 'table.md').write_text(table)
    print(table)
    return 0 if good else 1


def run_parts(args, end: float) -> bool:
    """Every part, one after the other, the next one's imports beside; whether all went well."""
    good, waiting = True, {}
    unit = (
        args.seconds * (BESIDE_COMPARE if args.compare else ALONE) / sum(SHARES[part] for part in args.parts or SHARES)
    )
    with contextlib.ExitStack() as stack:
        for here, following in zip(args.parts, [*args.parts[1:], None], strict=True):
            for part in (here, following):
                if part and part not in waiting:
                    waiting[part] = stack.enter_context(Part(part, args, SHARES[part] * unit))
            left = end - time.monotonic()
            error = waiting[here].finish(left) if left > 0 else 'no time was left for it'
            if error:
                _tell(args.out / f'{here}.json', {'part': here, 'error': error, 'done': False})
            print(f'{here}: {error or "done"}, {end - time.monotonic():.0f} s left', flush=True)
            good = good and not error
    return good


class Part:
    """The process of a part. It starts when it is made, and waits to be told that it is its turn."""

    def __init__(self, part: str, args, seconds: float):
        self.seconds, self.path = seconds, args.out / f'{part}.json'
        self.path.unlink(missing_ok=True)
        self.log = (args.out / f'{part}.log').open('w+')
        given = ['--part', part, '--out', str(args.out), '--seconds', str(seconds), *['--tiny'] * args.tiny]
        given += ['--waves', *map(str, args.waves)] * (part == 'step' and bool(args.waves))
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.device_parts', *given],
            stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, text=True, start_new_session=True,
            env=ENVIRONMENT | os.environ | ({'JAX_PLATFORMS': 'cpu'} if part == 'torch' else {}),
        )  # fmt: skip

    def finish(self, left: float) -> str:
        """Let it measure, in no more than what is left; what went wrong, '' for nothing."""
        seconds = min(left, self.seconds + GRACE)
        try:
            self.process.communicate('go\n', timeout=seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            return f'stopped after {seconds:.0f} s'
        return '' if self.process.returncode == 0 else f'exit status {self.process.returncode}: {self._last_words()}'

    def _last_words(self) -> str:
        self.log.seek(0)
        return ' '.join(self.log.read().strip().splitlines()[-1:])[:300]

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # torch's compiler has processes too
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self._kill()
        self.process.stdin.close()
        self.log.close()
        if self.process.returncode == 0 or not os.path.getsize(self.log.name):
            os.unlink(self.log.name)


def compare(command: str, out: pathlib.Path, seconds: float) -> bool:
    """Run another program for at most so many seconds; whether it ended well."""
    words = [word.format(seconds=int(seconds), out=out) for word in shlex.split(command)]
    clock, path = time.monotonic(), out / 'compare.log'
    found: dict = {'part': 'compare', 'command': shlex.join(words), 'rows': [], 'error': None}
    with path.open('w') as log:
        try:
            process = subprocess.Popen(
                words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=ENVIRONMENT | os.environ
            )
            try:
                status = process.wait(max(seconds, 0))
                found['error'] = f'exit status {status}' if status else None
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                found['error'] = f'stopped after {seconds:.0f} s'
        except OSError as error:
            found['error'] = str(error)
    said = path.read_text(errors='replace').splitlines()[-40:]
    _tell(out / 'compare.json', found | {'seconds': time.monotonic() - clock, 'said': said})
    print(f'compare: {found["error"] or "done"}', flush=True)
    return found['error'] is None


def _tell(path: pathlib.Path, more: dict) -> None:
    """Add to a part's file, which may not be there."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = {'rows': []}
    files.write(path, files.to_json(found | more))


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process of a part outlives this one
    sys.exit(main())
