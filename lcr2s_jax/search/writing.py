"""One writer of an index at a time: a lock on a file in its folder, which ends with the process, however that ends."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

from lcr2s_jax import files
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search.storage import is_remote

LOCK = '.lock'
_PATIENCE = 5.0  # seconds of waiting that are not worth a word: a commit is shorter


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Wait until no other process writes to an index, and keep others out.

    An object store has no such lock, nor has every network disk: there nobody waits.

    Raises:
      SearchError: the lock cannot be made, so that nothing else could be written either.
    """
    with contextlib.ExitStack() as stack:
        if not is_remote(uri):
            try:
                stack.enter_context(files.alone(pathlib.Path(uri) / LOCK, lambda: _tell(uri), _PATIENCE))
            except OSError as error:
                raise SearchError(
                    f'{uri}: nothing can be written there ({error.strerror}); expected a folder that you may write'
                ) from None
        yield


def _tell(uri: str) -> None:
    print(f'{uri}: another process is writing to it; waiting', file=sys.stderr)
