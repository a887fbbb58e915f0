"""Forgetting: pictures leave an index by condition or by age, with all that was kept of them, and do not come back.

What stays is a hash of the picture's bytes and one of its place, so that the next `index` of the same folder knows them
again; they tell nothing to those who have neither. The files are not touched, but for those the index itself keeps:
uploads, and crops that it cut out of videos. Nor is the audit log, which goes on naming what searches have found.
"""

import collections
import datetime
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import SearchError, printable
from lcr2s_jax.search import audit, conditions, repair, seal, storage, tables
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.erasure import erase
from lcr2s_jax.search.gallery import GONE, Gallery
from lcr2s_jax.texts import counted

_UNITS = {'d': 'days', 'h': 'hours', 'm': 'minutes'}
_EXAMPLES, _VALUES = 3, 5  # rows that a plan names; values of a column that it counts


class Plan(NamedTuple):
    """Rows that are to be forgotten, found once: what is shown is what goes."""

    version: int  # of the gallery, when they were found
    rows: np.ndarray  # their numbers at that version, rising
    files: list[tuple[str, str, str]]  # (root, path, sha256) of each
    total: int  # rows of the whole index
    # a column of the user's -> its most frequent values among them, each with how many rows have it
    values: dict[str, list[tuple]]

    def lines(self) -> list[str]:
        """What would go: how many, some of them, and the user's columns."""
        told = [f'{counted(len(self.files), "row")} of {self.total:,}']
        told += [printable(f'  {root}/{path}') for root, path, _ in self.files[:_EXAMPLES]]
        told += ['  ...'] * (len(self.files) > _EXAMPLES)
        for column, frequent in self.values.items():
            listed = ', '.join(f'{value!r} {count:,}' for value, count in frequent)
            told.append(f'  {column}: {listed}')
        return told


class Forgotten(NamedTuple):
    """What `delete` took."""

    rows: int  # of the table
    uploads: int  # files that were uploaded
    tracks: int  # folders of crops that were cut out of videos
    left: int = 0  # rows of the plan that others have changed or removed since it was made


def key(*what) -> str:
    """How what was forgotten is known again: ('bytes', sha256) or ('file', the table's root, path, size, modified)."""
    return hashlib.sha256('\n'.join(map(str, what)).encode()).hexdigest()


def older_than(age: str) -> str:
    """A condition for what was indexed longer ago than '30d', '12h' or '45m'. Raises SearchError."""
    found = re.fullmatch(r'(\d{1,15})([dhm])', age.strip(), re.ASCII)
    if not found:
        raise SearchError(f'--older-than: found {age[:40]!a}, expected days, hours or minutes such as 30d, 12h, 45m')
    try:
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise SearchError(f'--older-than: found {age!a}, which is before the year 1; expected a shorter age') from None
    return f"added < timestamp '{before.isoformat(timespec='seconds')}'"


def to_come(uri: str) -> str:
    """A word on rows that were indexed under a clock that was ahead, which no age takes yet; '' without such."""
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
    where = f"added > '{now:%Y-%m-%dT%H:%M}Z'"
    if not (count := tables.lasting(lambda: Gallery(uri).count(where))):
        return ''
    return (
        f'{uri}: {counted(count, "row")} indexed at a time that is still to come: the clock was ahead, and their '
        f'age is not known. To forget them: delete --where="{where}"'
    )


def plan(gallery: Gallery, what: Condition | str | Sequence[tuple[str, str]]) -> Plan:
    """Find what is to be forgotten, at the gallery's version; nothing is changed.

    `what` is a condition, or (root, path) of files, the root as the table has it. Raises SearchError where the
    condition cannot be used.
    """
    by_condition = isinstance(what, str | Condition)
    columns = ['root', 'path', 'sha256', *gallery.columns]
    found = gallery.rows(gallery.condition(what) if by_condition else conditions.EVERY, columns, with_rows=True)
    if not by_condition:
        wanted = set(what)
        pairs = zip(found['root'].to_pylist(), found['path'].to_pylist(), strict=True)
        found = found.filter([pair in wanted for pair in pairs])
    found = found.sort_by('_rowid')
    values = {}
    for column in gallery.columns:
        rows_of = collections.Counter(value for value in found[column].to_pylist() if value is not None)
        if rows_of and len(rows_of) < max(len(found), 2):
            values[column] = rows_of.most_common(_VALUES)
    files = list(zip(*(found[name].to_pylist() for name in ('root', 'path', 'sha256')), strict=True))
    return Plan(gallery.version, found['_rowid'].to_numpy(), files, gallery.count(conditions.EVERY), values)


def forget(uri: str, what: str | Sequence[tuple[str, str]], who: str, sure: bool) -> tuple[Plan, Forgotten | None]:
    """Write down who wants what to be forgotten, find it, and where it is `sure` delete it.

    `what` is a condition as it was typed, or (root, path) of files. Raises SearchError, as `delete`, or where the
    condition cannot be used; the attempt is in the log.
    """
    asked = {'user': who, 'event': 'delete' if sure else 'delete, asked only'}
    said = {'where': what} if isinstance(what, str) else {'paths': [f'{root}/{path}' for root, path in what]}
    gallery = Gallery(uri)
    audit.write(uri, [asked | said])
    if sure:
        with gallery.writing():
            repair.own(gallery)
    chosen = tables.lasting(lambda: plan(gallery, what), gallery.refresh)
    if not sure:
        return chosen, None
    audit.write(uri, [{'user': who, 'event': 'deleting', 'rows': len(chosen.files), 'version': chosen.version}])
    return chosen, delete(gallery, chosen)


