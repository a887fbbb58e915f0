"""Conditions on the columns of an index: SQL as people type it, checked, then written anew for LanceDB.

LanceDB reads the beginning of a text that is a condition and drops the rest without a word; some functions stop the
process, take gigabytes, or answer otherwise each time. So a text is parsed (sqlglot), every part must be one that is
known here, and what LanceDB gets is made of the parsed parts alone. Time and memory are bounded by the text's length.
"""

import dataclasses
import datetime
import difflib
import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lcr2s_jax.errors import SearchError
from lcr2s_jax.files import storable

LONGEST, MOST_WORDS = 16_000, 4_000  # letters and words of a text: a list of several hundred paths
DEEPEST = 12  # parts within parts; DataFusion reads about 50 brackets
BRACKETS = 32  # within each other in the text
FUNCTIONS = ('lower', 'upper', 'length', 'starts_with', 'coalesce')
TEXT, NUMBER, TIME, TRUTH, NOTHING = 'text', 'a number', 'a time', 'a comparison', 'null'
_COMPARES = {'eq': '=', 'neq': '!=', 'gt': '>', 'gte': '>=', 'lt': '<', 'lte': '<='}
_COUNTS = {'add': '+', 'sub': '-', 'mul': '*'}
# what sqlglot may say of a part beside its operands; more would change what it means
_MORE = {
    'between': {'low', 'high'}, 'cast': {'to', '_type'}, 'coalesce': {'expressions'}, 'in': {'expressions'},
    'literal': {'is_string'},
}  # fmt: skip
# words that are never read as the name of a column, unless they are in quotation marks
_KEPT = {'and', 'or', 'not', 'in', 'is', 'like', 'ilike', 'between', 'null', 'true', 'false', 'escape', 'as'}


@dataclasses.dataclass(frozen=True)
class Condition:
    """What counts, searches and deletes alike.

    Attributes:
      text: as somebody typed it, for logs and messages.
      sql: for LanceDB; '' for every row.
    """

    text: str
    sql: str

    def __and__(self, other: 'Condition') -> 'Condition':
        if not (self.sql and other.sql):
            return self if self.sql else other
        return Condition(f'({self.text}) and ({other.text})', f'({self.sql}) and ({other.sql})')


EVERY = Condition('', '')


def parse(text: str, columns: Mapping[str, str]) -> Condition:
    """Check a condition that somebody typed.

    Args:
      text: one boolean expression in SQL; '' for every row.
      columns: those that it may name -> their Arrow types.

    Raises:
      SearchError: it is not, or is too large; no value of a row is in the message.
    """
    if not text.strip():
        return EVERY
    try:
        return Condition(text, _Writer(columns).condition(_tree(text, columns)))
    except _Refused as refused:
        why = str(refused)
    except RecursionError:
        why = 'found too many parts within parts'
    shown = text if len(text) <= 200 else f'{text[:200]}...'
    raise SearchError(
        f'the condition {shown!a} cannot be used: {why}. Expected SQL over the columns {", ".join(columns)} (those of '
        'yours come with `index --metadata`), such as --where="camera = \'c1\'"'
    )


def equal(**columns: str) -> Condition:
    """Every column has its text."""
    sql = ' and '.join(f'{name_of(name)} = {quoted(value)}' for name, value in columns.items())
    return Condition(sql, sql)


def among(column: str, values: Iterable[str | int]) -> Condition:
    """The column has one of these texts or whole numbers."""
    listed = ', '.join(quoted(value) if isinstance(value, str) else str(int(value)) for value in values)
    sql = f'{name_of(column)} in ({listed})' if listed else 'false'
    return Condition(sql, sql)


def ending(column: str, text: str) -> Condition:
    """The column's text ends with this one, which holds no % and no _."""
    sql = f'{name_of(column)} like {quoted(f"%{text}")}'
    return Condition(sql, sql)


