"""Any folder of pictures, for an index: listed, read, decoded and resized as evaluation does, many at a time."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax import images
from lcr2s_jax.errors import DataError
from lcr2s_jax.files import storable

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp')


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


def walk(root: pathlib.Path) -> tuple[list[File], dict[str, str]]:
    """Every picture below `root`, by its suffix, sorted by path. What begins with a dot and links are left out:

    nothing outside the root gets in by a link, and no folder is walked twice.

    Returns:
      The files; and why the others cannot be used, by path, unreadable folders among them.

    Raises:
      DataError: the root itself cannot be read.
    """
    found, faults, waiting = [], {}, [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError as error:
            if folder == str(root):
                raise DataError(f'{root}: cannot be read ({error.strerror}), expected a folder of pictures') from None
            faults[os.path.relpath(folder, root)] = f'a folder that cannot be read ({error.strerror})'
            continue
        for entry in entries:
            fault = ''
            try:
                if entry.name.startswith('.') or entry.is_symlink():
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                elif entry.name.lower().endswith(SUFFIXES):
                    fault = _unusable(entry)
                    found += [] if fault else [look(root, pathlib.Path(entry.path))]
            except OSError as error:  # it went away since it was listed, or may not be looked at
                fault = error.strerror or 'cannot be read'
            if fault:
                faults[os.path.relpath(entry.path, root)] = fault
    return sorted(found), faults


def _unusable(entry: os.DirEntry) -> str:
    if not storable(entry.path):
        return 'a name that is no UTF-8; rename it'
    return '' if entry.is_file() else 'no file but a pipe, socket or device'


def look(root: pathlib.Path, path: pathlib.Path) -> File:
    """The `File` of one path below `root`."""
    facts = path.stat()
    return File(path.relative_to(root).as_posix(), facts.st_size, facts.st_mtime_ns // 1000)


def read(
    files: Sequence[File],
    root: pathlib.Path,
    image_size: tuple[int, int],
    wanted: Callable[[str], bool] = lambda sha256: True,
) -> Iterator[Picture]:
    """Open every file, in order, many at a time.

    Args:
      files: from `walk`.
      root: that they lie below.
      image_size: height and width in pixels.
      wanted: told the hash; where it says no, pixels are not decoded.
    """

    def one(file: File) -> Picture:
        try:
            encoded = images.read(root / file.path)
        except images.PictureError as fault:
            return Picture(file, '', None, str(fault))
        except OSError as error:
            return Picture(file, '', None, error.strerror or 'cannot be read')
        sha256 = hashlib.sha256(encoded).hexdigest()
        return Picture(file, sha256, *(decode(encoded, image_size) if wanted(sha256) else (None, '')))

    yield from images.in_order(one, files)


def decode(encoded: bytes, image_size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
    """(uint8 [h, w, 3], ''), or (None, why not) for bytes that are no usable picture."""
    try:
        return images.pixels(encoded, image_size), ''
    except images.PictureError as fault:
        return None, str(fault)
