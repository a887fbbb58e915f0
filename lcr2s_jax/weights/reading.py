"""Files of unknown origin, read within bounds: bytes up to a limit, JSON that is one plain object."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from lcr2s_jax import files
from lcr2s_jax.errors import UserError, WeightsError

CONFIG_LIMIT = 1 << 20  # bytes of a config.json; real ones have 4 to 10 thousand
INDEX_LIMIT = 4 << 20  # bytes of the list of tensors of a file or a folder in shards; 100 a tensor


class Weights(NamedTuple):
    """Weights whose numbers are not read yet."""

    tensors: Mapping[str, Any]
    bytes: int  # of all files
    facts: Mapping[str, str | int | float] = {}  # what is said beside the tensors
    others: tuple[str, ...] = ()  # what else is there and is not read, a sentence each


@contextlib.contextmanager
def opened(path: pathlib.Path, expected: str, error: type[UserError] = WeightsError) -> Iterator[BinaryIO]:
    """A regular file, to be read; `expected` says what it should be. Raises `error`, also where a read of it fails."""
    try:
        with files.regular(path) as file:
            yield file
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        raise error(f'{path}: cannot be read ({_short(reason)}); expected {expected}') from None


def read_bytes(path: pathlib.Path, limit: int, expected: str, error: type[UserError] = WeightsError) -> bytes:
    """All of a regular file of at most `limit` bytes. Raises `error`."""
    with opened(path, expected, error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise error(f'{path}: found {size:,} bytes, expected {expected}, at most {limit:,} bytes')
        return file.read(limit)


def read_object(path: pathlib.Path, expected: str, limit: int = CONFIG_LIMIT, error: type[UserError] = WeightsError):
    """The JSON object of a file, as a dict; `expected` says what it should be. Raises `error`."""
    return parse_object(read_bytes(path, limit, expected, error), str(path), expected, error)


def parse_object(data: bytes, where: str, expected: str, error: type[UserError] = WeightsError) -> dict[str, Any]:
    """Bytes of UTF-8 JSON -> dict. Refuses other encodings, a key given twice, NaN, and deep nesting.

    Raises `error`, with `where` and `expected` in its message.
    """
    try:
        value = files.parse_json(data.decode())
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
    """A value of such a file for a message: on one line, at most 60 characters."""
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
