"""Shared parts of the stages: encode every row once, in chunks to save memory, and the losses from labels."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lcr2s_jax.arrays import Batch, merge_rows, split_rows
from lcr2s_jax.errors import ConfigError, meant
from lcr2s_jax.method import losses, targets
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.method.fusion import Fusion, drop_supports, exchanged, support_mask
from lcr2s_jax.method.heads import IdentityHead
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.training.parallel import Axis


def encode_rows(clip: CLIP, params, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """v_NE, t_NE of this device's rows; every image and every caption is encoded once."""
    encoder = DualEncoder(clip)

    def both(rows):
        return encoder.embed_image(params, rows[0]), encoder.embed_text(params, rows[1])

    return in_chunks(both, (merge_rows(batch.image_BKhwc), merge_rows(batch.tokens_BKL)), clip.chunks)


def in_chunks(encode: Callable, rows, chunks: int):
    """`encode(rows)` with the memory of rows / chunks: features are kept, all else is computed again for the gradient.

    The loss above sees the features of all rows at once, so that a large contrastive batch stays exact, as in GradCache
    (Gao et al., 2021, arXiv 2101.06983); time grows by about a third.

    Args:
      encode: tree of [n, ...] -> tree of [n, E], each row by itself.
      rows: tree of [N, ...].
      chunks: a divisor of N; 1 is the plain call.
    """
    if chunks == 1:
        return encode(rows)
    count = jax.tree.leaves(rows)[0].shape[0]
    if count % chunks:
        raise ConfigError(f'config.model.chunks: found {chunks}, expected a divisor of the {count} rows')
    # Every chunk takes rows from all over the batch, so that each device has its share of each chunk.
    parts = jax.tree.map(lambda x: x.reshape(count // chunks, chunks, *x.shape[1:]).swapaxes(0, 1), rows)
    found = jax.lax.map(jax.checkpoint(encode), parts)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(count, *x.shape[2:]), found)


def pid_rows(batch: Batch) -> jax.Array:
    """pid_N of this device's rows."""
    return jnp.repeat(batch.pid_B, batch.view_BK.shape[1])


def global_rows(clip: CLIP, params, batch: Batch, axis: Axis):
    """v_NE, t_NE, pid_N of the global batch."""
    v_NE, t_NE = encode_rows(clip, params, batch)
    return axis.gather(v_NE), axis.gather(t_NE), axis.gather(pid_rows(batch))


def start_from(clip: CLIP, clip_params, num_people: int, identity_weight: float) -> Callable:
    """key -> the encoders' parameters, with a fresh classifier where it has a weight."""

    def init(key):
        params = {'clip': clip_params}
        if identity_weight:
            params['head'] = IdentityHead(num_people).init(key, jnp.zeros((1, clip.embed_dim)))['params']
        return params

    return init


def label_loss(num_people: int, align: str, identity_weight: float, scale: float) -> Callable:
    """align(v, t) + w_id ID(v, t), what every stage learns from labels; also returns its terms."""
    if align not in losses.ALIGNMENT:
        near = meant(align, losses.ALIGNMENT)
        raise ConfigError(f"config.<stage>.align: found '{align}', expected one of {', '.join(losses.ALIGNMENT)}{near}")
    head = IdentityHead(num_people)

    def base(params, v_NE, t_NE, pid_N):
        terms = {align: losses.ALIGNMENT[align](v_NE, t_NE, pid_N, scale)}
        if not identity_weight:
            return terms[align], terms
        logits = (head.apply({'params': params['head']}, x_NE) for x_NE in (v_NE, t_NE))
        terms['identity'] = losses.identity(*logits, pid_N)
        return terms[align] + identity_weight * terms['identity'], terms

    return base


def row_keys(batch: Batch, key: jax.Array, axis: Axis) -> jax.Array:
    """A random key for each of this device's rows, whatever the number of devices."""
    keys_B = jax.vmap(lambda slot: jax.random.fold_in(key, slot))(axis.slots(batch.view_BK.shape[0]))
    return merge_rows(jax.vmap(lambda key: jax.random.split(key, batch.view_BK.shape[1]))(keys_B))


def single_views(clip: CLIP, frozen, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """The teacher's features of this device's rows, image and text, [n, E] each: encoded now, or from its cache."""
    if 'clip' in frozen:
        return encode_rows(clip, frozen, batch)
    return frozen['image_GE'][merge_rows(batch.view_BK)], frozen['text_QE'][merge_rows(batch.caption_BK)]


def support_masks(batch: Batch, key: jax.Array, axis: Axis, dropout: float, same_image_texts: bool) -> list[jax.Array]:
    """Who may support whom among this device's images and texts, [B, K, K] each; see `stages.teacher_stage`."""
    masks = [support_mask(batch.view_BK), support_mask(batch.caption_BK if same_image_texts else batch.view_BK)]
    if not dropout:
        return masks
    keys_B = jax.vmap(lambda slot: jax.random.fold_in(key, slot))(axis.slots(batch.view_BK.shape[0]))
    return [drop_supports(mask_BKK, keys_B, dropout) for mask_BKK in masks]


def fused(
    fusion: Fusion, params, modality: str, x_NE, mask_BKK, batch: Batch, key: jax.Array, axis: Axis, wrong: float
) -> jax.Array:
    """Enriched features of this device's rows [n, E], with supports of the batch.

    With a share `wrong` of them replaced by views of the next identity of the global batch, the same ones of images and
    texts. The sets are twice as long then, own views first, and a place is open in one of the halves.
    """
    views = batch.view_BK.shape[1]
    x_BKE = split_rows(x_NE, views)
    if not wrong:
        return merge_rows(fusion.enrich(params, modality, x_BKE, batch.view_BK, mask_BKK))
    slots_B = axis.slots(len(x_BKE))
    all_BKE = split_rows(axis.gather(x_NE), views)
    both_BJE = jnp.concatenate([x_BKE, all_BKE[(slots_B + 1) % len(all_BKE)]], axis=1)
    keys_B = jax.vmap(lambda slot: jax.random.fold_in(jax.random.fold_in(key, slot), 1))(slots_B)
    return merge_rows(fusion.enrich(params, modality, both_BJE, None, exchanged(mask_BKK, keys_B, wrong))[:, :views])


def richer_rows(
    fusion: Fusion, kind: str, drawn: int, frozen, batch: Batch, own, keys_N, wrong: float = 0.0
) -> list[jax.Array]:
    """Enriched features of the same rows, [n, E] each: supports of the batch or, with `drawn` views, of the split.

    A share `wrong` of the latter is of other identities.
    """
    enrich = functools.partial(fusion.enrich, frozen) if kind == 'fusion' else None
    views = batch.view_BK.shape[1]
    if not drawn:
        return [
            merge_rows(targets.richer(kind, enrich, modality, split_rows(x_NE, views), batch.view_BK))
            for modality, x_NE in zip(('image', 'text'), own, strict=True)
        ]
    rows = (merge_rows(batch.view_BK), merge_rows(batch.caption_BK), pid_rows(batch))
    sets = targets.draw(frozen['members'], *rows, keys_N, drawn, wrong)
    return [
        targets.richer(kind, enrich, modality, frozen[cached][sets[modality][0]], sets[modality][1])[:, 0]
        for modality, cached in (('image', 'image_GE'), ('text', 'text_QE'))
    ]


def check_student(relation, target, support_views, cache_teacher, gate, fade, fade_steps) -> None:
    """Raise ConfigError for options of a student that it has not, or that need others."""
    choices = (
        ('relation', relation, ('cosine', 'kl')),
        ('target', target, targets.KINDS),
        ('fade', fade, targets.FADES),
    )
    for name, found, known in choices:
        if found not in known:
            named = ', '.join(repr(one) for one in known)
            raise ConfigError(f"config.student.{name}: found '{found}', expected one of {named}{meant(found, known)}")
    if support_views and not cache_teacher:
        raise ConfigError(
            f'config.student.support_views: found {support_views} with cache_teacher=False, expected 0 there: only '
            'cached features can be drawn from all of the split'
        )
    if gate < 0:
        raise ConfigError(f'config.student.gate: found {gate}, expected 0 (none) or a power above')
    if fade and fade_steps < 1:
        raise ConfigError(
            f"config.student.fade_steps: found {fade_steps} with fade='{fade}', expected 1 or more, such as "
            'config.train.steps'
        )


def check_teacher(can_fuse: bool, embed_dim: int, cache, feature_weight) -> None:
    """Raise ConfigError for targets that the teacher has not: enriched ones, or features of another width."""
    if not can_fuse:
        raise ConfigError(
            "config.student.target: found 'fusion' of a teacher without one, expected one that fuses; its own view is "
            "config.student.target_share=0, plain means are target='mean' and 'others'"
        )
    width = cache.image_GE.shape[1] if cache else embed_dim
    if width != embed_dim and not isinstance(feature_weight, jax.Array) and feature_weight:
        raise ConfigError(
            f'config.student.feature_weight: found {feature_weight} with {width} numbers a feature of the teacher and '
            f'{embed_dim} of the student, expected 0: only relations can be compared'
        )
