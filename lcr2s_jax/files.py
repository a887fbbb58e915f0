"""Files of the project: writing aside and renaming, JSON, arrays."""

import contextlib
import errno
import glob
import json
import os
import pathlib
import re
import shutil
import socket
import stat
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from lcr2s_jax.errors import UserError

_MOST_TEXT = 64 << 20  # bytes of a file that somebody typed
_LARGEST = 10**18  # number in a file of ours; nothing that is counted or measured comes near


@contextlib.contextmanager
def aside(path: pathlib.Path, shared: bool = False) -> Iterator[pathlib.Path]:
    """Write a file or a folder beside its place, and rename it at the end: a reader sees the old or the new, whole.

    Yields where to write; nothing is there: what a killed call left is removed first, what a failed one left at once. A
    folder at `path` must be empty. Several may write `shared` ones at once, and no lock keeps them apart.
    """
    partial = aside_of(path, f'{socket.gethostname()}-{os.getpid()}' if shared else '')
    try:
        with named(path, partial):
            for one in [*(_left(path) if shared else ()), partial]:
                remove(one)
            yield partial
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(partial)
        raise


@contextlib.contextmanager
def named(path: pathlib.Path, partial: pathlib.Path | None = None) -> Iterator[None]:
    """Name the file that a block writes in errors that name none, as that of a full disk, also told by Rust."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
    except Exception as error:
        if told := re.search(r'\(os error (\d+)\)$', str(error)):
            raise OSError(int(told[1]), os.strerror(int(told[1])), str(path)) from error
        raise


def aside_of(path: pathlib.Path, by: str = '') -> pathlib.Path:
    """Where `aside` writes."""
    return path.with_name(f'.{path.name}{by and f".{by}"}.partial')


def _left(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """What killed processes of this machine have left of a `shared` file; those of others may be alive."""
    before = glob.escape(aside_of(path, f'{socket.gethostname()}-').name.removesuffix('.partial'))
    for one in path.parent.glob(f'{before}*.partial'):
        with contextlib.suppress(ValueError, OverflowError, PermissionError):  # none of ours
            try:
                os.kill(int(one.stem.rpartition('-')[2]), 0)
            except ProcessLookupError:
                yield one


def write(path: pathlib.Path, content: bytes | str, mode: int = 0o666, shared: bool = False) -> None:
    """Write a file by `aside`; `mode` is what its owner and others may do, less the process's umask."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with aside(path, shared) as partial, open(os.open(partial, flags, mode), 'wb') as out:
        out.write(content.encode() if isinstance(content, str) else content)


def check_writable(path: pathlib.Path, what: str) -> None:
    """Raise UserError, in which `what` names it, where a file or folder cannot be made: before the work for it."""
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise UserError(f'{what}: found {kind(above)} by the name of the folder {above}; choose another place')
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f'{what}: {path.name} cannot be written in {above}; expected a folder that you may write')


