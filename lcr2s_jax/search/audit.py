"""Who searched for what, and when: one line a query, only ever appended. Feedback on hits is kept in the same way."""

import contextlib
import datetime
import errno
import fcntl
import getpass
import json
import os
import pathlib
import stat
import uuid
from collections.abc import Iterator

from lcr2s_jax import files as shared
from lcr2s_jax.errors import SearchError, UserError
from lcr2s_jax.search import stores

NAME = 'audit.jsonl'
FEEDBACK = 'feedback.jsonl'


def write(uri: str, lines: list[dict], log: str = NAME) -> None:
    """Append lines, each with the time put before it; beside an index on an object store, one object a call.

    `log` is NAME or FEEDBACK, beside the index, or an absolute path, where the log is kept apart from it. Raises
    SearchError where they cannot be written; then nothing may be shown.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')
    content = ''.join(json.dumps({'time': now, **line}) + '\n' for line in lines).encode('ascii')
    try:
        if stores.is_remote(uri) and not os.path.isabs(log):
            stores.write(f'{uri}/{pathlib.PurePath(log).stem}/{now}-{uuid.uuid4().hex[:8]}.jsonl', content)
            return
        with _opened(pathlib.Path(uri) / log) as file:
            before = os.fstat(file).st_size
            if os.write(file, content) < len(content):  # one call, so that lines of several processes do not mix
                os.ftruncate(file, before)
                raise OSError(errno.ENOSPC, 'there is room for a part of the line only')
    except OSError as error:
        raise SearchError(
            f'{uri}: the audit log cannot be written ({shared.why(error)}), and no search goes unlogged. Make '
            f'{log} there a file that {user()} may write.'
        ) from error


def forget(uri: str, files: set[tuple[str, str]]) -> None:
    """Take what was said of pictures, (root, path), out of FEEDBACK; on object stores it stays. Raises SearchError."""
    path = pathlib.Path(uri) / FEEDBACK
    if stores.is_remote(uri) or not path.exists():
        return
    try:
        with _opened(path):
            with shared.regular(path) as file:
                lines = file.readlines()
            kept = [one for one in lines if not _is_of(one, files)]
            if len(kept) < len(lines):
                shared.write(path, b''.join(kept), mode=0o600)
    except OSError as error:
        raise SearchError(f'{path}: cannot be written ({shared.why(error)}); make it writable') from error


def _is_of(line: bytes, files: set[tuple[str, str]]) -> bool:
    try:
        said = json.loads(line)
        return (said['root'], said['path']) in files
    except (ValueError, KeyError, TypeError, RecursionError):  # no line of ours
        return False


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[int]:
    """The log, and nobody else's meanwhile: what is cut off again shall be ours alone."""
    while True:
        # a pipe would hang the process
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, 'found no ordinary file', str(path))
            with contextlib.suppress(OSError):  # a disk without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            ours = False  # where another file has its name by now
            with contextlib.suppress(FileNotFoundError):
                ours = os.path.samestat(os.fstat(file), os.stat(path))
            if ours:
                yield file
                return
        finally:
            os.close(file)


@contextlib.contextmanager
def refusals(uri: str, who: str, asked: dict) -> Iterator[None]:
    """Have a search that is refused leave a line as well: who, and what was asked."""
    try:
        yield
    except UserError:
        write(uri, [{'user': who, 'event': 'search refused', **asked}])
        raise


def line(who: str, answer, opened, where: str = '') -> dict:
    """What the log keeps of one answer that the `search.Search` `opened` gave, under a condition or ''."""
    return {
        'user': who,
        'text': list(answer.query.sentences),
        'examples': len(answer.query.example_nE),
        'where': where,
        'model': opened.model.hash,
        'version': opened.gallery.version,
        'found': answer.found,
        'top': [f'{hit.root}/{hit.path}' for hit in answer.hits],
    }


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return f'uid {os.getuid()}'
