"""One writer of an index at a time: a lock on a file in its folder, which ends with the process, however that ends."""

import contextlib
import functools
import pathlib
import sys
import threading
from collections.abc import Iterator

from lcr2s_jax import files, locks
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search.storage import is_remote

LOCK = '.lock'
_PATIENCE = 5.0  # seconds of waiting that are not worth a word: a commit is shorter
_thread = threading.local()


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Wait until no other process or thread writes to an index, and keep others out. May be nested.

    An object store has no such lock, nor has every network disk: there nobody waits. Raises SearchError where the lock
    cannot be made, so that nothing else could be written either.
    """
    held = _thread.__dict__.setdefault('held', set())
    folder = None if is_remote(uri) else pathlib.Path(uri).resolve()
    if folder is None or folder in held:
        yield
        return
    waiting = functools.partial(print, f'{uri}: another process is writing to it; waiting', file=sys.stderr)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.alone(folder / LOCK, waiting, _PATIENCE))
        except OSError as error:
            raise SearchError(
                f'{uri}: nothing can be written there ({files.why(error)}); expected a folder that you may write'
            ) from None
        held.add(folder)
        stack.callback(held.discard, folder)
        yield
