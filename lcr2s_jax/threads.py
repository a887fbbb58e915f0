"""Work in many threads: its results in order, its memory within a bound."""

import collections
import concurrent.futures
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

from lcr2s_jax.errors import UserError

_AHEAD = 64  # pictures under way for each thread, ...
_MOST = 256  # ... and of all threads: they lie in memory, and a big machine has hundreds of threads


def in_order(one: Callable, things: Iterable, most: int = 0) -> Iterator:
    """`one` of every thing in their order, by a thread a core or `most`, only so far ahead of who takes them."""
    waiting: collections.deque = collections.deque()
    # those that this process may use, where the system tells
    threads = most or (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    ahead = max(threads, min(_AHEAD * threads, _MOST))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(one, thing))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def refuse_fork() -> None:
    """Raise UserError in a process that was forked from one that had computed: JAX would wait there for ever."""
    if _FORK['lost']:
        raise UserError(
            'found a process that was forked from one in which JAX had computed, where it would wait for ever; '
            "expected a new one: multiprocessing.get_context('spawn'), and load the model there"
        )


def _before_fork() -> None:
    bridge = sys.modules.get('jax._src.xla_bridge')  # nothing public says it without starting it
    _FORK['began'] = getattr(bridge, 'backends_are_initialized', bool)()


_FORK = {'began': False, 'lost': False}
os.register_at_fork(before=_before_fork, after_in_child=lambda: _FORK.update(lost=_FORK['lost'] or _FORK['began']))


class Room:
    """How many pixels are decoded at once by all threads: memory is bounded on a machine of many cores too."""

    def __init__(self, most: int):
        self._most, self._taken, self._freed = most, 0, threading.Condition()

    @contextlib.contextmanager
    def of(self, count: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: not self._taken or self._taken + count <= self._most)
            self._taken += count
        try:
            yield
        finally:
            with self._freed:
                self._taken -= count
                self._freed.notify_all()
