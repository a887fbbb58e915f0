"""A gallery's own neighbours as supports: richer gallery features without labels, computed once, at no cost a query.

    g+ = normalise(g + sum_r g_r / r), g_r its r-th nearest, r = 1 .. k       (ours)
                                            or MHAF over them, see `lcr2s_jax.evaluation.gallery_fusion`

Which pictures are near may be asked of another encoder, which was trained to tell people by pictures alone.

Beside it what costs every query a pass over the gallery: k-reciprocal re-ranking, and visual neighbours as in NAFS.
"""

import numpy as np

from lcr2s_jax.arrays import unit
from lcr2s_jax.search.topk import Exact

_BLOCK = 1024  # rows compared, or averaged, at a time: memory is so many times k x E, whatever the gallery's size
NEIGHBOURS = {'neighbours': 8, 'fusion': 2}  # by default; chosen on the testbed's val: docs/evidence.md


def nearest(x_GE: np.ndarray, k: int, tell=lambda count: None) -> np.ndarray:
    """int64 [G, k]: the k most similar *other* rows by cosine, the nearest first; -1 where there are no more.

    `tell` is called with the number of rows that are done, block by block.
    """
    x_GE = unit(x_GE)
    found_Gk = np.full((len(x_GE), k), -1, np.int64)
    exact = Exact(x_GE)
    for start in range(0, len(x_GE), _BLOCK):
        query_bE = x_GE[start : start + _BLOCK]
        _, row_bK = exact(query_bE, min(k + 1, len(x_GE)))
        own_bK = row_bK == np.arange(start, start + len(query_bE))[:, None]
        own_bK[~own_bK.any(axis=1), -1] = True  # so many are equal to it that it is not among them
        others = row_bK[~own_bK].reshape(len(query_bE), -1)
        found_Gk[start : start + len(others), : others.shape[1]] = others
        tell(len(query_bE))
    return found_Gk


def enriched(x_GE: np.ndarray, near_Gk: np.ndarray) -> np.ndarray:
    """Each gallery vector averaged with its `nearest`, the r-th of which weighs 1 / r: unit float32 [G, E].

    Weights by rank need no scale: cosines of one model lie between 0 and 0.5, those of another between 0.7 and 0.9.
    """
    x_GE, weight_k1 = unit(x_GE), 1 / np.arange(1, near_Gk.shape[1] + 1, dtype=np.float32)[:, None]
    rich_GE = np.empty_like(x_GE)
    for start in range(0, len(x_GE), _BLOCK):
        rows = slice(start, start + _BLOCK)
        there_bk1 = (near_Gk[rows] >= 0)[:, :, None]
        rich_GE[rows] = unit(x_GE[rows] + np.where(there_bk1, weight_k1 * x_GE[near_Gk[rows]], 0).sum(axis=1))
    return rich_GE


def right_neighbours(near_Gk: np.ndarray, pid_G: np.ndarray) -> float:
    """Share of the nearest neighbours that show the same person, 0..1; 0 where nobody has a neighbour."""
    first_G = near_Gk[:, 0]
    right = pid_G[first_G[first_G >= 0]] == pid_G[first_G >= 0]
    return float(right.mean()) if len(right) else 0.0


def reciprocal_scores(
    query_QE: np.ndarray, gallery_GE: np.ndarray, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> np.ndarray:
    """Scores [Q, G] of k-reciprocal re-ranking, larger is better; it costs G numbers a query and the whole gallery.

    Jaccard distance of k-reciprocal neighbourhoods over the gallery (k1 neighbours, averaged over k2), mixed with the
    cosine distance, which weighs `weight`.  [field: image re-identification.] A query of another modality has no
    reciprocal neighbours: it takes those of its best match.
    """
    query_QE, gallery_GE = unit(query_QE), unit(gallery_GE)
    near = _with_itself(gallery_GE, k1)
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


def visual_scores(query_QE: np.ndarray, gallery_GE: np.ndarray, k: int = 10, weight: float = 0.5) -> np.ndarray:
    """Scores [Q, G] of re-ranking by visual neighbours, larger is better, as in NAFS (Gao et al., 2021).

    Jaccard overlap, weighing `weight`, of the k best images of the query with the k nearest images of each image,
    itself among them, mixed with the cosine. The paper's idea; k and the mixture are ours.
    """
    query_QE, gallery_GE = unit(query_QE), unit(gallery_GE)
    near_Gk = _with_itself(gallery_GE, k - 1)
    k = near_Gk.shape[1]
    sim_QG = query_QE @ gallery_GE.T
    score_QG = np.empty_like(sim_QG)
    for row, sim_G in enumerate(sim_QG):
        best_G = np.zeros(len(gallery_GE), bool)
        best_G[np.argpartition(-sim_G, k - 1)[:k]] = True
        shared_G = best_G[near_Gk].sum(axis=1)
        score_QG[row] = weight * shared_G / (2 * k - shared_G) + (1 - weight) * sim_G
    return score_QG


def _with_itself(x_GE: np.ndarray, k: int) -> np.ndarray:
    """[G, 1 + k]: each row and its nearest, fewer where G is small."""
    k = min(k, len(x_GE) - 1)
    own = np.arange(len(x_GE))[:, None]
    return np.concatenate([own, nearest(x_GE, k)], axis=1) if k else own
