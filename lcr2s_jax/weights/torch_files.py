"""Tensors of files that torch wrote, without torch and without running what is in them (pickles.py).

Time and memory are bounded by the file: its list of tensors, its table of records, the length of names, and the bytes
that all tensors together have.
"""

import contextlib
import io
import math
import pathlib
import re
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from lcr2s_jax import files
from lcr2s_jax.errors import WeightsError
from lcr2s_jax.weights import layouts, pickles
from lcr2s_jax.weights.reading import Weights, at, brief, integers

_DTYPES = {
    'FloatStorage': 'float32', 'DoubleStorage': 'float64', 'HalfStorage': 'float16',
    'BFloat16Storage': ml_dtypes.bfloat16, 'LongStorage': 'int64', 'IntStorage': 'int32', 'ShortStorage': 'int16',
    'CharStorage': 'int8', 'ByteStorage': 'uint8', 'BoolStorage': 'bool',
}  # fmt: skip
_LEGACY = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19'  # the number that torch.save wrote first until version 1.6
# where checkpoints keep their state dict, the first that is there  [field: IRRA, TBPS-CLIP; open_clip, Lightning]
_STATE = ('model', 'state_dict', 'model_state_dict', 'model_state', 'net', 'network', 'module', 'weights')
_MAX_NAME = 512  # letters of a tensor's dotted name
_MAX_RECORDS = 4 << 20  # bytes of the zip file's table; a record takes about a hundred
_MOST = 1 << 48  # a length, stride or offset


def read_torch(path: pathlib.Path) -> Weights:
    """Tensors of a TorchScript module, or of a state dict, bare or a checkpoint's.

    Reads the zip files of torch.jit.save and torch.save; a tensor's numbers are read when NumPy asks for them. Raises
    WeightsError: another kind of file, a damaged one, one that asks for more than it holds, or a whole module.
    """
    archive = _Archive(path)
    try:
        whole = pickles.load(archive.read('data.pkl', limit=pickles.MAX_BYTES), archive.storage, Stored)
        facts = {k: v for k, v in whole.items() if isinstance(v, str | int | float)} if isinstance(whole, dict) else {}
        root, others = _state(whole)
        _refuse_module(path, root)
        tensors = _flatten(root)
    except WeightsError as error:
        raise at(path, error) from None
    except Exception as error:  # bytes that are no pickle of tensors raise whatever they like
        raise WeightsError(
            f'{path}: its list of tensors cannot be read ({type(error).__name__}: {str(error)[:200]}); '
            "expected what torch.save or torch.jit.save writes of a model's tensors. Fetch it again."
        ) from None
    if not tensors or '' in tensors:
        raise WeightsError(
            f'{path}: found no tensor under a name; expected a TorchScript module or a state dict, such as '
            'torch.save(model.state_dict(), path) writes'
        )
    claimed, held = sum(tensor.nbytes for tensor in tensors.values()), path.stat().st_size
    if claimed > 2 * held:  # tied weights are there once and twice in the list
        raise WeightsError(
            f'{path}: found {held:,} bytes whose tensors would have {claimed:,}; expected each number once. '
            'Fetch it again.'
        )
    return Weights(tensors, held, facts, others)


class Stored:
    """A tensor in the file: `shape`, and its numbers when NumPy asks; made of the arguments of _rebuild_tensor_v2."""

    __slots__ = ('storage', 'offset', 'shape', 'strides')

    def __init__(self, storage, offset, size, stride, *_):
        if not isinstance(storage, _Storage) or type(size) is not tuple or type(stride) is not tuple:
            raise ValueError(f'found a tensor of {type(storage).__name__}, shape {brief(size)}')
        if len(size) != len(stride) or len(size) > 32 or not integers((offset, *size, *stride), high=_MOST):
            raise ValueError(
                f'found a tensor of offset {brief(offset)}, shape {tuple(map(brief, size[:32]))} and strides '
                f'{tuple(map(brief, stride[:32]))}'
            )
        self.storage, self.offset, self.shape, self.strides = storage, offset, size, stride

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * (1 if self.storage.dtype is None else self.storage.dtype.itemsize)

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


