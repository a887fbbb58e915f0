"""Text files that somebody typed; near names; what can be stored; numbers with their nouns."""

import codecs
import os
import pathlib
import shlex
import unicodedata
from collections.abc import Iterable

from lcr2s_jax.errors import DataError
from lcr2s_jax.files import read_bytes

_BETWEEN = {';': 'semicolons', '\t': 'tabs', '|': 'bars'}


def alike(name: str) -> str:
    """The same for names that differ by letter case, or by how letters with accents are composed (NFC, NFD), alone."""
    return unicodedata.normalize('NFC', unicodedata.normalize('NFC', name).casefold())


def difference(name: str, other: str) -> str:
    """How two names differ that are `alike`, or one of which has more folders before it, in words."""
    if alike(name) != alike(other):
        stems = {alike(os.path.splitext(one)[0]) for one in (name, other)}
        return 'another suffix' if len(stems) == 1 else 'other folders before it'
    composed = unicodedata.normalize('NFC', name) == unicodedata.normalize('NFC', other)
    return 'accents composed otherwise (Unicode NFC, NFD)' if composed else 'other letter case'


def near(path: str | pathlib.Path) -> str:
    """'; did you mean ...?' with what is there and nearly has that path, in any case of letters; '' for nothing."""
    import difflib

    def nearest(path: pathlib.Path) -> pathlib.Path | None:
        if os.path.lexists(path):
            return path
        if path.parent == path or (parent := nearest(path.parent)) is None or not parent.is_dir():
            return None
        there = {alike(entry.name): entry.name for entry in parent.iterdir()}
        found = difflib.get_close_matches(alike(path.name), there, n=1)
        return parent / there[found[0]] if found else None

    path = pathlib.Path(path)
    try:
        found = nearest(path)
    except (OSError, ValueError):
        return ''
    return f'; did you mean {found}?' if found not in (None, path) else ''


def counted(number: int, one: str, more: str = '') -> str:
    """'1 image', '2,000 images'."""
    return f'{number:,} {one if number == 1 else more or one + "s"}'


def separator(names: Iterable[str]) -> str:
    """What is between the cells of a table in place of commas, by its first line: 'semicolons', ...; or ''."""
    header = ''.join(names)
    return next((word for sign, word in _BETWEEN.items() if sign in header and ',' not in header), '')


def storable(*texts: str) -> bool:
    """Whether a file can hold these."""
    try:  # JSON can spell half a character (a lone surrogate)
        return '\0' not in ''.join(texts).encode().decode()
    except UnicodeEncodeError:
        return False


def _encoding(content: bytes) -> str:
    """What bytes that are no UTF-8 may be; '' for no text."""
    for name, marks in (
        ('UTF-32', (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
        ('UTF-16', (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
    ):
        if content.startswith(marks):
            return name
    start = content[:1000]
    if b'\0' not in content:
        return 'WINDOWS-1252'
    odd, even = start[1::2].count(0), start[::2].count(0)
    return 'UTF-16LE' if odd > 0.6 * len(start) / 2 > even else 'UTF-16BE' if even > 0.6 * len(start) / 2 > odd else ''


def read_text(path: str | pathlib.Path, what: str) -> str:
    """Read a text file that somebody typed: UTF-8, with or without a byte order mark; lines end in a line feed.

    Raises DataError, in which `what` names it: it cannot be read, is above 64 MB, or is no such text.
    """
    try:
        content = read_bytes(path, typed=True)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, 'strerror', None) or error
        raise DataError(f'{what}: {path} cannot be read ({reason}); expected a text file{near(path)}') from None
    return decode(content, path, f'{what}: ').replace('\r\n', '\n').replace('\r', '\n')


def decode(content: bytes, path: str | pathlib.Path, what: str = '') -> str:
    """Text of a file's bytes: UTF-8, with or without a byte order mark. Raises DataError that says what they are."""
    try:
        text = content.decode('utf-8-sig')
        if '\0' in text:
            raise UnicodeDecodeError('utf-8', content, content.index(0), 1 + content.index(0), '')
    except UnicodeDecodeError as error:
        name, line = _encoding(content), content[: error.start].count(b'\n') + 1
        found = f'is {name}' if name.startswith('UTF') else f'has no UTF-8 in line {line}'
        change = f'Save it as UTF-8, or: iconv -f {name} -t UTF-8 {shlex.quote(str(path))} > new.txt'
        if content.startswith((b'PK\3\4', b'\xd0\xcf\x11\xe0')):
            found, change = 'is a workbook or an archive', 'Save it as text there, a table as CSV'
        elif not name:
            found, change = 'has zero bytes, as no text has', 'Is it the right file?'
        raise DataError(f'{what}{path} cannot be read: it {found}; expected text in UTF-8. {change}') from None
    return text
