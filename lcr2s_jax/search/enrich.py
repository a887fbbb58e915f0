"""Enriched vectors of an index: each picture with its neighbours in the gallery as supports, without labels.

Computed when pictures come or go, so that no query pays for it. A picture's own vector stays beside: neighbours are
found with it, and examples are compared with it. Files of the same bytes are one picture, and no neighbours of each
other. The vectors are a function of the pictures alone, whatever the order in which they came: a digest of those says
whether anything has to be made again.
"""

import hashlib
import time
from collections.abc import Callable

import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.evaluation import neighbours
from lcr2s_jax.evaluation.gallery_fusion import GalleryFusion
from lcr2s_jax.progress import QUIET, Progress
from lcr2s_jax.search import approximate, enrichment, repair, storage
from lcr2s_jax.search.enrichment import Enrichment
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.search.rows import ENRICHED

WAITED_FOR = 10_000  # pictures up to which a page makes them at once: seconds, and four times as long for twice as many
_ROWS = 10_000  # rows a commit
_TRIES = 3  # on an object store others may write meanwhile


def choose(gallery: Gallery, how: str, count: int = neighbours.NEIGHBOURS, fusion: GalleryFusion | None = None) -> None:
    """Say how the vectors of an index are enriched from now on; `renew` makes them.

    By each picture's `count` 'neighbours', by the 'fusion' of a run's teacher, or 'none' to have own vectors compared
    again. Raises SearchError for 'fusion' without one, or one without it.
    """
    if (how == 'fusion') != (fusion is not None):
        raise SearchError(f"--enrich={how}: found {'a' if fusion else 'no'} fusion; 'fusion' needs one, others none")
    with gallery.writing():
        old = gallery.enriched
        if how == 'none':
            _take_away(gallery, old)
            return
        name = enrichment.keep_fusion(gallery.uri, fusion.to_bytes()) if fusion else ''
        new = Enrichment(how, count, fusion and fusion.shape, name)
        if old is None or old.settings != new.settings:
            _write(gallery, new)
            if old and old.file and old.file != name:
                storage.unlink(gallery.uri, [old.file])


def bring_up_to_date(gallery: Gallery, choose: Callable[[Gallery], None] | None, progress: Progress = QUIET) -> dict:
    """`choose`, all but the gallery given, then `renew`; how it is now and was before, as JSON has it."""
    before, clock = gallery.enriched, time.perf_counter()
    if choose:
        choose(gallery)
    renew(gallery, progress=progress)
    now = gallery.enriched
    told = {} if now is None else {'how': now.how, 'neighbours': now.neighbours, 'in_words': str(now)}
    if before and (now is None or now.settings != before.settings):
        told['before'] = str(before)
    return {'enriched': told | {'seconds': round(time.perf_counter() - clock, 2)}} if told else {}


def renew(gallery: Gallery, most: int = 0, progress: Progress = QUIET) -> bool:
    """Bring the enriched vectors of an index up to date, other writers being kept out.

    Killed at any moment, the table has its own vectors and is searched by them; the next call makes the others. In an
    index of more than `most` pictures nothing is done; 0 for any number.

    Returns whether they are of what the index holds now; True for an index that has none. Raises SearchError on an
    object store on which others write again and again.
    """
    if gallery.enriched is None:
        return True
    with gallery.writing():
        for _ in range(_TRIES):
            if gallery.enriched is None or gallery.compared == ENRICHED:
                return True
            if most and gallery.count() > most:
                return False
            _make(gallery, progress)
            gallery.refresh()
        if gallery.compared != ENRICHED:
            raise SearchError(f'{gallery.uri}: others write to it again and again; wait, and give the command again')
    return True


