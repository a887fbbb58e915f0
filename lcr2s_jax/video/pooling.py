"""The pictures of one track become one vector, which a sentence is compared with.

    mean       normalised mean of the student's unit vectors
    teacher    v+_i = MHAF(v_i, K - 1 others of the track); normalised mean of the normalised v+_i

Both are ours. The student's sentences were taught to lie where the teacher's enriched features do (the paper's
distillation), so that these may be compared at all; benchmarks/tracks.py measures which finds more.
"""

from collections.abc import Callable

import chex
import jax
import numpy as np

from lcr2s_jax.arrays import in_blocks, unit
from lcr2s_jax.evaluation import evaluate
from lcr2s_jax.training.parallel import fingerprint
from lcr2s_jax.training.run import Run

_BATCH = 64  # pictures embedded at once


class Mean:
    """The student's pictures, averaged."""

    name = 'mean'

    def __init__(self, model):
        self._embed = model.embed_image

    def __call__(self, image_Nhwc: np.ndarray, track_N: np.ndarray) -> np.ndarray:
        """Pixels uint8 and whose picture it is -> unit float32 [P, E], one row a track, in the order of its number."""
        return mean(in_blocks(self._embed, image_Nhwc, _BATCH), track_N)


class Teacher:
    """The teacher's pictures, each fused with others of its track, then averaged; it was trained with K `views`."""

    def __init__(self, encoder, fusion, params, views: int, hash: str):
        self.name = f'teacher {hash[:12]}'
        self._views = views
        forward = jax.jit(encoder.embed_image)
        enrich = jax.jit(fusion.enrich, static_argnums=1)
        self._embed = lambda image_nhwc: forward(params, image_nhwc)
        self._enrich = lambda v_BKE, view_BK: enrich(params, 'image', v_BKE, view_BK)

    def __call__(self, image_Nhwc: np.ndarray, track_N: np.ndarray) -> np.ndarray:
        """As of `Mean`."""
        vector_NE = in_blocks(self._embed, image_Nhwc, _BATCH)
        return mean(enriched(self._enrich, vector_NE, track_N, self._views), track_N)


def of_run(run: Run) -> Teacher:
    params = {name: run.params[name] for name in ('clip', 'fusion')}
    return Teacher(run.encoder, run.fusion, params, run.views, fingerprint(params))


def mean(vector_NE: np.ndarray, track_N: np.ndarray) -> np.ndarray:
    """One unit vector float32 [P, E] a track, in the order of its number; of any vectors but zero."""
    chex.assert_rank([vector_NE, track_N], [2, 1])
    unit_NE = unit(vector_NE)
    order = np.argsort(track_N, kind='stable')
    _, start = np.unique(track_N[order], return_index=True)
    return unit(np.add.reduceat(unit_NE[order], start, axis=0))


def enriched(enrich: Callable, vector_NE: np.ndarray, track_N: np.ndarray, views: int) -> np.ndarray:
    """Every picture fused with others of its track, track_N, float32 [N, E], not normalised.

    `enrich` is the teacher's for images, (v_BKE, view_BK) -> rich_BKE, and vector_NE what its encoder makes of single
    pictures. The others of K `views` are drawn, always the same; a shorter track fuses what it has.
    """
    chex.assert_rank([vector_NE, track_N], [2, 1])
    index_NK = evaluate.support_index(track_N, np.arange(len(track_N)), views, seed=0)
    return in_blocks(lambda i_bK: enrich(vector_NE[i_bK], i_bK)[:, 0], index_NK, _BATCH)
