"""Beyond a set size: LanceDB's inverted lists of product-quantised vectors, and exact scores for what they bring."""

import numpy as np

from lcr2s_jax.retrieval.gallery import OK, Gallery, sql

FROM = 1_000_000  # pictures: below, comparing every vector is as quick as one wants
FEWEST = 256  # pictures: product quantisation learns that many values of a byte
_LIST = 1024  # vectors of an inverted list, about
_PART = 8  # numbers that one byte stands for
_PROBES, _REFINE = 8, 5  # lists looked into; candidates with exact scores, times k


def build(gallery: Gallery) -> None:
    """Make the approximate index, or make it anew."""
    from lancedb.index import IvfPq

    config = IvfPq(
        distance_type='dot',
        num_partitions=max(1, gallery.count() // _LIST),
        num_sub_vectors=max(1, gallery.width // _PART),
    )
    gallery.table.create_index('vector', config=config, replace=True)


def nearest(
    gallery: Gallery, query_QE: np.ndarray, top: int, where: str = '', probes: int = _PROBES, refine: int = _REFINE
) -> tuple[np.ndarray, np.ndarray]:
    """What `topk.Exact` gives, of rows of the table: -inf and -1 where there is nothing.

    The scores are exact; what may be wrong is that a better picture was not looked at.

    Args:
      gallery: has an index by `build`; rows that came later are all compared.
      query_QE: float32.
      top: K.
      where: a condition in SQL, or ''.
      probes: lists looked into.
      refine: so many times K candidates get exact scores.

    Returns:
      score_QK float32, falling, and row_QK int64.
    """
    asked = gallery.table.search(list(query_QE), vector_column_name='vector').distance_type('dot').limit(top)
    asked = asked.nprobes(probes).refine_factor(refine).select(['_distance']).with_row_id(True)
    with sql(where, gallery):
        found = (asked.where(f"status = '{OK}' and ({where})") if where else asked).to_arrow()
    score_N, row_N = 1 - found['_distance'].to_numpy(), found['_rowid'].to_numpy().astype(np.int64)
    # LanceDB names the query of a row only where there are several
    query_N = found['query_index'].to_numpy() if len(query_QE) > 1 else np.zeros(len(row_N), np.int64)
    order = np.lexsort((row_N, -score_N, query_N))
    score_N, row_N, query_N = score_N[order], row_N[order], query_N[order]
    place_N = np.arange(len(row_N)) - np.searchsorted(query_N, query_N)
    score_QK = np.full((len(query_QE), top), -np.inf, np.float32)
    row_QK = np.full((len(query_QE), top), -1, np.int64)
    score_QK[query_N, place_N], row_QK[query_N, place_N] = score_N, row_N
    return score_QK, row_QK
