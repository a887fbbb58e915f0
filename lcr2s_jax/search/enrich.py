"""Enriched vectors of an index: each picture with its neighbours in the gallery as supports, without labels.

Computed when pictures come or go, so that no query pays for it. A picture's own vector stays beside: neighbours are
found with it, or with that of another index of the same pictures, and examples are compared with it. Files of the
same bytes are one picture, and no neighbours of each other. The vectors are a function of the pictures alone,
whatever the order in which they came: a digest of those says whether anything has to be made again.
"""

import hashlib
import time
from collections.abc import Callable

import numpy as np

from lcr2s_jax.errors import SearchError, UserError
from lcr2s_jax.evaluation import neighbours
from lcr2s_jax.evaluation.gallery_fusion import GalleryFusion
from lcr2s_jax.progress import QUIET, Progress
from lcr2s_jax.search import approximate, enrichment, repair, storage, tables
from lcr2s_jax.search.enrichment import Enrichment
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.search.rows import ENRICHED, VECTOR

WAITED_FOR = 10_000  # pictures up to which a page makes them at once: seconds, and four times as long for twice as many
_ROWS = 10_000  # rows a commit
_TRIES = 3  # on an object store others may write meanwhile


def choose(gallery: Gallery, how: str, count: int = 0, fusion: GalleryFusion | None = None, near: str = '') -> None:
    """Say how the vectors of an index are enriched from now on; `renew` makes them.

    By each picture's `count` 'neighbours', by the 'fusion' of a run's teacher, or 'none' to have own vectors compared
    again. `near` is the URI of another index of the same pictures, by whose vectors the nearest are found; '' for their
    own. Raises SearchError for 'fusion' without one, or one without it, and for an index that is not there or has none
    of the pictures.
    """
    if (how == 'fusion') != (fusion is not None):
        raise SearchError(f"--enrich={how}: found {'a' if fusion else 'no'} fusion; 'fusion' needs one, others none")
    if near:
        check_near(gallery.uri, near)
        near = storage.absolute(near)
        _seen_there(gallery, near, gallery.rows(FOUND, ['sha256']))
    with gallery.writing():
        old = gallery.enriched
        if how == 'none':
            _take_away(gallery, old)
            return
        name = enrichment.keep_fusion(gallery.uri, fusion.to_bytes()) if fusion else ''
        count = count or neighbours.NEIGHBOURS[how]
        new = Enrichment(how, count, fusion and fusion.shape, name, near=near)
        if old is None or old.settings != new.settings:
            _write(gallery, new)
            if old and old.file and old.file != name:
                storage.unlink(gallery.uri, [old.file])


