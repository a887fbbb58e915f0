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
    model: Model,
    root: str,
    pictures: Iterable,
    *,
    new: bool,
    tell: Callable[[int], None] = lambda count: None,
) -> Done:
    """Embed and commit pictures of one root.

    Args:
      gallery: where to.
      model: the model that the gallery was begun with.
      root: of their paths.
      pictures: as `folder.read` yields: `file` (path, size, modified), `sha256`, `pixels`, `fault`. Without pixels
        and fault the bytes are taken to be in the gallery already.
      new: none of them has a row yet, see `Gallery.put`.
      tell: called with the number of pictures that are done, batch by batch.
    """
    embedded, copied, unusable = 0, 0, []
    waiting, batch, vectors = [], [], {}  # for the next commit; for the next call of the model; by path

    def embed():
        nonlocal embedded
        if batch:
            found = model.embed_image(np.stack([one.pixels for one in batch]))
            vectors.update(zip([one.file.path for one in batch], found, strict=True))
            embedded += len(batch)
            tell(len(batch))
            batch.clear()

    def commit():
        nonlocal copied
        embed()
        copies = [one for one in waiting if not one.fault and one.file.path not in vectors]
        with gallery.writing():
            there = gallery.vectors_of({one.sha256 for one in copies})
            # bytes that another process has deleted meanwhile: without a row, the next call looks at the file again
            vectors.update({one.file.path: there[one.sha256] for one in copies if one.sha256 in there})
            rows = [
                Row(*one.file[:1], one.sha256, *one.file[1:], one.fault or OK, vectors.get(one.file.path))
                for one in waiting
                if one.fault or one.file.path in vectors
            ]
            if rows:
                gallery.put(root, rows, new)
        copied += len(copies)
        unusable.extend((one.file.path, one.fault) for one in waiting if one.fault)
        tell(len(copies) + sum(bool(one.fault) for one in waiting))
        waiting.clear()
        vectors.clear()

    for picture in pictures:
        if picture.pixels is not None:
            batch.append(picture)
        waiting.append(picture._replace(pixels=None))  # a thousand pictures' pixels are not kept until the commit
        if len(batch) >= _BATCH:
            embed()
        if len(waiting) >= COMMIT:
            commit()
    if waiting:
        commit()
    return Done(embedded, copied, unusable)
