"""Captions at the wrong image, and who is judged to be: training captions of a row by their places. NumPy only."""

import pathlib

import numpy as np

from lcr2s_jax.arrays import unit
from lcr2s_jax.errors import DataError
from lcr2s_jax.files import read_arrays


def shuffled(captions: int, share: float, seed: int = 0) -> np.ndarray:
    """int [captions]: whose words each caption has; a share of them exchange theirs at random.  [field: RDE]"""
    rng = np.random.default_rng((seed, 0x6E6F69))
    chosen = rng.permutation(captions)[: round(share * captions)]
    source = np.arange(captions)
    source[chosen] = np.roll(chosen, 1)  # a ring in random order: each of them has another's
    return source


def from_file(path: pathlib.Path, captions: int) -> np.ndarray:
    """The same from one of RDE's index files: `captions[index[i]]` stands at pair i of the training split.

    Raises DataError: no such file, or not of a split with so many captions.
    """
    source = read_arrays(path, DataError, 'expected an index file of RDE, .npy', [''])['']
    if source.shape != (captions,) or not np.array_equal(np.sort(source), np.arange(captions)):
        raise DataError(
            f'{path}: found {source.shape} places, expected each of 0..{captions - 1} once: one for every training '
            'caption. Is it the file of another dataset?'
        )
    return source.astype(np.int64)


def pair_scores(image_GE: np.ndarray, text_QE: np.ndarray, caption_image_Q: np.ndarray) -> np.ndarray:
    """Cosine of every caption with its own image: what a small-loss filter looks at."""
    return np.sum(unit(text_QE) * unit(image_GE)[caption_image_Q], axis=1)


def consensus_scores(
    image_GE: np.ndarray, text_QE: np.ndarray, image_pid_G: np.ndarray, caption_image_Q: np.ndarray
) -> np.ndarray:
    """Cosine of every caption with the mean of the *other* images of its identity, leave-one-out (ours).

    A caption learnt by heart with its own image does not thereby fit the others. An identity of one image has none: its
    captions are scored by that one.
    """
    image_GE = unit(image_GE)
    people = int(image_pid_G.max()) + 1
    sum_CE = np.zeros((people, image_GE.shape[1]), np.float32)
    np.add.at(sum_CE, image_pid_G, image_GE)
    alone_C = np.bincount(image_pid_G, minlength=people) == 1
    pid_Q = image_pid_G[caption_image_Q]
    others_QE = sum_CE[pid_Q] - np.where(alone_C[pid_Q, None], 0, image_GE[caption_image_Q])
    return np.sum(unit(text_QE) * unit(others_QE), axis=1)


def two_groups(score_N: np.ndarray) -> float:
    """The threshold that parts scores into the two groups of least variance (Otsu): no share of noise is told."""
    ordered = np.sort(np.asarray(score_N, np.float64))
    count = np.arange(1, len(ordered))
    below = np.cumsum(ordered)[:-1]
    above = ordered.sum() - below
    between = below**2 / count + above**2 / (len(ordered) - count)
    best = int(np.argmax(between))
    return float((ordered[best] + ordered[best + 1]) / 2)
