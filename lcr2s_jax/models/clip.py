"""CLIP's image and text towers: pixels and tokens -> features of one shared space.

v = P_v LN(ViT(image))[class], or a ResNet's attention pooling (resnet.py); t = P_t LN(Transformer(tokens))[end of
text]; neither is L2-normalised.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lcr2s_jax.models.layers import LayerNorm, Transformer
from lcr2s_jax.models.resnet import ResNet

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def _sizes(patch_size: int, vision: tuple, text: tuple[int, int, int], embed_dim: int) -> Mapping:
    """Attributes of `CLIP`; of either tower width, layers and heads."""
    towers = {'vision': vision, 'text': text}.items()
    named = {f'{tower}_{name}': x for tower, xs in towers for name, x in zip(_TOWER, xs, strict=True)}
    return MappingProxyType({'patch_size': patch_size, **named, 'embed_dim': embed_dim})


_TOWER = ('width', 'layers', 'heads')
# Sizes by name: OpenAI's models [field], the demo's, and one for smoke tests. Image size, context length and vocabulary
# are the data's.
ARCHITECTURES: Mapping[str, Mapping] = MappingProxyType(
    {
        'ViT-B/16': _sizes(16, (768, 12, 12), (512, 12, 8), 512),
        'ViT-B/32': _sizes(32, (768, 12, 12), (512, 12, 8), 512),
        'ViT-L/14': _sizes(14, (1024, 24, 16), (768, 12, 12), 768),
        'RN50': _sizes(32, (64, (3, 4, 6, 3), 32), (512, 12, 8), 1024),
        'demo': _sizes(12, (128, 4, 4), (128, 4, 4), 128),
        'tiny': _sizes(12, (32, 1, 2), (32, 1, 2), 32),
    }
)


def normalise_pixels(image: jax.Array) -> jax.Array:
    """[..., 3] of any number type in 0..255 -> f32, CLIP's mean and deviation taken out [field]."""
    mean, std = 255 * np.array(PIXEL_MEAN), 255 * np.array(PIXEL_STD)
    return (image.astype(jnp.float32) - mean.astype(np.float32)) * (1 / std).astype(np.float32)


class _Tower(nn.Module):
    """What both towers have; attributes as in CLIP."""

    width: int
    layers: int
    heads: int
    embed_dim: int
    activation: str
    dtype: str
    kernel: str
    remat: bool
    scan: bool

    def transformed(self, x: jax.Array, at: jax.Array, causal: bool = False) -> jax.Array:
        """[N, T, D], places int32 [N] -> [N, D]; parameters are block_0/..., without a level between."""
        how = dict(causal=causal, kernel=self.kernel, remat=self.remat, scan=self.scan)
        blocks = Transformer(self.layers, self.heads, self.activation, self.dtype, **how)
        nn.share_scope(self, blocks)
        return blocks(x, at)

    def projected(self, x: jax.Array, norm: str) -> jax.Array:
        """[N, D] -> f32 [N, E]."""
        x = LayerNorm(self.dtype, name=norm)(x)
        x = nn.Dense(self.embed_dim, use_bias=False, dtype=self.dtype, name='projection')(x)
        return x.astype(jnp.float32)


class VisionTower(_Tower):
    """ViT with a class token."""

    patch_size: int

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Normalised pixels f32 [N, h, w, 3] -> f32 [N, E]."""
        rows, height, width, _ = image.shape
        p, small = self.patch_size, nn.initializers.normal(0.02)
        # Patches do not overlap, so the convolution is one matrix product over cut-out patches.
        patches = image.reshape(rows, height // p, p, width // p, p, 3)
        patches = patches.swapaxes(2, 3).reshape(rows, -1, p * p * 3)
        x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name='patch')(patches)

        class_token = self.param('class_token', small, (self.width,), jnp.float32)
        positions = self.param('positions', small, (x.shape[1] + 1, self.width), jnp.float32)
        class_token = jnp.broadcast_to(class_token.astype(self.dtype), (rows, 1, self.width))
        x = jnp.concatenate([class_token, x], axis=1) + positions.astype(self.dtype)

        x = LayerNorm(self.dtype, name='ln_pre')(x)
        return self.projected(self.transformed(x, jnp.zeros(rows, jnp.int32)), 'ln_post')


class TextTower(_Tower):
    """Causal transformer read at the end-of-text token."""

    context_length: int
    vocab_size: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int32 [N, L], L at most context_length -> f32 [N, E]."""
        small = nn.initializers.normal(0.02)
        table = self.param('token_embedding', small, (self.vocab_size, self.width), jnp.float32)
        positions = self.param('positions', small, (self.context_length, self.width), jnp.float32)
        # An id outside the vocabulary becomes NaN, where plain indexing would take another token's row.
        x = (jnp.take(table, tokens, axis=0) + positions[: tokens.shape[1]]).astype(self.dtype)
        # The end of text has the highest id, and argmax takes the first of equals: padding by it is fine.
        return self.projected(self.transformed(x, jnp.argmax(tokens, axis=-1), causal=True), 'ln_final')


