"""Retrieval metrics in blocks: R@1, R@5, R@10, mAP and mINP, without ever holding the whole similarity matrix.

A query's k-th best relevant item has rank k + #{irrelevant items that score at least as much}: ties count against the
system. From these ranks alone:  R@n = [rank_1 <= n],  AP = mean_k k / rank_k,  INP = n_rel / rank_last.
"""

import itertools
import numbers
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lcr2s_jax.arrays import unit
from lcr2s_jax.errors import UserError
from lcr2s_jax.threads import refuse_fork

RANKS = (1, 5, 10)
NAMES = tuple(f'R{n}' for n in RANKS) + ('mAP', 'mINP')


def retrieval(
    query_QE: np.ndarray, gallery_GE: np.ndarray, query_pid_Q: np.ndarray, gallery_pid_G: np.ndarray, block: int = 256
) -> dict:
    """Rank the gallery for every query by cosine similarity; protocol of the field, percent.

    Args:
      query_QE, gallery_GE: features, normalised here.
      query_pid_Q, gallery_pid_G: identities; every item of the query's identity is relevant, nothing is removed.
      block: queries compared at a time; memory is block x G.

    Returns:
      R1, R5, R10, mAP, mINP in percent over the queries that have a relevant item; `queries`, their number;
      `excluded`, the number of the others.

    Raises:
      UserError: features that are not finite, whose every comparison is false and would pass for a perfect rank;
        another number of identities than of features, or an identity that is None or NaN; nothing to find.
    """
    try:
        features = [np.asarray(x) for x in (query_QE, gallery_GE)]
        pids = [pid.tolist() if hasattr(pid, 'tolist') else pid for pid in (query_pid_Q, gallery_pid_G)]
        shapes = [np.shape(pid) for pid in pids]
    except ValueError:
        raise UserError('retrieval: found rows of several lengths, expected vectors [n, E] and n identities') from None
    for what, x, shape in zip(('queries', 'pictures'), features, shapes, strict=True):
        if x.ndim != 2 or shape != x.shape[:1] or not x.size:
            raise UserError(
                f'retrieval: found {what} of shape {x.shape} with identities of shape {shape}; expected vectors '
                '[n, E], and an identity for each'
            )
    if features[0].shape[1] != features[1].shape[1] or any(x.dtype.kind in 'OUScMm' for x in features):
        found = ' and '.join(f'{x.dtype} {list(x.shape)}' for x in features)
        raise UserError(f'retrieval: found queries and pictures {found}, expected vectors of as many numbers')
    if not isinstance(block, numbers.Integral) or block < 1:
        raise UserError(f'retrieval: found block {block!r}, expected a whole number, 1 or more')
    return from_scores(cosine(*features), *_numbered(*pids), int(block))


def _numbered(*pids: Sequence) -> list[np.ndarray]:
    """Identities of queries and of the gallery as whole numbers, the same for those that are equal.

    NumPy would round large numbers of two types until they are equal, and take all that are NaN for one person.
    """
    if unknown := [one for some in pids for one in some if one is None or one != one]:
        raise UserError(
            f'retrieval: found {len(unknown):,} identities that are {unknown[0]}, expected a person each; leave out '
            'the rows of which nobody knows who it is'
        )
    number = {pid: place for place, pid in enumerate(dict.fromkeys(itertools.chain(*pids)))}
    query_pid_Q, gallery_pid_G = (np.array([number[pid] for pid in some]) for some in pids)
    if not np.isin(query_pid_Q, gallery_pid_G).any():
        kinds = ' and '.join(type(some[0]).__name__ for some in pids)
        raise UserError(
            f'retrieval: found no identity that queries and pictures share ({kinds}); are both of the same people?'
        )
    return [query_pid_Q, gallery_pid_G]


def cosine(query_QE: np.ndarray, gallery_GE: np.ndarray):
    """The scorer of `retrieval`: a slice of queries -> their cosines with the whole gallery, [q, G]."""
    chex.assert_rank([query_QE, gallery_GE], 2)
    chex.assert_equal_shape_suffix([query_QE, gallery_GE], 1)
    broken = [int((~np.isfinite(x).all(axis=1)).sum()) for x in (query_QE, gallery_GE)]
    if any(broken):
        raise UserError(
            f'found NaN or infinity in the features of {broken[0]} of {len(query_QE)} queries and {broken[1]} of '
            f'{len(gallery_GE)} gallery items, which cannot be ranked; expected finite numbers. Look at the weights '
            "(float16 that overflowed?), and try config.model.dtype='float32'"
        )
    query_QE, gallery_GE, known = unit(query_QE), unit(gallery_GE), {}
    # a product rounds otherwise from column to column: copies would be ranked by chance, where they are a tie
    same_G = np.array([known.setdefault(row.tobytes(), len(known)) for row in gallery_GE])
    _, first = np.unique(same_G, return_index=True)
    distinct_GE, copies = jnp.asarray(gallery_GE[first]), len(first) < len(same_G)

    def score(rows):
        sim_QG = jnp.matmul(jnp.asarray(query_QE[rows]), distinct_GE.T, precision=jax.lax.Precision.HIGHEST)
        return sim_QG[:, same_G] if copies else sim_QG

    return score


