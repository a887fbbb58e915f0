"""Tensors of files that torch wrote, without torch and without running what is in them.

A pickle names functions to be called while it is read. This reader looks no name up: those of tensors, storages
and dictionaries stand for classes of its own that hold data, every other one for a thing that can be built and does
nothing.
"""

import io
import math
import pathlib
import pickle
import re
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from lcr2s_jax.errors import WeightsError

_DTYPES = {
    'FloatStorage': 'float32', 'DoubleStorage': 'float64', 'HalfStorage': 'float16', 'BFloat16Storage': 'bfloat16',
    'LongStorage': 'int64', 'IntStorage': 'int32', 'ShortStorage': 'int16', 'CharStorage': 'int8',
    'ByteStorage': 'uint8', 'BoolStorage': 'bool',
}  # fmt: skip
_LEGACY = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19'  # the number that torch.save wrote first until version 1.6
_STATE = ('model', 'state_dict')  # where checkpoints keep their state dict  [field: IRRA; open_clip]


def read_torch(path: pathlib.Path) -> dict[str, 'Stored']:
    """Tensors by dotted name: of a TorchScript module, or of a state dict, bare or a checkpoint's.

    Reads the zip files of torch.jit.save and torch.save; a tensor's numbers are read when NumPy asks for them.

    Raises:
        WeightsError: another kind of file, a damaged one, or one that asks for more than it holds.
    """
    archive = _Archive(path)
    try:
        root = _Unpickler(archive).load()
        if isinstance(root, dict):
            root = next((root[key] for key in _STATE if isinstance(root.get(key), dict)), root)
        tensors = _flatten(root)
    except WeightsError:
        raise
    except Exception as error:  # bytes that are no pickle of tensors raise whatever they like
        raise WeightsError(
            f'{path}: its list of tensors cannot be read ({type(error).__name__}: {str(error)[:200]}); '
            "expected what torch.save or torch.jit.save writes of a model's tensors. Fetch it again."
        ) from None
    if not tensors:
        raise WeightsError(f'{path}: found no tensor; expected a TorchScript module or a state dict')
    return tensors


class Stored:
    """A tensor in the file: `shape`, and its numbers when NumPy asks. What _rebuild_tensor_v2 stands for.

    Everything is settled in __new__, since a pickle may leave __init__ out, and __setstate__ changes nothing.
    """

    __slots__ = ('storage', 'offset', 'shape', 'strides')

    def __new__(cls, storage, offset, size, stride, *_):
        size, stride = tuple(size), tuple(stride)
        numbers = (offset, *size, *stride)
        if not isinstance(storage, _Storage) or len(size) != len(stride) or len(size) > 32:
            raise ValueError(f'found a tensor of {type(storage).__name__}, shape {size} and strides {stride}')
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f'found a tensor of offset {offset}, shape {size} and strides {stride}')
        self = object.__new__(cls)
        self.storage, self.offset, self.shape, self.strides = storage, offset, size, stride
        return self

    def __setstate__(self, _):
        pass

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        values = self.storage.archive.values(self.storage)
        end = self.offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        # A storage is as large as its tensor: more elements would be a few bytes that pretend to be gigabytes.
        if 0 not in self.shape and max(end, math.prod(self.shape)) > len(values):
            raise WeightsError(
                f'{self.storage.archive.path}: found a tensor of offset {self.offset}, shape {self.shape} and strides '
                f'{self.strides} in data/{self.storage.key}, which has {len(values)} numbers; fetch the file again'
            )
        strides = [step * values.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)
        return view.astype(dtype or view.dtype)


class _Storage(NamedTuple):
    """One record of the file, data/KEY; `dtype` is None for a type of number that is not known here."""

    archive: '_Archive'
    dtype: str | None
    key: str