def check_near(uri: str, near: str) -> None:
    """Raise SearchError unless `near` is the URI of an index, and of another one than `uri`."""
    if storage.resolved(near) == storage.resolved(uri):
        raise SearchError('--neighbours-by: found the index itself; expected another one, made with another model')
    try:
        Gallery(near)
    except UserError as error:
        raise SearchError(f'--neighbours-by: {str(error).removeprefix("--index: ")}') from None


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
    object store on which others write again and again, and where the index by which neighbours are found is gone.
    """
    if gallery.enriched is None:
        return True
    with gallery.writing():
        for turn in range(_TRIES):
            # another index, which says what is near, changes by itself
            if gallery.enriched is None or (gallery.compared == ENRICHED and (turn or not gallery.enriched.near)):
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
    state = gallery.enriched
    given = _given(gallery, state.near)
    digest = _digest(*given)
    anew = digest != state.digest or not _is_whole(gallery)
    if anew:
        _write(gallery, state._replace(version=0, digest=''))
        _put(gallery, given[0], _enriched(gallery, state, *given, progress))
    if gallery.approximate and (anew or ENRICHED not in gallery.indexed) and len(given[1]) >= approximate.FEWEST:
        approximate.build(gallery, columns=[ENRICHED])
    if storage.is_remote(gallery.uri):
        gallery.refresh()
        if _digest(*_given(gallery, state.near)) != digest:
            return
    lacking = int(np.isnan(given[2]).any(axis=1).sum())
    _write(gallery, state._replace(version=gallery.version, digest=digest, lacking=lacking))


def _given(gallery: Gallery, near: str):
    """`_pictures`, and the vectors by which the nearest are found, those of the index `near` or their own for ''."""
    pictures, vector_GE = _pictures(gallery)
    try:
        return pictures, vector_GE, _seen_there(gallery, near, pictures) if near else vector_GE
    except SearchError as error:
        now = 'their own vectors' if gallery.compared == VECTOR else 'what it said before'
        raise SearchError(
            f'{gallery.uri}: {near}, by which neighbours are found, cannot be used ({error}); until then pictures are '
            f'compared by {now}. Put it back, or choose anew: index --index=... --enrich=neighbours, with another '
            '--neighbours-by or without'
        ) from None


def _pictures(gallery: Gallery):
    """An Arrow table of root, path and hash of all pictures that can be found, and their own vectors [G, E]."""
    vector_GE, row_G = gallery.vectors()
    found = gallery.rows(FOUND, ['root', 'path', 'sha256'], with_rows=True).sort_by('_rowid')
    if not np.array_equal(found['_rowid'].to_numpy(), row_G):
        raise SearchError(f'{gallery.uri}: another process has written to it meanwhile; give the same command again')
    return found, vector_GE


def _seen_there(gallery: Gallery, near: str, pictures) -> np.ndarray:
    """Of an index's pictures their vectors in another one, float32 [G, E']; NaN for one that is not there.

    Raises SearchError: there is no such index, or it has none of the pictures.
    """
    there, vector_HE = tables.lasting(lambda: _pictures(Gallery(near)))
    place = {sha256: row for row, sha256 in enumerate(there['sha256'].to_pylist())}
    row_G = np.array([place.get(sha256, -1) for sha256 in pictures['sha256'].to_pylist()], np.int64)
    if len(row_G) and (row_G < 0).all():
        raise SearchError(
            f'{near}: found none of the {len(row_G):,} pictures of {gallery.uri}; expected an index of the same '
            'pictures, made with the model that shall find their neighbours'
        )
    if not len(vector_HE):
        return np.empty((len(row_G), vector_HE.shape[1]), np.float32)
    return np.where((row_G >= 0)[:, None], vector_HE[row_G], np.float32(np.nan))


def _digest(pictures, vector_GE: np.ndarray, near_GE: np.ndarray) -> str:
    """Of hashes and vectors, in whatever order."""
    total, each = 0, zip(pictures['sha256'].to_pylist(), vector_GE, near_GE, strict=True)
    for sha256, vector_E, near_E in each:
        content = sha256.encode() + vector_E.tobytes() + near_E.tobytes()
        total += int.from_bytes(hashlib.blake2b(content, digest_size=16).digest())
    return f'{len(vector_GE)}-{total % (1 << 128):032x}'


def _enriched(
    gallery: Gallery, state: Enrichment, pictures, vector_GE: np.ndarray, near_GE: np.ndarray, progress: Progress
) -> np.ndarray:
    """Unit float32 [G, E]; equal bytes have equal vectors, and pictures without `near_GE` their own."""
    combine: Callable = neighbours.enriched
    if state.file:
        content = enrichment.fusion_bytes(gallery.uri, state.file)
        combine = GalleryFusion.from_bytes(content, state.fusion, f'{gallery.uri}/{state.file}')
    hashes = np.array(pictures['sha256'].to_pylist(), str)
    _, first_U, picture_G = np.unique(hashes, return_index=True, return_inverse=True)
    near_UE = near_GE[first_U]
    known_K = np.flatnonzero(np.isfinite(near_UE).all(axis=1))
    near_Uk = np.full((len(first_U), state.neighbours), -1)
    with progress.counting('pictures compared with all', len(known_K)) as tell:
        near_Kk = neighbours.nearest(near_UE[known_K], state.neighbours, tell)
    near_Uk[known_K] = np.where(near_Kk < 0, -1, known_K[near_Kk]) if len(known_K) else near_Kk
    return combine(vector_GE[first_U], near_Uk)[picture_G]


def _is_whole(gallery: Gallery) -> bool:
    """Whether every picture has an enriched vector, of some time."""
    if ENRICHED not in gallery.table.schema.names:
        return False
    return not gallery.table.count_rows(f'({FOUND.sql}) and {ENRICHED} is null')


def _put(gallery: Gallery, pictures, rich_GE: np.ndarray) -> None:
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
