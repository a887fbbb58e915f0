"""Conditions on the columns of an index: SQL as people type it, checked, then written anew for LanceDB.

LanceDB reads the beginning of a text that is a condition and drops the rest without a word; some functions stop the
process, take gigabytes, or answer otherwise each time. So a text is parsed (sqlglot), every part must be one that is
known here, and what LanceDB gets is made of the parsed parts alone. Time and memory are bounded by the text's length.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import sql, sql_text


@dataclasses.dataclass(frozen=True)
class Condition:
    """What counts, searches and deletes alike."""

    text: str  # as somebody typed it, for logs and messages
    sql: str  # for LanceDB; '' for every row

    def __and__(self, other: 'Condition') -> 'Condition':
        if not (self.sql and other.sql):
            return self if self.sql else other
        return Condition(f'({self.text}) and ({other.text})', f'({self.sql}) and ({other.sql})')


EVERY = Condition('', '')
_IN = 500  # values of one SQL list


def parse(text: str, columns: Mapping[str, str]) -> Condition:
    """Check a condition that somebody typed: one boolean expression in SQL over columns (name -> Arrow type), or ''.

    Raises SearchError where it is not, or is too large; no value of a row is in the message.
    """
    if not text.strip():
        return EVERY
    try:
        return Condition(text, sql.Writer(columns).write(sql_text.read(text, columns)))
    except sql_text.Refused as refused:
        why = str(refused)
    except RecursionError:
        why = 'found too many parts within parts'
    shown = text if len(text) <= 200 else f'{text[:200]}...'
    raise SearchError(
        f'the condition {shown!a} cannot be used: {why}. Expected SQL over the columns {", ".join(columns)} (those of '
        'yours come with `index --metadata`), such as --where="camera = \'c1\'"'
    )


def equal(**columns: str) -> Condition:
    return _written(
        ' and '.join(f'{sql_text.name_of(name)} = {sql_text.quoted(value)}' for name, value in columns.items())
    )


def among(column: str, values: Iterable[str | int]) -> Condition:
    """The column has one of these texts or whole numbers."""
    listed = ', '.join(sql_text.quoted(value) if isinstance(value, str) else str(int(value)) for value in values)
    return _written(f'{sql_text.name_of(column)} in ({listed})' if listed else 'false')


def in_lists(values: Sequence) -> Iterator[Sequence]:
    """Values in parts that are as long as one list of SQL may be."""
    for start in range(0, len(values), _IN):
        yield values[start : start + _IN]


def of_files(root: str, paths: Sequence[str]) -> Iterator[Condition]:
    """Some files of a root, by one condition or several."""
    for some in in_lists(paths):
        yield equal(root=root) & among('path', some)


def _written(text: str) -> Condition:
    return Condition(text, text)