class CLIP(nn.Module):
    """Both towers. Parameters are f32: {vision: ..., text: ..., logit_scale: ()}.

    ``logit_scale`` is CLIP's learned temperature (its logarithm). Our losses have fixed temperatures and
    never read it, so its gradient is zero; it is kept for those who use an exported model to classify.
    """

    image_size: tuple[int, int]  # (height, width) in pixels, multiples of patch_size
    patch_size: int  # side of a square patch in pixels; of a ResNet its stride, 32
    # of the image transformer; four numbers of layers are the blocks of a ResNet's stages: width is then its stem's,
    # heads those of its attention pooling
    vision_width: int
    vision_layers: int | tuple[int, int, int, int]
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int  # longest text in tokens
    vocab_size: int  # number of token ids; the highest one in a text must be its end
    embed_dim: int  # E, the width of the shared space
    activation: str = 'quick_gelu'  # 'quick_gelu' (OpenAI) or 'gelu' (most of open_clip's)
    dtype: str = 'float32'  # compute type, float32 or bfloat16; normalisation and softmax stay f32
    kernel: str = 'einsum'  # of attention, a member of layers.KERNELS; a ResNet's image tower has its own
    remat: bool = False  # recompute blocks in the backward pass (less memory, about a third more time)
    scan: bool = False  # one compiled block that loops over a transformer's layers
    chunks: int = 1  # encode a batch's rows in so many parts, see `in_chunks`; the stages do it

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    def init_params(self, key: jax.Array) -> dict:
        image = jnp.zeros((1, *self.image_size, 3), jnp.uint8)
        return self.init(key, image, jnp.zeros((1, 1), jnp.int32))['params']

    def setup(self):
        if any(side % self.patch_size for side in self.image_size):
            raise ValueError(f'image_size is {self.image_size}; expected multiples of patch_size {self.patch_size}')
        shared = (self.embed_dim, self.activation, self.dtype, self.kernel, self.remat, self.scan)
        vision = (self.vision_width, self.vision_layers, self.vision_heads)
        if isinstance(self.vision_layers, int):
            self.vision = VisionTower(*vision, *shared, self.patch_size)
        else:
            self.vision = ResNet(*vision, self.embed_dim, self.dtype, self.remat)
        text = (self.text_width, self.text_layers, self.text_heads)
        self.text = TextTower(*text, *shared, self.context_length, self.vocab_size)
        self.logit_scale = self.param('logit_scale', nn.initializers.constant(np.log(1 / 0.07)), (), jnp.float32)

    def encode_image(self, image: jax.Array) -> jax.Array:
        """Pixels 0..255, any number type, [N, h, w, 3] -> f32 [N, E], not normalised."""
        chex.assert_shape(image, (None, *self.image_size, 3))
        return self.vision(normalise_pixels(image))

    def encode_text(self, tokens: jax.Array) -> jax.Array:
        """int32 [N, L], L at most context_length -> f32 [N, E], not normalised."""
        chex.assert_rank(tokens, 2)
        if tokens.shape[1] > self.context_length:
            raise ValueError(f'texts have {tokens.shape[1]} tokens; expected at most {self.context_length}')
        return self.text(tokens)

    def __call__(self, image: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Both features; what ``init`` traces."""
        return self.encode_image(image), self.encode_text(tokens)


# attributes of CLIP that say how it is computed, and not what comes out
COMPUTE = ('kernel', 'remat', 'scan', 'chunks')


def attributes(clip: CLIP) -> dict:
    """All attributes of a CLIP by name: its sizes, its dtype, and those of `COMPUTE`."""
    return {f.name: getattr(clip, f.name) for f in dataclasses.fields(CLIP) if f.name not in ('parent', 'name')}
