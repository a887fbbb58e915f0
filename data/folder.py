"""Any folder of pictures, for an index: listed, read, decoded and resized as evaluation does, many at a time."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp')
# What `data.transforms` makes of a file, for those who keep what came of it: to be changed with it.
RECIPE = 'RGB uint8; JPEG by INTEGER_ACCURATE; bilinear, antialiased where a side shrinks'


class File(NamedTuple):
    """A file as its folder tells of it.

    Attributes:
      path: below the root, with forward slashes.
      size: bytes.
      modified: microseconds since 1970.
    """

    path: str
    size: int
    modified: int


class Picture(NamedTuple):
    """A file that was opened.

    Attributes:
      file: which.
      sha256: of its bytes, hex; '' where they cannot be read.
      pixels: uint8 [h, w, 3]; None where they were not wanted or there is a fault.
      fault: why it cannot be used, half a sentence; '' where it can.
    """

    file: File
    sha256: str
    pixels: np.ndarray | None
    fault: str


def walk(root: pathlib.Path) -> list[File]:
    """Every picture below `root`, by its suffix, sorted by path. What begins with a dot and links are left out:

    nothing outside the root gets in by a link, and no folder is walked twice.
    """
    found, waiting = [], [str(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith('.') or entry.is_symlink():
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                elif entry.name.lower().endswith(SUFFIXES):
                    found.append(look(root, pathlib.Path(entry.path)))
    return sorted(found)


def look(root: pathlib.Path, path: pathlib.Path) -> File:
    """The `File` of one path below `root`."""
    facts = path.stat()
    return File(path.relative_to(root).as_posix(), facts.st_size, facts.st_mtime_ns // 1000)


def read(
    files: Sequence[File],
    root: pathlib.Path,
    image_size: tuple[int, int],
    max_pixels: int,
    wanted: Callable[[str], bool] = lambda sha256: True,
) -> Iterator[Picture]:
    """Open every file, in order, many at a time.

    Args:
      files: from `walk`.
      root: that they lie below.
      image_size: height and width in pixels.
      max_pixels: width times height, looked up before a pixel is decoded.
      wanted: told the hash; where it says no, pixels are not decoded.
    """

    from data import images

    def one(file: File) -> Picture:
        try:
            encoded = (root / file.path).read_bytes()
        except OSError as error:
            return Picture(file, '', None, error.strerror or 'cannot be read')
        sha256 = hashlib.sha256(encoded).hexdigest()
        return Picture(file, sha256, *(decode(encoded, image_size, max_pixels) if wanted(sha256) else (None, '')))

    yield from images.in_order(one, files)


def decode(encoded: bytes, image_size: tuple[int, int], max_pixels: int) -> tuple[np.ndarray | None, str]:
    """(uint8 [h, w, 3], ''), or (None, why not) for bytes that are no usable picture."""
    from data import images
    from data.transforms import tf

    if fault := images.header_fault(encoded, max_pixels):
        return None, fault
    try:
        return _program(tuple(image_size))(tf.constant(encoded)).numpy(), ''
    except tf.errors.InvalidArgumentError:
        return None, f'damaged: its {len(encoded)} bytes cannot be decoded'


@functools.cache
def _program(image_size: tuple[int, int]):
    """The transform of evaluation, compiled once for all threads."""
    from data import transforms
    from data.transforms import tf

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def program(encoded):
        return transforms.resize(transforms.decode(encoded), image_size)

    return program
