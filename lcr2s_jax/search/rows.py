"""Rows of an index, as Python has them and as Arrow has them."""

import datetime
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.search import appearance

VECTOR, ENRICHED = 'vector', '_enriched'  # the picture's own, and what `enrich` makes of it and its neighbours
LOOK = '_look'  # what it is made of; tables of earlier versions lack it
OWN = ('root', 'path', 'sha256', 'bytes', 'modified', 'added', 'status', VECTOR, LOOK)  # of every index
NUMBERS = (VECTOR, ENRICHED, LOOK)  # shown to nobody; columns that are neither of these nor OWN are the user's
_NO_VECTOR = 'the model makes no numbers of it'
_TOLERANCE = 2e-3  # of the square of a vector's length
OK = 'ok'  # status of a row that has a vector; any other says why it has none


class Row(NamedTuple):
    """What one file becomes."""

    path: str  # below the root, with forward slashes
    sha256: str  # of the bytes; '' where they cannot be read
    bytes: int
    modified: int  # of the file, microseconds since 1970
    status: str  # OK, or why there is no vector
    vector: np.ndarray | None  # unit float32 [E], or None
    look: np.ndarray | None = None  # `appearance.statistics`, float32 [S], or None


def as_table(schema, root: str, rows: Sequence[Row], there: Mapping[str, tuple[str, datetime.datetime]]):
    """Rows of one root, at least one, as an Arrow table.

    Args:
      schema: of the gallery's table; the user's columns are left out, enriched vectors are none yet.
      there: path -> (sha256, added) of those that have a row already.
    """
    import pyarrow as pa

    now = datetime.datetime.now(datetime.UTC)
    # a file that was merely touched, or copied anew every day, would never get old
    bad = [row.vector is not None and not np.isfinite(row.vector).all() for row in rows]
    rows = [row._replace(status=_NO_VECTOR, vector=None) if no else row for row, no in zip(rows, bad, strict=True)]
    added = [there[row.path][1] if there.get(row.path, ('',))[0] == row.sha256 != '' else now for row in rows]
    schema = pa.schema([f for f in schema if f.name in (*OWN, ENRICHED)])
    content = {VECTOR: _lists([row.vector for row in rows], schema.field(VECTOR).type.list_size)}
    if LOOK in schema.names:
        content[LOOK] = _lists([row.look for row in rows], schema.field(LOOK).type.list_size)
    if ENRICHED in schema.names:  # a row that was there with other bytes must not keep what it had
        content[ENRICHED] = _lists([None] * len(rows), schema.field(ENRICHED).type.list_size)
    return pa.table(
        {
            'root': [root] * len(rows),
            'path': [row.path for row in rows],
            'sha256': [row.sha256 for row in rows],
            'bytes': [row.bytes for row in rows],
            'modified': pa.array([row.modified for row in rows], pa.timestamp('us', tz='UTC')),
            'added': pa.array(added, pa.timestamp('us', tz='UTC')),
            'status': [row.status for row in rows],
            **content,
        },
        schema=schema,
    )


def _lists(values: Sequence[np.ndarray | None], width: int):
    """A column of fixed-size lists, some of them missing."""
    import pyarrow as pa

    flat = np.concatenate([np.zeros(width, np.float32) if x is None else x for x in values]).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), width, mask=pa.array([x is None for x in values]))


def as_matrix(column, width: int) -> np.ndarray:
    """A column of fixed-size lists -> float32 [n, E]."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [chunk.flatten().to_numpy().reshape(-1, width) for chunk in chunks]
    return np.concatenate(parts) if parts else np.empty((0, width), np.float32)


def looks_of(found: Sequence) -> np.ndarray:
    """Lists of numbers, or None -> float32 [n, S], NaN for None."""
    nothing = [np.nan] * appearance.COUNT
    return np.array([nothing if one is None else one for one in found], np.float32).reshape(-1, appearance.COUNT)


def not_unit(vector_GE: np.ndarray) -> np.ndarray:
    """Places of vectors whose length is not one: every model's is, so that they are damaged."""
    return np.flatnonzero(~(np.abs(np.einsum('ge,ge->g', vector_GE, vector_GE) - 1) < _TOLERANCE))


def schema_of(width: int):
    """Of a table whose vectors have so many numbers."""
    import pyarrow as pa

    when = pa.timestamp('us', tz='UTC')
    kinds = ['string', 'string', 'string', 'int64', when, when, 'string']
    kinds += [pa.list_(pa.float32(), count) for count in (width, appearance.COUNT)]
    return pa.schema(list(map(pa.field, OWN, kinds)))
