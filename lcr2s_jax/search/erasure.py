"""Erasing: a table is written anew without some rows, and every file that held it before is removed.

LanceDB marks deleted rows at first, and keeps a version whose time lies ahead of the clock; so no clock is asked here:
what was there before the new version was written is what goes.
"""

from collections.abc import Sequence

import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import approximate, seal, storage
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.rows import ENRICHED
from lcr2s_jax.texts import counted

BEGUN = '.erasing'  # in the index while files of before may be left


def erase(gallery: Gallery, rows: Sequence[int] = ()) -> None:
    """Forget rows of the present version in one commit, and leave no byte of them, nor of any forgotten before.

    Enriched vectors go as well: others' have a part of a row in them. `enrich.renew` makes them of what is left.

    Whoever has an older version open must open the index again. The lock is what makes it safe: files that another
    writer has not committed yet would go with the old ones, and its rows would be lost. A call that was killed is
    finished by `finish`. Raises SearchError where files that held the rows are left.
    """
    with gallery.writing():
        storage.write(gallery.uri, BEGUN, b'')
        had, folder = gallery.approximate, f'{gallery.table.name}.lance'
        before = storage.listed(gallery.uri, folder)
        gallery.table = _written_anew(gallery, np.sort(np.asarray(rows, np.int64)))
        old = {name for name in before if not name.endswith(seal.HINT)}
        storage.unlink(gallery.uri, old)
        if left := old & storage.listed(gallery.uri, folder):
            raise SearchError(
                f'{gallery.uri}: the rows are forgotten, but {counted(len(left), "file")} that held them cannot be '
                f'removed, such as {min(left)}; make its folder writable and give the same command again'
            )
        storage.unlink(gallery.uri, [BEGUN])
        if had and gallery.count() >= approximate.FEWEST:
            approximate.build(gallery)  # its codes are of the vectors, too


def finish(gallery: Gallery) -> None:
    """Do what an erasure that was killed, or had no room, has left to be done."""
    if storage.read(gallery.uri, BEGUN) is not None:
        erase(gallery)


def _written_anew(gallery: Gallery, row_n: np.ndarray):
    import pyarrow as pa

    old = gallery.table
    schema = pa.schema([f for f in old.schema if f.name != ENRICHED])  # every one of them may have a part of a row

    def kept():
        for batch in old.search().select(schema.names).with_row_id(True).to_batches():
            if len(row_n):
                row_b = batch['_rowid'].to_numpy()
                # np.isin would sort all of `row_n` for every batch
                place_b = np.minimum(np.searchsorted(row_n, row_b), len(row_n) - 1)
                batch = batch.filter(pa.array(row_n[place_b] != row_b))
            yield batch.select(schema.names)

    reader = pa.RecordBatchReader.from_batches(schema, kept())
    return gallery.db.create_table(old.name, reader, schema=schema, mode='overwrite', on_bad_vectors='null')
