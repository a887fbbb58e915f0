"""The pictures of an index: one row a file, in a LanceDB table whose every commit is a version of its own.

A call that is killed leaves the version before; the next one finds in it what is still to be done.
"""

import contextlib
import datetime
import pathlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import conditions, enrichment, seal, storage, stores, tables, writing
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.lance import lancedb
from lcr2s_jax.search.rows import ENRICHED, NUMBERS, OK, OWN, VECTOR, Row, as_matrix, as_table, not_unit, schema_of
from lcr2s_jax.search.storage import is_remote

IMAGES, GONE = 'images', 'gone'  # tables: the pictures, and hashes of those that were forgotten
KEY = ('root', 'path')
FOUND = conditions.equal(status=OK)  # rows that a search can find


class Gallery:
    """The table, opened at its last version. What writes to it holds the lock of the index, see `writing`.

    `width` is E, where the table is to be made if it is not there; None to refuse that. Raises SearchError where
    nothing is there, or it cannot be read.

    Attributes:
      db, table: LanceDB's.
      enriched: how its vectors are enriched by those of their neighbours; None for an index without, see `enrich`.
    """

    def __init__(self, uri: str, width: int | None = None):
        self.uri = uri
        self._one, self._writes = threading.RLock(), False
        self._paths: dict[str, set[str]] = {}  # of the roots that were written to, at version _seen
        self._seen = 0
        storage.check_place(uri)
        if width is None and not is_remote(uri) and not pathlib.Path(uri).is_dir():
            raise SearchError(storage.missing(uri))  # connecting would make the folder
        if is_remote(uri):
            stores.check(uri)  # LanceDB finds the same mistakes later, and waits longer
        with tables.told(uri, 'opening the index'):
            self.db = lancedb().connect(uri, storage_options=stores.options(uri))
            tables.lasting(self._open)
            if self.table is None and width is not None:
                seal.check_there(uri, self._sealed)
                with writing.alone(uri):
                    self.table = tables.open_or_make(self.db, uri, IMAGES, schema_of(width))
        if self.table is None:
            raise SearchError(storage.missing(uri))
        self.width = self.table.schema.field('vector').type.list_size
        if width not in (None, self.width):
            raise SearchError(f'{uri}: found vectors of {self.width} numbers, the model makes {width}')

    @property
    def version(self) -> int:
        """Grows by one with every commit."""
        return self.table.version

    @property
    def columns(self) -> dict[str, str]:
        """The user's columns by name, with their types."""
        return {f.name: str(f.type) for f in self.table.schema if f.name not in (*OWN, *NUMBERS)}

    @property
    def kinds(self) -> dict[str, str]:
        """What a condition may name: all columns but those of numbers, with their types."""
        return {f.name: str(f.type) for f in self.table.schema if f.name not in NUMBERS}

    @property
    def compared(self) -> str:
        """The column that sentences are compared with: ENRICHED where it is of just this version, else VECTOR.

        Raises SearchError where nothing says how it was made.
        """
        there = ENRICHED in self.table.schema.names
        if there and self.enriched is None:
            self.enriched = enrichment.read(self.uri)  # it is written before the column
            if self.enriched is None:
                raise SearchError(
                    f'{self.uri}: damaged: found enriched vectors, and no {enrichment.FILE} that says how they were '
                    'made; say it again: `index --enrich=neighbours`, or `--enrich=none`'
                )
        return ENRICHED if there and self.enriched.version == self.version else VECTOR

    def condition(self, where: Condition | str) -> Condition:
        """A condition that was typed, checked; one that was is left as it is. Raises SearchError."""
        return where if isinstance(where, Condition) else conditions.parse(where, self.kinds)

    def count(self, where: Condition | str = FOUND) -> int:
        """Rows that a condition chooses; by default those that can be found. Raises SearchError."""
        chosen = self.condition(where)
        with tables.told(self.uri, 'counting rows', quote=False):
            return self.table.count_rows(chosen.sql or None)

    def refresh(self) -> None:
        """Go to the last version, if another process has committed one, or has written the table from scratch."""
        tables.lasting(self._open)
        if self.table is None:
            raise SearchError(storage.missing(self.uri))

    def _open(self) -> None:
        with tables.told(self.uri, 'opening the index'):
            self._sealed, self.enriched = seal.read(self.uri), enrichment.read(self.uri)
            seal.check_newest(self.uri, self._sealed, IMAGES)
            self.table = tables.open_or_make(self.db, self.uri, IMAGES)
            if self.table is not None:
                seal.check(self.uri, self._sealed, IMAGES, self.version)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out, from the last version on: none of them loses what another has committed.

        May be nested. What is read within is not taken away meanwhile, as by an erasure. Raises SearchError.
        """
        with self._one:
            if self._writes:
                yield
                return
            with writing.alone(self.uri), tables.told(self.uri, 'writing to the index'):
                self.refresh()
                seal.check_there(self.uri, self._sealed)
                self._writes = True
                try:
                    yield
                finally:
                    self._writes = False
                    self._seal()

    def _seal(self, model: str = '') -> None:
        gone = tables.open_or_make(self.db, self.uri, GONE)
        versions = {IMAGES: self.version} | ({} if gone is None else {GONE: gone.version})
        seal.update(self.uri, versions, model)

    @property
    def model(self) -> str:
        """Hash of the model whose vectors these are; '' where nobody has said."""
        return self._sealed.get('model', '')

    def bind(self, model: str) -> None:
        """Write down whose vectors these are, by the model's hash. Raises SearchError where they are another's."""
        self.refuse_another(model)
        if self.model != model:
            with self.writing():
                self._seal(model)
            self._sealed = seal.read(self.uri)

    def refuse_another(self, model: str) -> None:
        """Raise SearchError where the vectors are of another model than the one with this hash."""
        if self.model not in ('', model):
            raise SearchError(
                f'{self.uri}: found vectors of the model {self.model[:16]}, expected {model[:16]}; they cannot '
                'be compared. Restore the index from a copy, or index the pictures again into another folder'
            )

    def known(self, root: str) -> dict[str, tuple[int, int, str, str]]:
        """path -> (bytes, modified, sha256, status) of every row of a root."""
        found = self.of_root(root, ['path', 'bytes', 'modified', 'sha256', 'status'])
        found = found.set_column(2, 'modified', found['modified'].cast('int64'))
        path, *facts = (column.to_pylist() for column in found.columns)
        return dict(zip(path, zip(*facts, strict=True), strict=True))

    def of_root(self, root: str, columns: Sequence[str]):
        return self.rows(conditions.equal(root=root), columns)

    def hashes(self) -> set[str]:
        """Of all pictures that have a vector, whatever their path."""
        return set(self.rows(FOUND, ['sha256'])['sha256'].to_pylist())

    def put(self, root: str, rows: Sequence[Row], new: bool) -> None:
        """One commit of files, each with one row in the end, whoever else puts the same. The same bytes keep their age.

        `new` says that they had no row; if not, one that has none any more was deleted meanwhile and stays out.
        """
        with self.writing():
            known = self.known_paths(root)
            there = self._there(root, [row.path for row in rows if row.path in known])
            rows = [row for row in rows if new or row.path in there]
            if not rows:
                return
            table = as_table(self.table.schema, root, rows, there)
            if there:
                self.merge().when_not_matched_insert_all().execute(table, on_bad_vectors='null')
            else:
                self.table.add(table, on_bad_vectors='null')  # LanceDB takes no vector for a bad one
            known.update(row.path for row in rows)
            self._seen = self.version

    def known_paths(self, root: str) -> set[str]:
        """Every path that may have a row; read again only after others have written, or each commit would read all."""
        if self._seen != self.version:
            self._paths, self._seen = {}, self.version
        if root not in self._paths:
            self._paths[root] = set(self.of_root(root, ['path'])['path'].to_pylist())
        return self._paths[root]

    def grown(self, root: str, paths: Sequence[str]) -> None:
        """See the rows of these paths, which were committed past this object, by a writer that holds its lock."""
        known = self.known_paths(root)
        self.table = self.db.open_table(IMAGES)
        known.update(paths)
        self._seen = self.version

    def _there(self, root: str, paths: Sequence[str]) -> dict[str, tuple[str, datetime.datetime]]:
        """path -> (sha256, added) of the files that have a row."""
        found = {}
        for chosen in conditions.of_files(root, paths):
            rows = self.rows(chosen, ['path', 'sha256', 'added'])
            found |= {one['path']: (one['sha256'], one['added']) for one in rows.to_pylist()}
        return found

    def merge(self):
        """LanceDB's builder of an update of rows by root and path."""
        return self.table.merge_insert(list(KEY)).when_matched_update_all()

    def drop(self, root: str, paths: Sequence[str]) -> None:
        """Forget files that are no more; should they come back, they are indexed again."""
        with self.writing():
            for chosen in conditions.of_files(root, paths):
                self.table.delete(chosen.sql)

    def move(self, root: str, paths: Sequence[str], to: str) -> None:
        with self.writing():
            for chosen in conditions.of_files(root, paths):
                self.table.update(where=chosen.sql, values={'root': to})

    def vectors(self, column: str = VECTOR) -> tuple[np.ndarray, np.ndarray]:
        """vector_GE float32 and row_G int64, rising, of all pictures that can be found, at this version."""
        total, start = self.count(), 0
        vector_GE, row_G = np.empty((total, self.width), np.float32), np.empty(total, np.int64)
        query = self.table.search().where(FOUND.sql).select([column]).with_row_id(True)
        with tables.told(self.uri, 'reading the vectors'):
            for batch in query.to_batches():
                part = slice(start, start + batch.num_rows)
                vector_GE[part], row_G[part] = as_matrix(batch[column], self.width), batch['_rowid'].to_numpy()
                start = part.stop
        if len(spoilt := not_unit(vector_GE)):
            named = ', '.join(one['path'] for one in self.facts(row_G[spoilt[:3]], ['path']))
            raise SearchError(
                f'{self.uri}: damaged: {len(spoilt):,} vectors are not of length one, such as of {named}; `index` of '
                'the same pictures makes them again'
            )
        if np.all(row_G[1:] > row_G[:-1]):
            return vector_GE, row_G
        order = np.argsort(row_G)
        return vector_GE[order], row_G[order]

    def rows_where(self, where: Condition | str) -> np.ndarray:
        """int64, rising: row numbers of the pictures that a condition chooses. Raises SearchError."""
        found = self.rows(FOUND & self.condition(where), ['status'], with_rows=True)
        return np.sort(found['_rowid'].to_numpy())

    def facts(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> list[dict]:
        """Columns of these rows, in their order; by default all but those of numbers."""
        if not len(rows):
            return []
        names = list(self.kinds if columns is None else columns)
        with tables.told(self.uri, 'reading rows', quote=False):
            taken = self.table.take_row_ids([int(row) for row in rows]).select(names).with_row_id()
            found = taken.to_arrow().to_pylist()
        by_row = {one.pop('_rowid'): one for one in found}
        return [by_row[int(row)] for row in rows]

    def vectors_at(self, rows: Sequence[int], column: str = VECTOR) -> np.ndarray:
        """float32 [n, E] of these rows, in their order."""
        found = [one[column] for one in self.facts(rows, [column])]
        return np.array(found, np.float32).reshape(-1, self.width)

    @property
    def approximate(self) -> bool:
        """Whether there is an index to search without comparing every vector."""
        return VECTOR in self.indexed

    @property
    def indexed(self) -> set[str]:
        """The columns of vectors that have one."""
        return {name for one in self.table.list_indices() for name in one.columns}

    def tidy(self) -> None:
        """Bring what many commits left into few files, which open faster; versions of the last day stay."""
        with self.writing():
            self.table.optimize(cleanup_older_than=datetime.timedelta(days=1))

    def rows(self, where: Condition | str, columns: Sequence[str], with_rows: bool = False):
        """An Arrow table of the rows that a condition chooses. Raises SearchError."""
        chosen = self.condition(where)
        with tables.told(self.uri, 'reading rows', quote=False):
            query = self.table.search().select(list(columns)).with_row_id(with_rows)
            return (query.where(chosen.sql) if chosen.sql else query).to_arrow()
