"""Tensors of any kind of weights file, or of a folder in shards, by name."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from lcr2s_jax.errors import WeightsError
from lcr2s_jax.weights import kinds, layouts
from lcr2s_jax.weights.safetensors_files import Stored, read_safetensors
from lcr2s_jax.weights.torch_files import read_torch


class Weights(NamedTuple):
    """What was found, no numbers read yet.

    Attributes:
        tensors: by name; `shape`, and an array when NumPy asks.
        bytes: of all files.
        facts: what a checkpoint of torch's says beside its state dict.
    """

    tensors: Mapping[str, Stored]
    bytes: int
    facts: Mapping[str, str | int | float] = {}


def read_weights(path: pathlib.Path) -> Weights:
    """Weights of a file, told by its content rather than by its name, or of the shards that an index lists.

    Raises:
        WeightsError: what was found, what was expected, what to change.
    """
    if path.name.endswith('.index.json'):
        return _read_shards(path)
    start = _start(path)
    if kinds.is_safetensors(start) or (path.suffix == '.safetensors' and not start.startswith(b'PK')):
        return Weights(read_safetensors(path), path.stat().st_size)
    checkpoint = read_torch(path)
    return Weights(checkpoint.tensors, path.stat().st_size, checkpoint.facts)


def _read_shards(index: pathlib.Path) -> Weights:
    tensors, size = {}, 0
    for file, names in layouts.shards(index).items():
        found = read_weights(index.parent / file)
        if lost := [name for name in names if name not in found.tensors]:
            raise WeightsError(
                f'{index.parent / file}: found no {lost[0]}, which {index.name} says is in it. Fetch both again.'
            )
        tensors |= {name: found.tensors[name] for name in names}
        size += found.bytes
    return Weights(tensors, size)


def _start(path: pathlib.Path) -> bytes:
    try:
        if not path.is_file():
            return b''
        with path.open('rb') as file:
            return file.read(16)
    except OSError as error:
        raise WeightsError(f'{path}: cannot be read ({error.strerror}); expected a file of weights') from None