def quoted(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def name_of(column: str) -> str:
    """A column's name as LanceDB reads it, with its capitals and whatever word it is."""
    return f'`{column}`'


class _Refused(Exception):
    """Why a condition cannot be used: what was found, and what is expected there."""


def _tree(text: str, columns: Mapping[str, str]):
    """The text as sqlglot's tree. Raises _Refused where it is too large or not one expression."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.tokens import TokenType as Kind

    if len(text) > LONGEST:
        raise _Refused(f'found {len(text):,} letters, expected at most {LONGEST:,}')
    if not storable(text):
        raise _Refused('found a letter that is no text')
    try:
        words = _dialect().tokenize(text)
    except sqlglot.errors.TokenError:
        raise _Refused('found a quotation mark or a comment that is never closed') from None
    if len(words) > MOST_WORDS:
        raise _Refused(f'found {len(words):,} words, expected at most {MOST_WORDS:,}')
    if any(word.comments for word in words) or '--' in _unquoted(text) or '/*' in _unquoted(text):
        raise _Refused('found a comment, expected none')
    depth = 0
    for word in words:
        depth += (word.token_type == Kind.L_PAREN) - (word.token_type == Kind.R_PAREN)
        if depth > BRACKETS:
            raise _Refused(f'found more than {BRACKETS} brackets within each other')
        if word.token_type == Kind.SEMICOLON:
            raise _Refused("found ';', expected one condition and nothing behind it")
    known = {column.lower() for column in columns}
    for place, word in enumerate(words):
        after = words[place + 1].token_type if place + 1 < len(words) else None
        if (
            word.token_type not in (Kind.IDENTIFIER, Kind.STRING, Kind.NUMBER)
            and word.text.lower() in known - _KEPT
            and after not in (Kind.STRING, Kind.L_PAREN)
        ):
            word.token_type = Kind.IDENTIFIER  # a column may be called order, user or time
    try:
        (found,) = _dialect().parser(error_level=sqlglot.ErrorLevel.IMMEDIATE).parse_into(exp.Condition, words, text)
    except sqlglot.errors.ParseError as error:
        near = next((one['highlight'] for one in error.errors if one.get('highlight')), '')
        raise _Refused(f'it is not one comparison from its beginning to its end, near {near[:40]!a}') from None
    if found is None:
        raise _Refused('found nothing in it')
    return found


@functools.cache
def _dialect():
    from sqlglot.dialects import Postgres

    class LanceDB(Postgres):
        class Tokenizer(Postgres.Tokenizer):
            IDENTIFIERS = ['"', '`']

    return LanceDB()


def _unquoted(text: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "''", text)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A part of a condition: its SQL, what it holds (TEXT, ...), whether a number is whole, and a literal's value."""

    sql: str
    holds: str
    whole: bool = False
    value: Any = None


class _Writer:
    """Writes a tree as SQL; whatever has no method here is refused."""

    def __init__(self, columns: Mapping[str, str]):
        self._columns = columns

    def condition(self, tree) -> str:
        return self._truth(tree, 0)

    def _truth(self, node, depth: int) -> str:
        part = self._part(node, depth)
        if part.holds != TRUTH:
            raise _Refused(f"found {part.holds}, {_shown(node)}, expected a comparison such as camera = 'c1'")
        return part.sql

    def _part(self, node, depth: int) -> _Part:
        if depth > DEEPEST:
            raise _Refused(f'found more than {DEEPEST} parts within each other')
        while node.key == 'paren':
            node = node.this
        if node.args.get('negate'):
            node = node.copy()
            node.set('negate', False)
            return _Part(f'(not {self._truth(node, depth + 1)})', TRUTH)
        said = {name for name, value in node.args.items() if value not in (None, False, [])}
        if more := said - {'this', 'expression'} - _MORE.get(node.key, set()):
            raise _Refused(f'found {_shown(node)}, of which {" and ".join(sorted(more))} is not known here')
        if node.key in _COMPARES:
            left, right = self._alike([node.this, node.expression], depth)
            return _Part(f'({left.sql} {_COMPARES[node.key]} {right.sql})', TRUTH)
        if node.key in _COUNTS:
            both = [self._typed(one, NUMBER, depth) for one in (node.this, node.expression)]
            # as fractions: whole numbers overflow, and stop at a division by zero
            left, right = (f'cast({one.sql} as double)' for one in both)
            return _Part(f'({left} {_COUNTS[node.key]} {right})', NUMBER)
        method = getattr(self, f'_{node.key}', None)
        if method is None:
            raise _Refused(
                f'found {_shown(node)}, which is not known here; expected comparisons, and, or, not, in, like, ilike, '
                f'between, is null, cast, timestamp, and the functions {", ".join(FUNCTIONS)}'
            )
        return method(node, depth + 1)

    def _and(self, node, depth):
        return self._chain(node, depth, 'and')

    def _or(self, node, depth):
        return self._chain(node, depth, 'or')

    def _chain(self, node, depth, word):
        """However long, its brackets are within each other by its logarithm only."""
        parts, waiting = [], [node]
        while waiting:
            one = waiting.pop()
            if one.key == node.key:
                waiting += [one.expression, one.this]
            else:
                parts.append(self._truth(one, depth))
        while len(parts) > 1:
            pairs = [f'({a} {word} {b})' for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        return _Part(parts[0], TRUTH)

    def _not(self, node, depth):
        return _Part(f'(not {self._truth(node.this, depth)})', TRUTH)

    def _is(self, node, depth):
        part, other = self._part(node.this, depth), node.expression
        if other.key not in ('null', 'boolean') or (other.key == 'boolean' and part.holds != TRUTH):
            raise _Refused(f'found {_shown(node)}, expected is null or is not null')
        word = 'null' if other.key == 'null' else str(bool(other.this)).lower()
        return _Part(f'({part.sql} is {word})', TRUTH)

    def _in(self, node, depth):
        listed = node.args.get('expressions')
        if not listed:
            raise _Refused(f'found {_shown(node)}, expected a list with something in it, such as (1, 2)')
        one, *others = self._alike([node.this, *listed], depth)
        return _Part(f'({one.sql} in ({", ".join(other.sql for other in others)}))', TRUTH)

    def _between(self, node, depth):
        one, low, high = self._alike([node.this, node.args['low'], node.args['high']], depth)
        return _Part(f'({one.sql} between {low.sql} and {high.sql})', TRUTH)

    def _like(self, node, depth):
        text, pattern = (self._typed(one, TEXT, depth) for one in (node.this, node.expression))
        if pattern.value is None:
            raise _Refused(f'found {_shown(node)}, expected a text in quotation marks behind {node.key}')
        return _Part(f'({text.sql} {node.key} {pattern.sql})', TRUTH)

    _ilike = _like

    def _escape(self, node, depth):
        if node.expression.name != '\\' or node.this.key not in ('like', 'ilike'):
            raise _Refused("found escape, expected the backslash, which needs no word: 'a\\%'")
        return self._part(node.this, depth)

    def _column(self, node, depth):
        name = self._named(node.name, node.this.args.get('quoted'))
        return _Part(name_of(name), _holds(name, self._columns[name]), 'int' in self._columns[name])

    def _named(self, name: str, in_marks: bool) -> str:
        if name in self._columns:
            return name
        near = [column for column in self._columns if column.lower() == name.lower()]
        if len(near) == 1:
            return near[0]
        near = near or difflib.get_close_matches(name, self._columns, 1)
        hint = f' (did you mean {" or ".join(near)}?)' if near else ''
        hint += '; text is written in single quotation marks' if in_marks and not near else ''
        raise _Refused(f'found no column {name!a}{hint}')

    def _literal(self, node, depth):
        if node.is_string:
            return _Part(quoted(node.name), TEXT, value=node.name)
        return self._number(node.name, 1)

    def _number(self, text: str, sign: int) -> _Part:
        whole = re.fullmatch(r'\d{1,18}', text, re.ASCII)
        try:
            value = sign * (int(text) if whole else float(text))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise _Refused(f'found {text[:40]!a}, expected a number')
        return _Part(repr(value), NUMBER, bool(whole), value)

    def _neg(self, node, depth):
        if node.this.key == 'literal' and not node.this.is_string:
            return self._number(node.this.name, -1)
        return _Part(f'(0.0 - cast({self._typed(node.this, NUMBER, depth).sql} as double))', NUMBER)

    def _boolean(self, node, depth):
        return _Part(str(bool(node.this)).lower(), TRUTH)

    def _null(self, node, depth):
        raise _Refused('found null where a value is expected; write: column is null')

    def _lower(self, node, depth):
        return _Part(f'{node.key}({self._typed(node.this, TEXT, depth).sql})', TEXT)

    _upper = _lower

    def _length(self, node, depth):
        return _Part(f'cast(length({self._typed(node.this, TEXT, depth).sql}) as bigint)', NUMBER, True)

    def _startswith(self, node, depth):
        text, start = (self._typed(one, TEXT, depth) for one in (node.this, node.expression))
        return _Part(f'starts_with({text.sql}, {start.sql})', TRUTH)

    def _coalesce(self, node, depth):
        parts = self._alike([node.this, *node.expressions], depth)
        listed = ', '.join(part.sql for part in parts)
        return _Part(f'coalesce({listed})', parts[0].holds, all(part.whole for part in parts))

    def _cast(self, node, depth):
        kind = node.to.sql('postgres')
        part = self._part(node.this, depth)
        if kind in ('TEXT', 'VARCHAR', 'STRING'):
            return part if part.holds == TEXT else _Part(f'cast({part.sql} as string)', TEXT)
        if kind in ('TIMESTAMP', 'TIMESTAMPTZ', 'DATE') and part.value is not None:
            return _time(part.value)
        if kind in ('INT', 'BIGINT', 'DOUBLE PRECISION', 'REAL') and part.holds in (TEXT, NUMBER):
            whole = kind in ('INT', 'BIGINT')
            return _Part(f'try_cast({part.sql} as {"bigint" if whole else "double"})', NUMBER, whole)
        raise _Refused(
            f'found {_shown(node)}, expected cast(... as text, bigint or double) or a time in quotation marks'
        )

    def _typed(self, node, holds: str, depth: int) -> _Part:
        part = self._part(node, depth)
        if part.holds != holds:
            raise _Refused(f'found {part.holds}, {_shown(node)}, expected {holds}')
        return part

    def _alike(self, nodes: Sequence, depth: int) -> list[_Part]:
        """Parts that can be compared: all of one kind; a text beside a time is read as one."""
        parts = [self._part(node, depth + 1) for node in nodes]
        if any(part.holds == TIME for part in parts):
            parts = [_time(part.value) if part.holds == TEXT and part.value is not None else part for part in parts]
        first = parts[0]
        for node, part in zip(nodes, parts, strict=True):
            if part.holds != first.holds:
                hint = '; text is written in single quotation marks' if TEXT in (part.holds, first.holds) else ''
                raise _Refused(
                    f'found {first.holds}, {_shown(nodes[0])}, beside {part.holds}, {_shown(node)}; they cannot be '
                    f'compared{hint}'
                )
        if first.holds == NUMBER and not all(part.whole for part in parts):
            parts = [dataclasses.replace(part, sql=f'cast({part.sql} as double)') for part in parts]
        return parts


def _holds(name: str, kind: str) -> str:
    if 'string' in kind or 'utf8' in kind:
        return TEXT
    if re.match(r'u?int|float|double|halffloat', kind):
        return NUMBER
    if kind.startswith('timestamp'):
        return TIME
    if kind == 'bool':
        return TRUTH
    raise _Refused(f'found the column {name}, which holds {kind[:40]} and cannot be compared')


def _time(text) -> _Part:
    try:
        return _Part(_moment(datetime.datetime.fromisoformat(text)), TIME)
    except (TypeError, ValueError):
        raise _Refused(
            f"found {str(text)[:40]!a}, expected a time such as '2026-11-26' or '2026-11-26T14:30:00Z'"
        ) from None


def _moment(when: datetime.datetime) -> str:
    when = when.replace(tzinfo=datetime.UTC) if when.tzinfo is None else when.astimezone(datetime.UTC)
    return f"timestamp '{when:%Y-%m-%dT%H:%M:%S.%f}Z'"


def _shown(node) -> str:
    """The user's own words, about."""
    return repr(ascii(node.sql('postgres').replace('"', ''))[1:-1][:60])
