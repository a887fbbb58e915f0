"""A dataset's folder that is nearly one: what was renamed, moved, nested or left packed, as half a sentence."""

import itertools
import pathlib
from collections.abc import Iterable, Mapping

from lcr2s_jax.texts import alike, difference, near

_PACKED = ('.zip', '.tar', '.tgz', '.gz', '.7z', '.rar', '.bz2', '.xz')
_MOST = 2000  # files and folders that are looked at


def annotations(root: pathlib.Path, wanted: Iterable[str], others: Mapping[str, Iterable[str]]) -> str:
    """Where the annotation file is that `root` lacks; '' where nothing tells. `others`: dataset -> its files."""
    try:
        some = itertools.chain(root.glob('*'), root.glob('*/*'), root.glob('*/*/*'))
        there = sorted(itertools.islice(some, _MOST), key=lambda path: (len(path.parts), path))
    except OSError:
        return ''
    for path in there:
        for name in wanted:
            if alike(path.name) == alike(name):
                if path.name != name:
                    return f'; {path.relative_to(root)} is there, {difference(name, path.name)}: rename it'
                return f'; it is in {path.parent}: set config.data.root to that'
    names = {path.name for path in there}
    known = next((dataset for dataset, files in others.items() if names & set(files)), '')
    return f"; this is the folder of '{known}': set config.data.dataset to that" if known else _packed(there)


def root(path: pathlib.Path) -> str:
    """What stands where a folder was looked for, or is called nearly so."""
    return _packed([path]) or ('; it is a file' if path.is_file() else near(path))


def images(folder: pathlib.Path, first: Iterable[str]) -> str:
    """What to do where the images below `folder` are not there; '' where nothing tells."""
    try:
        beside = sorted(folder.parent.iterdir())
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError:
        return ''
    for path in (*inside, *beside):
        if path != folder and path.is_dir() and any((path / name).is_dir() for name in first if name != '.'):
            return f'They are in {path}: rename or move it to {folder}.'
    packed = _packed([*inside, *beside])
    return f'{packed[2:].capitalize()}.' if packed else ''


def _packed(paths: Iterable[pathlib.Path]) -> str:
    found = next((path for path in paths if path.suffix.lower() in _PACKED), None)
    return f'; unpack {found.name} first' if found else ''
