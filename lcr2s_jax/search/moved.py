"""Folders of pictures that lie elsewhere now: their rows, with vectors and columns, become rows of the new place."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import columns, retention, storage, stores
from lcr2s_jax.search.folder import Root
from lcr2s_jax.search.gallery import FOUND, Gallery

_LAST = '.moved'  # in the index: a hash of the last two folders, by which a call that was killed is known again


class Moved(NamedTuple):
    old: str  # the folder, as the index knew it
    moved: int  # rows that are of the new folder now
    left: int  # rows whose picture is not in the new folder, or is of another size there


def take_over(gallery: Gallery, root: Root, moved_from: str, prune: bool) -> dict:
    """Rows of folders that lie at `root` now."""
    olds = [moved_from] if moved_from else lost_folders(gallery, root)
    if moved_from or prune:
        return {'moved': [move(gallery, old, root)._asdict() for old in olds]} if olds else {}
    return {'seems_moved': olds} if olds else {}


def take_over_by_bytes(gallery: Gallery, root: Root, told: dict, moved_from: str, prune: bool) -> None:
    """The same where the files lie under other paths than before, which is known once they are read."""
    if not (moved_from or prune):
        if found := copied_folders(gallery, root):
            told['seems_moved'] = sorted({*told.get('seems_moved', ()), *found})
        return
    done = {one['old']: one for one in told.get('moved', ())}
    for one in by_bytes(gallery, root, [*done] if moved_from else {*done, *copied_folders(gallery, root)}):
        earlier = done.get(one.old, {'moved': 0})['moved']
        done[one.old] = one._replace(moved=one.moved + earlier)._asdict()
    told |= {'moved': [done[old] for old in sorted(done)]} if done else {}


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
    size = _sizes(root)
    return [
        old for old in _lost(gallery, root) if any(size(path) == facts[0] for path, facts in gallery.known(old).items())
    ]


def copied_folders(gallery: Gallery, root: Root) -> list[str]:
    """Folders of the index that are not there any more, and some of whose bytes lie below `root`, under any path."""
    if not (lost := _lost(gallery, root)):
        return []
    here = set(hashes(gallery, storage.stored(gallery.uri, root)).values()) - {''}
    return [old for old in lost if not here.isdisjoint(hashes(gallery, old).values())]


def _lost(gallery: Gallery, root: Root) -> list[str]:
    key = storage.stored(gallery.uri, root)
    return [old for old in roots(gallery) if old != key and os.path.isabs(old) and not os.path.isdir(old)]


def hashes(gallery: Gallery, root: str) -> dict[str, str]:
    """path -> sha256 of every row of a root, as the table names it."""
    found = gallery.of_root(root, ['path', 'sha256'])
    return dict(zip(found['path'].to_pylist(), found['sha256'].to_pylist(), strict=True))


def by_bytes(gallery: Gallery, root: Root, olds: Iterable[str]) -> list[Moved]:
    """Take over what is left of folders whose files lie below `root` under another path, once `root` is indexed."""
    key, done = storage.stored(gallery.uri, root), []
    here = hashes(gallery, key) if olds else {}
    for old in olds:
        if old != key:
            left = hashes(gallery, old)
            pairs = carry(gallery, old, left, key, here)
            gallery.drop(old, list(pairs))
            done.append(Moved(old, len(pairs), len(left) - len(pairs)))
    return done


def carry(gallery: Gallery, old: str, gone: Mapping[str, str], key: str, here: Mapping[str, str]) -> dict[str, str]:
    """Give columns of rows whose file is gone to rows of the same bytes, one to one, where these have none.

    Args:
      gallery: of both; others may have written to it since the hashes were read.
      old, gone: root of the rows whose files are gone, and path -> sha256 of them.
      key, here: the same of the rows that may be theirs now.

    Returns:
      path that is gone -> path that has its bytes; of several, the one of the same name.
    """
    free: dict[str, list[str]] = {}
    for path, sha256 in here.items():
        free.setdefault(sha256, []).append(path)
    free.pop('', None)
    pairs = {}
    for path, sha256 in gone.items():
        if there := free.get(sha256):
            name = pathlib.PurePath(path).name
            pairs[path] = next((one for one in there if pathlib.PurePath(one).name == name), there[0])
            there.remove(pairs[path])
    kinds = gallery.columns
    if pairs and kinds:
        with gallery.writing():
            rows = {one: gallery.of_root(one, ['path', *kinds]).to_pylist() for one in {old, key}}
            had, have = ({row['path']: row for row in rows[one]} for one in (old, key))
            given = {
                new: {k: had[path][k] if have[new][k] is None else have[new][k] for k in kinds}
                for path, new in pairs.items()
                if path in had and new in have
            }
            columns.join(gallery, key, kinds, given)
    return pairs


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
