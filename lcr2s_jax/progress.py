"""How far a long task is: the library says it here, and whoever calls decides what is shown."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

_EVERY = 10.0  # seconds from line to line


class Progress:
    """Told how far a task is; this one shows nothing."""

    def say(self, text: str) -> None:
        """A line of its own, such as that another process is waited for."""

    @contextlib.contextmanager
    def counting(self, what: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Give a function to call with how many more are done, of `total`; None where nobody knows."""
        yield lambda count: None


QUIET = Progress()


class Shown(Progress):
    """Says on standard error how many are done and what is left: a bar on a terminal, else a line each ten seconds."""

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


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
