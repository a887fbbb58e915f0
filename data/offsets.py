"""Where every image of a built split lies in its record files, and what else is known of it: arrays beside the files.

Written when a dataset is built (built.py reads them), so that an image is read by its offset, without the files' own
reader: in a tenth of the time, from any thread.
"""

import contextlib
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax import files
from lcr2s_jax.errors import DataError

LAYOUT = 'group_size:1,uncompressed'  # of array_record files: a record lies in them as it is
INDEX = 'index.json'  # of all splits, and of the checksums of their arrays
VERSION = '2.0.0'  # of all that is built, and of its folder
_BLOCK, _HEADER = 1 << 16, 24  # bytes: array_record's container (Riegeli) begins every block of a file with a header
_AT_ONCE = 1024  # records read by the files' own reader
_SLACK = 4096  # bytes between two records, at most

# of images: where it begins (container headers not counted), its bytes, their CRC-32, whose it is, and of how many
# bytes its source's file was; of captions: the image that each describes
_NUMBERS = {
    'at': '<i8', 'size': '<u4', 'crc': '<u4', 'pid': '<i4', 'file_size': '<i8', 'caption_image': '<i4',
}  # fmt: skip
TEXTS = ('file_name', 'caption')


def token_type(vocab_size: int) -> str:
    """The smallest that holds every token."""
    return '<u2' if vocab_size <= 1 << 16 else '<i4'


class Row(NamedTuple):
    """A record, parsed: its bytes, the image within them, and what is known of it."""

    record: bytes
    image: bytes
    person: str
    file_name: str
    file_size: int
    captions: Sequence[str]
    tokens: np.ndarray


def read_at(descriptor: int, at: int, size: int) -> bytes:
    """`size` bytes of an open record file from `at` on, not counting the container's headers."""
    start, stop = physical(at), physical(at + size - 1) + 1
    raw = os.pread(descriptor, stop - start, start)
    if stop - start == size:
        return raw
    parts, begin = [], 0
    for header in range(_BLOCK - start % _BLOCK, len(raw), _BLOCK):
        parts.append(raw[begin:header])
        begin = header + _HEADER
    return b''.join((*parts, raw[begin:]))


def physical(at: int) -> int:
    return at + _HEADER * (at // (_BLOCK - _HEADER) + 1)


def write(
    folder: pathlib.Path, splits: Mapping[str, Sequence[str]], parse: Callable[[bytes], Row], tokens: tuple, **more
) -> None:
    """Write the arrays of a dataset that was just built, by reading its record files, `splits`, once.

    `tokens` are the shape of the tokens of a caption and their type: (L,), '<u2'. Raises DataError: an unknown layout.
    """
    index: dict = {'version': VERSION, 'splits': {}, **more}
    for split, names in splits.items():
        listed = [{'name': name, 'bytes': os.path.getsize(folder / name), 'images': 0} for name in names]
        with contextlib.ExitStack() as stack:
            columns = _Columns(folder, split, tokens, stack)
            for one in listed:
                one['images'] = columns.add(folder / one['name'], parse)
            index['splits'][split] = {'files': listed, 'arrays': columns.close()}
    write_index(folder, index)


def write_index(folder: pathlib.Path, index: Mapping) -> None:
    """Write what `data.built.read` begins with, under a checksum."""
    files.write(folder / INDEX, files.to_json({'index': index, 'crc32': zlib.crc32(files.to_json(index).encode())}))


class _Columns:
    """The arrays of a split, written as its records come."""

    def __init__(self, folder: pathlib.Path, split: str, tokens, stack: contextlib.ExitStack):
        shapes = {name: ((), kind) for name, kind in _NUMBERS.items()} | {'tokens': tokens}
        shapes |= {name: ((), 'u1') for name in TEXTS} | {f'{name}_end': ((), '<i8') for name in TEXTS}
        self._shapes = shapes
        self._names = {name: f'{split}.{name}' for name in shapes}
        self._files = {name: stack.enter_context(open(folder / file, 'wb')) for name, file in self._names.items()}
        self._crc, self._bytes = dict.fromkeys(shapes, 0), dict.fromkeys(shapes, 0)
        self._people: dict[str, int] = {}
        self._images = 0

    def add(self, path: pathlib.Path, parse: Callable[[bytes], Row]) -> int:
        """Read a record file; how many images it has."""
        images, end = 0, 0
        with open(path, 'rb', buffering=0) as file:
            for records in _records(path):
                rows = [parse(record) for record in records]
                at = []
                for row in rows:
                    at.append(_find(path, file.fileno(), end, row))
                    end = at[-1] - row.record.find(row.image) + len(row.record)
                self._append(rows, at)
                images += len(rows)
        return images

    def _append(self, rows: Sequence[Row], at: Sequence[int]) -> None:
        counts = [len(row.captions) for row in rows]
        captions = [caption for row in rows for caption in row.captions]
        values = {
            'at': at,
            'size': [len(row.image) for row in rows],
            'crc': [zlib.crc32(row.image) for row in rows],
            'pid': [self._people.setdefault(row.person, len(self._people)) for row in rows],
            'file_size': [row.file_size for row in rows],
            'caption_image': np.repeat(np.arange(self._images, self._images + len(rows)), counts),
            'tokens': np.concatenate([row.tokens for row in rows]),
        }
        for name, texts in {'file_name': [row.file_name for row in rows], 'caption': captions}.items():
            encoded = [text.encode() for text in texts]
            values[f'{name}_end'] = np.cumsum([len(one) for one in encoded]) + self._bytes[name]
            values[name] = np.frombuffer(b''.join(encoded), np.uint8)
        for name, value in values.items():
            content = np.ascontiguousarray(value, self._shapes[name][1]).tobytes()
            self._files[name].write(content)
            self._crc[name] = zlib.crc32(content, self._crc[name])
            self._bytes[name] += len(content)
        self._images += len(rows)

    def close(self) -> dict[str, dict]:
        """What the index says of the arrays."""
        found = {}
        for name, (shape, kind) in self._shapes.items():
            self._files[name].close()
            count = self._bytes[name] // (np.dtype(kind).itemsize * int(np.prod(shape)))
            known = {'file': self._names[name], 'type': kind, 'shape': [count, *shape], 'crc32': self._crc[name]}
            found[name] = known
        return found


def _records(path: pathlib.Path) -> Iterator[Sequence[bytes]]:
    """The records of a file, by its own reader."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path))
    try:
        for start in range(0, reader.num_records(), _AT_ONCE):
            yield reader.read(start, min(start + _AT_ONCE, reader.num_records()))
    finally:
        reader.close()


def _find(path: pathlib.Path, descriptor: int, after: int, row: Row) -> int:
    """Where the image of the next record begins: the layout is found anew in every file, and not taken for granted."""
    found = read_at(descriptor, after, len(row.record) + _SLACK).find(row.record)
    inside = row.record.find(row.image)
    if min(found, inside) < 0:
        raise DataError(
            f'{path}: found no record where one was expected, so images cannot be read by their offsets; this version '
            'of array_record writes another layout. Install array_record 0.8.'
        )
    return after + found + inside
