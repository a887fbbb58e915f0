"""Batches of random numbers, for steps that are timed and not trained."""

import numpy as np

from lcr2s_jax.arrays import Batch, Embeddings


def random_batch(clip, identities: int, views: int) -> Batch:
    """Random pixels and captions of 20 tokens."""
    rng = np.random.default_rng(0)
    shape = (identities, views)
    tokens = np.zeros((*shape, clip.context_length), np.int32)
    tokens[..., :20] = rng.integers(1, clip.vocab_size - 1, (*shape, 20))
    tokens[..., 20] = clip.vocab_size - 1
    image = rng.integers(0, 256, (*shape, *clip.image_size, 3)).astype(np.uint8)
    return Batch(
        image,
        tokens,
        np.arange(identities, dtype=np.int32),
        *2 * [np.arange(identities * views, dtype=np.int32).reshape(shape)],
    )


def features(clip, batch: Batch) -> Embeddings:
    """What a cache of a teacher's features would hold for a split that is this batch."""
    rows_NE = np.random.default_rng(0).normal(size=(batch.rows, clip.embed_dim)).astype(np.float32)
    return Embeddings(rows_NE, rows_NE, None, None, None, None)