class _Bounded(io.BufferedReader):
    """A file of which nothing above `limit` bytes is read at once: a table of records cannot fill the memory."""

    def __init__(self, path: pathlib.Path):
        super().__init__(files.regular(path).detach())
        self.limit: int | None = _MAX_RECORDS

    def read(self, size: int | None = -1) -> bytes:
        """As every file's; ValueError for more than the limit."""
        if self.limit is None:
            return super().read(size)
        asked = self.limit + 1 if size is None or size < 0 else size
        if asked > self.limit + 1 or len(data := super().read(asked)) > self.limit:
            raise ValueError(f'its table of records has more than {self.limit:,} bytes')
        return data


class _Storage(NamedTuple):
    """One record of the file, data/KEY; `dtype` is None for a type of number that is not known here."""

    archive: '_Archive'
    dtype: np.dtype | None
    key: str


class _Archive:
    """The zip file. Records that are read are not compressed and do not overlap: they are no larger than the file."""

    def __init__(self, path: pathlib.Path):
        self.path, self._last = path, (None, None)
        try:
            file = _Bounded(path)
            if file.peek(2)[:2] != b'PK':  # zipfile would find one at the end of another file, such as in a tar archive
                raise ValueError('no zip file')
            self._zip = zipfile.ZipFile(file)
            file.limit = None
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise WeightsError(f'{path}: {_fault(path, error)}') from None
        entries = self._zip.infolist()
        if sum(entry.compress_size for entry in entries) > path.stat().st_size:
            raise WeightsError(
                f'{path}: found a zip file whose records lie over each other; torch writes none so. Fetch it again.'
            )
        roots = [name.partition('/')[0] for name in self._zip.namelist() if re.fullmatch(r'[^/]+/data\.pkl', name)]
        if len(roots) != 1:
            raise WeightsError(
                f'{path}: found {layouts.describe(path)}; expected one list of tensors (NAME/data.pkl, found '
                f'{len(roots)}), as torch.save and torch.jit.save write it'
            )
        self._root = roots[0]
        self._order = '>' if self.read('byteorder', b'little') == b'big' else '<'

    def read(self, name: str, default: bytes | None = None, limit: int = 1 << 62) -> bytes:
        """A record's bytes, or `default` where there is none. Raises WeightsError: missing, compressed, damaged."""
        try:
            entry = self._zip.getinfo(f'{self._root}/{name}')
        except KeyError:
            if default is not None:
                return default
            raise WeightsError(f'{self.path}: found no record {name}; fetch it again') from None
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise WeightsError(f'{self.path}: found record {name} compressed; torch writes none so. Fetch it again.')
        if entry.file_size > limit:
            raise WeightsError(
                f'{self.path}: found record {name} of {entry.file_size:,} bytes, expected at most {limit:,}; a list of '
                'tensors is no larger. Save the state dict alone.'
            )
        try:
            return self._zip.read(entry)
        except Exception as error:  # zipfile has a dozen ways to say that bytes are missing or wrong
            raise WeightsError(f'{self.path}: record {name} is damaged ({error}); fetch it again') from None

    def storage(self, reference) -> _Storage:
        """What a pickle's persistent id stands for. Raises ValueError."""
        if not isinstance(reference, tuple) or not 3 <= len(reference) <= 8:
            raise ValueError('found a reference that is no storage')
        kind, dtype, key = reference[:3]
        if kind != 'storage' or not isinstance(key, str) or len(key) > _MAX_NAME:
            raise ValueError(f'found a reference to {brief(kind)}, expected a storage')
        known = isinstance(dtype, pickles.Name) and dtype.module == 'torch' and dtype.name in _DTYPES
        return _Storage(self, np.dtype(_DTYPES[dtype.name]) if known else None, key)

    def values(self, storage: _Storage) -> np.ndarray:
        """All numbers of a storage, one dimension. The last one is kept: many tensors may share it."""
        if self._last[0] != storage[1:]:
            if storage.dtype is None:
                raise WeightsError(
                    f'{self.path}: data/{storage.key} has a type of number that is not known here, expected '
                    'floating-point numbers. Save the model in float32.'
                )
            data, size = self.read(f'data/{storage.key}'), storage.dtype.itemsize
            if len(data) % size:
                raise WeightsError(f'{self.path}: data/{storage.key} has {len(data)} bytes, of {storage.dtype}')
            raw = np.dtype(f'u{size}')
            values = np.frombuffer(data, raw.newbyteorder(self._order)).astype(raw).view(storage.dtype)
            self._last = (storage[1:], values)
        return self._last[1]


