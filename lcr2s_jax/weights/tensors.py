"""Tensors of a file -> parameters of a CLIP: what the kinds of weights files share, whatever names they use."""

import math
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from lcr2s_jax.arrays import leaves_of
from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.weights import kinds
from lcr2s_jax.weights.sizes import Sizes

_NAMED = 12  # tensors of each kind that a message names


class Slot(NamedTuple):
    """Where one of our parameters lies in a file."""

    name: str  # of the tensor there; several parameters may share one
    shape: tuple[int | None, ...]  # of the tensor there; None stands for a length that `convert` checks
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray  # the tensor as f32 -> our parameter


class Source(NamedTuple):
    """Weights that were found: their list of tensors is read, their numbers are not yet."""

    where: pathlib.Path
    sizes: Sizes  # what the file settles; image_size and context_length are what its position tables were learned for
    params: Callable[[CLIP, str], dict]  # (clip, resize) -> its f32 parameters; raises WeightsError, ConfigError
    # what the file does not tell and was taken all the same, and what in it is not used; one sentence each
    guesses: tuple[str, ...] = ()
    # (wanted grid or None) -> rows and columns of the image's position table; None where the file tells them
    grid: Callable[[tuple[int, int] | None], tuple[int, int]] | None = None


def fill(clip: CLIP, tensors: Mapping[str, np.ndarray], slot: Callable[[str, tuple], Slot]) -> dict:
    """Parameters of `clip`, each from its slot; a tensor is read only when it is wanted.

    `slot` is (our path such as 'vision/patch/kernel', our shape) -> Slot. Raises WeightsError, naming missing, extra
    and misshapen tensors as the file does.
    """
    shapes = shapes_of(clip)
    slots = [slot(path, leaf.shape) for path, leaf in leaves_of(shapes)]
    _check(tensors, {one.name: one.shape for one in slots})
    # Not ascontiguousarray: it would turn the scalar into a vector.
    arrays = [np.asarray(one.convert(_floats(tensors[one.name], one.name)), order='C') for one in slots]
    return jax.tree.unflatten(jax.tree.structure(shapes), arrays)


def _floats(tensor, name: str) -> np.ndarray:
    array = np.asarray(tensor)
    if array.dtype.kind in 'iub':
        raise WeightsError(
            f'found {name} in {array.dtype}, expected floating-point numbers: these are quantised weights. Use the '
            'model that they were made of.'
        )
    return array.astype(np.float32, copy=False)


def renamed(path: str, names: Iterable[tuple[str, str]]) -> str:
    """The file's name of the tensor at our path; `names` are regular expressions with what replaces them, in order."""
    for ours, theirs in names:
        path = re.sub(ours, theirs, path)
    return path.replace('/', '.')


def shapes_of(clip: CLIP) -> dict:
    """Shapes of the parameters, as jax.eval_shape gives them; of blocks that are alike one is traced."""
    vision = clip.vision_layers
    few = 1 if isinstance(vision, int) else tuple(min(count, 2) for count in vision)
    shapes = jax.eval_shape(clip.clone(vision_layers=few, text_layers=1).init_params, jax.random.key(0))
    shapes = {name: dict(part) if name in ('vision', 'text') else part for name, part in shapes.items()}
    for i in range(1, clip.text_layers):
        shapes['text'][f'block_{i}'] = shapes['text']['block_0']
    for i in range(1, vision if isinstance(vision, int) else 0):
        shapes['vision'][f'block_{i}'] = shapes['vision']['block_0']
    for stage, count in enumerate(() if isinstance(vision, int) else vision, 1):
        for i in range(2, count):
            shapes['vision'][f'layer{stage}_{i}'] = shapes['vision'][f'layer{stage}_1']
    return shapes


def patch_matrix(convolution: np.ndarray) -> np.ndarray:
    """Weights of torch's patch convolution [D, 3, p, p] -> [p * p * 3, D]."""
    return convolution.transpose(2, 3, 1, 0).reshape(-1, convolution.shape[0])


def patch_convolution(matrix: np.ndarray) -> np.ndarray:
    """The inverse of `patch_matrix`."""
    side = math.isqrt(matrix.shape[0] // 3)
    return matrix.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)


def _check(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple]) -> None:
    """Raise WeightsError unless `tensors` are those of `shapes`; None stands for any length."""
    missing = [f'missing: {name} {shape}' for name, shape in shapes.items() if name not in tensors]
    extra = [f'extra: {name[:200]} {tensors[name].shape}' for name in tensors if name not in shapes]
    misshapen = []
    for name in shapes.keys() & tensors.keys():
        found, expected = tensors[name].shape, shapes[name]
        if len(found) != len(expected) or any(b not in (a, None) for a, b in zip(found, expected, strict=True)):
            misshapen.append(f'misshapen: {name} {found}, expected {expected}')
    count = len(missing) + len(extra) + len(misshapen)
    if count:
        lines = []
        for faults in (extra, misshapen, missing):
            lines += sorted(faults)[:_NAMED]
            if len(faults) > _NAMED:
                lines.append(f'and {len(faults) - _NAMED} more {faults[0].partition(":")[0]}')
        kind, advice = kinds.of_tensors(name for name in tensors if name not in shapes)
        advice = advice.rstrip('.') or 'Use a CLIP without other layers, and its own config where one lies beside it'
        raise WeightsError(
            f'{count} tensors do not fit the sizes of the model{kind and ": "}{kind}; expected those of one CLIP, '
            f'whole. {advice}:\n  ' + '\n  '.join(lines)
        )
