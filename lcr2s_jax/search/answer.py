"""What a search gives back: hits, and what is known of them. How that is said is in `answer_text`."""

import pathlib
from typing import Any, NamedTuple

from lcr2s_jax import images
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import folder, stores
from lcr2s_jax.search.query import Query


class Place(NamedTuple):
    """Another file with the same bytes."""

    root: str
    path: str


class Hit(NamedTuple):
    """A picture that was found.

    Attributes:
      rank: from 1.
      root, path: the file.
      score: weighted mean of the cosines, see `query`.
      probability: that it shows the described person, see `calibration`; None without one.
      passes: whether the score reaches the threshold; None without a calibration for this picture.
      metadata: the user's columns.
      row: of the gallery, at the version that was searched.
      copies: other files with the same bytes, among those that were searched.
      same: it is an example picture of the query itself.
      outside: it is unlike the pictures that the model was calibrated on, see `domain`.
    """

    rank: int
    root: str
    path: str
    score: float
    probability: float | None
    passes: bool | None
    metadata: dict[str, Any]
    row: int
    copies: tuple[Place, ...] = ()
    same: bool = False
    outside: bool = False


class Answer(NamedTuple):
    """What one query found.

    Attributes:
      query: the query.
      hits: best first, each picture once.
      found: whether any hit passes. False says 'no such person': only where that was to be verified, or where the model
        knows at least half of those who are there (`detection`). None: it is not said.
      threshold: score that must be reached; None without a calibration.
      searched: pictures that were looked through; of a track of a video so many as it has crops.
      exact: whether each of them was compared.
      false_alarms: the rate that the threshold is for.
      notes: what the user should know of this search.
      detection: share of the searches for somebody who is there in which he reaches the threshold, on val; or None.
      tracks: how many of what was searched are tracks.
      crops: pictures of these tracks.
    """

    query: Query
    hits: list[Hit]
    found: bool | None
    threshold: float | None
    searched: int
    exact: bool
    false_alarms: float
    notes: list[str]
    detection: float | None = None
    tracks: int = 0
    crops: int = 0


def picture(root: str, path: str) -> bytes:
    """The file of a hit.

    Raises:
      PictureError: it is gone, no longer lies below its root, as behind a link, or cannot be read.
    """
    try:
        if stores.is_remote(root):
            return folder.encoded(root, path)
        file = (pathlib.Path(root) / path).resolve()
        if not file.is_relative_to(pathlib.Path(root).resolve()) or not file.is_file():
            raise images.PictureError('the file is not there any more')
        return images.read(file)
    except SearchError as error:  # a store that does not answer
        raise images.PictureError(str(error)) from None
