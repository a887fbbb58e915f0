"""The tree of a condition, written as SQL for LanceDB; whatever is not known here is refused."""

import dataclasses
import datetime
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from lcr2s_jax.search.sql_text import Refused, name_of, quoted

MOST_SIGNS = 100  # % and _ of one pattern: 2,000 took 30 ms a row
DEEPEST = 12  # parts within parts; DataFusion reads about 50 brackets
FUNCTIONS = ('lower', 'upper', 'length', 'starts_with', 'coalesce')
TEXT, NUMBER, TIME, TRUTH, NOTHING = 'text', 'a number', 'a time', 'a comparison', 'null'
_COMPARES = {'eq': '=', 'neq': '!=', 'gt': '>', 'gte': '>=', 'lt': '<', 'lte': '<='}
_CONTRARY = {'and': 'or', 'or': 'and'}
_COUNTS = {'add': '+', 'sub': '-', 'mul': '*'}
# what sqlglot may say of a part beside its operands; more would change what it means
_MORE = {
    'between': {'low', 'high'}, 'cast': {'to', '_type'}, 'coalesce': {'expressions'}, 'in': {'expressions'},
    'literal': {'is_string'},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Part:
    """A part of a condition: its SQL, what it holds (TEXT, ...), whether a number is whole, and a literal's value."""

    sql: str
    holds: str
    whole: bool = False
    value: Any = None


class Writer:
    """Writes a tree as SQL; whatever has no method here is refused."""

    def __init__(self, columns: Mapping[str, str]):
        self.columns = columns

    def write(self, tree) -> str:
        """The condition as LanceDB takes it. Raises Refused."""
        return self._truth(tree, 0)

    def _truth(self, node, depth: int, denied: bool = False) -> str:
        """SQL of what is true or false; denied, of its contrary.

        DataFusion takes `a = 0 and a in (1)` for false, and `a != 0 or a not in (1)` for true, where a is null, too.
        The first chooses the same rows where no `not` is above it, so that `not` is written at single comparisons
        alone; the second is not taken so where `a not in` says that a is not null.
        """
        node = _bare(node, depth)
        if node.args.get('negate'):
            return self._truth(_affirmed(node), depth + 1, not denied)
        if node.key == 'not':
            return self._truth(node.this, depth + 1, not denied)
        if node.key in _CONTRARY:
            return self._chain(node, depth + 1, denied)
        part = self._part(node, depth)
        if part.holds != TRUTH:
            raise Refused(f"found {part.holds}, {_shown(node)}, expected a comparison such as camera = 'c1'")
        if denied and node.key == 'in':
            return f'(({self._part(node.this, depth + 1).sql} is not null) and not {part.sql})'
        return f'(not {part.sql})' if denied else part.sql

    def _chain(self, node, depth: int, denied: bool) -> str:
        """However long, its brackets are within each other by its logarithm only."""
        parts, waiting, word = [], [node], _CONTRARY[node.key] if denied else node.key
        while waiting:
            one = waiting.pop()
            if one.key == node.key:
                waiting += [one.expression, one.this]
            else:
                parts.append(self._truth(one, depth, denied))
        while len(parts) > 1:
            pairs = [f'({a} {word} {b})' for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        return parts[0]

    def _part(self, node, depth: int) -> _Part:
        node = _bare(node, depth)
        if node.args.get('negate'):
            return _Part(f'(not {self._typed(_affirmed(node), TRUTH, depth + 1).sql})', TRUTH)
        method = getattr(self, f'_{node.key}', None)
        if method is None and node.key not in (*_COMPARES, *_COUNTS):
            raise Refused(
                f'found {_shown(node)}, which is not known here; expected comparisons, and, or, not, in, like, ilike, '
                f'between, is null, cast, timestamp, and the functions {", ".join(FUNCTIONS)}'
            )
        said = {name for name, value in node.args.items() if value not in (None, False, [])}
        if more := said - {'this', 'expression'} - _MORE.get(node.key, set()):
            raise Refused(f'found {_shown(node)}, of which {" and ".join(sorted(more))} is not known here')
        if node.key in _COMPARES:
            left, right = self._alike([node.this, node.expression], depth)
            return _Part(f'({left.sql} {_COMPARES[node.key]} {right.sql})', TRUTH)
        if node.key in _COUNTS:
            both = [self._typed(one, NUMBER, depth) for one in (node.this, node.expression)]
            # as fractions: whole numbers overflow, and stop at a division by zero
            left, right = (f'cast({one.sql} as double)' for one in both)
            return _Part(f'({left} {_COUNTS[node.key]} {right})', NUMBER)
        return method(node, depth + 1)

    def _and(self, node, depth):
        raise Refused(f'found {_shown(node)} as a part of a comparison; {node.key} joins whole comparisons alone')

    _or = _and

    def _not(self, node, depth):
        return _Part(f'(not {self._typed(node.this, TRUTH, depth).sql})', TRUTH)

    def _is(self, node, depth):
        part, other = self._part(node.this, depth), node.expression
        if other.key not in ('null', 'boolean') or (other.key == 'boolean' and part.holds != TRUTH):
            raise Refused(f'found {_shown(node)}, expected is null or is not null')
        word = 'null' if other.key == 'null' else str(bool(other.this)).lower()
        return _Part(f'({part.sql} is {word})', TRUTH)

    def _in(self, node, depth):
        listed = node.args.get('expressions')
        if not listed:
            raise Refused(f'found {_shown(node)}, expected a list with something in it, such as (1, 2)')
        one, *others = self._alike([node.this, *listed], depth)
        return _Part(f'({one.sql} in ({", ".join(other.sql for other in others)}))', TRUTH)

    def _between(self, node, depth):
        one, low, high = self._alike([node.this, node.args['low'], node.args['high']], depth)
        return _Part(f'({one.sql} between {low.sql} and {high.sql})', TRUTH)

    def _like(self, node, depth):
        text, pattern = (self._typed(one, TEXT, depth) for one in (node.this, node.expression))
        if pattern.value is None:
            raise Refused(f'found {_shown(node)}, expected a text in quotation marks behind {node.key}')
        if (signs := pattern.value.count('%') + pattern.value.count('_')) > MOST_SIGNS:
            raise Refused(f'found {signs:,} signs % and _ behind {node.key}, expected at most {MOST_SIGNS}')
        return _Part(f'({text.sql} {node.key} {pattern.sql})', TRUTH)

    _ilike = _like

    def _escape(self, node, depth):
        if node.expression.name != '\\' or node.this.key not in ('like', 'ilike'):
            raise Refused("found escape, expected the backslash, which needs no word: 'a\\%'")
        return self._part(node.this, depth)

    def _column(self, node, depth):
        name = self._named(node.name, node.this.args.get('quoted'))
        return _Part(name_of(name), _holds(name, self.columns[name]), 'int' in self.columns[name])

    def _named(self, name: str, in_marks: bool) -> str:
        if name in self.columns:
            return name
        near = [column for column in self.columns if column.lower() == name.lower()]
        if len(near) == 1:
            return near[0]
        near = near or difflib.get_close_matches(name, self.columns, 1)
        hint = f' (did you mean {" or ".join(near)}?)' if near else ''
        hint += '; text is written in single quotation marks' if in_marks and not near else ''
        raise Refused(f'found no column {name!a}{hint}')

    def _literal(self, node, depth):
        if node.is_string:
            return _Part(quoted(node.name), TEXT, value=node.name)
        return self._number(node.name, 1)

    def _number(self, text: str, sign: int) -> _Part:
        try:
            exact, value = sign * Decimal(text), sign * float(text)
        except (ArithmeticError, ValueError):
            exact, value = Decimal(0), math.nan
        if not math.isfinite(value) or (exact and not value):
            raise Refused(f'found {text[:40]!a}, expected a number')
        if abs(exact) < 1 << 63 and exact == exact.to_integral_value():  # 2.0, too: a fraction is compared less exactly
            return _Part(str(int(exact)), NUMBER, True, int(exact))
        return _Part(repr(value), NUMBER, False, value)

    def _neg(self, node, depth):
        if node.this.key == 'literal' and not node.this.is_string:
            return self._number(node.this.name, -1)
        return _Part(f'(0.0 - cast({self._typed(node.this, NUMBER, depth).sql} as double))', NUMBER)

    def _boolean(self, node, depth):
        return _Part(str(bool(node.this)).lower(), TRUTH)

    def _null(self, node, depth):
        raise Refused('found null where a value is expected; write: column is null')

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
            return _time(part.value, to_day=kind == 'DATE')
        if kind in ('INT', 'BIGINT', 'DOUBLE PRECISION', 'REAL') and part.holds in (TEXT, NUMBER):
            whole = kind in ('INT', 'BIGINT')
            return _Part(f'try_cast({part.sql} as {"bigint" if whole else "double"})', NUMBER, whole)
        raise Refused(
            f'found {_shown(node)}, expected cast(... as text, bigint or double) or a time in quotation marks'
        )

    def _typed(self, node, holds: str, depth: int) -> _Part:
        part = self._part(node, depth)
        if part.holds != holds:
            raise Refused(f'found {part.holds}, {_shown(node)}, expected {holds}')
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
                raise Refused(
                    f'found {first.holds}, {_shown(nodes[0])}, beside {part.holds}, {_shown(node)}; they cannot be '
                    f'compared{hint}'
                )
        if first.holds == NUMBER and not all(part.whole for part in parts):
            parts = [dataclasses.replace(part, sql=f'cast({part.sql} as double)') for part in parts]
        return parts


def _bare(node, depth: int):
    """A part within its brackets. Raises Refused where it lies too deep."""
    if depth > DEEPEST:
        raise Refused(f'found more than {DEEPEST} parts within each other')
    while node.key == 'paren':
        node = node.this
    return node


def _affirmed(node):
    """`x in (1)` of `x not in (1)`."""
    node = node.copy()
    node.set('negate', False)
    return node


def _holds(name: str, kind: str) -> str:
    if 'string' in kind or 'utf8' in kind:
        return TEXT
    if re.match(r'u?int|float|double|halffloat', kind):
        return NUMBER
    if kind.startswith('timestamp'):
        return TIME
    if kind == 'bool':
        return TRUTH
    raise Refused(f'found the column {name}, which holds {kind[:40]} and cannot be compared')


def _time(text, to_day: bool = False) -> _Part:
    try:
        when = datetime.datetime.fromisoformat(text)
        when = when.replace(tzinfo=datetime.UTC) if when.tzinfo is None else when
        when = when.replace(hour=0, minute=0, second=0, microsecond=0) if to_day else when
        moment = when.astimezone(datetime.UTC).isoformat(timespec='microseconds')
    except (TypeError, ValueError, OverflowError):
        raise Refused(
            f"found {str(text)[:40]!a}, expected a time such as '2026-11-26' or '2026-11-26T14:30:00Z'"
        ) from None
    return _Part(f"timestamp '{moment.removesuffix('+00:00')}Z'", TIME)


def _shown(node) -> str:
    """The user's own words, about."""
    return repr(ascii(node.sql('postgres').replace('"', ''))[1:-1][:60])
