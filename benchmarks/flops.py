"""What a step must compute, on paper, and what the device can: the two numbers that utilisation divides."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from lcr2s_jax.models.clip import CLIP


def layers(tokens: int, width: int, count: int) -> float:
    """Operations of `count` transformer layers over one sequence: two for each multiplication that is summed.

    Of a token: 12 width^2 in the projections and the MLP, and 2 tokens * width in scores and mixture. Of the last layer
    one token's result is used, for which the others need 2 width^2, their keys and values. A causal mask is counted as
    if it saved nothing, as is usual.
    """
    whole = 12 * width**2 + 2 * tokens * width
    return 2.0 * ((count - 1) * tokens * whole + (tokens - 1) * 2 * width**2 + whole)


def embed_text(clip: CLIP) -> float:
    """Operations of embedding one caption of full length."""
    return layers(clip.context_length, clip.text_width, clip.text_layers) + 2.0 * clip.text_width * clip.embed_dim


def embed_image(clip: CLIP) -> float:
    """Operations of embedding one image, by a clip whose image tower is a ViT."""
    rows, columns = clip.grid
    patches = rows * columns
    image = layers(patches + 1, clip.vision_width, clip.vision_layers)
    return (
        image + 2.0 * patches * (3 * clip.patch_size**2) * clip.vision_width + 2.0 * clip.vision_width * clip.embed_dim
    )


def embed_pair(clip: CLIP) -> float:
    """Operations of embedding one image and one caption."""
    return embed_image(clip) + embed_text(clip)


def train_pair(clip: CLIP) -> float:
    """Operations of a training step for each pair: the backward pass is two forward passes; what remat repeats is not
    counted, the rest of the step is nothing beside it."""
    return 3.0 * embed_pair(clip)


def method_pair(kind: str, clip: CLIP, views: int) -> float:
    """Operations that a stage's step adds to the baseline's for each pair: the fusion, and a frozen teacher's towers.

    Of a teacher the fusion is trained, and its features have gradients only in it (`detach`).
    """
    width = clip.embed_dim
    fusion = 2 * 2.0 * (12 * width**2 + 2 * views * width)  # both modalities, forward
    return {
        'baseline': 0.0,
        'teacher': 3 * fusion,
        'student, teacher cached': fusion,
        'student': fusion + embed_pair(clip),
    }[kind]


def matrix_peak(dtype: str, side: int = 0, rounds: int = 8) -> float:
    """Operations a second of the largest square matrix product that is quick here: the best of `rounds`."""
    side = side or (2048 if jax.default_backend() == 'cpu' else 8192)
    a, b = (jax.device_put(jnp.asarray(np.random.default_rng(i).normal(size=(side, side)), dtype)) for i in (0, 1))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, b))
    seconds = []
    for _ in range(rounds):
        clock = time.perf_counter()
        jax.block_until_ready(product(a, b))
        seconds.append(time.perf_counter() - clock)
    return 2.0 * side**3 / min(seconds)
