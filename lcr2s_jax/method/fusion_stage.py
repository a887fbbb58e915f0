"""A stage only for `compare`: train the fusion on finished encoders (ours)."""

import dataclasses

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.method import losses, parts, targets
from lcr2s_jax.method.stages import Stage


def fusion_stage(
    teacher: Stage,
    encoder_params,
    cache: Embeddings,
    *,
    align: str,
    scale: float,
    support_views: int,
    wrong_supports: float = 0.0,
) -> Stage:
    """A teacher made of encoders that are trained already: only the fusion learns, from their features (ours).

    Any sampler serves: K - 1 supports of every row are drawn anew from all of the split, and no tower runs.

    Args:
      teacher: of `teacher_stage`, whose fusion is trained.
      encoder_params: {'clip': ...} of a trained dual encoder; part of the result, never changed.
      cache: its features of the training split.
      align, scale: as of `baseline_stage`.
      support_views: K, 2 or more.
      wrong_supports: as of `teacher_stage`, drawn from all of the split.
    """

    def init(key):
        return {'fusion': teacher.init(key)['fusion']}

    def loss(params, frozen, batch, key, axis, step=0):
        del step
        given = (frozen | params, batch, None, parts.row_keys(batch, key, axis), wrong_supports)
        v_NE, t_NE = parts.richer_rows(teacher.fusion, 'fusion', support_views, *given)
        pid_N = axis.gather(parts.pid_rows(batch))
        value = losses.ALIGNMENT[align](axis.gather(v_NE), axis.gather(t_NE), pid_N, scale)
        return value, {f'rich_{align}': value}

    frozen = {'image_GE': cache.image_GE, 'text_QE': cache.text_QE, 'clip': encoder_params['clip']}
    frozen['members'] = targets.members(cache.image_pid_G, cache.text_view_Q)
    return dataclasses.replace(teacher, name='fusion', init=init, loss=loss, frozen=frozen)
