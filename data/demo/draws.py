"""Reproducible choices: every random stream has its own path, so none depends on another's length.

Weighted options are written in one string, 'jacket:3 leather~coat', to keep tables readable.
"""

import functools

import numpy as np

SPLITS = ('train', 'val', 'test')


def generator(seed: int, split: str, *path: int) -> np.random.Generator:
    return np.random.default_rng((seed, SPLITS.index(split), *path))


@functools.cache
def _parse(words: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    pairs = [word.replace('~', ' ').partition(':') for word in words.split()]
    bounds = np.cumsum([float(weight or 1) for _, _, weight in pairs])
    return tuple(value for value, _, _ in pairs), tuple((bounds / bounds[-1]).tolist())


def pick(rng: np.random.Generator, words: str) -> str:
    """One of 'value:weight value ...'; a weight is 1 unless given, '~' stands for a space."""
    values, bounds = _parse(words)
    draw = rng.random()
    return next(value for value, bound in zip(values, bounds, strict=True) if draw < bound)
