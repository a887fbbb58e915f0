"""Multi-head attentional fusion (MHAF): combine a view and its support set into one enriched feature.

q = LN(v_i)    k = v = LN([v_i ; support])    z = v_i + MHA(q, k, v)    rich = z + FFN(LN(z))
"""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from lcr2s_jax.models import layers


def support_mask(view_BK: jax.Array) -> jax.Array:
    """Who may look at whom: bool [B, K, K], True where view i attends to view j of the same identity.

    A view sees itself and the first occurrence of every *other* image: an identity with fewer than K images fills its
    slots with repeats, which are masked, so that a copy of the view never supports it (paper, section on support sets:
    drawn from the other images; the masking is ours).
    """
    chex.assert_rank(view_BK, 2)
    same_BKK = view_BK[:, :, None] == view_BK[:, None, :]
    earlier_KK = jnp.tril(jnp.ones(2 * view_BK.shape[1:], bool), -1)  # [j, i]: i comes before j
    repeat_BK = jnp.any(same_BKK & earlier_KK, axis=2)
    return (~same_BKK & ~repeat_BK[:, None, :]) | jnp.eye(view_BK.shape[1], dtype=bool)


def drop_supports(mask_BKK: jax.Array, keys_B: jax.Array, rate: float) -> jax.Array:
    """Hide each support with probability `rate`, drawn for each view anew; a view always keeps itself (ours).

    Args:
      mask_BKK: of `support_mask`.
      keys_B: one random key an identity, so that the draw does not depend on how many devices share the batch.
      rate: 0..1.
    """
    chex.assert_rank(mask_BKK, 3)
    views = mask_BKK.shape[1]
    kept_BKK = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (views, views)))(keys_B)
    return mask_BKK & (kept_BKK | jnp.eye(views, dtype=bool))


def exchanged(mask_BKK: jax.Array, keys_B: jax.Array, rate: float) -> jax.Array:
    """The mask of K views followed by K of another identity, bool [B, 2K, 2K], for sets with wrong supports (ours).

    Of each view every support is exchanged with probability `rate` for the view at the same place of the other half; a
    view keeps itself. What rows of the second half see means nothing.

    Args:
      mask_BKK: of `support_mask`.
      keys_B: one random key an identity.
      rate: 0..1.
    """
    chex.assert_rank(mask_BKK, 3)
    views, eye_KK = mask_BKK.shape[1], jnp.eye(mask_BKK.shape[1], dtype=bool)
    out_BKK = jax.vmap(lambda key: jax.random.bernoulli(key, rate, (views, views)))(keys_B) & ~eye_KK
    first_BKJ = jnp.concatenate([mask_BKK & ~out_BKK, mask_BKK & out_BKK], axis=2)
    second_KJ = jnp.concatenate([jnp.zeros_like(eye_KK), eye_KK], axis=1)
    return jnp.concatenate([first_BKJ, jnp.broadcast_to(second_KJ, first_BKJ.shape)], axis=1)


class AttentionalFusion(nn.Module):
    """MHAF over the views of an identity: with its supports in the batch it is a masked self-attention over K.

    Both output projections start at zero, so that the rich feature is the view's own at step 0 (ours).
    """

    heads: int  # of the attention
    dtype: str = 'float32'  # compute dtype; parameters and result are float32

    @nn.compact
    def __call__(self, v_BKE: jax.Array, mask_BKK: jax.Array) -> jax.Array:
        """rich_BKE, float32; row i depends only on the views that mask_BKK[:, i] allows."""
        chex.assert_rank([v_BKE, mask_BKK], 3)
        chex.assert_shape(mask_BKK, (v_BKE.shape[0], v_BKE.shape[1], v_BKE.shape[1]))
        width = v_BKE.shape[-1]
        x_BKE = layers.LayerNorm(name='ln_attention', dtype=self.dtype)(v_BKE)
        attention = layers.MultiHeadAttention(self.heads, dtype=self.dtype, zero_init=True, name='attention')
        z_BKE = v_BKE + attention(x_BKE, x_BKE, x_BKE, mask_BKK).astype(jnp.float32)
        y_BKE = layers.LayerNorm(name='ln_mlp', dtype=self.dtype)(z_BKE)
        mlp = layers.Mlp(4 * width, dtype=self.dtype, zero_init=True, name='mlp')
        return z_BKE + mlp(y_BKE).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Fusion:
    """The fusion of both modalities as pure functions of a stage's parameters, of which they read 'fusion' alone.

    What it returns needs to know who is who: at test time it is an oracle's.
    """

    heads: int  # of the attention
    shared: bool  # one MHAF for images and texts instead of one each
    dtype: str  # compute dtype

    def init(self, key: jax.Array, width: int) -> dict:
        view_BKE, mask_BKK = jnp.zeros((1, 1, width)), jnp.ones((1, 1, 1), bool)
        names = ('both',) if self.shared else ('image', 'text')
        return {
            name: self._module.init(jax.random.fold_in(key, i + 1), view_BKE, mask_BKK)['params']
            for i, name in enumerate(names)
        }

    def enrich(self, params, modality: str, v_BKE: jax.Array, view_BK: jax.Array, mask_BKK=None) -> jax.Array:
        """Fuse every view with its supports: rich_BKE. `modality` is 'image' or 'text'; see `support_mask`."""
        mask_BKK = support_mask(view_BK) if mask_BKK is None else mask_BKK
        return self._module.apply(self._of(params, modality), v_BKE, mask_BKK)

    def attention(self, params, modality: str, v_BKE: jax.Array, view_BK: jax.Array) -> jax.Array:
        """What `enrich` takes of each view: weights_BHKK, rows sum to one."""
        mask_BKK = support_mask(view_BK)
        _, told = self._module.apply(self._of(params, modality), v_BKE, mask_BKK, mutable='intermediates')
        return told['intermediates']['attention']['weights'][0]

    @property
    def _module(self) -> AttentionalFusion:
        return AttentionalFusion(self.heads, dtype=self.dtype)

    def _of(self, params, modality: str) -> dict:
        return {'params': params['fusion']['both' if self.shared else modality]}
