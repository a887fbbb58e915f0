"""What page and service hand each other: what is asked, found, taken and searched."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lcr2s_jax.search.answer import Answer


class SearchRequest(NamedTuple):
    text: str  # a sentence a line, all about that person
    examples: Sequence[tuple[str, bytes]] = ()  # (name, bytes) of picture files of that person
    where: str = ''  # a condition in SQL, or ''
    chosen: Mapping[str, Sequence] = {}  # column -> values, one of which a picture must have; no values for any
    ranges: Mapping[str, tuple[str, str]] = {}  # column -> (from, to), as typed; '' for no bound
    top: int = 10  # hits
    false_alarms: float = 0.05  # as of `search.Search`
    why: bool = False  # tell what every phrase did
    verify: bool = False  # as of `search.Search`


class SearchResult(NamedTuple):
    answer: Answer
    why: list[tuple[str, list[float]]]  # of `search.Search.why`; [] where it was not asked for
    version: int  # of the gallery


class Limits(NamedTuple):
    bytes: int  # of a file, as it is sent
    pixels: int  # width times height, looked up before one is decoded
    count: int  # pictures at once
    together: int  # pixels of all pictures that are sent at once


class Index(NamedTuple):
    uri: str  # where it lies
    pictures: int  # that can be found
    model: str  # the beginning of its hash
    trained_on: str  # what the model has learnt from, in words
