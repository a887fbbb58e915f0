"""Rows of an index, as Python has them and as Arrow has them."""

import datetime
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.search import appearance

VECTOR, ENRICHED = 'vector', '_enriched'  # the picture's own, and what `enrich` makes of it and its neighbours
LOOK = '_look'  # what it is made of
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
    vector: np.ndarray | None = None  # unit float32 [E], or None
    look: np.ndarray | None = None  # `appearance.statistics`, float32 [S], or None


def as_table(schema, root: str, rows: Sequence[Row], there: Mapping[str, tuple[str, datetime.datetime]]):
    """Rows of one root, at least one, as an Arrow table; `there` has path -> (sha256, added) of those that are there.

    The schema is the gallery's; the user's columns are left out, enriched vectors are none yet.
    """
    import pyarrow as pa

    now = datetime.datetime.now(datetime.UTC)
    bad = [row.vector is not None and not np.isfinite(row.vector).all() for row in rows]
    rows = [row._replace(status=_NO_VECTOR, vector=None) if no else row for row, no in zip(rows, bad, strict=True)]
    columns = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    # a file that was merely touched, or copied anew every day, would never get old
    added = [there[row.path][1] if there.get(row.path, ('',))[0] == row.sha256 != '' else now for row in rows]
    columns |= {'root': [root] * len(rows), 'added': added, LOOK: columns.pop('look')}
    columns[ENRICHED] = [None] * len(rows)  # a row that was there with other bytes must not keep what it had
    schema = pa.schema([f for f in schema if f.name in (*OWN, ENRICHED)])
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def as_matrix(column, width: int) -> np.ndarray:
    """A column of fixed-size lists -> float32 [n, E]."""
    import pyarrow.compute

    return pyarrow.compute.list_flatten(column).to_numpy().reshape(-1, width)


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
