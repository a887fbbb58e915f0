"""The arrays that travel through the project, and the letters that name their axes.

    B  identities in a batch        E  embedding               h, w, c  pixels: height, width, colour
    K  views of each identity       D  width of a tower        Q  queries (captions)
    N  rows of a batch, N = B*K     L  tokens of a caption     G  gallery (images)
    T  patches of an image + 1      H  attention heads         C  identities of the classifier

An array's name ends in its axes (`rich_BKE`, `sim_QG`); scalars, trees and parameters carry none.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Batch(NamedTuple):
    """One training batch: B identities, K views of each, one caption a view."""

    image_BKhwc: Any  # uint8 pixels, 0..255; normalised on the device
    tokens_BKL: Any  # int32, `[SOT] ... [EOT]` then padding
    pid_B: Any  # int32 identity, contiguous from 0
    view_BK: Any  # int32, the image's place in its split; equal numbers are the same image
    caption_BK: Any  # int32, the caption's place in its split

    @property
    def rows(self) -> int:
        """N, the image-caption pairs in the batch."""
        return self.view_BK.shape[0] * self.view_BK.shape[1]


class Embeddings(NamedTuple):
    """A split, embedded once: features are not normalised."""

    image_GE: Any  # float32 features
    text_QE: Any
    image_pid_G: Any
    text_pid_Q: Any
    image_view_G: Any  # int32 that names the image
    text_view_Q: Any  # of the image that a caption describes


_SHORT, _LONG = 1e-12, 1e18  # lengths between which float32 has the squares


def merge_rows(x: jax.Array) -> jax.Array:
    """[B, K, ...] -> [N, ...]."""
    return x.reshape((-1,) + x.shape[2:])


def split_rows(x: jax.Array, views: int) -> jax.Array:
    """[N, ...] -> [B, K, ...] with K = `views`."""
    return x.reshape((-1, views) + x.shape[1:])


def leaves_of(params) -> list[tuple[str, Any]]:
    """(path such as 'clip/vision/patch/kernel', leaf) of a tree, in the order of `jax.tree.leaves`."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator='/'), x)
        for path, x in jax.tree_util.tree_leaves_with_path(params)
    ]


def in_blocks(call: Callable, rows: Any, block: int) -> np.ndarray:
    """`call(rows)`, [n, ...] -> [n, ...], in blocks of one size, the last filled up: one program serves any number."""
    index = np.arange(-(-len(rows) // block) * block) % len(rows)
    found = [call(rows[part]) for part in index.reshape(-1, block)]  # all are sent before one is fetched
    return np.concatenate([np.asarray(part) for part in found])[: len(rows)]


def unit(x: Any, dtype: Any = np.float32) -> np.ndarray:
    """Last axis to length 1, on the host; zeros stay, and numbers of any size have the direction that they say."""
    given = np.asarray(x)
    with np.errstate(over='ignore', invalid='ignore', under='ignore'):
        x = np.asarray(given, dtype)
        norm = np.linalg.norm(x, axis=-1, keepdims=True)
        odd = ~((norm > _SHORT) & (norm < _LONG))[..., 0]
        if odd.any():  # squares that overflow or vanish
            rows, x = given[odd].astype(np.float64), x.copy()
            largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0)
            x[odd] = rows / np.where(largest > 0, largest, 1)
            norm = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)
