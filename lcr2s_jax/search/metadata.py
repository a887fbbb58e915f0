"""What is known of pictures beside their pixels: a CSV file with a column `path`, joined to an index."""

import csv
import io
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal

from lcr2s_jax.errors import BadRow, DataError, RowsError
from lcr2s_jax.texts import alike, read_text, separator

# names that others give the column `path`
_PATHS = ('path', 'file', 'filename', 'file_name', 'filepath', 'file_path', 'image', 'img', 'name')
_MAKERS = {'int64': int, 'double': float, 'string': str}
KINDS = tuple(_MAKERS)
MOST = 500  # columns: what LanceDB writes of 5,000 takes minutes
_NAME = re.compile(r'[A-Za-z_]\w{0,99}', re.ASCII)  # what SQL takes without quotes
# 007, 1_2, 12e4 and nan are names, not numbers; 1e-05 and 1.5e+20 are as programs write them
_WHOLE = re.compile(r'-?(0|[1-9]\d{0,17})', re.ASCII)
_DECIMAL = re.compile(r'-?(0|[1-9]\d*)(\.\d+)?([eE]-\d+)?|-?\d\.\d+[eE]\+?\d+', re.ASCII)


class Table:
    """A table of metadata as its file has it, read once: the file may be a pipe.

    Args:
      file: CSV in UTF-8, its first line the names of the columns; `path` is below the indexed folder.
      reserved: names that no column may have.

    Attributes:
      columns: names of all but `path`.

    Raises DataError.
    """

    def __init__(self, file: str, reserved: Collection[str]):
        self._where = f'--metadata: {file}'
        text = read_text(file, '--metadata')
        if text.lstrip()[:1] in ('{', '['):
            raise DataError(f'{self._where}: found JSON, expected CSV: first the names, as in path,camera')
        # strict, or a quotation mark that is never closed swallows the rest of the table
        reader = csv.reader(io.StringIO(text), strict=True)
        names = _readable(file, lambda: next((row for row in reader if row), []))
        if names.count('path') != 1 or len(names) < 2:
            first = [name[:60] for name in names[:10]]
            raise DataError(f'{self._where}: found the columns {first}, expected `path` and others{_hint(names)}')
        self.columns = [name for name in names if name != 'path']
        check_names(self._where, self.columns, reserved)
        rows = _readable(file, lambda: [(reader.line_num, row) for row in reader if row])
        self._faults: dict[int, str] = {}  # line -> why it cannot be used
        self._lines: dict[str, int] = {}  # path -> the line of it
        cells, at = [], names.index('path')
        for line, row in rows:
            if len(row) != len(names):
                self._faults[line] = f'found another number of cells than the {len(names)} names'
                continue
            path = pathlib.PurePosixPath(row.pop(at).replace('\\', '/')).as_posix()
            if path in self._lines:
                self._faults[line] = f"found '{path[:200]}' a second time, expected a line a picture"
                continue
            self._lines[path] = line
            cells.append(row)
        by_column = zip(*cells, strict=True) if cells else [()] * len(self.columns)
        self._cells = dict(zip(self.columns, by_column, strict=True))

    def check(self, more: Mapping[int, str] | None = None) -> None:
        """Raise RowsError for lines that cannot be used, and `more` of them: line -> why."""
        if faults := (more or {}) | self._faults:
            raise RowsError(self._where, [f'line {line}: {faults[line]}' for line in sorted(faults)])

    def typed(self, have: Mapping[str, str]) -> tuple[dict[str, str], dict[str, dict]]:
        """Kinds and values: {column: kind}, and {path: {column: value}} with None for what is empty.

        `have` are kinds of the columns that the index has already; a new one gets the narrowest of KINDS that fits all
        of it. Raises RowsError for lines that cannot be used.
        """
        kinds = {name: have.get(name) or kind(texts) for name, texts in self._cells.items()}
        made, faults = [], {}
        for name, texts in self._cells.items():
            if name not in have:
                as_ = _MAKERS[kinds[name]]
                made.append([as_(text) if text else None for text in texts])
                continue
            made.append([])
            for line, text in zip(self._lines.values(), texts, strict=True):
                try:
                    made[-1].append(value(name, kinds[name], text))
                except BadRow as fault:
                    faults.setdefault(line, str(fault))
        self.check(faults)
        rows = zip(*made, strict=True)
        return kinds, {path: dict(zip(kinds, row, strict=True)) for path, row in zip(self._lines, rows, strict=True)}


def _hint(names: Sequence[str]) -> str:
    """What to change where a table has no column `path`."""
    if other := separator(names):
        return f'; put commas between the cells, not {other}'
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
    by_last: dict[str, list[str]] = {}
    for name in by_name:
        by_last.setdefault(name.rpartition('/')[2], []).append(name)
    found = {}
    for path in paths:
        name = alike(path)
        ends = [name[at + 1 :] for at, sign in enumerate(name) if sign == '/']
        if name in by_name:
            same = [name]
        else:  # with more folders before it than there, or with fewer: a name alone
            same = [end for end in ends if end in by_name] if ends else by_last.get(name, ())
        if len(same) == 1:
            found[path] = by_name[same[0]]
    return found


def check_names(where: str, names: Sequence[str], reserved: Collection[str]) -> None:
    """Raise DataError for a column that SQL could not name, or that is the index's own."""
    if len(names) > MOST:
        raise DataError(f'{where}: found {len(names):,} columns, expected at most {MOST}')
    own = {name.lower() for name in reserved}
    wrong = [name for name in names if name.lower() in own or not _NAME.fullmatch(name)]
    if wrong or len({name.lower() for name in names}) < len(names):
        first = [name[:60] for name in (wrong or names)[:10]]
        raise DataError(
            f'{where}: found the columns {first}; expected each once, of at most 100 letters, digits and _, and '
            f"none of the index's own: {', '.join(reserved)}; letter case does not count"
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
            f"found '{text[:60]}' in the column {name}, which the index has as {kind}; change the value, or give the "
            'column another name'
        )
    return _MAKERS[kind](text)
