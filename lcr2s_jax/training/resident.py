"""Training with the whole split on the device: pixels, captions and augmentation; the host sends image numbers alone.

batch(t) = augment(split[index(t)], key(seed, t));  state(t+1) = train_step(state(t), batch(t)), many t a dispatch.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lcr2s_jax.arrays import Batch
from lcr2s_jax.training import train
from lcr2s_jax.training.parallel import Axis

ERASED = (156, 147, 133)  # what data.transforms.ERASED is: the field fills with CLIP's mean *after* normalisation
_AREA, _ASPECT, _ATTEMPTS = (0.02, 0.4), (0.3, 3.3), 10  # of the erased box  [IRRA]
_AUGMENT = 0x617567  # sets the keys of augmentation apart from those of the step


class ResidentSplit(NamedTuple):
    """A split as arrays, all of it in memory: uint8 pixels of the model's size, int32 captions, int32 identity of every
    image and image of every caption.
    """

    image_Ghwc: Any
    tokens_QL: Any
    image_pid_G: Any
    caption_image_Q: Any

    def people(self, count: int) -> 'ResidentSplit':
        """The first so many identities; NumPy's arrays only."""
        image_G = self.image_pid_G < count
        caption_Q = image_G[self.caption_image_Q]
        places_G = (np.cumsum(image_G) - 1).astype(np.int32)
        kept = (self.image_Ghwc[image_G], self.tokens_QL[caption_Q], self.image_pid_G[image_G])
        return ResidentSplit(*kept, places_G[self.caption_image_Q[caption_Q]])


def augment(image_Nhwc: jax.Array, key: jax.Array, *, flip: float, pad: int, erase: float) -> jax.Array:
    """Flip, pad and crop, erase uint8 images, as data.transforms.augment with random numbers of its own.  [IRRA]"""
    keys_3N = jax.vmap(lambda k: jax.random.split(k, len(image_Nhwc)))(jax.random.split(key, 3))
    if flip:
        image_Nhwc = jax.vmap(functools.partial(_flip, prob=flip))(image_Nhwc, keys_3N[0])
    if pad:
        image_Nhwc = jax.vmap(functools.partial(_pad_crop, pad=pad))(image_Nhwc, keys_3N[1])
    if erase:
        image_Nhwc = jax.vmap(functools.partial(_erase_box, prob=erase))(image_Nhwc, keys_3N[2])
    return image_Nhwc


def _flip(image: jax.Array, key: jax.Array, *, prob: float) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, prob), image[:, ::-1], image)


def _pad_crop(image: jax.Array, key: jax.Array, *, pad: int) -> jax.Array:
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _erase_box(image: jax.Array, key: jax.Array, *, prob: float) -> jax.Array:
    """Of ten draws the first box smaller than the image is filled with ERASED."""
    height, width, _ = image.shape
    draw = jax.random.uniform(key, (5, _ATTEMPTS))
    pixels = height * width * (_AREA[0] + draw[0] * (_AREA[1] - _AREA[0]))
    ratio = jnp.exp(math.log(_ASPECT[0]) + draw[1] * math.log(_ASPECT[1] / _ASPECT[0]))
    tall, wide = (jnp.round(jnp.sqrt(x)) for x in (pixels * ratio, pixels / ratio))
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits)
    tall, wide = tall[first], wide[first]
    top = jnp.floor(draw[2, first] * (height - tall + 1))
    left = jnp.floor(draw[3, first] * (width - wide + 1))
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    inside = (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)
    erased = inside & fits[first] & (draw[4, 0] < prob)
    return jnp.where(erased[..., None], jnp.asarray(ERASED, image.dtype), image)


def mask_tokens(
    tokens_NL: jax.Array,
    key: jax.Array,
    *,
    prob: float,
    mask_share: float,
    replace_share: float,
    delete_share: float,
    mask_token: int,
    ordinary: int,
) -> jax.Array:
    """Corrupt the words of captions, between their two ends only; arguments as of data.transforms.mask_tokens."""
    place = jnp.arange(tokens_NL.shape[1])
    inside_NL = (place > 0) & (place < jnp.argmax(tokens_NL, axis=1)[:, None])
    draw = jax.random.uniform(key, (3, *tokens_NL.shape))
    fate = jnp.where(inside_NL & (draw[0] < prob), draw[1], 2.0)
    random = 1 + (draw[2] * (ordinary - 1)).astype(jnp.int32)
    replaced = mask_share + replace_share
    tokens_NL = jnp.where(fate < mask_share, mask_token, jnp.where(fate < replaced, random, tokens_NL))
    if not delete_share:
        return tokens_NL
    deleted = (fate >= replaced) & (fate < replaced + delete_share)
    order = jnp.argsort(deleted, axis=1, stable=True)
    return jnp.take_along_axis(jnp.where(deleted, 0, tokens_NL), order, axis=1)


def make_batch(
    split: ResidentSplit, image_BK: jax.Array, caption_BK: jax.Array, key: jax.Array, augment_with: Mapping,
    mask_with: Mapping,
) -> Batch:  # fmt: skip
    """A training batch from places in the split; a function of the places and the key."""
    image_key, text_key = jax.random.split(key)
    image_Nhwc = augment(split.image_Ghwc[image_BK.ravel()], image_key, **augment_with)
    tokens_NL = split.tokens_QL[caption_BK.ravel()]
    if mask_with['prob']:
        tokens_NL = mask_tokens(tokens_NL, text_key, **mask_with)
    return Batch(
        image_Nhwc.reshape(*image_BK.shape, *image_Nhwc.shape[1:]),
        tokens_NL.reshape(*caption_BK.shape, -1),
        split.image_pid_G[image_BK[:, 0]],
        image_BK,
        caption_BK,
    )


def run_steps(
    state: train.State,
    frozen,
    split: ResidentSplit,
    index_SBK: tuple[jax.Array, jax.Array],
    seed: jax.Array,
    *,
    loss: Callable,
    tx: optax.GradientTransformation,
    augment_with: Mapping,
    mask_with: Mapping,
) -> tuple[train.State, dict]:
    """As many steps of `train.train_step` as `index_SBK` has batches, in one dispatch; metrics of each step, [S].

    Args:
      state, frozen, loss, tx: as of `train.train_step`.
      index_SBK: image and caption places of each step's batch, int32 [S, B, K] each.
      seed: of the step's keys and of augmentation; may be traced.
    """

    def step(state, index):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _AUGMENT), state.step)
        batch = make_batch(split, *index, key, augment_with, mask_with)
        return train.train_step(state, frozen, batch, Axis(), loss=loss, tx=tx, seed=seed)

    return jax.lax.scan(step, state, index_SBK)


def initial_state(params, tx: optax.GradientTransformation) -> train.State:
    """Step 0 of `params`."""
    return train.State(jnp.zeros((), jnp.int32), params, tx.init(params))


def indices(plan, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and caption places of steps start .. stop - 1 of a `data.plan.Plan`, int32 [S, B, K] each."""
    drawn = [plan.batch(step)[:2] for step in range(start, stop)]
    return tuple(np.stack(rows) for rows in zip(*drawn, strict=True))
