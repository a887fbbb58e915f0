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
from lcr2s_jax.errors import FULL, SearchError, UserError
from lcr2s_jax.search import storage, stores

NAME = 'audit.jsonl'
FEEDBACK = 'feedback.jsonl'


def log_of(file: str | None) -> str:
    """The log that `write` takes, of the FILE of --audit; the one beside the index without."""
    return str(pathlib.Path(file).resolve()) if file else NAME


def check(uri: str, log: str = NAME) -> None:
    """Raise SearchError where `write` could not write, before any work; of an object store that is not known before."""
    if not stores.is_remote(uri) or os.path.isabs(log):
        with _told(uri, log), _opened(pathlib.Path(uri) / log):
            pass


def write(uri: str, lines: list[dict], log: str = NAME) -> None:
    """Append lines, each with the time put before it; beside an index on an object store, one object a call.

    `log` is NAME or FEEDBACK, beside the index, or an absolute path, where the log is kept apart from it, perhaps that
    of several indexes: its lines name theirs. Raises SearchError where they cannot be written; then nothing may be
    shown.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')
    which = {'index': storage.absolute(uri)} if os.path.isabs(log) else {}
    content = ''.join(json.dumps({'time': now, **which, **line}) + '\n' for line in lines).encode('ascii')
    with _told(uri, log):
        if stores.is_remote(uri) and not os.path.isabs(log):
            stores.write(f'{uri}/{pathlib.PurePath(log).stem}/{now}-{uuid.uuid4().hex[:8]}.jsonl', content)
            return
        with _opened(pathlib.Path(uri) / log) as file:
            before = os.fstat(file).st_size
            if os.write(file, content) < len(content):  # one call, so that lines of several processes do not mix
                os.ftruncate(file, before)
                raise OSError(errno.ENOSPC, 'there is room for a part of the line only')


@contextlib.contextmanager
def _told(uri: str, log: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SearchError) as error:
        what = f'--audit: {log}' if os.path.isabs(log) else f'{uri}: the audit log'
        if getattr(error, 'errno', None) in FULL:
            change = 'Make room on the disk and give the same command again'
        elif os.path.isabs(log):
            change = f'Make it a file that {user()} may write, or choose another'
        else:
            change = (
                f'Make {log} there a file that {user()} may write; or, for an index that may only be read, have '
                '`search` and `serve` keep the log elsewhere: --audit=FILE'
            )
        reason = shared.why(error) if isinstance(error, OSError) else str(error)
        raise SearchError(f'{what} cannot be written ({reason}), and no search goes unlogged. {change}.') from error


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
def refusals(uri: str, who: str, asked: dict, log: str = NAME) -> Iterator[None]:
    """Have a search that is refused leave a line as well: who, and what was asked."""
    try:
        yield
    except UserError:
        write(uri, [{'user': who, 'event': 'search refused', **asked}], log)
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
