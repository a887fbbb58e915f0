"""Pictures into an index: read, embedded in batches, committed in larger ones; by this process, see `here`.

What makes a row of a file is here alone: the workers of `lcr2s_jax.search.cluster` call the same functions.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from lcr2s_jax.search import appearance, conditions, folder, retention
from lcr2s_jax.search.folder import File, Picture
from lcr2s_jax.search.gallery import FOUND, OK, Gallery, Row
from lcr2s_jax.search.rows import LOOK, VECTOR, as_matrix, looks_of

COMMIT = 1024  # pictures a commit: what a kill can cost
BATCH = 64  # pictures embedded at once


class Encoder(Protocol):
    """What is asked of a `lcr2s_jax.model.Model` here; readers and writers of a cluster do without JAX."""

    image_size: tuple[int, int]

    def embed_image(self, image_nhwc: np.ndarray) -> np.ndarray: ...


class Numbers(NamedTuple):
    """What an index keeps of a picture's pixels."""

    vector: np.ndarray  # unit float32 [E]
    look: np.ndarray  # `appearance.statistics`, float32 [S]


class Work(NamedTuple):
    root: folder.Root  # that they lie below
    key: str  # the same as the index's table names it
    files: Sequence[File]  # none of them was deleted from the index by its place
    new: bool  # none of them has a row yet
    there: frozenset[str]  # hashes of pictures that have a vector
    forgotten: frozenset[str]  # see `retention.key`; pictures that were deleted, and may have another name now
    readmit: bool  # remember the hashes of what is taken


@dataclasses.dataclass
class Done:
    embedded: int = 0  # pictures that went through the model
    copied: int = 0  # pictures whose bytes were there under another path
    unusable: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # (path, why)
    met: list[File] = dataclasses.field(default_factory=list)  # files whose bytes were deleted once; they stay out
    hashes: list[str] = dataclasses.field(default_factory=list)  # of what was taken, where `Work.readmit` asks for them


def here(gallery: Gallery, model: Encoder, work: Work, tell: Callable[[int], None] = lambda count: None) -> Done:
    """Do the work in this process; `tell` is called with the number of pictures that are done, batch by batch.

    Pictures of the same bytes are embedded once for each path, unless the index has them already.
    """
    done, waiting, batch = Done(), [], []
    numbers: dict[str, Numbers] = {}  # by path

    def embed_batch():
        if batch:
            numbers.update(zip([one.file.path for one in batch], embed(model, batch), strict=True))
            done.embedded += len(batch)
            tell(len(batch))
            batch.clear()

    def commit():
        embed_batch()
        copies = put(gallery, work, waiting, numbers)
        done.copied += copies
        tell(copies + sum(bool(one.fault) for one in waiting))
        waiting.clear()
        numbers.clear()

    for one in read(work, work.files, model.image_size):
        if is_forgotten(work, one):
            done.met.append(one.file)
            continue
        done.hashes.extend([one.sha256] * work.readmit)
        done.unusable.extend([(one.file.path, one.fault)] * bool(one.fault))
        if one.pixels is not None:
            batch.append(one)
        waiting.append(one._replace(pixels=None))  # a thousand pictures' pixels are not kept until the commit
        if len(batch) >= BATCH:
            embed_batch()
        if len(waiting) >= COMMIT:
            commit()
    if waiting:
        commit()
    return done


def read(work: Work, files: Sequence[File], image_size: tuple[int, int], threads: int = 0) -> Iterable[Picture]:
    """Some of the files, opened; those whose bytes have a vector already come without pixels."""
    return folder.read(files, work.root, image_size, lambda sha256: sha256 not in work.there, threads)


def is_forgotten(work: Work, picture: Picture) -> bool:
    """Whether a picture was deleted under another name: that is known by its bytes, which takes reading them."""
    return bool(work.forgotten) and retention.key('bytes', picture.sha256) in work.forgotten


def embed(model: Encoder, pictures: Sequence[Picture]) -> list[Numbers]:
    """Of pictures that have pixels, in order."""
    pixels_Nhwc = np.stack([one.pixels for one in pictures])
    return list(map(Numbers, model.embed_image(pixels_Nhwc), appearance.statistics(pixels_Nhwc)))


def row(picture: Picture, numbers: Numbers | None) -> Row:
    path, *facts = picture.file
    return Row(path, picture.sha256, *facts, picture.fault or OK, *(numbers or ()))


def put(gallery: Gallery, work: Work, pictures: Sequence[Picture], numbers: dict[str, Numbers]) -> int:
    """Commit pictures with their numbers, by path; how many took theirs from the index, as their bytes were there."""
    copies = [one for one in pictures if not one.fault and one.file.path not in numbers]
    with gallery.writing():
        there = _numbers_of(gallery, {one.sha256 for one in copies})
        # bytes that another process has deleted meanwhile: without a row, the next call looks at the file again
        taken = {one.file.path: there[one.sha256] for one in copies if one.sha256 in there}
        numbers = numbers | taken
        rows = [row(one, numbers.get(one.file.path)) for one in pictures if one.fault or one.file.path in numbers]
        if rows:
            gallery.put(work.key, rows, work.new)
    return len(copies)


def _numbers_of(gallery: Gallery, hashes: Iterable[str]) -> dict[str, Numbers]:
    """By sha256, for pictures that are there under another path."""
    found = {}
    for some in conditions.in_lists(list(hashes)):
        rows = gallery.rows(FOUND & conditions.among('sha256', some), ['sha256', VECTOR, LOOK])
        numbers = map(Numbers, as_matrix(rows[VECTOR], gallery.width), looks_of(rows[LOOK].to_pylist()))
        found |= dict(zip(rows['sha256'].to_pylist(), numbers, strict=True))
    return found