def from_scores(score, query_pid_Q: np.ndarray, gallery_pid_G: np.ndarray, block: int = 256) -> dict:
    """The same from any scorer: `score(slice of queries) -> [q, G]`; see `retrieval`."""
    values_Q5 = each(score, query_pid_Q, gallery_pid_G, block)
    known = ~np.isnan(values_Q5[:, 0])
    if not known.any():
        raise ValueError('no query has a relevant item in the gallery: are both of the same split?')
    means = 100 * values_Q5[known].mean(axis=0, dtype=np.float64)
    result = {name: float(mean) for name, mean in zip(NAMES, means, strict=True)}
    return result | {'queries': int(known.sum()), 'excluded': int((~known).sum())}


def each(score, query_pid_Q: np.ndarray, gallery_pid_G: np.ndarray, block: int = 256) -> np.ndarray:
    """float32 [Q, 5], 0..1: the metrics of every single query, in the order of `NAMES`; NaN where none is relevant."""
    refuse_fork()
    order_G, start, count = _relevant(np.asarray(gallery_pid_G), np.asarray(query_pid_Q))
    width, n = max(int(count.max(initial=0)), 1), len(query_pid_Q)
    found = []
    for first in range(0, n, block):
        rows = np.arange(first, min(first + block, n))
        # the last block is filled up with its own first row, so that one program serves all blocks
        padded = np.concatenate([rows, np.full(block - len(rows), rows[0])]) if n > block else rows
        place = start[padded, None] + np.arange(width)
        relevant = order_G[np.minimum(place, len(order_G) - 1)]
        valid = np.arange(width) < count[padded, None]
        found.append(np.asarray(_block_metrics(score(padded), relevant, valid))[: len(rows)])
    return np.where(count[:, None] > 0, np.concatenate(found), np.nan)


def random(query_pid_Q: np.ndarray, gallery_pid_G: np.ndarray) -> dict:
    """R@1, R@5, R@10 in percent that a random ranking expects: 1 - prod (G - n - i) / (G - i), exactly."""
    gallery, n = len(gallery_pid_G), _relevant(gallery_pid_G, query_pid_Q)[2]
    n = n[n > 0].astype(np.float64)
    miss, found = np.ones_like(n), {}
    for i in range(max(RANKS)):
        miss *= np.maximum(gallery - n - i, 0) / max(gallery - i, 1)
        if i + 1 in RANKS:
            found[f'R{i + 1}'] = 100 * float(np.mean(1 - miss))
    return found


@jax.jit
def _block_metrics(sim_QG: jax.Array, relevant_QR: jax.Array, valid_QR: jax.Array) -> jax.Array:
    """[q, 5] metrics of a block; `relevant_QR` holds gallery indices, `valid_QR` which of them count."""
    chex.assert_rank([sim_QG, relevant_QR, valid_QR], 2)
    score_QR = jnp.where(valid_QR, jnp.take_along_axis(sim_QG, relevant_QR, axis=1), -jnp.inf)
    score_QR = -jnp.sort(-score_QR, axis=1)  # best relevant first, padding last
    # all that score at least as much, less the relevant ones among them
    at_least_QR = jax.lax.map(lambda s_Q: jnp.sum(sim_QG >= s_Q[:, None], axis=1), score_QR.T).T
    relevant_at_least_QR = jnp.sum(score_QR[:, None, :] >= score_QR[:, :, None], axis=2)
    k_R = jnp.arange(1, relevant_QR.shape[1] + 1)
    rank_QR = k_R + at_least_QR - relevant_at_least_QR
    count_Q = valid_QR.sum(axis=1)
    inside_QR = k_R <= count_Q[:, None]
    precision_QR = jnp.where(inside_QR, k_R / rank_QR, 0.0)
    average_Q = precision_QR.sum(axis=1) / jnp.maximum(count_Q, 1)
    last_Q = jnp.max(jnp.where(inside_QR, rank_QR, 1), axis=1)
    hits = [(rank_QR[:, 0] <= n).astype(jnp.float32) for n in RANKS]
    return jnp.stack([*hits, average_Q, count_Q / last_Q], axis=1)


def _relevant(gallery_pid_G, query_pid_Q):
    """The gallery ordered by identity, and where each query's relevant items start there, and how many."""
    order_G = np.argsort(gallery_pid_G, kind='stable')
    ordered = np.asarray(gallery_pid_G)[order_G]
    start = np.searchsorted(ordered, query_pid_Q, 'left')
    return order_G, start, np.searchsorted(ordered, query_pid_Q, 'right') - start
