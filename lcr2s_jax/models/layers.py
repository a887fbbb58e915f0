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


# What is cheap to compute is computed again in the backward pass, not kept: memory's bandwidth is what a GPU lacks. The
# compiler may merge both computations where it sees both, which it does not through a scan.
_recomputed = functools.partial(jax.checkpoint, prevent_cse=False)


@_recomputed
def quick_gelu(x: jax.Array) -> jax.Array:
    """x * sigmoid(1.702 x), any shape: the activation of OpenAI's CLIP [field]."""
    return x * jax.nn.sigmoid(1.702 * x)


@_recomputed
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
    """Normalises the last axis; mean and variance in f32 whatever comes in, result in ``dtype``."""

    dtype: str = 'float32'  # of the result

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return _normalise(_flat(x), scale, bias).astype(self.dtype).reshape(x.shape)


@_recomputed
def _normalise(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """[..., D], scale and bias f32 [D] -> f32 [..., D]."""
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(variance + EPSILON) * scale + bias


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool = False,
    keys: int | None = None,
    kernel: str = 'einsum',
    tell: Callable[[jax.Array], object] = lambda weights: None,
) -> jax.Array:
    """Softmax attention, softmax in f32.

    q [N, T, H, d], k and v [N, S, H, d], mask boolean [N or 1, T, S] (True: may look) -> [N, T, H, d]. `causal` hides
    the places that follow, `keys` (without a mask) all but so many first ones. Each row must have a place left to look
    at. `kernel` is one of KERNELS; for 'einsum', `tell` gets the weights: f32 [N, H, T, S], 0 where masked.
    """
    if kernel != 'einsum':
        lengths = {}
        if keys is not None and not causal:  # a causal place never sees what follows it
            of = {'query_seq_lengths': q.shape[1], 'key_value_seq_lengths': keys}
            lengths = {name: jnp.full(len(q), length, jnp.int32) for name, length in of.items()}
        mask = None if mask is None else mask[:, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation=kernel, **lengths)
    if keys is not None:
        mask = (jnp.arange(k.shape[1]) < keys)[None, None]
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


def _flat(x: jax.Array) -> jax.Array:
    """[..., D] -> [N, D]. A GPU's compiler lays arrays of three axes out anew for the gradients of weights."""
    return x.reshape(-1, x.shape[-1])


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of queries to keys and values, several heads side by side.

    Its weights, f32 [N, H, T, S], go to whoever makes the collection 'intermediates' mutable, and are free otherwise.
    """

    heads: int  # number of heads; divides the width of the queries
    dtype: str = 'float32'  # compute type
    zero_init: bool = False  # start with a zero output projection, so that a residual branch begins as the identity
    causal: bool = False  # hide from a query the keys that follow it
    keys: int | None = None  # all but so many first ones are hidden
    kernel: str = 'einsum'  # a member of KERNELS; only 'einsum' has weights to tell

    @nn.compact
    def __call__(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """q [N, T, D], k and v [N, S, D], mask boolean [N or 1, T, S] (True: may look) -> [N, T, D]."""
        chex.assert_rank([q, k, v], 3)
        rows, length, width = q.shape
        chex.assert_is_divisible(width, self.heads)
        if mask is not None:
            chex.assert_shape(mask, (None, length, k.shape[1]))

        def split(name: str, x: jax.Array) -> jax.Array:
            x = nn.Dense(width, dtype=self.dtype, name=name)(_flat(x))
            return x.reshape(rows, -1, self.heads, width // self.heads)

        tell = functools.partial(self.sow, 'intermediates', 'weights')
        q, k, v = split('q', q), split('k', k), split('v', v)
        mixed = attend(q, k, v, mask, causal=self.causal, keys=self.keys, kernel=self.kernel, tell=tell)
        init = nn.initializers.zeros if self.zero_init else nn.linear.default_kernel_init
        out = nn.Dense(width, dtype=self.dtype, kernel_init=init, name='out')
        return out(mixed.reshape(-1, width)).reshape(rows, length, width)


class Mlp(nn.Module):
    """Two linear layers with an activation between them."""

    hidden: int  # width between the two layers
    activation: str = 'quick_gelu'  # a key of ACTIVATIONS
    dtype: str = 'float32'  # compute type
    zero_init: bool = False  # start with a zero second layer, so that a residual branch begins as the identity

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        init = nn.initializers.zeros if self.zero_init else nn.linear.default_kernel_init
        y = nn.Dense(self.hidden, dtype=self.dtype, name='fc1')(_flat(x))
        y = ACTIVATIONS[self.activation](y)
        return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=init, name='fc2')(y).reshape(x.shape)


class Block(nn.Module):
    """One pre-norm residual layer of a transformer, its MLP four times as wide as itself."""

    heads: int  # attention heads
    activation: str = 'quick_gelu'  # a key of ACTIVATIONS
    dtype: str = 'float32'  # compute type
    causal: bool = False  # a place sees itself and those before it
    keys: int | None = None  # places after so many first ones are seen by none
    kernel: str = 'einsum'  # of the attention, a member of KERNELS

    @nn.compact
    def __call__(self, x: jax.Array, at: jax.Array | None = None) -> jax.Array:
        """[N, T, D] -> [N, T, D]; given places int32 [N], what comes out there alone: [N, 1, D]."""
        q = y = LayerNorm(self.dtype, name='ln_1')(x)
        how, mask = dict(causal=self.causal, keys=self.keys, kernel=self.kernel), None
        if at is not None:
            q, x = (jnp.take_along_axis(z, at[:, None, None], axis=1) for z in (y, x))
            how['kernel'] = 'einsum'  # one row of weights
            if self.causal:
                how, mask = {}, jnp.arange(y.shape[1]) <= at[:, None, None]
        x = x + MultiHeadAttention(self.heads, self.dtype, name='attn', **how)(q, y, y, mask)
        y = LayerNorm(self.dtype, name='ln_2')(x)
        return x + Mlp(4 * x.shape[-1], self.activation, self.dtype, name='mlp')(y)


class Transformer(nn.Module):
    """A stack of blocks named block_0, block_1, ..., read at one place of each row: the last computes nothing else."""

    layers: int  # number of blocks
    heads: int  # this and the next four are of each block
    activation: str = 'quick_gelu'
    dtype: str = 'float32'
    causal: bool = False
    kernel: str = 'einsum'
    remat: bool = False  # recompute a block in the backward pass instead of keeping its insides (memory for time)
    # compile one block and loop over the layers' parameters, which are stacked for it at every step; the parameters are
    # the same either way
    scan: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, at: jax.Array) -> jax.Array:
        """[N, T, D], places int32 [N] -> [N, D]."""
        block, keys = nn.remat(Block) if self.remat else Block, None
        if x.shape[1] % 2 and self.kernel != 'einsum':  # cuDNN refuses odd lengths in training
            x, keys = jnp.pad(x, ((0, 0), (0, 1), (0, 0))), x.shape[1]
        alike = (self.heads, self.activation, self.dtype, self.causal, keys, self.kernel)
        before = range(self.layers - 1)
        if self.scan and before and not self.is_initializing():
            layers = [self.variables['params'][f'block_{i}'] for i in before]
            one = block(*alike, parent=None)
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
            x = jax.lax.scan(lambda x, params: (one.apply({'params': params}, x), None), x, stacked)[0]
        else:
            for i in before:
                x = block(*alike, name=f'block_{i}')(x)
        return block(*alike, name=f'block_{self.layers - 1}')(x, at)[:, 0]
