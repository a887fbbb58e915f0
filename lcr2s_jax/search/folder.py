"""Any folder of pictures, here or in an object store: listed, read, decoded and resized, many at a time."""

import functools
import hashlib
import os
import pathlib
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax import images, threads
from lcr2s_jax.errors import ConfigError, DataError
from lcr2s_jax.image_headers import sniff
from lcr2s_jax.search import stores
from lcr2s_jax.texts import near, storable

_NAMED = 3  # files that are named for each reason why they are passed over
_HIDDEN = 'hidden by a dot before their name'
_UNREAD = ('AVIF', 'JPEG 2000', 'JPEG XL', 'Photoshop', 'ICO', 'EPS', 'SVG')  # pictures, by `sniff`
_UNREAD_SUFFIXES = (
    '.avif', '.avifs', '.jp2', '.j2k', '.jpf', '.jpx', '.jxl', '.jxr', '.psd', '.ico', '.eps', '.svg', '.tga', '.pcx',
    '.ppm', '.pgm', '.pbm', '.pnm', '.exr', '.hdr', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.raf', '.orf', '.rw2',
)  # fmt: skip
_CONVERT = 'pictures that are not read: convert them to JPEG or PNG'
Root = pathlib.Path | str  # a folder, resolved, or the URL of one


class File(NamedTuple):
    """A file as its folder tells of it."""

    path: str  # below the root, with forward slashes
    size: int  # bytes
    modified: int  # microseconds since 1970


class Picture(NamedTuple):
    file: File
    sha256: str  # of its bytes, hex; '' where they cannot be read
    pixels: np.ndarray | None  # uint8 [h, w, 3]; None where they were not wanted or there is a fault
    fault: str  # why it cannot be used, half a sentence; '' where it can


class Listing(NamedTuple):
    files: list[File]  # the pictures, sorted by path
    faults: dict[str, str]  # path -> why it cannot be used, unreadable folders among them
    # reason -> {'count': files and folders, 'first': names of some}, the most frequent first
    passed_over: dict[str, dict]


def check(root: Root) -> None:
    """Raise ConfigError or SearchError where there can be no pictures below a root, before any work."""
    if isinstance(root, str):
        if root.lower().startswith('file:'):  # behind which a link would lead anywhere
            path = urllib.parse.unquote(urllib.parse.urlsplit(root).path)
            raise ConfigError(f'--images: found the URL {root}, expected the folder itself: --images={path}')
        stores.check(root)
        return
    if root.is_file():
        raise ConfigError(
            f'--images: found the file {root}, expected a folder, such as its own: --images={root.parent}'
            + '; a video is --video' * (root.suffix.lower() in ('.mp4', '.avi', '.mov', '.mkv'))
        )
    if not root.is_dir():
        raise ConfigError(f'--images: found no folder {root}; expected one with pictures below it{near(root)}')
    if not storable(str(root)):
        raise ConfigError(f'--images: found {str(root)!r}, a name that is no UTF-8; rename the folder')


def walk(root: Root, skip: Sequence[pathlib.Path] = ()) -> Listing:
    """List the pictures below `root`: by their suffix, and those without a suffix by their content.

    Links, what begins with a dot and folders in `skip` are passed over: nothing outside the root gets in by a link, and
    no folder is walked twice. Raises DataError where the root cannot be read, SearchError where an object store does
    not answer.
    """
    if isinstance(root, str):
        return _objects(root)
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
            _pass(passed, reason, os.path.relpath(entry.path, root))
    return Listing(sorted(found), faults, _most_first(passed))


def _objects(root: str) -> Listing:
    """The pictures among the objects of a store, by the same rules."""
    found, passed = [], {}
    for path, size, modified in stores.listing(root):
        hidden = any(part.startswith('.') for part in path.split('/'))
        reason = _HIDDEN if hidden else _by_suffix(path)
        if reason is None:
            reason = _by_content(stores.read(f'{root}/{path}', images.HEAD))
        found += [] if reason else [File(path, size, modified)]
        _pass(passed, reason, path)
    return Listing(sorted(found), {}, _most_first(passed))


def _pass(passed: dict[str, dict], reason: str, path: str) -> None:
    if reason:
        told = passed.setdefault(reason, {'count': 0, 'first': []})
        told['count'] += 1
        told['first'] += [path] * (len(told['first']) < _NAMED)


def _most_first(passed: dict[str, dict]) -> dict[str, dict]:
    return dict(sorted(passed.items(), key=lambda item: -item[1]['count']))


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
        return _HIDDEN
    if entry.is_symlink():
        return 'links'
    if (reason := _by_suffix(entry.name)) is not None:
        return reason
    if not entry.is_file():
        return 'pipes, sockets or devices'
    with open(entry.path, 'rb') as file:
        return _by_content(file.read(images.HEAD))


def _by_suffix(name: str) -> str | None:
    """The same by the name alone; None where the content has to tell."""
    if name.lower().endswith(images.SUFFIXES):
        return ''
    suffix = pathlib.PurePath(name).suffix.lower()
    convert = f', {_CONVERT}' * (suffix in _UNREAD_SUFFIXES)
    return f'by their suffix {suffix}{convert}' if suffix else None


def _by_content(head: bytes) -> str:
    kind = sniff(head)
    convert = f' ({kind}), {_CONVERT}' * (kind in _UNREAD)
    return '' if kind in images.FORMATS else f'without a suffix, by their content{convert}'


def _unusable(entry: os.DirEntry) -> str:
    if not storable(entry.path):
        return 'a name that is no UTF-8; rename it'
    return '' if entry.is_file() else 'no file but a pipe, socket or device'


def look(root: pathlib.Path, path: pathlib.Path) -> File:
    facts = path.stat()
    return File(path.relative_to(root).as_posix(), facts.st_size, facts.st_mtime_ns // 1000)


def read(
    files: Sequence[File],
    root: Root,
    image_size: tuple[int, int],
    wanted: Callable[[str], bool] = lambda sha256: True,
    most: int = 0,
) -> Iterator[Picture]:
    """Open every file, in order, many at a time; one that is damaged or gone comes with a fault.

    `image_size` is height and width in pixels. Where `wanted`, told the hash, says no, pixels are not decoded. `most`
    threads, 0 for one a core. Raises SearchError where an object store does not answer.
    """
    yield from threads.in_order(functools.partial(_open, root, image_size, wanted), files, most)


def _open(root: Root, image_size: tuple[int, int], wanted: Callable[[str], bool], file: File) -> Picture:
    try:
        content = encoded(root, file.path)
    except images.PictureError as fault:
        return Picture(file, '', None, str(fault))
    sha256 = hashlib.sha256(content).hexdigest()
    pixels, fault = decode(content, image_size) if wanted(sha256) else (None, '')
    return Picture(file, sha256, pixels, fault)


def encoded(root: Root, path: str) -> bytes:
    """The bytes of a picture below a root. Raises PictureError; SearchError where a store does not answer."""
    if not isinstance(root, str):
        return images.read(root / path)
    try:
        content = stores.read(f'{root}/{path}', images.DEFAULT.max_bytes + 1)
    except FileNotFoundError:
        raise images.PictureError(images.MISSING) from None
    images.check_bytes(len(content))
    return content


def decode(encoded: bytes, image_size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
    """(uint8 [h, w, 3], ''), or (None, why not) for bytes that are no usable picture."""
    try:
        return images.pixels(encoded, image_size), ''
    except images.PictureError as fault:
        return None, str(fault)
