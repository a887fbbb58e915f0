"""What a user can get wrong; `main.py` prints the message alone, without a traceback."""

import errno
import io
import re
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# of terminals: control characters, separators of lines, what turns the direction of a line around
_STEERING = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]')
_NAMED = 10  # of many rows
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk has no more room


class UserError(Exception):
    """A mistake that its message explains: what was found, what was expected, what to change."""


class ConfigError(UserError):
    """A config field has a value that cannot be."""


class DataError(UserError):
    """A mistake in a dataset, a table or a folder of pictures."""


class BadRow(DataError):
    """What is wrong with one row of a file, see `each`."""


class RowsError(DataError):
    """Rows or entries of a file that cannot be used, `faults` of `each`: all are counted, the first ten named.

    `rest` is what the file says without them.
    """

    def __init__(self, where: Any, faults: Sequence[str], rest: Any = None):
        self.where, self.faults, self.rest = where, tuple(faults), rest
        lines = ''.join(f'\n  {fault}' for fault in faults[:_NAMED])
        many = f': found {len(faults):,} that cannot be used, expected none; the first of them:{lines}'
        super().__init__(f'{where}, {faults[0]}' if len(faults) == 1 else f'{where}{many}')


class WeightsError(UserError):
    """Weights that cannot be used as asked."""


class SearchError(UserError):
    """An index, its model or a query that cannot be used as asked."""


class Interrupted(Exception):
    """The run was asked to stop by SIGTERM or Ctrl-C and did, at a step boundary, everything saved."""

    def __init__(self, step: int, number: int = signal.SIGTERM):
        name = signal.Signals(number).name
        super().__init__(f'stopped by {name} after step {step:,}, which is saved; the same command goes on from there')
        self.step, self.number = step, number


def each(rows: Iterable[tuple[str, Any]], of: Callable[[str, Any], Any]) -> tuple[list, list[str]]:
    """What `of(where, row)` makes of rows, and 'where: why' of each that it raises BadRow for."""
    made, faults = [], []
    for where, row in rows:
        try:
            made.append(of(where, row))
        except BadRow as fault:
            faults.append(f'{where}: {fault}')
    return made, faults


def printable(text: str, keep: str = '') -> str:
    """Text without signs that steer a terminal, but for those in `keep`: a file's name could speak to it."""
    return _STEERING.sub(lambda sign: sign[0] if sign[0] in keep else '?', text)


def many(given: Any, where: str, expected: str) -> Iterable:
    """What was given where several things are expected, in order. Raises UserError for one thing, a file, a set."""
    one = isinstance(given, Mapping | bytes | bytearray | memoryview | io.IOBase) or getattr(given, 'ndim', 1) == 0
    if one or not isinstance(given, Iterable):
        raise UserError(f'{where}: found {type(given).__name__}, expected {expected}, one or many')
    if isinstance(given, set | frozenset):  # nobody could tell whose row is whose
        raise UserError(f'{where}: found a set, which has no order, expected a list of {expected}')
    return given


def meant(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with the nearest of what there is, or ''."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f'; did you mean {near[0]}?' if near else ''
