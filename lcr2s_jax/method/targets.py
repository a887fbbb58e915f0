"""Distillation targets: the teacher's single-view features, enriched features, or a mixture.

target = own + share max(cos(own, rich), 0)^gate (rich - own) of unit vectors. `own` is the single view. `rich` is MHAF
over the supports, their plain mean, or the mean without the view itself. Supports come from the batch (paper) or are
drawn from the whole split for any sampler (ours). The features of several teachers are combined before training (ours).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lcr2s_jax.arrays import Embeddings, unit
from lcr2s_jax.method.fusion import support_mask
from lcr2s_jax.method.losses import normalise

KINDS = ('fusion', 'mean', 'others')
FADES = ('', 'out', 'in')


class Members(NamedTuple):
    """Who could support whom; rows are filled up with -1."""

    images_CM: Any  # int32 places of the images of every identity
    captions_GJ: Any  # int32 places of the captions of every image


def members(image_pid_G: np.ndarray, caption_image_Q: np.ndarray) -> Members:
    return Members(_grouped(image_pid_G), _grouped(caption_image_Q, len(image_pid_G)))


def _grouped(group_N: np.ndarray, groups: int = 0) -> np.ndarray:
    """int32 [groups, largest]: the places of each group's members, filled up with -1."""
    counts = np.bincount(group_N, minlength=groups)
    order = np.argsort(group_N, kind='stable')
    table = np.full((len(counts), max(int(counts.max(initial=0)), 1)), -1, np.int32)
    table[np.arange(table.shape[1]) < counts[:, None]] = order
    return table


