"""Tensors of a file -> parameters of a CLIP: what the kinds of weights files share, whatever names they use."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from lcr2s_jax.errors import ConfigError, WeightsError
from lcr2s_jax.models.clip import CLIP


class Slot(NamedTuple):
    """Where one of our parameters lies in a file.

    Attributes:
        name: of the tensor there; several parameters may share one.
        shape: of the tensor there; None stands for a length that `convert` checks.
        convert: the tensor as f32 -> our parameter.
    """

    name: str
    shape: tuple[int | None, ...]
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray


class Source(NamedTuple):
    """Weights that were found, their tensors not read yet.

    Attributes:
        where: the folder or file, for messages.
        sizes: attributes of CLIP that the file settles.
        params: (clip, resize) -> its f32 parameters; raises WeightsError, ConfigError.
    """

    where: pathlib.Path
    sizes: dict
    params: Callable[[CLIP, str], dict]


def fill(clip: CLIP, tensors: Mapping[str, np.ndarray], slot: Callable[[str, tuple], Slot]) -> dict:
    """Parameters of `clip`, each from its slot.

    Args:
        clip: says which parameters there are, and of which shapes.
        tensors: by name, any float type; what has a `shape` and becomes an array when NumPy asks is read only then.
        slot: (our path such as 'vision/patch/kernel', our shape) -> Slot.

    Raises:
        WeightsError: naming every missing, extra and misshapen tensor as the file does.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(jax.eval_shape(clip.init_params, jax.random.key(0)))
    slots = [slot('/'.join(key.key for key in path), leaf.shape) for path, leaf in leaves]
    _check(tensors, {one.name: one.shape for one in slots})
    # Not ascontiguousarray: it would turn the scalar into a vector.
    return tree.unflatten(
        [np.asarray(one.convert(np.asarray(tensors[one.name], np.float32)), order='C') for one in slots]
    )


def patch_matrix(convolution: np.ndarray) -> np.ndarray:
    """Weights of torch's patch convolution [D, 3, p, p] -> [p * p * 3, D]."""
    return convolution.transpose(2, 3, 1, 0).reshape(-1, convolution.shape[0])


def patch_convolution(matrix: np.ndarray) -> np.ndarray:
    """The inverse of `patch_matrix`."""
    side = math.isqrt(matrix.shape[0] // 3)
    return matrix.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)


def cut_text_positions(table: np.ndarray, length: int, name: str) -> np.ndarray:
    """The first `length` rows. Raises ConfigError where there are fewer; `name` is the file's for the table."""
    if len(table) < length:
        raise ConfigError(
            f'config.model.context_length: found {length}, expected at most the {len(table)} rows of {name}'
        )
    return table[:length]


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All tensors of a file by name. Raises WeightsError, naming what else the folder has."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        found = ', '.join(sorted(file.name for file in path.parent.iterdir()))
        raise WeightsError(
            f'{path}: cannot be read ({error}); the folder has: {found}. Where there is pytorch_model.bin only, '
            "transformers' CLIPModel.from_pretrained(folder).save_pretrained(folder) writes model.safetensors."
        ) from None


def _check(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple]) -> None:
    """Raise WeightsError unless `tensors` are those of `shapes`; None stands for any length."""
    faults = [f'missing: {name} {shape}' for name, shape in shapes.items() if name not in tensors]
    faults += [f'extra: {name} {tensors[name].shape}' for name in tensors if name not in shapes]
    for name in shapes.keys() & tensors.keys():
        found, expected = tensors[name].shape, shapes[name]
        if len(found) != len(expected) or any(b not in (a, None) for a, b in zip(found, expected, strict=True)):
            faults.append(f'misshapen: {name} {found}, expected {expected}')
    if faults:
        raise WeightsError(
            f'{len(faults)} tensors do not fit the sizes of the model:\n  ' + '\n  '.join(sorted(faults))
        )
