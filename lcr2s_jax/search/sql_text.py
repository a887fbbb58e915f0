"""The text of a condition, read as sqlglot's tree; one that is too large, or more than one expression, is refused."""

import functools
import re
from collections.abc import Mapping

from lcr2s_jax.texts import storable

LONGEST, MOST_WORDS = 16_000, 4_000  # letters and words of a text: a list of several hundred paths
BRACKETS = 32  # within each other in the text
# words that are never read as the name of a column, unless they are in quotation marks
_KEPT = {'and', 'or', 'not', 'in', 'is', 'like', 'ilike', 'between', 'null', 'true', 'false', 'escape', 'as'}


def quoted(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def name_of(column: str) -> str:
    """A column's name as LanceDB reads it, with its capitals and whatever word it is."""
    return f'`{column}`'


class Refused(Exception):
    """Why a condition cannot be used: what was found, and what is expected there."""


def read(text: str, columns: Mapping[str, str]):
    """The text as sqlglot's tree. Raises Refused where it is too large or not one expression."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.tokens import TokenType as Kind

    if len(text) > LONGEST:
        raise Refused(f'found {len(text):,} letters, expected at most {LONGEST:,}')
    if not storable(text):
        raise Refused('found a letter that is no text')
    try:
        words = _dialect().tokenize(text)
    except sqlglot.errors.TokenError:
        raise Refused('found a quotation mark or a comment that is never closed') from None
    if len(words) > MOST_WORDS:
        raise Refused(f'found {len(words):,} words, expected at most {MOST_WORDS:,}')
    if any(word.comments for word in words) or '--' in _unquoted(text) or '/*' in _unquoted(text):
        raise Refused('found a comment, expected none')
    depth = 0
    for word in words:
        depth += (word.token_type == Kind.L_PAREN) - (word.token_type == Kind.R_PAREN)
        if depth > BRACKETS:
            raise Refused(f'found more than {BRACKETS} brackets within each other')
        if word.token_type == Kind.SEMICOLON:
            raise Refused("found ';', expected one condition and nothing behind it")
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
        trees = _dialect().parser(error_level=sqlglot.ErrorLevel.IMMEDIATE).parse_into(exp.Condition, words, text)
    except sqlglot.errors.ParseError as error:
        near = next((one['highlight'] for one in error.errors if one.get('highlight')), '')
        raise Refused(f'it is not one comparison from its beginning to its end, near {near[:40]!a}') from None
    if len(trees) != 1 or trees[0] is None:  # 'else' alone is read as nothing
        raise Refused('found no comparison in it')
    return trees[0]


@functools.cache
def _dialect():
    from sqlglot.dialects import Postgres

    class LanceDB(Postgres):
        class Tokenizer(Postgres.Tokenizer):
            IDENTIFIERS = ['"', '`']

    return LanceDB()


def _unquoted(text: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "''", text)
