"""What a search gives back: hits, and what is known of them. How that is said is in `answer_text`."""

import os
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
    """A picture that was found."""

    rank: int  # from 1
    root: str
    path: str  # below the root
    score: float  # weighted mean of the cosines, see `query`
    probability: float | None  # that it shows the described person, see `calibration`; None without one
    passes: bool | None  # whether the score reaches the threshold; None without a calibration for this picture
    metadata: dict[str, Any]  # the user's columns
    row: int  # of the gallery, at the version that was searched
    copies: tuple[Place, ...] = ()  # other files with the same bytes, among those that were searched
    same: bool = False  # it is an example picture of the query itself
    outside: bool = False  # it is unlike the pictures that the model was calibrated on, see `domain`


class Answer(NamedTuple):
    """What one query found."""

    query: Query
    hits: list[Hit]  # best first, each picture once
    # Whether any hit passes. False says 'no such person': only where that was to be verified, or where the
    # model knows at least half of those who are there (`detection`). None: it is not said.
    found: bool | None
    threshold: float | None  # score that must be reached; None without a calibration
    searched: int  # pictures that were looked through; of a track of a video so many as it has crops
    exact: bool  # whether each of them was compared
    false_alarms: float  # the rate that the threshold is for
    notes: list[str]  # what the user should know of this search
    # share of the searches for somebody who is there in which he reaches the threshold, on val; or None
    detection: float | None = None
    tracks: int = 0  # how many of what was searched are tracks
    crops: int = 0  # pictures of these tracks


def picture(root: str, path: str) -> bytes:
    """The file of a hit. Raises PictureError where it is gone, cannot be read, or lies no longer below its root."""
    try:
        if stores.is_remote(root):
            return folder.encoded(root, path)
        # neither of these raises, of a link that leads to itself or a folder that may not be looked into
        file, below = os.path.realpath(os.path.join(root, path)), os.path.realpath(root)
        if not pathlib.Path(file).is_relative_to(below) or not os.path.isfile(file):
            raise images.PictureError('the file is not there any more')
        return images.read(file)
    except SearchError as error:  # a store that does not answer
        raise images.PictureError(str(error)) from None
