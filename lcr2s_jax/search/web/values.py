"""What page and service hand each other: what is asked, what was found, what is marked, taken and searched."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lcr2s_jax.search.answer import Answer


class SearchRequest(NamedTuple):
    """One person that is looked for, as a page has it.

    Attributes:
      text: a sentence a line, all about that person.
      examples: (name, bytes) of picture files of that person.
      where: a condition in SQL, or ''.
      chosen: column -> values, one of which a picture must have; no values for any.
      ranges: column -> (from, to), as typed; '' for no bound.
      top: hits.
      false_alarms: as of `search.Search`.
      why: tell what every phrase did.
      verify: as of `search.Search`.
    """

    text: str
    examples: Sequence[tuple[str, bytes]] = ()
    where: str = ''
    chosen: Mapping[str, Sequence] = {}
    ranges: Mapping[str, tuple[str, str]] = {}
    top: int = 10
    false_alarms: float = 0.05
    why: bool = False
    verify: bool = False


class SearchResult(NamedTuple):
    """What was found.

    Attributes:
      answer: the answer.
      why: of `search.Search.why`; [] where it was not asked for.
      version: of the gallery.
    """

    answer: Answer
    why: list[tuple[str, list[float]]]
    version: int


class Marked(NamedTuple):
    """Pictures that will be erased when that is confirmed: (root, path) of each."""

    files: tuple[tuple[str, str], ...]


class Limits(NamedTuple):
    """What is taken.

    Attributes:
      bytes: of a file, as it is sent.
      pixels: width times height, looked up before one is decoded.
      count: pictures at once.
      together: pixels of all pictures that are sent at once.
    """

    bytes: int
    pixels: int
    count: int
    together: int


class Index(NamedTuple):
    """What is said of the index that is searched.

    Attributes:
      uri: where it lies.
      pictures: that can be found.
      model: the beginning of its hash.
      trained_on: what the model has learnt from, in words.
    """

    uri: str
    pictures: int
    model: str
    trained_on: str
