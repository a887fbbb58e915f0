"""One process at a time, by a lock on a file; it ends with the process, however that ends."""

import contextlib
import fcntl
import pathlib
from collections.abc import Callable, Iterator
from typing import TextIO


@contextlib.contextmanager
def alone(path: pathlib.Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Wait until no other process is in such a block.

    Args:
      path: of the lock; made where it is missing and left there, as one that is removed could be held twice.
      waiting: called once where another process is in it.

    Yields:
      Whether it is held; not every network disk carries locks, and there nobody waits.

    Raises:
      OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        yield _hold(file, waiting)


def _hold(file: TextIO, waiting: Callable[[], None]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
