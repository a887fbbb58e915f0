"""LanceDB's tables: opened or made, never half made, and their errors in plain words."""

import contextlib
import errno
import pathlib
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

from lcr2s_jax.errors import FULL, SearchError
from lcr2s_jax.search import storage, stores

_NO_ROOM = (*(f'os error {number}' for number in FULL), 'No space left', 'Disk quota')
_READ_ONLY = ('os error 30', 'os error 13', 'os error 1)', 'Read-only file system', 'Permission denied')

_GONE = ('Not found:', 'os error 2)')  # of a file
_ERRORS, _PANICS = (RuntimeError, ValueError), ('PanicException', 'RustPanic')  # the latter's classes have no module

_TRIES = 10  # of a reader beside erasures: each leaves some tenths of a second, and a damaged index fails at once

T = TypeVar('T')


class FilesGone(SearchError):
    """Files of the version that was read are not there: it was erased meanwhile, or the index is damaged."""


def lasting(read: Callable[[], T], renew: Callable[[], None] = lambda: None) -> T:
    """What `read` gives, which takes no lock; where an erasure removed what it read, it is done again.

    `renew` is called before that, to go to the version there is then. Raises FilesGone after ten times.
    """
    for left in reversed(range(_TRIES)):
        try:
            return read()
        except FilesGone:
            if not left:
                raise
            renew()


def open_or_make(db, uri: str, name: str, schema=None):
    """A table by its name; None where there is none and `schema` is None. Raises SearchError: it is damaged.

    One that a killed call or a full disk left without a version and without rows is made anew; whoever passes a schema
    must keep other writers out.
    """
    if name in db.table_names(limit=1000):
        if any(file.endswith('.manifest') for file in storage.listed(uri, f'{name}.lance/_versions')):
            return db.open_table(name)
        files = storage.listed(uri, f'{name}.lance')
        if any('/data/' in file for file in files):
            raise SearchError(
                f'{uri}: damaged: the table {name} has rows and no version that says which; restore {name}.lance from '
                'a copy, or index the pictures again into another folder'
            )
        if schema is None:
            return None
        storage.unlink(uri, files)
    if schema is None:
        return None
    try:
        return db.create_table(name, schema=schema, exist_ok=True)  # another host's of the same moment is as good
    except ValueError:  # 'was not found': what could not be made is opened
        return db.create_table(name, schema=schema)  # says why


@contextlib.contextmanager
def told(uri: str, what: str, quote: bool = True) -> Iterator[None]:
    """Say in plain words why LanceDB or the disk could not do `what`, the beginning of a sentence. Raises SearchError.

    With `quote` LanceDB's own words are shown where ours do not know better; they may name values of rows.
    """
    try:
        yield
    except BaseException as error:
        stopped = type(error).__name__ in _PANICS
        if not (stopped or isinstance(error, OSError)) and not (isinstance(error, _ERRORS) and _of_lancedb(error)):
            raise
        far = stores.in_words(str(error)) if stores.is_remote(uri) else None
        kind = FilesGone if not far and any(word in str(error) for word in _GONE) else SearchError
        raise kind(f'{uri}: {what} failed: {far or _why(error, quote)}') from error


def _of_lancedb(error: Exception) -> bool:
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(pathlib.PurePath(file).parent.name in ('lancedb', 'lance') for file in files)


def _why(error: Exception, quote: bool) -> str:
    said, number = str(error), getattr(error, 'errno', 0)
    if any(word in said for word in _NO_ROOM) or number in FULL:
        return 'the disk is full. What was there is whole; make room and give the same command again'
    if any(word in said for word in _READ_ONLY) or number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return 'nothing can be written there; expected a folder that you may write'
    if any(word in said for word in _GONE):
        return (
            'files of it are gone. Others erase pictures there: wait for them, and give the same command again; or it '
            'is damaged: restore it from a copy'
        )
    shown = (said.strip().splitlines() or [''])[0][:200] if quote else type(error).__name__
    return f'{shown}. The index may be damaged: try again, or restore it from a copy'
