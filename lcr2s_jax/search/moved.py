"""Folders of pictures that lie elsewhere now: their rows, with vectors and columns, become rows of the new place."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import retention, storage, stores
from lcr2s_jax.search.folder import Root
from lcr2s_jax.search.gallery import FOUND, Gallery

_LAST = '.moved'  # in the index: a hash of the last two folders, by which a call that was killed is known again


class Moved(NamedTuple):
    """What became of the rows of a folder."""

    old: str  # the folder, as the index knew it
    moved: int  # rows that are of the new folder now
    left: int  # rows whose picture is not in the new folder, or is of another size there


def move(gallery: Gallery, old: str, root: Root) -> Moved:
    """Have rows of `old` be rows of `root`, where a file of the same path and size lies below it.

    A row that `root` has of such a path already goes: the older one has the columns. A call that was killed after it is
    finished by the same call. Raises SearchError where the index has no row of `old`, naming the folders that it has.
    """
    key = storage.stored(gallery.uri, root)
    mark = retention.key('moved', os.path.abspath(old), key).encode()
    try:
        old = _root_of(gallery, old)
    except SearchError:
        if storage.read(gallery.uri, _LAST) == mark:
            return Moved(old, 0, 0)
        raise
    with gallery.writing():
        known = gallery.known(old)
        if old == key:
            return Moved(old, 0, len(known))
        storage.write(gallery.uri, _LAST, mark)
        size = _sizes(root)
        paths = [path for path, facts in known.items() if size(path) == facts[0]]
        gallery.drop(key, [path for path in gallery.known(key) if path in set(paths)])
        gallery.move(old, paths, key)
    return Moved(old, len(paths), len(known) - len(paths))


def lost_folders(gallery: Gallery, root: Root) -> list[str]:
    """Folders of the index that are not there any more, and some of whose pictures lie below `root` now."""
    key, found, size = storage.stored(gallery.uri, root), [], _sizes(root)
    for old in roots(gallery):
        if old != key and os.path.isabs(old) and not os.path.isdir(old):
            known = gallery.known(old)
            if any(size(path) == facts[0] for path, facts in known.items()):
                found.append(old)
    return found


def forget_copies(gallery: Gallery, old: str) -> Moved:
    """Forget the rows of a folder that is gone whose bytes have a row elsewhere; `left` are those that stay.

    The others may be of a disk that is not there today: to forget them takes a `delete`.
    """
    old = _root_of(gallery, old)
    with gallery.writing():
        found = gallery.rows(FOUND, ['root', 'sha256']).to_pylist()
        elsewhere = {one['sha256'] for one in found if one['root'] != old}
        known = gallery.known(old)
        copies = [path for path, facts in known.items() if facts[2] in elsewhere]
        if copies:
            retention.prune(gallery, old, copies)
    return Moved(old, len(copies), len(known) - len(copies))


def roots(gallery: Gallery) -> list[str]:
    """Folders that the index has rows of, as its table names them."""
    return sorted(gallery.rows('', ['root'])['root'].unique().to_pylist())


def _root_of(gallery: Gallery, old: str) -> str:
    """A folder that may not be there any more as the table names it. Raises SearchError."""
    have = roots(gallery)
    for name in (old, os.path.abspath(old), str(pathlib.Path(old).resolve()), old.rstrip('/')):
        if name in have:
            return name
    shown = (', '.join(have[:5]) or 'none') + f' and {len(have) - 5:,} more' * (len(have) > 5)
    raise SearchError(f'found no picture of the folder {old} in {gallery.uri}; it has those of {shown}')


def _sizes(root: Root) -> Callable[[str], int]:
    """Tells the bytes of a file below a root by its path; -1 where there is none."""
    if isinstance(root, str):
        listed = functools.cache(lambda: {path: size for path, size, _ in stores.listing(root)})
        return lambda path: listed().get(path, -1)

    def size(path: str) -> int:
        try:
            return (root / path).stat().st_size
        except OSError:
            return -1

    return size
