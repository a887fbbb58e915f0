"""Progress on standard error: a bar on a terminal, elsewhere a line each ten seconds."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from lcr2s_jax.progress import Progress, clock

_EVERY = 10.0  # seconds from line to line


class Shown(Progress):
    """Says how many are done, how many a second, and how long it will take."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def counting(self, what: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        began, last, done = time.monotonic(), time.monotonic(), 0.0
        bar = sys.stderr.isatty()

        def tell(count: float) -> None:
            nonlocal last, done
            done, now = done + count, time.monotonic()
            if now - last >= (0.2 if bar else _EVERY):
                last = now
                line = _line(what, done, total, now - began)
                print(f'\r\x1b[K{line}' if bar else line, end='' if bar else '\n', file=sys.stderr, flush=True)

        try:
            yield tell
        finally:
            if bar:
                print('\r\x1b[K', end='', file=sys.stderr, flush=True)


def _line(what: str, done: float, total: float | None, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    of = '' if total is None else f' of {total:,.0f}'
    left = '' if total is None or not rate else f', {clock((total - done) / rate)} left'
    return f'{done:,.0f}{of} {what}, {rate:,.1f} a second{left}'
