"""Pictures into an index: embedded in batches, committed in larger ones."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lcr2s_jax.model import Model
from lcr2s_jax.search.gallery import OK, Gallery, Row

COMMIT = 1024  # pictures a commit: what a kill can cost
_BATCH = 64  # pictures embedded at once


class Done(NamedTuple):
    """What became of the pictures.

    Attributes:
      embedded: pictures that went through the model.
      copied: pictures whose bytes were there under another path.
      unusable: [(path, why)].
    """

    embedded: int
    copied: int
    unusable: list[tuple[str, str]]


def ingest(
    gallery: Gallery,
    searcher: Model,
    root: str,
    pictures: Iterable,
    *,
    new: bool,
    tell: Callable[[int], None] = lambda count: None,
) -> Done:
    """Embed and commit pictures of one root.

    Args:
      gallery: where to.
      searcher: the model that the gallery was begun with.
      root: of their paths.
      pictures: as `folder.read` yields: `file` (path, size, modified), `sha256`, `pixels`, `fault`. Without pixels
        and fault the bytes are taken to be in the gallery already.
      new: none of them has a row yet, see `Gallery.put`.
      tell: called with the number of pictures committed.
    """
    embedded, copied, unusable, waiting = 0, 0, [], []

    def flush():
        nonlocal embedded, copied
        fresh = [one for one in waiting if one.pixels is not None]
        copies = [one for one in waiting if one.pixels is None and not one.fault]
        vectors = {one.file.path: vector for one, vector in zip(fresh, _embed(searcher, fresh), strict=True)}
        with gallery.writing():
            there = gallery.vectors_of({one.sha256 for one in copies})
            # bytes that another process has deleted meanwhile: without a row, the next call looks at the file again
            vectors |= {one.file.path: there[one.sha256] for one in copies if one.sha256 in there}
            rows = [
                Row(*one.file[:1], one.sha256, *one.file[1:], one.fault or OK, vectors.get(one.file.path))
                for one in waiting
                if one.fault or one.file.path in vectors
            ]
            if rows:
                gallery.put(root, rows, new)
        embedded, copied = embedded + len(fresh), copied + len(copies)
        unusable.extend((one.file.path, one.fault) for one in waiting if one.fault)
        tell(len(waiting))
        waiting.clear()

    for picture in pictures:
        waiting.append(picture)
        if len(waiting) >= COMMIT:
            flush()
    if waiting:
        flush()
    return Done(embedded, copied, unusable)


def _embed(searcher: Model, pictures: list) -> list[np.ndarray]:
    parts = (pictures[start : start + _BATCH] for start in range(0, len(pictures), _BATCH))
    return [vector for part in parts for vector in searcher.embed_image(np.stack([one.pixels for one in part]))]