def delete(gallery: Gallery, what: Plan | Condition | str) -> Forgotten:
    """Forget the rows of a plan, or what a condition chooses now, for good, other writers being kept out.

    First the hashes are committed, then the index's own files go, then the table is written anew without the rows and
    every file of before is removed. Where a call was killed, had no room, or files that held the rows are left
    (SearchError), the same call does what is left.
    """
    with gallery.writing():
        repair.own(gallery)
        chosen = what if isinstance(what, Plan) else plan(gallery, what)
        rows = _still_there(gallery, chosen)
        files, hashes = _told(gallery, rows)
        remember(gallery, [key('file', *file) for file in files] + [key('bytes', sha256) for sha256 in hashes])
        # before the rows, by which a call after a kill finds them
        uploads, tracks = _remove_own(gallery, [file[:2] for file in files])
        audit.forget(gallery.uri, {(storage.located(gallery.uri, file[0]), file[1]) for file in files})
        erase(gallery, rows)
    return Forgotten(len(rows), uploads, tracks, len(chosen.files) - len(rows))


def prune(gallery: Gallery, root: str, paths: Sequence[str]) -> None:
    """Forget rows whose files are gone, and erase what was kept of them; should they come back, they are indexed again.

    Raises SearchError as `delete` does; the same call goes on.
    """
    with gallery.writing():
        chosen = plan(gallery, [(root, path) for path in paths])
        audit.forget(gallery.uri, {(storage.located(gallery.uri, root), path) for path in paths})
        erase(gallery, chosen.rows)


def _told(gallery: Gallery, row_n: np.ndarray) -> tuple[list[tuple], set[str]]:
    """(root, path, bytes, modified) of rows, and the hashes that no other row has: those bytes stay welcome."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(row_n):
        return [], set()
    columns = ['root', 'path', 'bytes', 'modified', 'sha256']
    with tables.told(gallery.uri, 'reading rows', quote=False):
        gone = gallery.table.take_row_ids(row_n.tolist()).select(columns).to_arrow()
    modified = gone['modified'].cast('int64').to_pylist()
    files = list(zip(*(gone[name].to_pylist() for name in ('root', 'path', 'bytes')), modified, strict=True))
    every = gallery.rows(conditions.EVERY, ['sha256'], with_rows=True)
    same = every.filter(pc.is_in(every['sha256'], gone['sha256'].combine_chunks()))
    others = same.filter(pa.array(~np.isin(same['_rowid'].to_numpy(), row_n)))
    return files, set(gone['sha256'].to_pylist()) - set(others['sha256'].to_pylist()) - {''}


def _still_there(gallery: Gallery, chosen: Plan) -> np.ndarray:
    """The numbers of the plan's rows now: other writers may have moved or changed them since."""
    if chosen.version == gallery.version:
        return chosen.rows
    now = gallery.rows(conditions.EVERY, ['root', 'path', 'sha256'], with_rows=True)
    wanted = set(chosen.files)
    files = zip(*(now[name].to_pylist() for name in ('root', 'path', 'sha256')), strict=True)
    return np.sort(now['_rowid'].to_numpy()[[file in wanted for file in files]])


def _remove_own(gallery: Gallery, files: Iterable[tuple[str, str]]) -> tuple[int, int]:
    """Remove those of (root, path) that the index itself keeps: how many uploads, and how many tracks."""
    uploads, tracks, count = storage.uploads(gallery.uri), storage.tracks_folder(gallery.uri), [0, 0]
    for root, path in files:
        if '..' in pathlib.PurePath(path).parts or os.path.isabs(path):  # no upload and no crop has such a name
            continue
        if root == storage.UPLOADED and (uploads / path).is_file():
            (uploads / path).unlink()
            count[0] += 1
        if root == storage.TRACKED and (crops := (tracks / path).parent) != tracks and crops.is_dir():
            shutil.rmtree(crops)
            count[1] += 1
    return count[0], count[1]


def remember(gallery: Gallery, keys: Iterable[str]) -> None:
    """Keep pictures out from now on, by their `key`."""
    import pyarrow as pa

    if not keys:
        return
    with gallery.writing():
        if keys := sorted(set(keys) - forgotten(gallery)):
            now = datetime.datetime.now(datetime.UTC)
            schema = pa.schema([('key', pa.string()), ('at', pa.timestamp('us', tz='UTC'))])
            table = pa.table({'key': keys, 'at': [now] * len(keys)}, schema=schema)
            tables.open_or_make(gallery.db, gallery.uri, GONE, schema).add(table)


def readmit(gallery: Gallery, keys: Iterable[str]) -> None:
    if not keys:
        return
    with gallery.writing():
        for some in conditions.in_lists(sorted(set(keys) & forgotten(gallery))):
            gallery.db.open_table(GONE).delete(conditions.among('key', some).sql)


def forgotten(gallery: Gallery) -> set[str]:
    """Every `key` that is kept out. Raises SearchError."""
    with tables.told(gallery.uri, 'reading what was forgotten'):
        sealed = seal.read(gallery.uri)
        seal.check_newest(gallery.uri, sealed, GONE)
        table = tables.open_or_make(gallery.db, gallery.uri, GONE)
        if table is not None:
            seal.check(gallery.uri, sealed, GONE, table.version)
        return set() if table is None else set(table.search().select(['key']).to_arrow()['key'].to_pylist())
