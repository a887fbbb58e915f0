"""What a call that was killed may have left in an index, and how it is put right."""

import contextlib
import datetime
import pathlib
from collections.abc import Sequence

from lcr2s_jax import files, locks
from lcr2s_jax.search import conditions, erasure, storage
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.search.rows import as_matrix, not_unit

SPOILT = 'its vector was damaged; index it again'  # status of a row
_NEVER = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)  # the time of no file: it is taken for changed


def own(gallery: Gallery) -> None:
    """Finish what a killed call left: erasures, and uploads without a row."""
    with gallery.writing():
        erasure.finish(gallery)
        if not storage.is_remote(gallery.uri):
            _clear_half_cut(storage.tracks_folder(gallery.uri))
            settle(gallery)


def _clear_half_cut(tracks: pathlib.Path) -> None:
    """Remove the crops of a video whose cutting was killed: without rows, nothing would ever delete or expire them.

    What its detector found stays: the next call cuts the same crops out again by it.
    """
    for partial in tracks.glob(f'*{storage.HALF_CUT}'):
        lock = storage.cutting_lock(partial.with_name(partial.name.removesuffix(storage.HALF_CUT)))
        with contextlib.suppress(BlockingIOError), locks.alone(lock, locks.refuse):
            for crops in partial.iterdir():
                if crops.is_dir():
                    files.remove(crops)


def doubles(gallery: Gallery) -> int:
    """Drop the second row, the younger, of a file that two calls wrote together; how many rows went."""
    with gallery.writing():
        found = gallery.rows(conditions.EVERY, ['root', 'path', 'added'], with_rows=True)
        counted = found.group_by(['root', 'path']).aggregate([('path', 'count')])['path_count']
        if sum(counted.to_pylist()) == len(counted):
            return 0
        seen, second = set(), []
        for one in found.sort_by([('added', 'ascending'), ('_rowid', 'ascending')]).to_pylist():
            file = one['root'], one['path']
            second += [one['_rowid']] * (file in seen)
            seen.add(file)
        for some in conditions.in_lists(second):
            gallery.table.delete(conditions.among('_rowid', some).sql)
        return len(second)


def vectors(gallery: Gallery) -> int:
    """Have rows with a damaged vector embedded anew by the next `index` of their pictures; how many they are."""
    with gallery.writing():
        found = gallery.rows(FOUND, ['vector'], with_rows=True)
        spoilt = found['_rowid'].to_numpy()[not_unit(as_matrix(found['vector'], gallery.width))]
        for some in conditions.in_lists(spoilt):
            chosen = conditions.among('_rowid', some)
            gallery.table.update(where=chosen.sql, values={'status': SPOILT, 'modified': _NEVER})
    return len(spoilt)


def begin(gallery: Gallery, names: Sequence[str]) -> None:
    """Write down which uploads are about to be kept, so that `settle` finds them after a kill."""
    settle(gallery)
    keep(_pending(gallery), '\n'.join(names).encode())


def keep(path: pathlib.Path, content: bytes) -> None:
    """Write an upload: only its owner may read it; aside, then renamed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    files.write(path, content, mode=0o600)


def settle(gallery: Gallery) -> None:
    """Remove what `begin` has named and no row did come of: nothing else would ever delete it, or let it expire."""
    pending, folder = _pending(gallery), storage.uploads(gallery.uri)
    with contextlib.suppress(FileNotFoundError):
        names, known = files.read_bytes(pending).decode(errors='replace').splitlines(), gallery.known(storage.UPLOADED)
        for name in names:
            if pathlib.PurePath(name).name != name:  # of no upload: it could lead to any file
                continue
            if name not in known:
                (folder / name).unlink(missing_ok=True)
            files.aside_of(folder / name).unlink(missing_ok=True)
        pending.unlink()


def _pending(gallery: Gallery) -> pathlib.Path:
    return storage.uploads(gallery.uri) / '.pending'
