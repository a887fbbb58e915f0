"""One writer of an index at a time: a lock on a file in its folder, which ends with the process, however that ends."""

import contextlib
import fcntl
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search.storage import is_remote

LOCK = '.lock'
_PATIENCE = 5.0  # seconds of waiting that are not worth a word: a commit is shorter
_PAUSE = 0.05


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Wait until no other process writes to an index, and keep others out.

    An object store has no such lock, nor has every network disk: there nobody waits.

    Raises:
      SearchError: the lock cannot be made, so that nothing else could be written either.
    """
    if is_remote(uri):
        yield
        return
    path = pathlib.Path(uri) / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a')
    except OSError as error:
        raise SearchError(
            f'{uri}: nothing can be written there ({error.strerror}); expected a folder that you may write'
        ) from None
    with file:
        _hold(file, uri)
        yield


def _hold(file: TextIO, uri: str) -> None:
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told and time.monotonic() - began > _PATIENCE:
                print(f'{uri}: another process is writing to it; waiting', file=sys.stderr)
                told = True
            time.sleep(_PAUSE)
        except OSError:  # a disk without locks
            return
