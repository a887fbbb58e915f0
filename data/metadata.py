"""What is known of pictures beside their pixels: a CSV file with a column `path`, joined to an index."""

import csv
import pathlib
import re
from collections.abc import Collection, Mapping

from data.records import DataError

KINDS = ('int64', 'double', 'string')
_NAME = re.compile(r'[A-Za-z_]\w*', re.ASCII)  # what SQL takes without quotes
_WHOLE = re.compile(r'-?(0|[1-9]\d{0,17})')  # 007 is a name, not a number


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
        with pathlib.Path(file).open(encoding='utf-8-sig', newline='') as lines:
            reader = csv.DictReader(lines)
            rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f'--metadata: {file} cannot be read ({error}); expected a CSV file in UTF-8') from None
    _check_names(file, names, reserved)
    columns = [name for name in names if name != 'path']
    kinds = {name: have.get(name) or _kind([row[name] or '' for row in rows]) for name in columns}
    values: dict = {}
    for number, row in enumerate(rows, 2):
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
    if all(map(_WHOLE.fullmatch, filled)) and filled:
        return 'int64'
    try:
        [float(text) for text in filled]
    except ValueError:
        return 'string'
    return 'double' if filled and not any(re.fullmatch(r'-?0\d+', text) for text in filled) else 'string'


def _value(file: str, number: int, name: str, kind: str, text: str):
    if not text:
        return None
    try:
        return {'int64': int, 'double': float}.get(kind, str)(text)
    except ValueError:
        raise DataError(
            f"--metadata: {file}, line {number}: found '{text}' in the column {name}, which the index has as {kind}; "
            'change the value, or give the column another name'
        ) from None
