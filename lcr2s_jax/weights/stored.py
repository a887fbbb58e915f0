"""Tensors of any kind of weights file, or of a folder in shards, by name; those of safetensors files.

Their list is checked against the file before anything is made, numbers are read late.
"""

import math
import os
import pathlib
import re
from typing import NamedTuple

import ml_dtypes
import numpy as np

from lcr2s_jax.errors import WeightsError
from lcr2s_jax.weights import kinds, layouts
from lcr2s_jax.weights.reading import INDEX_LIMIT, Weights, brief, integers, opened, parse_object
from lcr2s_jax.weights.torch_files import read_torch

_DTYPES = {
    'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': ml_dtypes.bfloat16, 'I64': '<i8', 'I32': '<i4', 'I16': '<i2',
    'I8': 'i1', 'U64': '<u8', 'U32': '<u4', 'U16': '<u2', 'U8': 'u1', 'BOOL': '?',
    'F8_E4M3': ml_dtypes.float8_e4m3fn, 'F8_E5M2': ml_dtypes.float8_e5m2,
}  # fmt: skip
_EXPECTED = 'a safetensors file'
_MOST = 20_000  # tensors; the largest CLIPs have two thousand
# what torch puts into the names inside a module that it compiles, shards or recomputes
_WRAPPERS = r'(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'


class Stored(NamedTuple):
    """A tensor in the file: `shape`, and its numbers when NumPy asks; `start` is the place of its bytes."""

    path: pathlib.Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        try:
            values = np.fromfile(self.path, self.dtype, math.prod(self.shape), offset=self.start)
        except OSError as error:
            raise WeightsError(f'{self.path}: cannot be read ({error.strerror})') from None
        if values.size != math.prod(self.shape):
            raise WeightsError(f'{self.path}: found it shorter than when it was opened; fetch it again')
        values = values.reshape(self.shape)
        return values if dtype is None else values.astype(dtype, copy=False)


def read_weights(path: pathlib.Path) -> Weights:
    """Weights of a file, told by its content rather than by its name, or of the shards that an index lists."""
    found = _read_shards(path) if path.name.endswith('.index.json') else _read_file(path)
    named = {re.sub(_WRAPPERS, '', name): tensor for name, tensor in found.tensors.items()}
    return found._replace(tensors=named) if len(named) == len(found.tensors) else found


def _read_file(path: pathlib.Path) -> Weights:
    with opened(path, 'a file of weights') as file:
        start = file.read(16)
    if kinds.is_safetensors(start) or (path.suffix == '.safetensors' and not start.startswith(b'PK')):
        return Weights(read_safetensors(path), path.stat().st_size)
    return read_torch(path)


def _read_shards(index: pathlib.Path) -> Weights:
    tensors, size, others = {}, 0, ()
    for file, names in layouts.shards(index).items():
        found = _read_file(index.parent / file)
        if lost := [name for name in names if name not in found.tensors]:
            raise WeightsError(
                f'{index.parent / file}: found no {lost[0]}, which {index.name} says is in it. Fetch both again.'
            )
        tensors |= {name: found.tensors[name] for name in names}
        size, others = size + found.bytes, others + found.others
    return Weights(tensors, size, others=others)


def read_safetensors(path: pathlib.Path) -> dict[str, Stored]:
    """All tensors of a file by name. Raises WeightsError: no such file, or one whose list does not fit it."""
    with opened(path, _EXPECTED) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), 'little')
        if size < 8 or length > size - 8 or length > INDEX_LIMIT:
            raise WeightsError(
                f'{path}: cannot be read, found {size:,} bytes of which {length:,} would be the list of tensors; '
                f'expected {_EXPECTED}, its list within it and at most {INDEX_LIMIT:,} bytes. Fetch it again.'
            )
        header = file.read(length)
    listed = parse_object(header, str(path), f'{_EXPECTED}, whose list of tensors is JSON')
    listed.pop('__metadata__', None)
    if len(listed) > _MOST:
        raise WeightsError(f'{path}: found {len(listed):,} tensors, expected at most {_MOST:,}; this is no CLIP')
    found = {name: _entry(path, name, entry, 8 + length) for name, entry in listed.items()}
    end = 8 + length
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if tensor.start != end:
            raise WeightsError(
                f'{path}: cannot be read, found {brief(name)} at byte {tensor.start:,}, expected it at {end:,}: '
                'tensors lie one after the other. Fetch it again.'
            )
        end += tensor.nbytes
    if end != size:
        raise WeightsError(
            f'{path}: cannot be read, found {size:,} bytes, expected the {end:,} of its tensors; it is cut off or '
            'damaged. Fetch it again.'
        )
    return found


def _entry(path: pathlib.Path, name: str, entry, data: int) -> Stored:
    """One tensor of the list; `data` is where their bytes begin. Raises WeightsError."""
    if isinstance(entry, dict):
        dtype, shape, offsets = (entry.get(key) for key in ('dtype', 'shape', 'data_offsets'))
        known = isinstance(dtype, str) and dtype in _DTYPES
        if known and integers(shape, high=1 << 48) and len(shape) <= 16 and integers(offsets, 2):
            tensor = Stored(path, np.dtype(_DTYPES[dtype]), tuple(shape), data + offsets[0])
            if tensor.nbytes == offsets[1] - offsets[0]:
                return tensor
    what = {key: brief(entry[key]) for key in list(entry)[:4]} if isinstance(entry, dict) else brief(entry)
    raise WeightsError(
        f'{path}: cannot be read, found {brief(name)} listed as {what}; expected dtype, shape and data_offsets that '
        'agree. Fetch it again.'
    )