class _Archive:
    """The zip file. Its records are not compressed, so none is larger than the file."""

    def __init__(self, path: pathlib.Path):
        self.path, self._last = path, (None, None)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise WeightsError(f'{path}: {_fault(path, error)}') from None
        roots = [name.partition('/')[0] for name in self._zip.namelist() if re.fullmatch(r'[^/]+/data\.pkl', name)]
        if len(roots) != 1:
            raise WeightsError(
                f'{path}: found a zip file with {len(roots)} lists of tensors (NAME/data.pkl), expected one, '
                'as torch.save and torch.jit.save write it'
            )
        self._root = roots[0]
        self._order = '>' if self.read('byteorder', b'little') == b'big' else '<'

    def read(self, name: str, default: bytes | None = None) -> bytes:
        """A record's bytes, or `default` where there is none. Raises WeightsError: missing, compressed, damaged."""
        try:
            entry = self._zip.getinfo(f'{self._root}/{name}')
        except KeyError:
            if default is not None:
                return default
            raise WeightsError(f'{self.path}: found no record {name}; fetch it again') from None
        if entry.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(f'{self.path}: found record {name} compressed; torch writes none so. Fetch it again.')
        try:
            return self._zip.read(entry)
        except Exception as error:  # zipfile has a dozen ways to say that bytes are missing or wrong
            raise WeightsError(f'{self.path}: record {name} is damaged ({error}); fetch it again') from None

    def values(self, storage: _Storage) -> np.ndarray:
        """All numbers of a storage, one dimension. The last one is kept: many tensors may share it."""
        if self._last[0] != storage[1:]:
            if storage.dtype is None:
                raise WeightsError(f'{self.path}: data/{storage.key} has a type of number that is not known here')
            dtype = np.dtype(ml_dtypes.bfloat16 if storage.dtype == 'bfloat16' else storage.dtype)
            data = self.read(f'data/{storage.key}')
            if len(data) % dtype.itemsize:
                raise WeightsError(f'{self.path}: data/{storage.key} has {len(data)} bytes, of {storage.dtype}')
            raw = np.dtype(f'u{dtype.itemsize}')
            values = np.frombuffer(data, raw.newbyteorder(self._order)).astype(raw).view(dtype)
            self._last = (storage[1:], values)
        return self._last[1]


class _Unpickler(pickle.Unpickler):
    """Builds tensors, dictionaries and plain values; looks up and imports nothing.

    All that a pickle can get hold of here is below, and none of it lets its attributes be set: a __setstate__ of its
    own goes before pickle's setattr.
    """

    def __init__(self, archive: _Archive):
        super().__init__(io.BytesIO(archive.read('data.pkl')), encoding='utf-8')
        self._archive = archive

    def find_class(self, module: str, name: str):
        if module == 'torch' and name in _DTYPES:
            return _DTYPES[name]
        known = {
            'collections.OrderedDict': _Dict,
            'torch._utils._rebuild_tensor_v2': Stored,
            'torch._utils._rebuild_parameter': _Parameter,
            'torch._utils._rebuild_parameter_with_state': _Parameter,
        }
        return known.get(f'{module}.{name}', _Inert)

    def persistent_load(self, pid):
        kind, dtype, key, *_ = pid
        if kind != 'storage' or not isinstance(key, str):
            raise ValueError(f'found a reference to {kind!r}, expected a storage')
        return _Storage(self._archive, dtype if isinstance(dtype, str) else None, key)


class _Inert:
    """What every unknown name stands for: takes anything, keeps the dictionary of its attributes, does nothing."""

    state: dict = {}

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, state):
        self.state = state if isinstance(state, dict) else {}

    def append(self, *_):
        pass

    extend = add = __setitem__ = append


class _Dict(dict):
    """An OrderedDict, less the attributes that torch puts on it."""

    def __setstate__(self, _):
        pass


class _Parameter:
    """A parameter is its tensor."""

    def __new__(cls, data, *_):
        return data

    def __setstate__(self, _):
        pass


def _flatten(root) -> dict[str, Stored]:
    """Tensors of nested dictionaries and modules by dotted name. Each container is entered once: there may be rings."""
    found, seen, waiting = {}, set(), [('', root)]
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, Stored):
            found[prefix] = node
        elif isinstance(node, dict | _Inert) and id(node) not in seen:
            seen.add(id(node))
            inside = node if isinstance(node, dict) else node.state
            waiting += [(f'{prefix}.{k}' if prefix else k, v) for k, v in inside.items() if isinstance(k, str)]
    return found


def _fault(path: pathlib.Path, error: Exception) -> str:
    """Why this is no zip file, and what to do."""
    if isinstance(error, OSError):
        return f'cannot be read ({error})'
    with path.open('rb') as file:
        start = file.read(len(_LEGACY))
    if start == _LEGACY:
        return (
            'found the format that torch.save wrote before PyTorch 1.6, expected its zip file. In torch, '
            'torch.save(torch.load(path, weights_only=True), path) writes it anew.'
        )
    if start.startswith(b'PK'):
        return f'found a zip file that is cut off or damaged ({error}); fetch it again'
    return f'found a file that begins with {start[:8]!r}, expected one that torch.save or torch.jit.save wrote'