def draw(
    tables: Members,
    view_N: jax.Array,
    caption_N: jax.Array,
    pid_N: jax.Array,
    keys_N: jax.Array,
    views: int,
    wrong: float = 0.0,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Support sets drawn at random from the split, without the row's own image, images and texts apart.

    Args:
      tables: of the split.
      view_N, caption_N, pid_N: image, caption and identity of each row.
      keys_N: a random key a row.
      views: K, the row itself among them.
      wrong: share of the others that is exchanged for images, and their captions, of any other identity.

    Returns:
      modality -> (item_NK, view_NK): places of images or captions, the row's own first, and the image that each shows.
      Where an identity has fewer others the row's own stands in, which `support_mask` hides.
    """

    tables = Members(*map(jnp.asarray, tables))  # the tables of `members` are NumPy's, and are read by traced places

    def one(view, caption, pid, key):
        image_key, text_key, caption_key = jax.random.split(key, 3)
        images = _others(tables.images_CM[pid], view, image_key, views)
        shown = _others(tables.images_CM[pid], view, text_key, views)
        if wrong:
            images = _exchanged(tables.images_CM, images, view, pid, image_key, wrong)
            shown = _exchanged(tables.images_CM, shown, view, pid, text_key, wrong)
        texts = jax.vmap(_any)(tables.captions_GJ[shown], jax.random.split(caption_key, views))
        return images, jnp.where(shown == view, caption, texts), shown

    images_NK, texts_NK, shown_NK = jax.vmap(one)(view_N, caption_N, pid_N, keys_N)
    return {'image': (images_NK, images_NK), 'text': (texts_NK, shown_NK)}


def _others(places_M: jax.Array, own: jax.Array, key: jax.Array, views: int) -> jax.Array:
    """[views]: `own`, then others at random; `own` again where there are none left."""
    usable_M = (places_M >= 0) & (places_M != own)
    score_M = jnp.where(usable_M, jax.random.uniform(key, places_M.shape), -1.0)
    best, chosen = jax.lax.top_k(score_M, min(views - 1, len(places_M)))
    found = jnp.where(best >= 0, places_M[chosen], own)
    return jnp.concatenate([own[None], found, jnp.broadcast_to(own, (views - 1 - len(found),))]).astype(jnp.int32)


def _exchanged(images_CM, item_K, own, pid, key: jax.Array, rate: float) -> jax.Array:
    """Some supports, not the row itself nor what stands in for one, exchanged for images of other identities."""
    chosen_key, person_key, image_key = jax.random.split(jax.random.fold_in(key, 1), 3)
    people = len(images_CM)
    step_K = 1 + jax.random.randint(person_key, item_K.shape, 0, max(people - 1, 1))
    strange_K = jax.vmap(_any)(images_CM[(pid + step_K) % people], jax.random.split(image_key, len(item_K)))
    out_K = jax.random.bernoulli(chosen_key, rate, item_K.shape) & (item_K != own)
    return jnp.where(out_K, strange_K, item_K)


def _any(places_J: jax.Array, key: jax.Array) -> jax.Array:
    """One of the places that are not filled up."""
    return places_J[jnp.argmax(jnp.where(places_J >= 0, jax.random.uniform(key, places_J.shape), -1.0))]


def richer(kind: str, enrich: Callable | None, modality: str, x_BKE: jax.Array, view_BK: jax.Array) -> jax.Array:
    """rich_BKE of every view among K.

    Args:
      kind: 'fusion' (MHAF, paper), 'mean' of the view and its supports (ID-MEAN), or 'others': the supports alone
        (ID-LOO; the view itself where it has none).
      enrich: (modality, x_BKE, view_BK) -> rich_BKE, the teacher's fusion.
      modality: 'image' or 'text'.
      x_BKE, view_BK: the teacher's single views, and the images that they show.
    """
    chex.assert_equal_shape_prefix([x_BKE, view_BK], 2)
    if kind == 'fusion':
        return enrich(modality, x_BKE, view_BK)
    mask_BKK = support_mask(view_BK)
    if kind == 'others':
        eye_KK = jnp.eye(view_BK.shape[1], dtype=bool)
        others_BKK = mask_BKK & ~eye_KK
        mask_BKK = jnp.where(others_BKK.any(axis=2, keepdims=True), others_BKK, eye_KK)
    weight_BKK = mask_BKK / mask_BKK.sum(axis=2, keepdims=True)
    return jnp.einsum('BKJ,BJE->BKE', weight_BKK, normalise(x_BKE))


def mixed(own: jax.Array, rich: jax.Array, share: float, gate: float = 0.0) -> jax.Array:
    """own + share (rich - own) of unit vectors; 1 is `rich` as it is, 0 `own` as it is (SELF).

    A gate above 0 multiplies the share, row by row, by max(cos(own, rich), 0) ** gate: the less a richer view agrees
    with what the view itself shows, the less of it is told, and none at a right angle.
    """
    if share == 0.0 or (share == 1.0 and not gate):
        return rich if share else own
    own, rich = normalise(own), normalise(rich)
    if gate:
        share = share * jnp.maximum(jnp.sum(own * rich, axis=-1, keepdims=True), 0.0) ** gate
    return own + share * (rich - own)


def faded(fade: str, steps: int, step: jax.Array) -> jax.Array:
    """Factor of both distillation weights: 1 in the first of `steps` to 0 in the last ('out'), or 0 to 1 ('in')."""
    done = jnp.clip(step / max(steps - 1, 1), 0.0, 1.0)
    return 1.0 - done if fade == 'out' else done


def mean_relation(caches: Sequence[Embeddings]) -> Embeddings:
    """Features whose cosines are the mean of those of several teachers: their unit vectors beside one another."""
    joined = [
        np.concatenate([unit(getattr(cache, field)) for cache in caches], axis=1) / np.sqrt(len(caches))
        for field in ('image_GE', 'text_QE')
    ]
    return caches[0]._replace(image_GE=joined[0], text_QE=joined[1])


def mean_features(caches: Sequence[Embeddings], told: Sequence[np.ndarray]) -> Embeddings:
    """Features of several teachers, of every image and its captions the mean of those that tell of it (ours).

    Cross-fitted, a teacher tells of the people that it never saw. The others' features are turned into the first's
    space: the rotation that brings the unit vectors of all images and captions closest (orthogonal Procrustes), which
    changes no cosine of theirs.

    Args:
      caches: of each teacher, unaugmented training split.
      told: of each, bool [G], the images that it tells of; every image is told of by one or more.

    Returns:
      Unit vectors.
    """
    # by NumPy: caches are joined while a step is traced, too
    every = [np.concatenate([unit(cache.image_GE), unit(cache.text_QE)]) for cache in caches]
    total = np.zeros_like(every[0])
    for features, told_G in zip(every, told, strict=True):
        left, _, right = np.linalg.svd(features.T @ every[0])
        rows = np.concatenate([told_G, told_G[caches[0].text_view_Q]])
        total[rows] += features[rows] @ (left @ right)
    whole, images = unit(total), len(caches[0].image_GE)
    return caches[0]._replace(image_GE=whole[:images], text_QE=whole[images:])
