"""The transformer that both CLIP towers and the support-set fusion are made of, as Linen modules.

Block: x + MHA(LN(x)), then x + MLP(LN(x)). Parameters are f32; ``dtype`` is what matrices are multiplied in.
"""

import functools
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5


def quick_gelu(x: jax.Array) -> jax.Array:
    """x * sigmoid(1.702 x), any shape: the activation of OpenAI's CLIP [field]."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x), any shape: the activation of CLIPs trained by open_clip [field]."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'quick_gelu': quick_gelu,
    'gelu': exact_gelu,
}

# How attention is computed: by us, on any device; or by jax.nn.dot_product_attention, whose 'cudnn' is a fused kernel
# of NVIDIA's GPUs for bfloat16 that never holds the weights.
KERNELS = ('einsum', 'xla', 'cudnn')


class LayerNorm(nn.Module):
    """Normalises the last axis; mean and variance in f32 whatever comes in, result in ``dtype``.

    Attributes:
        dtype: of the result.
    """

    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(variance + EPSILON) * scale + bias).astype(self.dtype)


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool = False,
    kernel: str = 'einsum',
    fill: bool | None = None,
    tell: Callable[[jax.Array], object] = lambda weights: None,
) -> jax.Array:
    """Softmax attention, softmax in f32.

    q [N, T, H, d], k and v [N, S, H, d], mask boolean [N or 1, T, S] (True: may look) -> [N, T, H, d]. `causal` hides
    the places that follow. Each row must have a place left to look at. `kernel` is one of KERNELS; for 'einsum', `tell`
    gets the weights: f32 [N, H, T, S], 0 where masked. `fill`, of the others, fills odd lengths up with a place that
    nobody looks at, which changes no result; by default for 'cudnn' alone, which refuses odd lengths in training.
    """
    if kernel != 'einsum':
        if (q.shape[1] % 2 or k.shape[1] % 2) and (kernel == 'cudnn' if fill is None else fill):
            return _attend_even(q, k, v, mask, causal, kernel)
        mask = None if mask is None else mask[:, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation=kernel)
    if causal:
        before = jnp.tril(jnp.ones((1, q.shape[1], k.shape[1]), bool))
        mask = before if mask is None else mask & before
    # Heads before places: XLA's batched products on CPU take half as long again if batch axes are not in front.
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    scores = jnp.einsum('NHTd,NHSd->NHTS', q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1)
    tell(weights)
    return jnp.einsum('NHTS,NHSd->NHTd', weights.astype(v.dtype), v).swapaxes(1, 2)


def _attend_even(q, k, v, mask, causal: bool, kernel: str) -> jax.Array:
    """`attend` by jax.nn.dot_product_attention at lengths filled up to even ones."""
    rows, queries, keys = len(q), q.shape[1], k.shape[1]
    odd_queries, odd_keys = queries % 2, keys % 2
    filled = zip((q, k, v), (odd_queries, odd_keys, odd_keys), strict=True)
    q, k, v = (jnp.pad(x, ((0, 0), (0, odd), (0, 0), (0, 0))) for x, odd in filled)
    more = {}
    if mask is not None:
        mask = jnp.pad(mask, ((0, 0), (0, odd_queries), (0, odd_keys)))[:, None]
        mask = mask.at[:, :, queries:].set(True)  # a row that may look at nothing could become NaN, its gradient too
    elif odd_keys and not causal:  # a causal place never sees what follows it
        lengths = {'query_seq_lengths': queries, 'key_value_seq_lengths': keys}
        more = {name: jnp.full(rows, length, jnp.int32) for name, length in lengths.items()}
    mixed = jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation=kernel, **more)
    return mixed[:, :queries]


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of queries to keys and values, several heads side by side.

    Its weights, f32 [N, H, T, S], go to whoever makes the collection 'intermediates' mutable, and are free otherwise.

    Attributes:
        heads: number of heads; divides the width of the queries.
        dtype: compute type.
        zero_init: start with a zero output projection, so that a residual branch begins as the identity.
        causal: hide from a query the keys that follow it.
        kernel: a member of KERNELS; only 'einsum' has weights to tell.
    """

    heads: int
    dtype: str = 'float32'
    zero_init: bool = False
    causal: bool = False
    kernel: str = 'einsum'

    @nn.compact
    def __call__(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """q [N, T, D], k and v [N, S, D], mask boolean [N or 1, T, S] (True: may look) -> [N, T, D]."""
        chex.assert_rank([q, k, v], 3)
        rows, length, width = q.shape
        chex.assert_is_divisible(width, self.heads)
        if mask is not None:
            chex.assert_shape(mask, (None, length, k.shape[1]))

        def split(name: str, x: jax.Array) -> jax.Array:
            x = nn.Dense(width, dtype=self.dtype, name=name)(x)
            return x.reshape(rows, -1, self.heads, width // self.heads)

        tell = functools.partial(self.sow, 'intermediates', 'weights')
        q, k, v = split('q', q), split('k', k), split('v', v)
        mixed = attend(q, k, v, mask, causal=self.causal, kernel=self.kernel, tell=tell)
        init = nn.initializers.zeros if self.zero_init else nn.linear.default_kernel_init
        out = nn.Dense(width, dtype=self.dtype, kernel_init=init, name='out')
        return out(mixed.reshape(rows, length, width))


class Mlp(nn.Module):
    """Two linear layers with an activation between them.

    Attributes:
        hidden: width between the two layers.
        activation: a key of ACTIVATIONS.
        dtype: compute type.
        zero_init: start with a zero second layer, so that a residual branch begins as the identity.
    """

    hidden: int
    activation: str = 'quick_gelu'
    dtype: str = 'float32'
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        init = nn.initializers.zeros if self.zero_init else nn.linear.default_kernel_init
        width = x.shape[-1]
        x = nn.Dense(self.hidden, dtype=self.dtype, name='fc1')(x)
        x = ACTIVATIONS[self.activation](x)
        return nn.Dense(width, dtype=self.dtype, kernel_init=init, name='fc2')(x)


class Block(nn.Module):
    """One pre-norm residual layer of a transformer, its MLP four times as wide as itself.

    Attributes:
        heads: attention heads.
        activation: a key of ACTIVATIONS.
        dtype: compute type.
        causal: a place sees itself and those before it.
        kernel: of the attention, a member of KERNELS.
    """

    heads: int
    activation: str = 'quick_gelu'
    dtype: str = 'float32'
    causal: bool = False
    kernel: str = 'einsum'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, T, D] -> [N, T, D]."""
        attention = MultiHeadAttention(self.heads, self.dtype, causal=self.causal, kernel=self.kernel, name='attn')
        y = LayerNorm(self.dtype, name='ln_1')(x)
        x = x + attention(y, y, y)
        y = LayerNorm(self.dtype, name='ln_2')(x)
        return x + Mlp(4 * x.shape[-1], self.activation, self.dtype, name='mlp')(y)


class Transformer(nn.Module):
    """A stack of blocks named block_0, block_1, ...

    Attributes:
        layers: number of blocks.
        heads, activation, dtype, causal, kernel: of each block.
        remat: recompute a block in the backward pass instead of keeping its insides (memory for time).
        scan: compile one block and loop over the layers' parameters, which are stacked for it at every step; the
            parameters are the same either way.
    """

    layers: int
    heads: int
    activation: str = 'quick_gelu'
    dtype: str = 'float32'
    causal: bool = False
    kernel: str = 'einsum'
    remat: bool = False
    scan: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, T, D] -> [N, T, D]."""
        block = nn.remat(Block) if self.remat else Block
        alike = (self.heads, self.activation, self.dtype, self.causal, self.kernel)
        if self.scan and not self.is_initializing():
            layers = [self.variables['params'][f'block_{i}'] for i in range(self.layers)]
            one = block(*alike, parent=None)
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
            return jax.lax.scan(lambda x, params: (one.apply({'params': params}, x), None), x, stacked)[0]
        for i in range(self.layers):
            x = block(*alike, name=f'block_{i}')(x)
        return x
