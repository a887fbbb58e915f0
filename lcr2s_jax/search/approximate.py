"""Beyond a set size: LanceDB's inverted lists of quantised vectors, and exact scores for what they bring.

The codes are RaBitQ's, one bit a number: at equal recall they are searched faster than product-quantised ones, which
benchmarks/search.py builds beside them.
"""

from collections.abc import Sequence

import numpy as np

from lcr2s_jax.search import tables
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.search.rows import VECTOR

FROM = 1_000_000  # pictures: below, comparing every vector is as quick as one wants
FEWEST = 256  # pictures: product quantisation learns that many values of a byte
_LIST = 1024  # vectors of an inverted list, about
_PROBES = 48  # lists looked into
_REFINE, _FEWEST_EXACT = 5, 200  # candidates with exact scores: times k, and at least, see docs/scale.md
_LEARNING = dict(max_iterations=15, sample_rate=64)  # a tenth of the time of LanceDB's defaults, at the same recall


def build(gallery: Gallery, codes: str = 'rq', columns: Sequence[str] = ()) -> None:
    """Make the approximate index, or make it anew; `codes` is 'rq' or 'pq'.

    Of the columns that are given, or else of own vectors and of enriched ones that are not out of date.
    """
    from lancedb.index import IvfPq, IvfRq

    shared = dict(distance_type='dot', num_partitions=max(1, gallery.count() // _LIST), **_LEARNING)
    if codes == 'pq':
        config = IvfPq(**shared, num_sub_vectors=max(1, gallery.width // 4), num_bits=4)
    else:
        config = IvfRq(**shared)
    with gallery.writing():
        for column in columns or dict.fromkeys([VECTOR, gallery.compared]):
            gallery.table.create_index(column, config=config, replace=True)


def nearest(
    gallery: Gallery,
    query_QE: np.ndarray,
    top: int,
    where: Condition | str = '',
    probes: int = _PROBES,
    refine: int = 0,
    memory=None,
    column: str = VECTOR,
) -> tuple[np.ndarray, np.ndarray]:
    """What `topk.Exact` gives, of rows of the table: score_QK float32, falling, and row_QK int64; behind them -inf, -1.

    The scores are exact; what may be wrong is that a better picture was not looked at. Rows that came later than
    `build` are all compared.

    Args:
      probes: lists looked into.
      refine: so many times `top` candidates get exact scores; 0 for 5, and 200 candidates at least.
      memory: (`topk.Exact` of all vectors, their row_G): candidates are scored there instead of from the disk, which is
        most of the time of a large batch.
    """
    refine = refine or max(_REFINE, -(-_FEWEST_EXACT // top))
    asked = gallery.table.search(list(query_QE), vector_column_name=column).distance_type('dot').nprobes(probes)
    asked = asked.limit(top * refine) if memory else asked.limit(top).refine_factor(refine)
    asked = asked.select(['_distance']).with_row_id(True)
    chosen = gallery.condition(where)
    with tables.told(gallery.uri, 'searching the approximate index', quote=False):
        found = (asked.where((FOUND & chosen).sql) if chosen.sql else asked).to_arrow()
    score_N, row_N = 1 - found['_distance'].to_numpy(), found['_rowid'].to_numpy().astype(np.int64)
    # LanceDB names the query of a row only where there are several
    query_N = found['query_index'].to_numpy() if len(query_QE) > 1 else np.zeros(len(row_N), np.int64)
    if memory:
        exact, row_G = memory
        score_QC, row_QC = _by_query(query_N, score_N, row_N, len(query_QE), top * refine)
        place_QC = np.where(row_QC < 0, -1, np.searchsorted(row_G, row_QC))
        score_QC = exact.scores(query_QE, place_QC)
        query_N, row_N = np.repeat(np.arange(len(query_QE)), top * refine), row_QC.ravel()
        score_N = score_QC.ravel()
    score_QK, row_QK = _by_query(query_N, score_N, row_N, len(query_QE), top)
    return score_QK, np.where(np.isneginf(score_QK), -1, row_QK)


def _by_query(query_N, score_N, row_N, queries: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The `top` best of every query, falling, the lower row first where scores are equal."""
    order = np.lexsort((row_N, -score_N, query_N))
    query_N, score_N, row_N = query_N[order], score_N[order], row_N[order]
    place_N = np.arange(len(row_N)) - np.searchsorted(query_N, query_N)
    kept = place_N < top
    score_QK, row_QK = np.full((queries, top), -np.inf, np.float32), np.full((queries, top), -1, np.int64)
    score_QK[query_N[kept], place_N[kept]] = score_N[kept]
    row_QK[query_N[kept], place_N[kept]] = row_N[kept]
    return score_QK, row_QK
