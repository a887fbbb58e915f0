"""A gallery's own neighbours as supports: richer gallery features without labels, computed once, at no cost a query.

g+ = normalise(g + sum of its k nearest); k-reciprocal re-ranking (Zhong et al., CVPR 2017) for comparison. NumPy only.
"""

import numpy as np

_BLOCK = 2048  # rows compared at a time


def unit(x_GE: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32."""
    x_GE = np.asarray(x_GE, np.float32)
    return x_GE / np.maximum(np.linalg.norm(x_GE, axis=1, keepdims=True), 1e-12)


def nearest(x_GE: np.ndarray, k: int) -> np.ndarray:
    """int64 [G, k]: the k most similar *other* rows by cosine, the nearest first; fewer where G is small."""
    x_GE, found = unit(x_GE), []
    k = min(k, len(x_GE) - 1)
    for start in range(0, len(x_GE), _BLOCK):
        sim_bG = x_GE[start : start + _BLOCK] @ x_GE.T
        rows = np.arange(len(sim_bG))
        sim_bG[rows, start + rows] = -np.inf
        best = np.argpartition(-sim_bG, max(k - 1, 0), axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(sim_bG, best, axis=1), axis=1, kind='stable')
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def enriched(x_GE: np.ndarray, near_Gk: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Each gallery vector averaged with its neighbours: unit float32 [G, E].

    Args:
      x_GE: gallery features.
      near_Gk: of `nearest`; no column leaves the vectors as they are.
      weight: of each neighbour beside the vector itself.
    """
    x_GE = unit(x_GE)
    return unit(x_GE + weight * x_GE[near_Gk].sum(axis=1))


def reciprocal_scores(
    query_QE: np.ndarray, gallery_GE: np.ndarray, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> np.ndarray:
    """Scores [Q, G] of k-reciprocal re-ranking, larger is better; it costs G numbers a query and the whole gallery.

    Jaccard distance of k-reciprocal neighbourhoods over the gallery, mixed with the cosine distance.  [field: image
    re-identification.] A query of another modality has no reciprocal neighbours: it takes those of its best match.

    Args:
      query_QE, gallery_GE: features.
      k1, k2: neighbours of the sets, and of the averaging of sets.
      weight: of the cosine distance, 0..1.
    """
    query_QE, gallery_GE = unit(query_QE), unit(gallery_GE)
    near = np.concatenate([np.arange(len(gallery_GE))[:, None], nearest(gallery_GE, k1)], axis=1)
    member_GG = np.zeros((len(near), len(near)), bool)
    np.put_along_axis(member_GG, near, True, axis=1)
    mutual_GG = member_GG & member_GG.T
    set_GG = np.where(mutual_GG, np.exp(gallery_GE @ gallery_GE.T - 1), 0).astype(np.float32)
    set_GG /= set_GG.sum(axis=1, keepdims=True)
    set_GG = np.stack([set_GG[row[:k2]].mean(axis=0) for row in near])
    sim_QG = query_QE @ gallery_GE.T
    jaccard = np.empty_like(sim_QG)
    for row, sim_G in enumerate(sim_QG):
        best = np.argsort(-sim_G)[:k2]
        own_G = set_GG[best].mean(axis=0)
        smaller_G = np.minimum(own_G, set_GG).sum(axis=1)
        jaccard[row] = smaller_G / (2 - smaller_G)
    return (1 - weight) * jaccard + weight * sim_QG