def _make(gallery: Gallery, progress: Progress) -> None:
    """Make and write the vectors, then say of which version they are, if nobody else has written meanwhile."""
    repair.doubles(gallery)
    repair.vectors(gallery)
    state, pictures, vector_GE = gallery.enriched, *_pictures(gallery)
    digest = _digest(pictures, vector_GE)
    anew = digest != state.digest or not _is_whole(gallery)
    if anew:
        _write(gallery, state._replace(version=0, digest=''))
        _put(gallery, pictures, _enriched(gallery, state, pictures, vector_GE, progress))
    if gallery.approximate and (anew or ENRICHED not in gallery.indexed) and len(vector_GE) >= approximate.FEWEST:
        approximate.build(gallery, columns=[ENRICHED])
    if storage.is_remote(gallery.uri):
        gallery.refresh()
        if _digest(*_pictures(gallery)) != digest:
            return
    _write(gallery, state._replace(version=gallery.version, digest=digest))


def _pictures(gallery: Gallery):
    """An Arrow table of root, path and hash of all pictures that can be found, and their own vectors."""
    vector_GE, row_G = gallery.vectors()
    found = gallery.rows(FOUND, ['root', 'path', 'sha256'], with_rows=True).sort_by('_rowid')
    if not np.array_equal(found['_rowid'].to_numpy(), row_G):
        raise SearchError(f'{gallery.uri}: another process has written to it meanwhile; give the same command again')
    return found, vector_GE


def _digest(pictures, vector_GE: np.ndarray) -> str:
    """Of hashes and vectors, in whatever order."""
    total = 0
    for sha256, vector_E in zip(pictures['sha256'].to_pylist(), vector_GE, strict=True):
        total += int.from_bytes(hashlib.blake2b(sha256.encode() + vector_E.tobytes(), digest_size=16).digest())
    return f'{len(vector_GE)}-{total % (1 << 128):032x}'


def _enriched(gallery: Gallery, state: Enrichment, pictures, vector_GE: np.ndarray, progress: Progress) -> np.ndarray:
    """Unit float32 [G, E]; equal bytes have equal vectors."""
    combine: Callable = neighbours.enriched
    if state.file:
        content = enrichment.fusion_bytes(gallery.uri, state.file)
        combine = GalleryFusion.from_bytes(content, state.fusion, f'{gallery.uri}/{state.file}')
    hashes = np.array(pictures['sha256'].to_pylist(), str)
    _, first_U, picture_G = np.unique(hashes, return_index=True, return_inverse=True)
    vector_UE = vector_GE[first_U]
    with progress.counting('pictures compared with all', len(vector_UE)) as tell:
        near_Uk = neighbours.nearest(vector_UE, state.neighbours, tell)
    return combine(vector_UE, near_Uk)[picture_G]


def _is_whole(gallery: Gallery) -> bool:
    """Whether every picture has an enriched vector, of some time."""
    if ENRICHED not in gallery.table.schema.names:
        return False
    return not gallery.table.count_rows(f'({FOUND.sql}) and {ENRICHED} is null')


def _put(gallery: Gallery, pictures, rich_GE: np.ndarray) -> None:
    """Write the column, some rows a commit."""
    import pyarrow as pa

    if ENRICHED not in gallery.table.schema.names:
        gallery.table.add_columns([pa.field(ENRICHED, pa.list_(pa.float32(), gallery.width))])
    for start in range(0, len(rich_GE), _ROWS):
        flat = pa.array(rich_GE[start : start + _ROWS].ravel())
        part = pictures.slice(start, _ROWS).select(['root', 'path'])
        part = part.append_column(ENRICHED, pa.FixedSizeListArray.from_arrays(flat, gallery.width))
        gallery.merge().execute(part, on_bad_vectors='null')


def _take_away(gallery: Gallery, old: Enrichment | None) -> None:
    if ENRICHED in gallery.table.schema.names:
        gallery.table.drop_columns([ENRICHED])
    if old:
        storage.unlink(gallery.uri, [name for name in (enrichment.FILE, old.file) if name])
    gallery.enriched = None


def _write(gallery: Gallery, state: Enrichment) -> None:
    enrichment.write(gallery.uri, state)
    gallery.enriched = state