def _state(whole) -> tuple[object, tuple[str, ...]]:
    """What of a checkpoint is read, and a sentence where other models lie beside it, such as an average (EMA)."""
    keys = _STATE if isinstance(whole, dict) else ()
    key = next((key for key in keys if isinstance(whole.get(key), dict | pickles.Object)), None)
    if key is None:
        return whole, ()
    read = _names(whole[key])
    others = ', '.join(f'`{one[:60]}`' for one in whole if one != key and len(_names(whole[one]) & read) > 1)[:300]
    told = f'`{key}` of the checkpoint is read, and not {others}; to use another, save it as a file of its own'
    return whole[key], (told,) * bool(others)


def _names(root) -> set[str]:
    """Names of tensors, by which a copy of a model is known."""
    found = {}
    with contextlib.suppress(WeightsError, ValueError):
        found = _flatten(root) if isinstance(root, dict) else {}
    return {re.sub(r'^((_orig_mod|module|model|ema|shadow|ema_model)\.)+', '', name) for name in found}


def _flatten(root) -> dict[str, Stored]:
    """Tensors of nested dictionaries and modules by dotted name. Each container is entered once: there may be rings."""
    found, seen, waiting = {}, set(), [('', root)]
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, Stored):
            found[prefix] = node
        elif isinstance(node, dict | pickles.Object) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, pickles.Object) and node.of and node.of.name.startswith('_rebuild'):
                raise WeightsError(
                    f'found {prefix[:200]} as {node.of.name.removeprefix("_rebuild_")[:60]} of {node.of.module[:60]}, '
                    'expected a plain tensor: it is quantised, sparse or of 8 bits. Use the model that it was made '
                    'of, saved in float32 or float16.'
                )
            for key, value in (node if isinstance(node, dict) else node.state).items():
                if len(prefix) + len(key) > _MAX_NAME:
                    raise ValueError(f'a name of {len(prefix) + len(key):,} letters, expected at most {_MAX_NAME}')
                if isinstance(value, Stored | dict | pickles.Object):
                    waiting.append((f'{prefix}.{key}' if prefix else key, value))
    return found


def _refuse_module(path: pathlib.Path, root) -> None:
    """Raise WeightsError for a module that was saved whole: its code is not in the file."""
    if isinstance(root, pickles.Object) and {'_parameters', '_modules'} <= root.state.keys():
        kind = f' ({root.of.module}.{root.of.name})'[:100] if root.of else ''
        raise WeightsError(
            f'{path}: found a whole module{kind}, as torch.save(model) writes it; expected its state dict. '
            'Where its code is, in torch:\n'
            f'  model = torch.load({str(path)!r}, weights_only=False)\n'
            "  torch.save(model.state_dict(), 'state_dict.pt')\n"
            'Do this only with a file whose maker you trust: loading it runs code. Then use state_dict.pt.'
        )


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
    return (
        f'found {layouts.describe(path)}; expected weights of a CLIP: a file of torch.save, torch.jit.save or '
        'safetensors, or a folder'
    )
