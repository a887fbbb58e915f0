"""Beyond a set size: LanceDB's inverted lists of product-quantised vectors, and exact scores for what they bring."""

import numpy as np

from lcr2s_jax.retrieval.gallery import OK, Gallery, sql

FROM = 1_000_000  # pictures: below, comparing every vector is as quick as one wants
_LIST = 4096  # vectors of an inverted list, about
_PROBES, _REFINE = 20, 10  # lists looked into; candidates with exact scores, times k


def build(gallery: Gallery) -> None:
    """Make the approximate index, or make it anew."""
    count = gallery.count()
    gallery.table.create_index(
        metric='dot',
        vector_column_name='vector',
        index_type='IVF_PQ',
        num_partitions=max(1, count // _LIST),
        num_sub_vectors=max(1, gallery.width // 8),
        replace=True,
    )


def nearest(
    gallery: Gallery, query_QE: np.ndarray, top: int, where: str = '', probes: int = _PROBES, refine: int = _REFINE
) -> tuple[np.ndarray, np.ndarray]:
    """score_QK float32, falling, and row_QK int64, as `topk.Exact` gives them: -inf and -1 where there is nothing.

    The scores are exact; what may be wrong is that a better picture was not looked at.
    """
    score_QK = np.full((len(query_QE), top), -np.inf, np.float32)
    row_QK = np.full((len(query_QE), top), -1, np.int64)
    for place, query_E in enumerate(query_QE):
        asked = gallery.table.search(query_E, vector_column_name='vector').distance_type('dot').limit(top)
        asked = asked.nprobes(probes).refine_factor(refine).select(['_distance']).with_row_id(True)
        with sql(where, gallery):
            found = (asked.where(f"status = '{OK}' and ({where})") if where else asked).to_arrow()
        score_K, row_K = 1 - found['_distance'].to_numpy(), found['_rowid'].to_numpy()
        order = np.lexsort((row_K, -score_K))
        score_QK[place, : len(order)], row_QK[place, : len(order)] = score_K[order], row_K[order]
    return score_QK, row_QK
