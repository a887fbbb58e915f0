"""Any folder of pictures, for an index: listed, read, decoded and resized as training does, many at a time."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax import images, threads
from lcr2s_jax.errors import DataError
from lcr2s_jax.files import storable
from lcr2s_jax.image_headers import sniff

_NAMED = 3  # files that are named for each reason why they are passed over


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


class Listing(NamedTuple):
    """What lies below a folder.

    Attributes:
      files: the pictures, sorted by path.
      faults: path -> why it cannot be used, unreadable folders among them.
      passed_over: reason -> {'count': files and folders, 'first': names of some}, the most frequent first.
    """

    files: list[File]
    faults: dict[str, str]
    passed_over: dict[str, dict]


def walk(root: pathlib.Path, skip: Sequence[pathlib.Path] = ()) -> Listing:
    """List the pictures below `root`: by their suffix, and those without a suffix by their content.

    Links and what begins with a dot are passed over: nothing outside the root gets in by a link, and no folder is
    walked twice.

    Args:
      root: the folder.
      skip: folders below it that are not entered.

    Raises:
      DataError: the root itself cannot be read.
    """
    found, faults, passed, waiting = [], {}, {}, [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            if folder == str(root):
                raise DataError(f'{root}: cannot be read ({error.strerror}), expected a folder of pictures') from None
            faults[os.path.relpath(folder, root)] = f'a folder that cannot be read ({error.strerror})'
            continue
        for entry in entries:
            fault = reason = ''
            try:
                if not entry.is_symlink() and not entry.name.startswith('.') and entry.is_dir():
                    waiting += [entry.path] * (pathlib.Path(entry.path) not in skip)
                    continue
                reason = _passed_over(entry)
                if not reason:
                    fault = _unusable(entry)
                    found += [] if fault else [look(root, pathlib.Path(entry.path))]
            except OSError as error:  # it went away since it was listed, or may not be looked at
                fault = error.strerror or 'cannot be read'
            if fault:
                faults[os.path.relpath(entry.path, root)] = fault
            if reason:
                told = passed.setdefault(reason, {'count': 0, 'first': []})
                told['count'] += 1
                told['first'] += [os.path.relpath(entry.path, root)] * (len(told['first']) < _NAMED)
    return Listing(sorted(found), faults, dict(sorted(passed.items(), key=lambda item: -item[1]['count'])))


def summary(passed_over: Mapping[str, Mapping], most: int = 10) -> str:
    """What was passed over, in one line; '' for nothing."""
    if not passed_over:
        return ''
    count = sum(one['count'] for one in passed_over.values())
    parts = []
    for reason, one in list(passed_over.items())[:most]:
        more = ', ...' if one['count'] > len(one['first']) else ''
        parts.append(f'{one["count"]:,} {reason} ({", ".join(map(repr, one["first"]))}{more})')
    others = [f'{len(passed_over) - most:,} more reasons (--json)'] * (len(passed_over) > most)
    return f'{count:,} passed over: {"; ".join(parts + others)}'


def _passed_over(entry: os.DirEntry) -> str:
    """Why what is no folder is not taken for a picture; '' where it is. Raises OSError."""
    if entry.name.startswith('.'):
        return 'hidden by a dot before their name'
    if entry.is_symlink():
        return 'links'
    if entry.name.lower().endswith(images.SUFFIXES):
        return ''
    if suffix := pathlib.PurePath(entry.name).suffix.lower():
        return f'by their suffix {suffix}'
    if not entry.is_file():
        return 'pipes, sockets or devices'
    with open(entry.path, 'rb') as file:
        kind = sniff(file.read(images.HEAD))
    return '' if kind in images.FORMATS else 'without a suffix, by their content'


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
        sha256 = hashlib.sha256(encoded).hexdigest()
        return Picture(file, sha256, *(decode(encoded, image_size) if wanted(sha256) else (None, '')))

    yield from threads.in_order(one, files)


def decode(encoded: bytes, image_size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
    """(uint8 [h, w, 3], ''), or (None, why not) for bytes that are no usable picture."""
    try:
        return images.pixels(encoded, image_size), ''
    except images.PictureError as fault:
        return None, str(fault)
