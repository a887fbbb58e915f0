"""Files of the project: names that can be stored, locks, writing aside and renaming, JSON."""

import codecs
import pathlib

from lcr2s_jax.errors import DataError

_MOST_TEXT = 64 << 20  # bytes of a file that somebody typed


def storable(*texts: str) -> bool:
    """Whether a file can hold these."""
    try:  # JSON can spell half a character (a lone surrogate)
        return '\0' not in ''.join(texts).encode().decode()
    except UnicodeEncodeError:
        return False


def read_text(path: str | pathlib.Path, what: str) -> str:
    """Read a text file that somebody typed: UTF-8, with or without a byte order mark; lines end in a line feed.

    Args:
      path: of the file.
      what: names it in messages, such as '--queries'.

    Raises:
      DataError: it cannot be read, is above 64 MB, or is no such text.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read(_MOST_TEXT + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, 'strerror', None) or error
        raise DataError(f'{what}: {path} cannot be read ({reason}); expected a text file') from None
    if len(content) > _MOST_TEXT:
        raise DataError(f'{what}: {path} has more than {_MOST_TEXT >> 20} MB; expected a text file, cut into smaller ones')
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        line, name = content[: error.start].count(b'\n') + 1, 'UTF-16' if wide else 'WINDOWS-1252'
        found = 'is UTF-16' if wide else f'has no UTF-8 in line {line}'
        raise DataError(
            f'{what}: {path} cannot be read: it {found}; expected text in UTF-8. Save it as UTF-8, or: '
            f'iconv -f {name} -t UTF-8 {path} > new.txt'
        ) from None
    return text.replace('\r\n', '\n').replace('\r', '\n')
