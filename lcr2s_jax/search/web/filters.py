"""What a search can be narrowed to: the choices and ranges of an index's own columns, as a condition."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import answer_text, conditions, sql_text
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.video.update import COLUMNS

MOST_CHOICES = 20  # values of a column that get a box to choose from
_INTERNAL = {*COLUMNS} - {'video', 'time'}  # of a video's tracks; nobody searches by them
_DATE = re.compile(r'\d{4}-\d\d?\b')
_CLOCK = re.compile(r'(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)')
_LONG = 100  # letters of a bound


class Range(NamedTuple):
    """A column whose values have an order."""

    kind: str  # 'number'; 'seconds' of a video; or 'date', text that begins with year and month
    low: float | str  # its first value
    high: float | str  # its last


class Filters(NamedTuple):
    choices: dict[str, list]  # column -> its values, of the columns with few
    ranges: dict[str, Range]  # column -> `Range`, of those with many that have an order

    def condition(
        self, gallery: Gallery, where: str, chosen: Mapping[str, Sequence], ranges: Mapping[str, tuple[str, str]]
    ) -> Condition:
        """All of it as one condition. Raises SearchError."""
        whole = gallery.condition(where)
        for column, values in chosen.items():
            if unknown := [value for value in values if value not in self.choices.get(column, ())]:
                raise SearchError(f'found {column} = {unknown[0]!r}, expected one of {self.choices.get(column, [])}')
            if values:
                whole &= conditions.among(column, values)
        for column, (low, high) in ranges.items():
            kind, name = self.ranges[column].kind, sql_text.name_of(column)
            if low:
                whole &= gallery.condition(f'{name} >= {_bound(column, kind, low)}')
            if high:  # a day that is typed without an hour is meant whole: ~ comes after all that may follow
                whole &= gallery.condition(f'{name} <= {_bound(column, kind, high + "~" * (kind == "date"))}')
        return whole


def read(gallery: Gallery) -> Filters:
    """What the columns of an index offer, in their order."""
    choices, ranges = {}, {}
    videos = set(COLUMNS) <= set(gallery.columns)
    for column, kind in gallery.columns.items():
        if videos and column in _INTERNAL:
            continue
        values = sorted(gallery.rows(FOUND, [column])[column].unique().drop_null().to_pylist())
        if len(values) < 2:
            continue
        if kind != 'double' and len(values) <= MOST_CHOICES:
            choices[column] = values
        elif kind != 'string':
            seconds = videos and column == 'time'
            ranges[column] = Range('seconds' if seconds else 'number', values[0], values[-1])
        elif all(_DATE.match(value) for value in values):
            ranges[column] = Range('date', values[0], values[-1])
    return Filters(choices, ranges)


def shown(kind: str, value: float | str) -> str:
    """A bound as the page writes it."""
    return answer_text.clock(int(value)) if kind == 'seconds' else f'{value:g}' if kind == 'number' else value


def _bound(column: str, kind: str, typed: str) -> str:
    if len(typed) > _LONG:
        raise SearchError(f'found a bound of {len(typed)} letters for {column}, expected at most {_LONG}')
    if kind == 'date':
        if not _DATE.match(typed):
            raise SearchError(f'found {column} {typed.rstrip("~")!r}, expected a date such as 2026-05-31')
        return sql_text.quoted(typed)
    if kind == 'seconds' and (found := _CLOCK.fullmatch(typed.strip())):
        hours, minutes, seconds = found.groups()
        return repr(int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds))
    try:
        number = float(typed)
        if abs(number) < 1e300:
            return repr(int(number) if number.is_integer() and abs(number) < 1e15 else number)
    except ValueError:
        pass
    example = '0:12:30, or 750 seconds' if kind == 'seconds' else '3.5'
    raise SearchError(f'found {column} {typed!r}, expected a number such as {example}')
