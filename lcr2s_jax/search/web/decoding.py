"""Pictures that somebody sends, decoded by a few processes of their own: bounded in number, memory, time and priority.

A process that a picture kills, or that takes too long, is replaced; the server and its searches go on meanwhile.
"""

import contextlib
import io
import json
import os
import pathlib
import queue
import resource
import subprocess
import sys
import threading
from typing import NamedTuple

import numpy as np

from lcr2s_jax import images
from lcr2s_jax.errors import SearchError

_MEMORY = 3 << 30  # bytes of address space; the largest picture takes a fifth of it
_SECONDS = 20.0  # of one picture, from when its turn has come
_PATIENCE = 60.0  # seconds until its turn


class Decoded(NamedTuple):
    pixels: np.ndarray  # uint8 [h, w, 3] of the model's size
    png: bytes  # of all its pixels, upright, with nothing else that came in the file; b'' where it was not asked for


class Decoders:
    """A pool of processes, started when first needed. May be called from many threads.

    `nice` says how far they stand back for the search, `seconds` what one picture may take.
    """

    def __init__(self, count: int, nice: int = 10, seconds: float = _SECONDS):
        self._nice, self._seconds = nice, seconds
        self._free: queue.LifoQueue[subprocess.Popen | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def __call__(
        self, name: str, encoded: bytes, size: tuple[int, int], limits: images.Limits, png: bool = False
    ) -> Decoded:
        """Decode a picture to `size` (height, width), and to PNG where it is asked for; `name` is for messages.

        Raises SearchError: why it cannot be used.
        """
        try:
            process = self._free.get(timeout=_PATIENCE)
        except queue.Empty:
            raise SearchError(f'{name}: too many pictures are waiting to be read; try again in a minute') from None
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            timer = threading.Timer(self._seconds, process.kill)
            timer.start()
            try:
                facts, more = _ask(process, encoded, {'size': size, 'limits': limits, 'png': png})
            finally:
                timer.cancel()
        except (OSError, ValueError, EOFError):
            if process:
                process.kill()
                process.communicate()
            process = None
            raise SearchError(
                f'{name}: cannot be read within {self._seconds:g} s and {_MEMORY >> 30} GB; expected a picture as '
                'cameras and programs write it'
            ) from None
        finally:
            self._free.put(process)
        if facts['fault']:
            raise SearchError(f'{name}: {facts["fault"]}')
        pixels = np.frombuffer(more[: facts['pixels']], np.uint8).reshape(*size, 3)
        return Decoded(pixels, more[facts['pixels'] :])

    def close(self) -> None:
        """End the processes; they end by themselves with this one."""
        while True:
            try:
                process = self._free.get_nowait()
            except queue.Empty:
                return
            if process:
                process.kill()
                process.communicate()

    def _start(self) -> subprocess.Popen:
        root = str(pathlib.Path(__file__).parents[3])
        path = os.pathsep.join([root, *filter(None, [os.environ.get('PYTHONPATH')])])
        process = subprocess.Popen(
            [sys.executable, '-m', __name__, str(self._nice)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {'PYTHONPATH': path, 'OPENBLAS_NUM_THREADS': '1'},
        )
        if not process.stdout.readline():  # the clock of a picture starts when the process has
            raise EOFError
        return process


def _ask(process: subprocess.Popen, encoded: bytes, wanted: dict) -> tuple[dict, bytes]:
    _write(process.stdin, wanted | {'bytes': len(encoded)}, encoded)
    facts = json.loads(process.stdout.readline())
    more = process.stdout.read(facts['bytes'])
    if len(more) < facts['bytes']:
        raise EOFError
    return facts, more


def _write(out, facts: dict, more: bytes) -> None:
    out.write(json.dumps(facts).encode() + b'\n')
    out.write(more)
    out.flush()


def _decode(encoded: bytes, wanted: dict) -> tuple[dict, bytes]:
    try:
        whole = images.image(encoded, images.Limits(*wanted['limits']))
    except images.PictureError as fault:
        return {'fault': str(fault), 'bytes': 0}, b''
    pixels = images.resize(np.asarray(whole), tuple(wanted['size'])).tobytes()
    out = io.BytesIO()
    if wanted['png']:
        whole.save(out, 'PNG', compress_level=1)  # a third larger than at 6, and made in a fifth of the time
    more = pixels + out.getvalue()
    return {'fault': '', 'pixels': len(pixels), 'bytes': len(more)}, more


def main() -> None:
    """Decode what comes by the standard input until it ends."""
    os.nice(int(sys.argv[1]))
    with contextlib.suppress(ValueError, OSError):  # a system without that limit
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    print(flush=True)
    while line := sys.stdin.buffer.readline():
        wanted = json.loads(line)
        try:
            facts, more = _decode(sys.stdin.buffer.read(wanted['bytes']), wanted)
        except MemoryError:
            facts, more = {'fault': 'too large for the memory that a picture may take', 'bytes': 0}, b''
        _write(sys.stdout.buffer, facts, more)


if __name__ == '__main__':
    main()
