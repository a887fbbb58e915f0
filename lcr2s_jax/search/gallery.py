"""The pictures of an index: one row a file, in a LanceDB table whose every commit is a version of its own.

A call that is killed leaves the version before; the next one finds in it what is still to be done.
"""

import contextlib
import datetime
import pathlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import writing
from lcr2s_jax.search.storage import is_remote

IMAGES = 'images'
OWN = ('root', 'path', 'sha256', 'bytes', 'modified', 'added', 'status', 'vector')  # the others are the user's
OK = 'ok'  # status of a row that has a vector; any other says why it has none
_NONE = 'found no index; make one: python main.py index --workdir=... --images=... --index=...'
KEY = ('root', 'path')
_IN = 500  # values of one SQL list


class Row(NamedTuple):
    """What one file becomes.

    Attributes:
      path: below the root, with forward slashes.
      sha256: of the bytes; '' where they cannot be read.
      bytes: how many.
      modified: of the file, microseconds since 1970.
      status: OK, or why there is no vector.
      vector: unit float32 [E], or None.
    """

    path: str
    sha256: str
    bytes: int
    modified: int
    status: str
    vector: np.ndarray | None


class Gallery:
    """The table, opened at its last version. What writes to it holds the lock of the index, see `writing`.

    Args:
      uri: folder or object-store URL of the index.
      width: E, where the table is to be made if it is not there; None to refuse that.

    Attributes:
      uri: the same.
      db, table: LanceDB's.
      width: E.

    Raises:
      SearchError: nothing there, or it cannot be read.
    """

    def __init__(self, uri: str, width: int | None = None):
        import lancedb

        self.uri = uri
        self._one, self._writes = threading.RLock(), False
        if width is None and not is_remote(uri) and not pathlib.Path(uri).is_dir():
            raise SearchError(f'{uri}: {_NONE}')  # connecting would make the folder
        try:
            self.db = lancedb.connect(uri)
            names = set(self.db.table_names(limit=1000))
            if IMAGES not in names and width is None:
                raise SearchError(f'{uri}: {_NONE}')
            self.table = self._open(IMAGES, names, lambda: _schema(width))
        except (OSError, ValueError, RuntimeError) as error:
            raise SearchError(f'{uri}: the index cannot be opened ({_short(error)})') from error
        self.width = self.table.schema.field('vector').type.list_size
        if width not in (None, self.width):
            raise SearchError(f'{uri}: found vectors of {self.width} numbers, the model makes {width}')

    def _open(self, name: str, names: set, schema):
        # made by another host in the same moment, it is as good
        return self.db.open_table(name) if name in names else self.db.create_table(name, schema=schema(), exist_ok=True)

    @property
    def version(self) -> int:
        """Grows by one with every commit."""
        return self.table.version

    @property
    def columns(self) -> dict[str, str]:
        """The user's columns by name, with their types."""
        return {f.name: str(f.type) for f in self.table.schema if f.name not in OWN}

    def count(self, where: str = f"status = '{OK}'") -> int:
        """Rows that a condition in SQL chooses; by default those that can be found."""
        with sql(where, self):
            return self.table.count_rows(where or None)

    def refresh(self) -> None:
        """Go to the last version, if another process has committed one, or has written the table from scratch."""
        self.table = self.db.open_table(IMAGES)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out, from the last version on: none of them loses what another has committed.

        May be nested. What is read within is not taken away meanwhile, as by an erasure. Raises SearchError.
        """
        with self._one:
            if self._writes:
                yield
                return
            with writing.alone(self.uri):
                self.refresh()
                self._writes = True
                try:
                    yield
                finally:
                    self._writes = False

    def known(self, root: str) -> dict[str, tuple[int, int, str, str]]:
        """path -> (bytes, modified, sha256, status) of every row of a root."""
        found = self.of_root(root, ['path', 'bytes', 'modified', 'sha256', 'status'])
        modified = found['modified'].cast('int64').to_pylist()
        return dict(
            zip(found['path'].to_pylist(), zip(found['bytes'].to_pylist(), modified, found['sha256'].to_pylist(),
                                               found['status'].to_pylist(), strict=True), strict=True)
        )  # fmt: skip

    def of_root(self, root: str, columns: Sequence[str]):
        """An Arrow table of every row of a root."""
        return self.rows(f'root = {quoted(root)}', columns)

    def hashes(self) -> set[str]:
        """Of all pictures that have a vector, whatever their path."""
        return set(self.rows(f"status = '{OK}'", ['sha256'])['sha256'].to_pylist())

    def vectors_of(self, hashes: Iterable[str]) -> dict[str, np.ndarray]:
        """sha256 -> vector, for pictures that are there under another path."""
        found, hashes = {}, list(hashes)
        for start in range(0, len(hashes), _IN):
            listed = ', '.join(map(quoted, hashes[start : start + _IN]))
            rows = self.rows(f"status = '{OK}' and sha256 in ({listed})", ['sha256', 'vector'])
            found |= dict(zip(rows['sha256'].to_pylist(), _matrix(rows['vector'], self.width), strict=True))
        return found

    def put(self, root: str, rows: Sequence[Row], new: bool) -> None:
        """One commit of files, each with one row in the end, whoever else puts the same.

        Args:
          root: of their paths.
          rows: the age of one whose bytes are those that it had goes on.
          new: of files that had no row; if not, one that has none any more was deleted meanwhile and stays out.
        """
        with self.writing():
            there = self._there(root, [row.path for row in rows])
            rows = [row for row in rows if new or row.path in there]
            if not rows:
                return
            table = self._table(root, rows, there)
            if there:
                self.merge().when_not_matched_insert_all().execute(table, on_bad_vectors='null')
            else:
                self.table.add(table, on_bad_vectors='null')  # LanceDB takes no vector for a bad one

    def _there(self, root: str, paths: Sequence[str]) -> dict[str, tuple[str, datetime.datetime]]:
        """path -> (sha256, added) of the files that have a row."""
        found = {}
        for start in range(0, len(paths), _IN):
            listed = ', '.join(map(quoted, paths[start : start + _IN]))
            rows = self.rows(f'root = {quoted(root)} and path in ({listed})', ['path', 'sha256', 'added'])
            found |= {one['path']: (one['sha256'], one['added']) for one in rows.to_pylist()}
        return found

    def _table(self, root: str, rows: Sequence[Row], there: dict):
        """Rows as Arrow has them."""
        import pyarrow as pa

        now = datetime.datetime.now(datetime.UTC)
        # a file that was merely touched, or copied anew every day, would never get old
        added = [there[row.path][1] if there.get(row.path, ('',))[0] == row.sha256 != '' else now for row in rows]
        schema = pa.schema([f for f in self.table.schema if f.name in OWN])
        values = [row.vector if row.vector is not None else np.zeros(self.width, np.float32) for row in rows]
        flat = pa.array(np.concatenate(values).astype(np.float32))
        missing = pa.array([row.vector is None for row in rows])
        return pa.table(
            {
                'root': [root] * len(rows),
                'path': [row.path for row in rows],
                'sha256': [row.sha256 for row in rows],
                'bytes': [row.bytes for row in rows],
                'modified': pa.array([row.modified for row in rows], pa.timestamp('us', tz='UTC')),
                'added': pa.array(added, pa.timestamp('us', tz='UTC')),
                'status': [row.status for row in rows],
                'vector': pa.FixedSizeListArray.from_arrays(flat, self.width, mask=missing),
            },
            schema=schema,
        )

    def merge(self):
        """LanceDB's builder of an update of rows by root and path."""
        return self.table.merge_insert(list(KEY)).when_matched_update_all()

    def drop(self, root: str, paths: Sequence[str]) -> None:
        """Forget files that are no more; should they come back, they are indexed again."""
        with self.writing():
            for start in range(0, len(paths), _IN):
                listed = ', '.join(map(quoted, paths[start : start + _IN]))
                self.table.delete(f'root = {quoted(root)} and path in ({listed})')

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """vector_GE float32 and row_G int64, rising, of all pictures that can be found, at this version."""
        total, start = self.count(), 0
        vector_GE, row_G = np.empty((total, self.width), np.float32), np.empty(total, np.int64)
        query = self.table.search().where(f"status = '{OK}'").select(['vector']).with_row_id(True)
        for batch in query.to_batches():
            part = slice(start, start + batch.num_rows)
            vector_GE[part], row_G[part] = _matrix(batch['vector'], self.width), batch['_rowid'].to_numpy()
            start = part.stop
        if np.all(row_G[1:] > row_G[:-1]):
            return vector_GE, row_G
        order = np.argsort(row_G)
        return vector_GE[order], row_G[order]

    def rows_where(self, where: str) -> np.ndarray:
        """int64, rising: row numbers of the pictures that a condition chooses. Raises SearchError."""
        found = self.rows(f"status = '{OK}' and ({where})", ['status'], with_rows=True)
        return np.sort(found['_rowid'].to_numpy())

    def facts(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> list[dict]:
        """Columns of these rows, in their order; by default all but the vector."""
        if not len(rows):
            return []
        names = [f.name for f in self.table.schema if f.name != 'vector'] if columns is None else list(columns)
        found = self.table.take_row_ids([int(row) for row in rows]).select(names).with_row_id().to_arrow().to_pylist()
        by_row = {one.pop('_rowid'): one for one in found}
        return [by_row[int(row)] for row in rows]

    def vectors_at(self, rows: Sequence[int]) -> np.ndarray:
        """float32 [n, E] of these rows, in their order."""
        found = [one['vector'] for one in self.facts(rows, ['vector'])]
        return np.array(found, np.float32).reshape(-1, self.width)

    @property
    def approximate(self) -> bool:
        """Whether there is an index to search without comparing every vector."""
        return bool(self.table.list_indices())

    def tidy(self) -> None:
        """Bring what many commits left into few files, which open faster; versions of the last day stay."""
        with self.writing():
            self.table.optimize(cleanup_older_than=datetime.timedelta(days=1))

    def rows(self, where: str, columns: Sequence[str], with_rows: bool = False):
        """An Arrow table of the rows that a condition chooses. Raises SearchError."""
        with sql(where, self):
            return self.table.search().where(where).select(list(columns)).with_row_id(with_rows).to_arrow()


def quoted(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def sql(where: str, gallery: Gallery):
    """Explain what LanceDB says against a condition."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        if 'Not found:' in str(error):  # the files of this version
            raise SearchError(f'{gallery.uri}: pictures were erased from it meanwhile; do the same again') from None
        own = ', '.join([*OWN[:-1], *gallery.columns])
        raise SearchError(
            f'the condition {where!r} cannot be used ({_short(error)}). Expected SQL over the columns {own}, such as '
            '--where="camera = \'c1\'"'
        ) from None


def _matrix(column, width: int) -> np.ndarray:
    """A column of fixed-size lists -> float32 [n, E]."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [chunk.flatten().to_numpy().reshape(-1, width) for chunk in chunks]
    return np.concatenate(parts) if parts else np.empty((0, width), np.float32)


def _schema(width: int):
    import pyarrow as pa

    when = pa.timestamp('us', tz='UTC')
    kinds = ['string', 'string', 'string', 'int64', when, when, 'string', pa.list_(pa.float32(), width)]
    return pa.schema(list(map(pa.field, OWN, kinds)))


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
