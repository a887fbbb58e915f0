"""The pictures that annotations name: read, looked at, and told apart into usable and not, in parallel and in order."""

import pathlib
import sys
from collections.abc import Iterable, Iterator

from data import transforms
from data.annotations import Entry
from data.transforms import tf
from lcr2s_jax import images, threads

FORMATS = ('JPEG', 'PNG', 'BMP')  # of the published datasets; what `data.transforms` decodes
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


def read(entries: Iterable[Entry], folder: pathlib.Path, max_pixels: int) -> Iterator[tuple[Entry, bytes, str]]:
    """The file of every entry, in order: (entry, its bytes, '' or why it cannot be used).

    Args:
      entries: in the order wanted.
      folder: that file names are below.
      max_pixels: width times height.
    """

    def one(entry: Entry) -> tuple[Entry, bytes, str]:
        try:
            encoded = images.read(folder / entry.file_name)
        except images.PictureError as error:
            return entry, b'', str(error)
        return entry, encoded, fault_of(encoded, max_pixels) or ('' if entry.captions else 'no caption')

    yield from threads.in_order(one, entries)
