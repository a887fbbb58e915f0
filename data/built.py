"""A built dataset, read: its arrays mapped, its images by random access in the record files that offsets.py indexed."""

import dataclasses
import os
import pathlib
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from data.offsets import INDEX, TEXTS, VERSION, physical, read_at
from lcr2s_jax import files
from lcr2s_jax.errors import DataError

_CHUNK = 1 << 20  # bytes


class Texts(Sequence):
    """Sentences or names in one array of bytes, each decoded when it is asked for."""

    def __init__(self, utf8: np.ndarray, ends: np.ndarray):
        self._utf8, self._ends = utf8, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, at):
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        start = self._ends[at - 1] if at else 0
        return self._utf8[start : self._ends[at]].tobytes().decode()

    def __eq__(self, other) -> bool:
        return self[:] == (other[:] if isinstance(other, Texts) else other)

    def __repr__(self) -> str:
        return repr(self[:])


class Images(Sequence):
    """The encoded images of a split, read from its record files when they are asked for; safe in several threads."""

    def __init__(self, folder: pathlib.Path, listed: Sequence[Mapping], at, size, crc):
        """Open the files; raise DataError where one is missing or of another length than it was built with."""
        self.folder, self._at, self._size, self._crc = folder, at, size, crc
        self._names = [one['name'] for one in listed]
        self._first = np.cumsum([0, *(one['images'] for one in listed)])
        self._files = [_open(folder, one['name'], one['bytes']) for one in listed]

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, at):
        if isinstance(at, slice):
            return self.read(range(*at.indices(len(self))))
        return self.read([range(len(self))[at]])[0]

    def read(self, index: Sequence[int]) -> list[bytes]:
        """The images of these numbers. Raises DataError where bytes are not those that were built."""
        index = np.asarray(index, np.int64)
        ats, sizes, crcs = (column[index].tolist() for column in (self._at, self._size, self._crc))
        numbers = (np.searchsorted(self._first, index, 'right') - 1).tolist()
        descriptors = [self._files[number].fileno() for number in numbers]
        if len(ats) > 1:  # a disk, or a server of files, works on all of them at once
            for descriptor, at, size in zip(descriptors, ats, sizes, strict=True):
                os.posix_fadvise(descriptor, physical(at), size, os.POSIX_FADV_WILLNEED)
        found = []
        for number, descriptor, at, size, crc in zip(numbers, descriptors, ats, sizes, crcs, strict=True):
            try:
                image = read_at(descriptor, at, size)
            except OSError as error:
                raise self._damaged(number, f'cannot be read ({error.strerror})') from None
            if zlib.crc32(image) != crc:
                raise self._damaged(number, f'found other bytes than were built, {len(image):,} from {at:,} on')
            found.append(image)
        return found

    def _damaged(self, number: int, what: str) -> DataError:
        return DataError(_again(self.folder, f'{self.folder / self._names[number]}: {what}'))


@dataclasses.dataclass(frozen=True)
class Split:
    """One split. What is as long as images or texts are is read from the built dataset when it is asked for."""

    name: str
    # encoded images, the source's bytes in its order, but for those that `pictures.as_shown` turns upright
    jpegs: Sequence[bytes]
    file_names: Sequence[str]
    image_pid: np.ndarray  # int32 [images], 0 .. num_people - 1 in order of first appearance
    captions: Sequence[str]
    tokens: np.ndarray  # [captions, L], uint16 where the vocabulary fits into it, else int32
    caption_image: np.ndarray  # int32 [captions], the image that each describes
    # bytes of each image in its source, int64 [images]; None of a split that was not read
    file_size: np.ndarray | None = None

    @property
    def caption_pid(self) -> np.ndarray:
        """int32 [captions]."""
        return self.image_pid[self.caption_image]

    @property
    def num_people(self) -> int:
        return int(self.image_pid.max()) + 1


def read(folder: pathlib.Path, wanted: Sequence[str]) -> tuple[dict[str, Split], dict]:
    """The splits of a built dataset, tokens and texts staying on disk, and what else its index says.

    Raises DataError: a file that is missing, cut or changed.
    """
    outer = files.read_json(folder / INDEX, DataError, _again(folder, '').lstrip('; '))
    index, found = outer.get('index'), {}
    if zlib.crc32(files.to_json(index).encode()) != outer.get('crc32') or index['version'] != VERSION:
        raise DataError(_again(folder, f'{folder / INDEX}: found another content than was built'))
    for name, split in index.pop('splits').items():
        if name not in wanted:
            continue
        arrays = {column: _array(folder, known) for column, known in split['arrays'].items()}
        texts = {column: Texts(arrays[column], arrays[f'{column}_end']) for column in TEXTS}
        found[name] = Split(
            name=name,
            jpegs=Images(folder, split['files'], *(arrays[column] for column in ('at', 'size', 'crc'))),
            file_names=texts['file_name'],
            image_pid=np.array(arrays['pid']),  # small, and used everywhere
            captions=texts['caption'],
            tokens=arrays['tokens'],
            caption_image=np.array(arrays['caption_image']),
            file_size=arrays['file_size'],
        )
    return found, index


def _array(folder: pathlib.Path, known: Mapping) -> np.ndarray:
    """An array whose bytes are what was written, mapped and not held."""
    kind, shape = np.dtype(known['type']), tuple(known['shape'])
    with _open(folder, known['file'], kind.itemsize * int(np.prod(shape))) as file:
        crc = 0
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
        if crc != known['crc32']:
            raise DataError(_again(folder, f'{folder / known["file"]}: found another content than was built'))
        return np.memmap(file, kind, 'r', shape=shape) if all(shape) else np.zeros(shape, kind)


def _open(folder: pathlib.Path, name: str, size: int):
    """A file of a built dataset, open to be read and of the length that it had. Raises DataError."""
    try:
        file = open(folder / name, 'rb', buffering=0)
    except OSError as error:
        raise DataError(_again(folder, f'{folder / name}: cannot be read ({error.strerror})')) from None
    found = os.fstat(file.fileno()).st_size
    if found != size:
        file.close()
        raise DataError(
            _again(folder, f'{folder / name}: found {found:,} bytes, expected the {size:,} that were built')
        )
    return file


def _again(folder: pathlib.Path, found: str) -> str:
    return (
        f'{found}; the built dataset is damaged, or was changed. Delete {folder}: the next run builds it anew. '
        'Has its disk faults?'
    )
