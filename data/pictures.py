"""The pictures that annotations name: read, looked at, and told apart into usable and not, in parallel and in order."""

import os
import pathlib
import sys
from collections.abc import Iterable, Iterator

from data import transforms
from data.annotations import Entry
from data.transforms import tf
from lcr2s_jax import images, threads
from lcr2s_jax.texts import alike, difference

FORMATS = ('JPEG', 'PNG', 'BMP')  # of the published datasets; what `data.transforms` decodes
NO_CAPTION = 'no caption'  # a fault of an entry
_MARKS = (b'Exif', b'eXIf', b'tiff:Orientation')  # of JPEG, of PNG, of XMP in either
_ALL = images.Limits(max_pixels=sys.maxsize)  # of an image that was looked at before, or is about to be
_PALETTE_BITS = range(1, 9)  # a BMP's pixel is a number of a colour, which TensorFlow takes for grey


def fault_of(encoded: bytes, max_pixels: int) -> str:
    """Why training could not use an image, half a sentence; '' where it can."""
    try:
        kind, width, height = images.check(encoded, _ALL)
        if kind not in FORMATS:
            return f'a {kind} file, expected JPEG, PNG or BMP'
        if width * height > max_pixels:
            return f'{width} x {height} pixels, above config.data.max_pixels = {max_pixels}'
        transforms.decode(tf.constant(as_shown(encoded)))
    except images.PictureError as error:
        return str(error)
    except tf.errors.InvalidArgumentError:
        return f'damaged: its {len(encoded):,} bytes cannot be decoded'
    return ''


def as_shown(encoded: bytes) -> bytes:
    """The picture itself; a PNG of it where TensorFlow would read other pixels than an index does.

    That is of a picture that EXIF wants turned, and of a BMP with a palette; as it is where it is damaged.
    """
    if not (turned(encoded) or _palette(encoded)):
        return encoded
    try:
        return images.png(encoded, _ALL)
    except images.PictureError:
        return encoded


def turned(encoded: bytes) -> bool:
    """Whether EXIF says that a picture is to be turned or mirrored."""
    if not any(mark in encoded for mark in _MARKS):  # opening the file takes fifty times as long
        return False
    try:
        return images.is_turned(encoded, _ALL)
    except images.PictureError:
        return False


def _palette(encoded: bytes) -> bool:
    if not encoded.startswith(b'BM'):
        return False
    at = 24 if encoded[14:15] == b'\x0c' else 28  # the oldest header is shorter
    return int.from_bytes(encoded[at : at + 2], 'little') in _PALETTE_BITS


class _Near:
    """What is there by nearly the name of a file that is not, as half a sentence, or ''."""

    def __init__(self, folder: pathlib.Path):
        self._folder, self._listed = folder, {}

    def __call__(self, name: str) -> str:
        found = pathlib.PurePosixPath()
        for part in pathlib.PurePosixPath(name).parts:
            there = self._names(found)
            nearly = there.get(alike(part)) or there.get(alike(os.path.splitext(part)[0]))
            if nearly is None:
                return ''
            found /= part if os.path.lexists(self._folder / found / part) else nearly
        return '' if str(found) == name else f', but {found} is there: {difference(name, str(found))}'

    def _names(self, below: pathlib.PurePosixPath) -> dict[str, str]:
        if below not in self._listed:
            try:
                names = os.listdir(self._folder / below)
                whole = {alike(name): name for name in names}
                self._listed[below] = {alike(os.path.splitext(name)[0]): name for name in names} | whole
            except OSError:
                self._listed[below] = {}
        return self._listed[below]


def read(entries: Iterable[Entry], folder: pathlib.Path, max_pixels: int) -> Iterator[tuple[Entry, bytes, str]]:
    """The file of every entry, in order: (entry, its bytes, '' or why it cannot be used)."""

    near = _Near(folder)

    def one(entry: Entry) -> tuple[Entry, bytes, str]:
        try:
            encoded = images.read(folder / entry.file_name)
        except images.PictureError as error:
            return entry, b'', f'{error}{near(entry.file_name) if str(error) == images.MISSING else ""}'
        without = '' if entry.captions or entry.gallery else NO_CAPTION
        return entry, encoded, fault_of(encoded, max_pixels) or without

    yield from threads.in_order(one, entries)
