"""Files that strangers wrote, read within bounds: bytes up to a limit, JSON that is one plain object."""

import pathlib
import stat
from typing import Any

from lcr2s_jax.errors import UserError, WeightsError
from lcr2s_jax.files import parse_json

CONFIG_LIMIT = 1 << 20  # bytes of a config.json; real ones have 4 to 10 thousand
INDEX_LIMIT = 4 << 20  # bytes of the list of tensors of a file or a folder in shards; 100 a tensor


def read_bytes(path: pathlib.Path, limit: int, expected: str, error: type[UserError] = WeightsError) -> bytes:
    """All of a regular file of at most `limit` bytes; `expected` says what it should be. Raises `error`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise error(f'{path}: cannot be read, found no regular file; expected {expected}')
        if status.st_size > limit:
            raise error(f'{path}: found {status.st_size:,} bytes, expected {expected}, at most {limit:,} bytes')
        with path.open('rb') as file:
            return file.read(limit)
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        raise error(f'{path}: cannot be read ({_short(reason)}); expected {expected}') from None


def read_object(path: pathlib.Path, expected: str, limit: int = CONFIG_LIMIT, error: type[UserError] = WeightsError):
    """The JSON object of a file, as a dict; `expected` says what it should be. Raises `error`."""
    return parse_object(read_bytes(path, limit, expected, error), str(path), expected, error)


def parse_object(data: bytes, where: str, expected: str, error: type[UserError] = WeightsError) -> dict[str, Any]:
    """Bytes of UTF-8 JSON -> dict. Refuses other encodings, a key given twice, NaN, and deep nesting.

    Raises `error`, with `where` and `expected` in its message.
    """
    try:
        value = parse_json(data.decode())
    except ValueError as reason:  # ValueError: of UTF-8, of JSON, of digits without end
        raise error(f'{where}: cannot be read ({_short(reason)}); expected {expected}') from None
    if not isinstance(value, dict):
        raise error(f'{where}: cannot be read (found a JSON {type(value).__name__}); expected {expected}')
    return value


def integers(value: Any, count: int | None = None, low: int = 0, high: int = 1 << 62) -> bool:
    """Whether it is a list or tuple of whole numbers from `low` to `high`; of `count` of them."""
    return (
        isinstance(value, list | tuple)
        and (count is None or len(value) == count)
        and all(type(one) is int and low <= one <= high for one in value)
    )


def brief(value: Any) -> str:
    """A value of a stranger's for a message: on one line, at most 60 characters."""
    if isinstance(value, int) and value.bit_length() > 200:
        text = 'a number of many digits'
    elif isinstance(value, int | float) or value is None:
        text = repr(value)
    elif isinstance(value, str):
        text = repr(value[:60])
    else:
        text = f'a {type(value).__name__} of {len(value)}' if hasattr(value, '__len__') else type(value).__name__
    return text[:60]


def at(path: pathlib.Path, error: WeightsError) -> WeightsError:
    """The same error with the file before it, if it does not stand there."""
    return error if str(error).startswith(str(path)) else WeightsError(f'{path}: {error}')


def _short(reason: BaseException) -> str:
    return getattr(reason, 'strerror', None) or str(reason)[:200]
