"""Rows that workers write beside an index's table, and one commit that makes them part of it.

A Lance fragment that no version names is not there: whoever is killed before the commit has written nothing.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.search import storage, stores, tables
from lcr2s_jax.search.gallery import IMAGES, Gallery
from lcr2s_jax.search.rows import Row, as_table

_DATA = f'{IMAGES}.lance/data'


class Fragment(NamedTuple):
    """Rows in files of their own."""

    parts: list[dict]  # Lance's description, JSON
    paths: list[str]  # of the rows

    @property
    def files(self) -> set[str]:
        """Below the index."""
        return {f'{_DATA}/{file["path"]}' for part in self.parts for file in part['files']}


def lance():
    """The module. Raises ConfigError where it is missing."""
    try:
        import lance
        import lance.fragment
    except ImportError:
        raise ConfigError("--engine=ray: found no pylance; pip install 'lcr2s-jax[cluster]'") from None
    return lance


def write(uri: str, key: str, rows: Sequence[Row]) -> Fragment:
    """Write rows of a root into files of their own, by which nothing changes yet. Raises SearchError."""
    import pyarrow as pa

    with tables.told(uri, 'writing a fragment'):
        table = lance().dataset(f'{uri}/{IMAGES}.lance', storage_options=stores.options(uri))
        parts = [table.schema.empty_table(), as_table(table.schema, key, rows, {})]
        content = pa.concat_tables(parts, promote_options='default')  # the user's columns are null
        more = dict(mode='append', storage_options=stores.options(uri))
        written = lance().fragment.write_fragments(content, table, **more)
    return Fragment([one.to_json() for one in written], [row.path for row in rows])


def commit(gallery: Gallery, key: str, fragments: Sequence[Fragment]) -> list[Fragment]:
    """Make fragments part of the table, in one commit; those that were left out. Raises SearchError.

    One is left out, and its files are removed, if another call has written a row of its files meanwhile, or has erased
    rows and with them all that no version named.
    """
    if not fragments:
        return []
    with gallery.writing():
        known, there = gallery.known_paths(key), storage.listed(gallery.uri, _DATA)
        taken = [one for one in fragments if known.isdisjoint(one.paths) and one.files <= there]
        if taken:
            parts = [lance().FragmentMetadata.from_json(json.dumps(part)) for one in taken for part in one.parts]
            lance().LanceDataset.commit(
                f'{gallery.uri}/{IMAGES}.lance',
                lance().LanceOperation.Append(parts),
                read_version=gallery.version,
                storage_options=stores.options(gallery.uri),
            )
            gallery.grown(key, [path for one in taken for path in one.paths])
    left = [one for one in fragments if one not in taken]
    storage.unlink(gallery.uri, {file for one in left for file in one.files} & there)
    return left
