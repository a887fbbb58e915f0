"""What is known of pictures beside their pixels: a CSV file with a column `path`, joined to an index."""

import csv
import io
import pathlib
import re
from collections.abc import Collection, Mapping
from decimal import Decimal

from lcr2s_jax.errors import DataError
from lcr2s_jax.files import read_text

KINDS = ('int64', 'double', 'string')
_NAME = re.compile(r'[A-Za-z_]\w*', re.ASCII)  # what SQL takes without quotes
# 007, 1_2, 12e4 and nan are names, not numbers; 1e-05 and 1.5e+20 are as programs write them
_WHOLE = re.compile(r'-?(0|[1-9]\d{0,17})', re.ASCII)
_DECIMAL = re.compile(r'-?(0|[1-9]\d*)(\.\d+)?([eE]-\d+)?|-?\d\.\d+[eE]\+?\d+', re.ASCII)


def read(
    file: str, have: Mapping[str, str], reserved: Collection[str]
) -> tuple[dict[str, str], dict[str, dict[str, int | float | str | None]]]:
    """Columns and values of a table.

    Args:
      file: CSV in UTF-8, its first line the names of the columns; `path` is below the indexed folder.
      have: kinds of the columns that the index has already; a new one gets the narrowest of KINDS that fits all of it.
      reserved: names that are the index's own.

    Returns:
      {column: kind}, and {path: {column: value}} with None for what is empty.

    Raises:
      DataError: what was found, what was expected.
    """
    try:
        # strict, or a quotation mark that is never closed swallows the rest of the table
        reader = csv.DictReader(io.StringIO(read_text(file, '--metadata')), strict=True)
        rows, names = [(reader.line_num, row) for row in reader], list(reader.fieldnames or ())
    except csv.Error as error:
        raise DataError(
            f'--metadata: {file} cannot be read ({error}); expected a CSV file in UTF-8, its quotation marks closed'
        ) from None
    _check_names(file, names, reserved)
    columns = [name for name in names if name != 'path']
    kinds = {name: have.get(name) or _kind([row[name] or '' for _, row in rows]) for name in columns}
    values: dict = {}
    for number, row in rows:
        path = pathlib.PurePosixPath((row['path'] or '').replace('\\', '/')).as_posix()
        if None in row or any(row[name] is None for name in names):
            raise DataError(
                f'--metadata: {file}, line {number}: found another number of cells than the {len(names)} names'
            )
        if path in values:
            raise DataError(
                f"--metadata: {file}, line {number}: found '{path}' a second time, expected a line a picture"
            )
        values[path] = {name: _value(file, number, name, kinds[name], row[name]) for name in columns}
    return kinds, values


def _check_names(file: str, names: list[str], reserved: Collection[str]) -> None:
    if 'path' not in names or len(names) < 2:
        raise DataError(f'--metadata: {file}: found the columns {names}, expected `path` and others')
    wrong = [name for name in names if name != 'path' and (name in reserved or not _NAME.fullmatch(name))]
    if wrong or len(set(names)) < len(names):
        raise DataError(
            f'--metadata: {file}: found the columns {wrong or names}; expected each once, of letters, digits and _, '
            f"and none of the index's own: {', '.join(reserved)}"
        )


def _kind(texts: list[str]) -> str:
    filled = [text for text in texts if text]
    if not filled:
        return 'string'
    return next(kind for kind in KINDS if all(_fits(text, kind) for text in filled))


def _fits(text: str, kind: str) -> bool:
    """Whether a kind of column keeps all that a text says."""
    if kind == 'string':
        return True
    if kind == 'int64':
        return bool(_WHOLE.fullmatch(text))
    return bool(_DECIMAL.fullmatch(text)) and Decimal(repr(float(text))) == Decimal(text)


def _value(file: str, number: int, name: str, kind: str, text: str):
    if not text:
        return None
    if not _fits(text, kind):
        raise DataError(
            f"--metadata: {file}, line {number}: found '{text}' in the column {name}, which the index has as {kind}; "
            'change the value, or give the column another name'
        )
    return {'int64': int, 'double': float}.get(kind, str)(text)
