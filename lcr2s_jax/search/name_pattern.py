"""Columns out of file names: '{camera}_{time:%Y%m%d_%H%M%S}_{*}' reads c1_20240501_123000_0007.jpg.

{name} is any text, {name:%Y...} a time, which becomes text as 2024-05-01 12:30:00, and {*} anything that is left out.
A pattern with a / is held against the path below the folder, another one against the file's name; without a suffix in
it, against what comes before the file's suffix.
"""

import datetime
import functools
import pathlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from lcr2s_jax.errors import DataError, RowsError, each
from lcr2s_jax.search import metadata

_FIELD = re.compile(r'\{([^{}]*)\}')
_DIGITS = {'Y': r'\d{4}', 'f': r'\d{1,6}', 'j': r'\d{3}', 's': r'\d+', '%': '%'}
_TWO = 'mdyHIMS'
_EXAMPLE = "such as '{camera}_{time:%Y%m%d_%H%M%S}_{*}'"


class Columns(NamedTuple):
    kinds: dict[str, str]  # column -> 'int64', 'double' or 'string'
    values: dict[str, dict]  # path -> {column: value}
    unmatched: list[str]  # paths that the pattern does not fit


class NamePattern:
    """A pattern, checked; `columns` are those that it names, in order, none of them `reserved`. Raises DataError."""

    def __init__(self, text: str, reserved: Collection[str] = ()):
        self.text, self._formats = text, {}
        parts, end = [], 0
        for field in _FIELD.finditer(text):
            parts += [re.escape(text[end : field.start()]), self._field(field[1])]
            if end == field.start() > 0 and ':' not in field[0] and ':' not in text[text.rfind('{', 0, end) : end]:
                raise DataError(
                    f"--name-pattern: found nothing between '{{{field[1]}}}' and what stands before it in '{text}'; "
                    'expected a sign that separates them, or nobody knows where one ends'
                )
            end = field.end()
        rest = text[end:]
        if '{' in _FIELD.sub('', text) or '}' in _FIELD.sub('', text):
            raise DataError(
                f"--name-pattern: found a bracket that is not closed in '{text}'; expected a pattern {_EXAMPLE}"
            )
        self._regex = re.compile(''.join([*parts, re.escape(rest)]), re.DOTALL)
        self.columns = list(self._regex.groupindex)
        if not self.columns:
            raise DataError(f"--name-pattern: found no column in '{text}'; expected a pattern {_EXAMPLE}")
        metadata.check_names('--name-pattern', self.columns, reserved)
        self._whole, self._suffix = '/' in text, '.' in rest

    def _field(self, field: str) -> str:
        name, _, form = field.partition(':')
        if name == '*' and not form:
            return r'[^/]*?'
        if not re.fullmatch(r'[A-Za-z]\w*', name, re.ASCII):
            raise DataError(
                f"--name-pattern: found '{{{field}}}' in '{self.text}'; expected a name of letters, digits and _, or *"
            )
        if name in self._formats:
            raise DataError(f"--name-pattern: found the column {name} twice in '{self.text}'; expected each once")
        self._formats[name] = form
        if not form:
            return f'(?P<{name}>[^/]+?)'
        if '%' not in form:
            raise DataError(f"--name-pattern: found '{{{field}}}'; expected a time such as {{{name}:%Y%m%d_%H%M%S}}")
        if strange := re.search(r'%[^YmdyHIMSfjzZpbBaA%s]', form):
            raise DataError(
                f"--name-pattern: found '{strange[0]}' in '{{{field}}}'; expected marks of a time: %Y %m %d %H %M %S"
            )
        return f'(?P<{name}>{_of_time(form)})'

    def match(self, path: str) -> dict[str, str] | None:
        """The columns of a path as text; None where the pattern does not fit."""
        pure = pathlib.PurePosixPath(path)
        name = path if self._whole else pure.name
        found = self._regex.fullmatch(name if self._suffix else name.removesuffix(pure.suffix))
        if found is None:
            return None
        values = found.groupdict()
        for column, form in self._formats.items():
            if form:
                try:
                    time = datetime.datetime.strptime(values[column], form)
                except ValueError:  # a month 13
                    return None
                values[column] = time.isoformat(' ', 'microseconds' if '%f' in form else 'seconds')
        return values

    def check(self, paths: Iterable[str]) -> None:
        """Raise DataError where it fits none of some paths."""
        paths = list(paths)
        if paths and not any(self.match(path) for path in paths):
            raise DataError(f"--name-pattern: found no file that '{self.text}' fits, as in {paths[0]!r}; change it")

    def read(self, paths: Iterable[str], have: Mapping[str, str]) -> Columns:
        """The columns of paths below the folder, of kinds as the index has them. Raises RowsError for other values."""
        texts = {path: self.match(path) for path in paths}
        matched = {path: values for path, values in texts.items() if values}
        kinds = {
            name: have.get(name) or metadata.kind([values[name] for values in matched.values()])
            for name in self.columns
        }
        values = {}

        def take(path: str, row: Mapping) -> None:
            values[path] = {name: metadata.value(name, kinds[name], row[name]) for name in kinds}

        _, faults = each(matched.items(), take)
        if faults:
            raise RowsError('--name-pattern', faults)
        return Columns(kinds, values, [path for path, row in texts.items() if not row])


@functools.cache
def _of_time(form: str) -> str:
    """A regular expression for what strptime reads by a format."""

    def directive(found: re.Match) -> str:
        letter = found[1]
        return _DIGITS.get(letter) or (r'\d{2}' if letter in _TWO else r'[^/_]+?')

    return re.sub(r'%(.)', directive, re.escape(form))