def remove(path: pathlib.Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """The text of a JSON file, the same for equal values."""
    return json.dumps(value, indent=2, sort_keys=True) + '\n'


def expanded(path: str | os.PathLike) -> pathlib.Path:
    """A path with ~ expanded; that of an unknown user stays, of which `Path.expanduser` makes a RuntimeError."""
    return pathlib.Path(os.path.expanduser(path))


def user_folder(kind: str, default: str) -> pathlib.Path:
    """The folder of the user's that XDG_<kind>_HOME names, or `default`."""
    return expanded(os.environ.get(f'XDG_{kind}_HOME') or default)


def kind(path: str | pathlib.Path) -> str:
    """What has a path's name, in words, a link not followed; '' for nothing."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return ''
    names = ((stat.S_ISLNK, 'a link'), (stat.S_ISDIR, 'a folder'), (stat.S_ISREG, 'a file'))
    return next((name for is_one, name in names if is_one(mode)), 'a pipe, socket or device')


def why(error: OSError) -> str:
    """Why a file cannot be opened, in words; where what it is forbids that, what it is."""
    odd = error.errno in (errno.ELOOP, errno.ENXIO, errno.EINVAL, errno.EISDIR, errno.ENOTDIR)
    found = kind(error.filename) if odd and error.filename else ''
    return f'{error.filename} is {found}' if found else error.strerror or str(error)


def regular(path: str | pathlib.Path) -> BinaryIO:
    """Open an ordinary file to read. Raises OSError, also for a device and a pipe, whose other end nobody awaits."""
    file = open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, 'a pipe, socket or device, expected an ordinary file', str(path))


def read_bytes(path: str | pathlib.Path, most: int = _MOST_TEXT, typed: bool = False) -> bytes:
    """What a file holds; `typed` by somebody, who may name a pipe as well.

    Raises OSError, also where that is more than `most` bytes, which a sparse file says it is.
    """
    with open(path, 'rb') if typed else regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f'more than {most >> 20:,} MB', str(path))
    return content


def read_json(path: pathlib.Path, error: type[UserError], advice: str, like: Any = dict) -> Any:
    """What a JSON file holds, an object or what `like` says (see `misfit`).

    Raises `error`, whose message ends with `advice`: it cannot be read, or holds something else.
    """
    try:
        found = parse_json(read_bytes(path))
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else f'no JSON: {problem}'[:200]
        raise error(f'{path}: cannot be read ({reason}); {advice}') from None
    if fault := misfit(found, like):
        raise error(f'{path}: {fault}; {advice}')
    return found


def read_arrays(path: pathlib.Path, error: type[UserError], advice: str, names: Collection[str] = ()) -> dict[str, Any]:
    """The arrays of a .npz file by name; that of a .npy file by ''.

    Raises `error`, whose message ends with `advice`: it cannot be read, or has not all of these names.
    """
    import numpy as np  # late: locks and JSON need no arrays

    try:
        found = np.load(path, allow_pickle=False)
        found = {'': found} if isinstance(found, np.ndarray) else dict(found)
    except MemoryError:
        raise
    except Exception as problem:  # zipfile and NumPy have a dozen ways to say damaged
        raise error(f'{path}: cannot be read ({type(problem).__name__}: {problem}); {advice}') from None
    if lost := sorted(set(names) - set(found)):
        fault = f'found no array {lost[0]}' if lost[0] else 'found several arrays, expected one'
        raise error(f'{path}: {fault}; {advice}')
    return found


def parse_json(content: bytes | str) -> Any:
    """A JSON value. Raises ValueError, also for a key given twice, NaN, and nesting without end."""
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError('too deeply nested') from None


def misfit(value: Any, like: Any, name: str = '') -> str:
    """In which way a JSON value is not what it should be, in words; '' where it is.

    Args:
      like: int, float (finite), str, bool, dict, list or None; (a, b), one of several; [a], a list of such; {'x': a,
        'y?': b, str: c}, an object with x, perhaps y, and perhaps others, which are c where that is said.
      name: of the value, for the message.
    """
    if isinstance(like, tuple):
        faults = [misfit(value, one, name) for one in like]
        return '' if '' in faults else faults[0]
    kind = type(like) if isinstance(like, dict | list) else like
    if not _is(value, kind):
        return f'found {_short(value)}{f" as {name}" * bool(name)}, expected {_KINDS[kind]}'
    inside = f'{name}.' * bool(name)
    if isinstance(like, list):
        parts = [(str(place), one, like[0]) for place, one in enumerate(value)]
    elif isinstance(like, dict):
        known = {key.rstrip('?'): key for key in like if key is not str}
        if missing := [key for key, full in known.items() if key == full and key not in value]:
            return f'found no {inside}{missing[0]}'
        parts = [(key, one, like[known.get(key, str)]) for key, one in value.items() if known.get(key, str) in like]
    else:
        return ''
    return next((fault for key, one, part in parts if (fault := misfit(one, part, f'{inside}{key}'[:200]))), '')


_KINDS = {
    int: 'a whole number', float: 'a number', str: 'a text', bool: 'true or false', None: 'null', list: 'a list',
    dict: 'a JSON object',
}  # fmt: skip


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if kind is float:
        return type(value) in (int, float) and -_LARGEST < value < _LARGEST
    return type(value) is kind and (kind is not int or abs(value) < _LARGEST)


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f'{"an object" if isinstance(value, dict) else "a list"} of {len(value):,}'
    return ascii(value)[:60] if type(value) is not int or abs(value) < _LARGEST else 'a number of many digits'


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f'the key {ascii(twice)[:60]} is given twice')
    return found


def _no_constant(name: str):
    raise ValueError(f'{name} is no number of JSON')
