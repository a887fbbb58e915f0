"""The seal of an index's tables: a checksum of every file that a version is made of, kept beside them.

LanceDB never changes a file that it has written, and does not notice who does: a bit of a vector or of a path would be
another answer. The seal tells damage and changes by hand; it proves nothing against somebody who makes a new one. An
object store looks after its bytes itself, and an index there has none.
"""

import errno
import os
import pathlib
import uuid
import zlib
from collections.abc import Iterable

from lcr2s_jax import files, threads
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import storage
from lcr2s_jax.weights import manifest

FILE = 'sealed.json'
_ADVICE = 'restore the index from a copy, or index the pictures again into another folder'
HINT = 'latest_version_hint.json'  # LanceDB writes it anew with every version, and looks itself where it is wrong
_BLOCK = 1 << 22  # bytes read at once
_verified: dict[str, tuple] = {}  # path -> what `_stamp` and `_sum` of it were, in this process


def read(uri: str) -> dict:
    """What was sealed: files (name -> checksum), versions (table -> number), model (its hash); {} without a seal.

    To be read before a table is opened: a writer seals a version after it has committed it. Raises SearchError where
    the seal itself is damaged.
    """
    path = pathlib.Path(uri) / FILE
    return {} if storage.is_remote(uri) or not path.exists() else manifest.read(path, _ADVICE)


def check(uri: str, sealed: dict, table: str, version: int) -> None:
    """Compare the files of a table's version with the seal; those that it does not know are taken as they are.

    Each is read once in a process, unless its time, size or place changes. Raises SearchError where one is not what was
    written, or the version is older than the one that was sealed.
    """
    if not sealed:
        return
    if version < sealed['versions'].get(table, 0):
        least = sealed['versions'][table]
        raise SearchError(
            f'{uri}: damaged: found version {version} of the table {table}, expected {least} or later; {_ADVICE}'
        )
    _compare(uri, sealed, _used(uri, table, version))


def check_there(uri: str, sealed: dict) -> None:
    """Raise SearchError where a table that was sealed is not there: what was forgotten would be taken again."""
    for table in sealed.get('versions', ()):
        if not storage.listed(uri, f'{table}.lance/_versions'):
            raise SearchError(f'{uri}: damaged: found no versions in {table}.lance, which this index had; {_ADVICE}')


def check_newest(uri: str, sealed: dict, table: str) -> None:
    """Compare the manifest that LanceDB opens first with the seal, as `check` does: a damaged one stops its threads."""
    if sealed:
        names = storage.listed(uri, f'{table}.lance/_versions')
        _compare(uri, sealed, sorted(name for name in names if name.endswith('.manifest'))[:1])


def _compare(uri: str, sealed: dict, names: Iterable[str]) -> None:
    used = sealed['files'].keys() & names
    for name, found in zip(used, _sums(uri, used), strict=True):
        if found not in (None, sealed['files'][name]):  # what is gone LanceDB tells, where it is needed
            raise SearchError(f'{uri}: damaged: {name} is not what was written; {_ADVICE}')


def update(uri: str, versions: dict[str, int], model: str = '') -> None:
    """Seal the files that are new in these versions (table -> number), and whose vectors they are, by the model's hash.

    To be called after a commit, by whoever holds the lock of the index; '' leaves the model that is there.
    """
    if storage.is_remote(uri):
        return
    old = read(uri)
    there = {name for table in versions for name in storage.listed(uri, f'{table}.lance') if not name.endswith(HINT)}
    known = {name: value for name, value in old.get('files', {}).items() if name in there}
    fresh = sorted(there - known.keys())
    known |= {name: value for name, value in zip(fresh, _sums(uri, fresh), strict=True) if value}
    facts = {'files': known, 'versions': versions, 'model': model or old.get('model', '')}
    if facts != {name: old.get(name) for name in facts}:
        files.write(pathlib.Path(uri) / FILE, files.to_json(manifest.signed(facts)))


def _used(uri: str, table: str, version: int) -> set[str]:
    """Files that the version refers to: their names, or numbers, stand in its manifest."""
    folder = f'{table}.lance'
    names = {f'{folder}/_versions/{number}.manifest' for number in (version, (1 << 64) - 1 - version)}
    names = {name for name in names if (pathlib.Path(uri) / name).is_file()}
    content = b''.join((pathlib.Path(uri) / name).read_bytes() for name in names)
    for name in storage.listed(uri, folder):
        kind, *below = name.split('/')[1:]
        if below and (
            kind == '_deletions'
            or (kind == 'data' and below[-1].encode() in content)
            or (kind == '_indices' and uuid.UUID(below[0]).bytes in content)
        ):
            names.add(name)
    return names


def _sums(uri: str, names: Iterable[str]) -> list[str | None]:
    """Checksum and size of files; None where one is not there, '' of a folder, a pipe or a device."""
    return list(threads.in_order(_sum, [os.path.join(uri, name) for name in names]))


def _sum(path: str) -> str | None:
    try:
        with files.regular(path) as file:
            facts = os.fstat(file.fileno())
            stamp = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
            if (known := _verified.get(path)) and known[0] == stamp:
                return known[1]
            value, size = 0, 0
            while block := file.read(_BLOCK):
                value, size = zlib.crc32(block, value), size + len(block)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR, errno.ENXIO):  # no file: it has no sum that was ever sealed
            return ''
        raise  # of the moment, such as too many open files
    _verified[path] = stamp, f'{value:08x}-{size}'
    return _verified[path][1]
