"""What is known of pictures beside their pixels: a CSV file with a column `path`, joined to an index."""

import csv
import io
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal

from lcr2s_jax.errors import BadRow, DataError, RowsError, each
from lcr2s_jax.files import alike
from lcr2s_jax.texts import read_text

# names that others give the column `path`
_PATHS = ('path', 'file', 'filename', 'file_name', 'filepath', 'file_path', 'image', 'img', 'name')
KINDS = ('int64', 'double', 'string')
MOST = 500  # columns: what LanceDB writes of 5,000 takes minutes
_NAME = re.compile(r'[A-Za-z_]\w{0,99}', re.ASCII)  # what SQL takes without quotes
# 007, 1_2, 12e4 and nan are names, not numbers; 1e-05 and 1.5e+20 are as programs write them
_WHOLE = re.compile(r'-?(0|[1-9]\d{0,17})', re.ASCII)
_DECIMAL = re.compile(r'-?(0|[1-9]\d*)(\.\d+)?([eE]-\d+)?|-?\d\.\d+[eE]\+?\d+', re.ASCII)


def read(
    file: str, have: Mapping[str, str], reserved: Collection[str]
) -> tuple[dict[str, str], dict[str, dict[str, int | float | str | None]]]:
    """Columns and values of a table: {column: kind}, and {path: {column: value}} with None for what is empty.

    Args:
      file: CSV in UTF-8, its first line the names of the columns; `path` is below the indexed folder.
      have: kinds of the columns that the index has already; a new one gets the narrowest of KINDS that fits all of it.

    Raises DataError; RowsError for lines that cannot be used.
    """
    # strict, or a quotation mark that is never closed swallows the rest of the table
    reader = csv.DictReader(io.StringIO(read_text(file, '--metadata')), strict=True)
    names = list(_readable(file, lambda: reader.fieldnames) or ())
    if names.count('path') != 1 or len(names) < 2:
        first = [name[:60] for name in names[:10]]
        raise DataError(f'--metadata: {file}: found the columns {first}, expected `path` and others{_hint(names)}')
    check_names(f'--metadata: {file}', [name for name in names if name != 'path'], reserved)
    rows = _readable(file, lambda: [(reader.line_num, row) for row in reader])
    columns = [name for name in names if name != 'path']
    kinds = {name: have.get(name) or kind([row[name] or '' for _, row in rows]) for name in columns}
    values: dict = {}

    def take(where: str, row: Mapping) -> None:
        if None in row or any(row[name] is None for name in names):
            raise BadRow(f'found another number of cells than the {len(names)} names')
        path = pathlib.PurePosixPath(row['path'].replace('\\', '/')).as_posix()
        if path in values:
            raise BadRow(f"found '{path}' a second time, expected a line a picture")
        values[path] = {}
        values[path] = {name: value(name, kinds[name], row[name]) for name in columns}

    _, faults = each(((f'line {number}', row) for number, row in rows), take)
    if faults:
        raise RowsError(f'--metadata: {file}', faults)
    return kinds, values


def _hint(names: Sequence[str]) -> str:
    """What to change where a table has no column `path`."""
    if names and not any(',' in name for name in names):
        for mark, shown in ((';', ';'), ('\t', 'tabs'), ('|', '|')):
            if any(mark in name for name in names):
                return f'; put , between the cells, not {shown}'
    near = next((name for known in _PATHS for name in names if name.strip().lower() == known), '')
    return f"; write path for '{near}'" if near not in ('', 'path') else ''


def _readable(file: str, read: Callable):
    try:
        return read()
    except csv.Error as error:
        raise DataError(
            f'--metadata: {file} cannot be read ({error}); expected a CSV file in UTF-8, its quotation marks closed'
        ) from None


def nearly(paths: Collection[str], there: Collection[str]) -> dict[str, str]:
    """Path -> one that is there and differs by letter case, by how accents are composed or by folders before it."""
    by_name = {alike(path): path for path in there} if paths else {}
    by_end: dict[str, list[str]] = {}
    for name in by_name:
        by_end.setdefault(name.rpartition('/')[2], []).append(name)
    found = {}
    for path in paths:
        name = alike(path)
        same = [name] if name in by_name else [
            one for one in by_end.get(name.rpartition('/')[2], ()) if name.endswith(f'/{one}') or '/' not in name
        ]  # fmt: skip
        if len(same) == 1:
            found[path] = by_name[same[0]]
    return found


def check_names(where: str, names: Sequence[str], reserved: Collection[str]) -> None:
    """Raise DataError for a column that SQL could not name, or that is the index's own."""
    if len(names) > MOST:
        raise DataError(f'{where}: found {len(names):,} columns, expected at most {MOST}')
    wrong = [name for name in names if name in reserved or not _NAME.fullmatch(name)]
    if wrong or len(set(names)) < len(names):
        first = [name[:60] for name in (wrong or names)[:10]]
        raise DataError(
            f'{where}: found the columns {first}; expected each once, of at most 100 letters, digits and _, and '
            f"none of the index's own: {', '.join(reserved)}"
        )


def kind(texts: Sequence[str]) -> str:
    """The narrowest of KINDS that keeps all that some texts say."""
    filled = [text for text in texts if text]
    if not filled:
        return 'string'
    return next(one for one in KINDS if all(_fits(text, one) for text in filled))


def _fits(text: str, kind: str) -> bool:
    """Whether a kind of column keeps all that a text says."""
    if kind == 'string':
        return True
    if kind == 'int64':
        return bool(_WHOLE.fullmatch(text))
    try:
        return bool(_DECIMAL.fullmatch(text)) and Decimal(repr(float(text))) == Decimal(text)
    except ArithmeticError:  # an exponent of twenty digits
        return False


def value(name: str, kind: str, text: str) -> int | float | str | None:
    """A cell as a kind of column has it. Raises BadRow."""
    if not text:
        return None
    if not _fits(text, kind):
        raise BadRow(
            f"found '{text}' in the column {name}, which the index has as {kind}; change the value, or give the column "
            'another name'
        )
    return {'int64': int, 'double': float}.get(kind, str)(text)
