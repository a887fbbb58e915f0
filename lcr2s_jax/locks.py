"""Locks between processes: a file that is locked by one, or by several that only read."""

import contextlib
import errno
import fcntl
import os
import pathlib
import stat
import time
from collections.abc import Callable, Iterator

_PAUSE = 0.05  # seconds between two looks at a lock that another process holds
_TRIES = 100  # of a lock file that is taken away while it is opened


@contextlib.contextmanager
def alone(path: pathlib.Path, waiting: Callable[[], None], patience: float = 0, shared: bool = False) -> Iterator[bool]:
    """Wait until no other process is in such a block of the same path; its end ends the lock, however it comes.

    `waiting` is called once where another process has been in it for `patience` seconds; what it raises ends the wait.
    Several may be in `shared` ones at once. The lock is made where it is missing, and left there. Yields whether it is
    held: not every network disk carries locks, and there nobody waits. Raises OSError: the file cannot be made, or
    there is something else by its name.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    file, held = _open_lock(path, lambda file: _hold(file, how, waiting, patience))
    try:
        yield held
    finally:
        os.close(file)


def refuse() -> None:
    """For `alone`: who does not get it at once goes without."""
    raise BlockingIOError('another process is at work there')


def _open_lock(path: pathlib.Path, hold: Callable[[int], bool]) -> tuple[int, bool]:
    for _ in range(_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # a link could have another file made, and a pipe would hang the process
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # whoever made an unused folder takes it away again
            time.sleep(_PAUSE)
            continue
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, 'found no ordinary file by the name of the lock', str(path))
            held = hold(file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file, held
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # it was removed while we opened it: the next process would lock another
    raise OSError(errno.EBUSY, 'the lock is taken away again and again', str(path))


def _hold(file: int, how: int, waiting: Callable[[], None], patience: float) -> bool:
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not told and time.monotonic() - began >= patience:
                told = True
                waiting()
            time.sleep(_PAUSE)
        except OSError:  # a disk without locks
            return False
