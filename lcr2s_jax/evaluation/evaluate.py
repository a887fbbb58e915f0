"""Embed a split once, then compare: what every table and every picture of results is made from."""

import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np

from lcr2s_jax.arrays import Embeddings, in_blocks
from lcr2s_jax.evaluation import metrics, neighbours
from lcr2s_jax.training.parallel import Parallel, replicated

_RE_RANKINGS = {
    'k-reciprocal re-ranking': neighbours.reciprocal_scores,
    'visual neighbours (NAFS)': neighbours.visual_scores,
}
_RE_RANKED = 10_000  # images: re-ranking holds their square


class Embedder:
    """An encoder's two towers, compiled once for any parameters; the devices of `parallel` share the rows."""

    def __init__(self, encoder, parallel: Parallel):
        self._parallel = parallel
        self._image = parallel.compile_forward(encoder.embed_image)
        self._text = parallel.compile_forward(encoder.embed_text)

    def __call__(self, params, split, gallery: Iterable, queries: Iterable) -> Embeddings:
        """Every image and caption of `split`, on every host.

        `gallery` and `queries` are this host's rows of batches in order, all of one size, the last one filled up.
        """
        if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params)):
            params = self._parallel.put_state(params)  # once, and not with every batch
        return Embeddings(
            image_GE=self._rows(self._image, params, gallery)[: len(split.image_pid)],
            text_QE=self._rows(self._text, params, queries)[: len(split.caption_pid)],
            image_pid_G=split.image_pid,
            text_pid_Q=split.caption_pid,
            image_view_G=np.arange(len(split.image_pid), dtype=np.int32),
            text_view_Q=split.caption_image,
        )

    def _rows(self, forward, params, batches: Iterable[np.ndarray]) -> np.ndarray:
        # all are sent before the first is fetched: the next batch is decoded meanwhile
        found = [forward(params, self._parallel.put(batch)) for batch in batches]
        return np.concatenate([np.asarray(rows) for rows in found])


def retrieval_metrics(e: Embeddings) -> dict:
    """{'t2i': metrics, 'i2t': metrics}: captions searching images, and images searching captions."""
    return {
        't2i': metrics.retrieval(e.text_QE, e.image_GE, e.text_pid_Q, e.image_pid_G),
        'i2t': metrics.retrieval(e.image_GE, e.text_QE, e.image_pid_G, e.text_pid_Q),
    }


def gallery_side(e: Embeddings, count: int, fusion: Callable | None = None, near_GE: np.ndarray | None = None) -> dict:
    """What a gallery's own neighbours add, without labels; to be reported apart from `retrieval_metrics`.

    Args:
      count: nearest others of each image.
      fusion: of a run's teacher, a `GalleryFusion`; None without.
      near_GE: vectors of the same images by which the nearest are found, of another encoder; None for their own.

    Returns:
      'first neighbours': percent of them that show the same person. Name of each way -> {'t2i': metrics, 'i2t':
      metrics}; re-rankings have no i2t, cost every query a pass over the gallery, and are left out above 10,000 images.
    """
    image_GE = neighbours.unit(e.image_GE)
    near_Gk = neighbours.nearest(image_GE if near_GE is None else near_GE, count)
    found: dict = {'first neighbours': 100 * neighbours.right_neighbours(near_Gk, np.asarray(e.image_pid_G))}
    combined = {f'averaged with {count} nearest': neighbours.enriched} | (
        {f'MHAF with {count} nearest': fusion} if fusion else {}
    )
    for name, combine in combined.items():
        found[name] = retrieval_metrics(e._replace(image_GE=combine(image_GE, near_Gk)))
    for name, rank in _RE_RANKINGS.items() if len(image_GE) <= _RE_RANKED else ():
        score_QG = rank(e.text_QE, image_GE)
        pids = e.text_pid_Q, e.image_pid_G
        found[name] = {'t2i': metrics.from_scores(lambda rows, score_QG=score_QG: score_QG[rows], *pids)}
    return found


def with_supports(fusion, params, e: Embeddings, views: int, seed: int = 0) -> Embeddings:
    """The teacher's enriched features, each fused with `views` - 1 others of its identity: an oracle.

    It needs the identity labels of the split, which no search has. Supports are drawn by `seed`, without the item's
    own image; items with fewer others use those there are.
    """
    enrich = _compiled(fusion, replicated(params))

    def rich(modality, x_NE, pid_N, view_N):
        index_NK = support_index(pid_N, view_N, views, seed)
        return in_blocks(
            lambda i_bK: enrich(params, modality, x_NE[i_bK], view_N[i_bK])[:, 0], index_NK, min(len(index_NK), 1024)
        )

    return e._replace(
        image_GE=rich('image', e.image_GE, e.image_pid_G, e.image_view_G),
        text_QE=rich('text', e.text_QE, e.text_pid_Q, e.text_view_Q),
    )


@functools.cache
def _compiled(fusion, placement):
    return jax.jit(fusion.enrich, static_argnums=1, out_shardings=placement)


def support_index(pid_N: np.ndarray, view_N: np.ndarray, views: int, seed: int) -> np.ndarray:
    """[N, views]: the item itself, then other items of its identity that show other images, one an image.

    Places that cannot be filled repeat the item itself, which the support mask hides.
    """
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(pid_N))[:, None], views, axis=1)
    members = np.split(np.argsort(pid_N, kind='stable'), np.flatnonzero(np.diff(np.sort(pid_N))) + 1)
    for group in members:
        for item in group:
            others = rng.permutation(group[view_N[group] != view_N[item]])
            _, first = np.unique(view_N[others], return_index=True)
            chosen = others[np.sort(first)][: views - 1]
            index[item, 1 : 1 + len(chosen)] = chosen
    return index
