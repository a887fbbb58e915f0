"""CLIP's ResNet: three convolutions to begin with, blurred strides, and attention in place of the last average [field].

Images are [N, h, w, C], the features of one stage after the other 4, 8, 16 and 32 pixels apart.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcr2s_jax.models.layers import EPSILON, attend

STRIDE = 32


class FrozenBatchNorm(nn.Module):
    """Batch normalisation by the stored mean and variance, in training too (ours).

    A row's feature must depend neither on the rows beside it nor on the number of devices. Mean and variance lie among
    the parameters so that they are saved with them; their gradient is zero, and config.optim.rules leaves them alone.
    """

    dtype: str = 'float32'  # of the result; the arithmetic is f32
    zero_init: bool = False  # start with a zero scale, so that a residual branch begins as nothing

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, h, w, C] -> [N, h, w, C]."""
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        scale, bias, mean, var = (
            self.param(name, init, (x.shape[-1],), jnp.float32)
            for name, init in (
                ('scale', zeros if self.zero_init else ones),
                ('bias', zeros),
                ('mean', zeros),
                ('var', ones),
            )
        )
        mean, var = jax.lax.stop_gradient((mean, var))
        return ((x.astype(jnp.float32) - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + bias).astype(self.dtype)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; a stride is an average over squares, on both ways."""

    width: int  # channels inside; four times as many come out
    stride: int = 1  # 1 or 2
    dtype: str = 'float32'  # compute type

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, h, w, C] -> [N, h / stride, w / stride, 4 width]."""
        y = nn.relu(_norm('bn1', _convolve('conv1', x, self.width, 1, self.dtype)))
        y = nn.relu(_norm('bn2', _convolve('conv2', y, self.width, 3, self.dtype)))
        y = _norm('bn3', _convolve('conv3', _shrink(y, self.stride), 4 * self.width, 1, self.dtype), zero_init=True)
        if x.shape != y.shape:
            x = _convolve('downsample_conv', _shrink(x, self.stride), 4 * self.width, 1, self.dtype)
            x = _norm('downsample_bn', x)
        return nn.relu(x + y)


class AttentionPool(nn.Module):
    """One query, the mean of all places, looks at all places and itself."""

    heads: int  # attention heads
    embed_dim: int  # channels of the result
    dtype: str = 'float32'  # compute type

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, h, w, C] -> [N, E]."""
        rows, width = x.shape[0], x.shape[-1]
        x = x.reshape(rows, -1, width)
        x = jnp.concatenate([jnp.mean(x, axis=1, keepdims=True), x], axis=1)
        small = nn.initializers.normal(width**-0.5)
        x = x + self.param('positions', small, x.shape[1:], jnp.float32).astype(self.dtype)

        def split(name: str, x: jax.Array) -> jax.Array:
            x = nn.Dense(width, dtype=self.dtype, name=name)(x)
            return x.reshape(rows, -1, self.heads, width // self.heads)

        mixed = attend(split('q', x[:, :1]), split('k', x), split('v', x))
        return nn.Dense(self.embed_dim, dtype=self.dtype, name='out')(mixed.reshape(rows, width))


class ResNet(nn.Module):
    """The image tower; attributes as in CLIP."""

    width: int
    layers: tuple[int, int, int, int]
    heads: int
    embed_dim: int
    dtype: str
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Normalised pixels f32 [N, h, w, 3], sides multiples of 32 -> f32 [N, E]."""
        x = image.astype(self.dtype)
        for i, (channels, stride) in enumerate([(self.width // 2, 2), (self.width // 2, 1), (self.width, 1)], 1):
            x = nn.relu(_norm(f'bn{i}', _convolve(f'conv{i}', x, channels, 3, self.dtype, stride)))
        x = _shrink(x, 2)
        block = nn.remat(Bottleneck) if self.remat else Bottleneck
        for stage, count in enumerate(self.layers):
            for i in range(count):
                stride = 2 if stage and not i else 1
                x = block(self.width * 2**stage, stride, self.dtype, name=f'layer{stage + 1}_{i}')(x)
        x = AttentionPool(self.heads, self.embed_dim, self.dtype, name='attnpool')(x)
        return x.astype(jnp.float32)


def _convolve(name: str, x: jax.Array, channels: int, size: int, dtype: str, stride: int = 1) -> jax.Array:
    # Not 'SAME': with a stride it would pad on one side only, where torch pads on both.
    convolution = nn.Conv(channels, (size, size), stride, size // 2, use_bias=False, dtype=dtype, name=name)
    return convolution(x)


def _norm(name: str, x: jax.Array, zero_init: bool = False) -> jax.Array:
    return FrozenBatchNorm(str(x.dtype), zero_init, name=name)(x)


def _shrink(x: jax.Array, factor: int) -> jax.Array:
    """Means over squares of `factor` pixels."""
    return nn.avg_pool(x, (factor, factor), (factor, factor)) if factor > 1 else x
