"""Forgetting: pictures leave an index by condition or by age, with all that was kept of them, and do not come back.

What stays is a hash of the picture's bytes and one of its place, so that the next `index` of the same folder knows them
again; they tell nothing to those who have neither. The files are not touched, but for those the index itself keeps:
uploads, and crops that it cut out of videos. Nor is the audit log.
"""

import datetime
import hashlib
import re
import shutil
import warnings
from collections.abc import Iterable
from typing import NamedTuple

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import repair
from lcr2s_jax.search import storage as places
from lcr2s_jax.search.gallery import Gallery, sql

GONE = 'gone'  # the table of hashes
_UNITS = {'d': 'days', 'h': 'hours', 'm': 'minutes'}
_IN = 500  # values of one SQL list


class Forgotten(NamedTuple):
    """What `delete` took.

    Attributes:
      rows: of the table.
      uploads: files that were uploaded.
      tracks: folders of crops that were cut out of videos.
    """

    rows: int
    uploads: int
    tracks: int


def key(*what) -> str:
    """How a picture that was forgotten is known again: of ('bytes', sha256) or ('file', root, path, size, modified).

    The root is as the table has it.
    """
    return hashlib.sha256('\n'.join(map(str, what)).encode()).hexdigest()


def older_than(age: str) -> str:
    """A condition for what was indexed longer ago than '30d', '12h' or '45m'. Raises SearchError."""
    found = re.fullmatch(r'(\d+)([dhm])', age.strip())
    if not found:
        raise SearchError(f"--older-than: found '{age}', expected days, hours or minutes such as 30d, 12h, 45m")
    try:
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise SearchError(f"--older-than: found '{age}', which is before the year 1; expected a shorter age") from None
    return f"added < timestamp '{before:%Y-%m-%dT%H:%M:%S}Z'"


def delete(gallery: Gallery, where: str) -> Forgotten:
    """Forget what a condition chooses, for good, other writers being kept out.

    First the hashes are committed, then uploaded files go, then the rows, then every file of the table is written anew
    without them: a deletion in LanceDB is a mark at first. Where a call was killed, the same call does what is left.
    """
    with gallery.writing():
        repair.own(gallery)
        found = gallery.rows(where, ['root', 'path', 'bytes', 'modified', 'sha256'])
        modified = found['modified'].cast('int64').to_pylist()
        files = list(zip(*(found[name].to_pylist() for name in ('root', 'path', 'bytes')), modified, strict=True))
        remember(gallery, [key('file', *file) for file in files])
        remember(gallery, [key('bytes', sha256) for sha256 in found['sha256'].to_pylist() if sha256])
        # before the rows, by which a call after a kill finds them
        uploads, tracks = _remove_own(gallery, [file[:2] for file in files])
        with sql(where, gallery):
            gallery.table.delete(where)
        erase(gallery)
    return Forgotten(found.num_rows, uploads, tracks)


def _remove_own(gallery: Gallery, files: Iterable[tuple[str, str]]) -> tuple[int, int]:
    """Remove those of (root, path) that the index itself keeps: how many uploads, and how many tracks."""
    uploads, tracks, count = places.uploads(gallery.uri), places.tracks_folder(gallery.uri), [0, 0]
    for root, path in files:
        if root == places.UPLOADED and (uploads / path).is_file():
            (uploads / path).unlink()
            count[0] += 1
        if root == places.TRACKED and (crops := (tracks / path).parent).is_dir():
            shutil.rmtree(crops, ignore_errors=True)
            count[1] += not crops.exists()
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
            gallery.db.create_table(GONE, schema=schema, exist_ok=True).add(table)


def readmit(gallery: Gallery, keys: Iterable[str]) -> None:
    """Let pictures in again."""
    if not keys:
        return
    with gallery.writing():
        keys = sorted(set(keys) & forgotten(gallery))
        for start in range(0, len(keys), _IN):
            listed = ', '.join(f"'{one}'" for one in keys[start : start + _IN])
            gallery.db.open_table(GONE).delete(f'key in ({listed})')


def forgotten(gallery: Gallery) -> set[str]:
    """Every `key` that is kept out."""
    if GONE not in gallery.db.table_names(limit=1000):
        return set()
    return set(gallery.db.open_table(GONE).search().select(['key']).to_arrow()['key'].to_pylist())


def erase(gallery: Gallery) -> None:
    """Write the table anew without its deleted rows, in one commit, and drop all versions before.

    Compaction would leave a deleted row where it is while nine in ten of its neighbours live. Whoever has an older
    version open must open the index again. The lock is what makes it safe: files that another writer has not committed
    yet would go with the old ones, and its rows would be lost.
    """
    import pyarrow as pa

    from lcr2s_jax.search import approximate

    with gallery.writing():
        old, had = gallery.table, gallery.approximate
        batches = old.search().to_batches()
        reader = pa.RecordBatchReader.from_batches(old.schema, batches)
        gallery.table = gallery.db.create_table(
            old.name, reader, schema=old.schema, mode='overwrite', on_bad_vectors='null'
        )
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that others may have it open is what we want to end
            gallery.table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)
        if had and gallery.count() >= approximate.FEWEST:
            approximate.build(gallery)  # its codes are of the vectors, too
