"""All that the page can do, without the page: find, judge, add, erase in two steps. Whoever does it is written down.

The audit log gets a line before anything is shown or changed; feedback goes into a log of its own beside it.
"""

import hashlib
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import audit, conditions, repair, retention
from lcr2s_jax.search import storage as place
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.search import Answer, Hit, Search
from lcr2s_jax.search.web import uploads

MOST_CHOICES = 20  # values of a column that get a box to choose from
MOST_SENTENCES, MOST_LETTERS, MOST_HITS, MOST_EXAMPLES = 8, 2000, 100, 4
MOST_BYTES, MOST_PICTURES = 8 << 20, 32  # of one upload
MOST_NAME = 100  # letters of a user's name in the log


class Asked(NamedTuple):
    """One person that is looked for, as a page has it.

    Attributes:
      text: a sentence a line, all about that person.
      examples: (name, bytes) of picture files of that person.
      where: a condition in SQL, or ''.
      chosen: column -> values, one of which a picture must have; no values for any.
      top: hits.
      false_alarms: as of `search.Search`.
      why: tell what every phrase did.
    """

    text: str
    examples: Sequence[tuple[str, bytes]] = ()
    where: str = ''
    chosen: Mapping[str, Sequence] = {}
    top: int = 10
    false_alarms: float = 0.05
    why: bool = False


class Found(NamedTuple):
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


class Desk:
    """An open index that several people use at once.

    Args:
      search: the index.
      embed: (bytes, name) -> the vector [E] of an example picture.
      add: (gallery, searcher, root, paths) -> embeds and commits files below a root.
      log: where the audit log goes, see `audit.write`.

    Attributes:
      limits: of uploads and examples.
      choices: column -> its values, of the columns with few.
    """

    def __init__(
        self,
        search: Search,
        embed: Callable[[bytes, str], Any],
        add: Callable[[Gallery, Any, Any, Sequence], Any],
        log: str = audit.NAME,
    ):
        self.search, self._embed, self._add, self._log = search, embed, add, log
        self._uri, self._one = search.gallery.uri, threading.Lock()
        pixels = search.searcher.facts['origin']['max_pixels']
        self.limits = uploads.Limits(MOST_BYTES, pixels, MOST_PICTURES)
        self.choices = _choices(search.gallery)

    def find(self, user: str, asked: Asked) -> Found:
        """Search the last version of the index. Raises SearchError."""
        sentences = tuple(line.strip() for line in asked.text.splitlines() if line.strip())
        if not sentences and not asked.examples:
            raise SearchError('found nothing to look for; expected a sentence or an example picture')
        _at_most('sentences', len(sentences), MOST_SENTENCES)
        _at_most('letters', len(asked.text) + len(asked.where), MOST_LETTERS)
        _at_most('example pictures', len(asked.examples), MOST_EXAMPLES)
        _at_most('hits', asked.top, MOST_HITS)
        if asked.top < 1:
            raise SearchError(f'found {asked.top} hits, expected 1 or more')
        for name, encoded in asked.examples:
            uploads.check(name, encoded, self.limits)
        refusals = audit.refusals(self._uri, user, {'text': list(sentences), 'where': asked.where}, self._log)
        with self._one, refusals:
            where = self._condition(asked)
            query = Query(sentences, tuple(self._embed(encoded, name) for name, encoded in asked.examples))
            self._refresh()
            (answer,) = self.search([query], top=asked.top, false_alarms=asked.false_alarms, where=where)
            why = self.search.why(query, answer.hits) if asked.why else []
            audit.write(self._uri, [audit.line(user, answer, self.search, where.text)], self._log)
            return Found(answer, why, self.search.gallery.version)

    def judge(self, user: str, found: Found | None, ranks: Sequence[int], right: bool) -> int:
        """Keep what somebody says of hits: they show the described person, or do not. How many lines were written."""
        hits = _hits(found, ranks)
        asked = {
            'user': user,
            'text': list(found.answer.query.sentences),
            'examples': len(found.answer.query.example_nE),
            'model': self.search.searcher.hash,
            'version': found.version,
        }
        lines = [
            asked | {'right': right} | {name: getattr(hit, name) for name in ('root', 'path', 'rank', 'score')}
            | {'probability': hit.probability}
            for hit in hits
        ]  # fmt: skip
        audit.write(self._uri, lines, audit.FEEDBACK)
        return len(lines)

    def mark(self, found: Found | None, ranks: Sequence[int]) -> Marked:
        """The first step of a deletion, which changes nothing."""
        hits = _hits(found, ranks)
        return Marked(tuple(place for hit in hits for place in ((hit.root, hit.path), *hit.copies)))

    def erase(self, user: str, marked: Marked | None, typed: str) -> int:
        """The second step: the pictures are forgotten for good, see `retention.delete`. How many rows that were.

        Args:
          user: who does it.
          marked: by `mark`.
          typed: how many that are, as the user has typed it.
        """
        if marked is None:
            raise SearchError('found no picture that is marked; mark some first')
        if typed.strip() != str(len(marked.files)):
            raise SearchError(
                f'nothing was erased: found {typed.strip() or "nothing"!r}, expected {len(marked.files)}, the number '
                'of pictures that are marked'
            )
        files = [(place.stored(self._uri, pathlib.Path(root)), path) for root, path in marked.files]
        with self._one:
            self._refresh()
            self._tell(user, 'erase', [f'{root}/{path}' for root, path in marked.files])
            return retention.delete(self.search.gallery, retention.plan(self.search.gallery, files)).rows

    def add(self, user: str, files: Sequence[tuple[str, bytes]]) -> tuple[int, list[str]]:
        """Put pictures into the index, kept below it as PNG files of its own.

        Args:
          user: who sends them.
          files: (name, bytes); the name is for messages alone.

        Returns:
          How many can be found now that could not before, and why the others cannot.
        """
        root = place.uploads(self._uri)
        if root is None:
            raise SearchError('an index on an object store keeps no pictures; put them into a folder and index that')
        if not files:
            raise SearchError('found no picture; choose some first')
        _at_most('pictures at once', len(files), self.limits.count)
        refused, fresh = [], {}
        with self._one:
            self._refresh()
            gallery = self.search.gallery
            repair.own(gallery)
            gone, there = retention.forgotten(gallery), gallery.known(place.UPLOADED)
            for name, encoded in files:
                try:
                    path, content = _admitted(name, encoded, self.limits, gone, {*there, *fresh})
                except SearchError as error:
                    refused.append(str(error))
                else:
                    fresh[path] = content
            if fresh:
                self._tell(user, 'upload', [f'{root}/{path}' for path in fresh])
                self._keep(root, fresh)
        return len(fresh), refused

    def login(self, user: str, accepted: bool) -> None:
        """Write down that somebody came in, or did not; of a name that is nobody's, no more than its beginning."""
        event = 'login' if accepted else 'login refused'
        audit.write(self._uri, [{'user': user[:MOST_NAME], 'event': event}], self._log)

    def _keep(self, root: pathlib.Path, fresh: Mapping[str, bytes]) -> None:
        gallery = self.search.gallery
        with gallery.writing():  # or others would take the files for those of a call that was killed
            repair.begin(gallery, list(fresh))
            try:
                for path, content in fresh.items():
                    uploads.keep(root / path, content)
                self._add(gallery, self.search.searcher, root, list(fresh))
            finally:
                repair.settle(gallery)

    def _tell(self, user: str, event: str, paths: list[str]) -> None:
        line = {'user': user, 'event': event, 'model': self.search.searcher.hash, 'paths': paths}
        audit.write(self._uri, [line], self._log)

    def _refresh(self) -> None:
        # opened anew: another process may have written the table from scratch, as a deletion does
        self.search.gallery = Gallery(self._uri)

    def _condition(self, asked: Asked) -> Condition:
        chosen = self.search.gallery.condition(asked.where)
        for column, values in asked.chosen.items():
            if unknown := [value for value in values if value not in self.choices.get(column, ())]:
                raise SearchError(f'found {column} = {unknown[0]!r}, expected one of {self.choices.get(column, [])}')
            if values:
                chosen &= conditions.among(column, values)
        return chosen


def _admitted(name: str, encoded: bytes, limits, gone: set[str], there: set[str]) -> tuple[str, bytes]:
    """Where an upload is kept and what is written there. Raises SearchError."""
    content = uploads.clean(name, encoded, limits)
    hashes = [hashlib.sha256(one).hexdigest() for one in (encoded, content)]
    if any(retention.key('bytes', sha256) in gone for sha256 in hashes):
        raise SearchError(f'{name}: was deleted from this index once and stays out')
    path = f'{hashes[1][:24]}.png'
    if path in there:
        raise SearchError(f'{name}: is in the index already, as {path}')
    return path, content


def _hits(found: Found | None, ranks: Sequence[int]) -> list[Hit]:
    hits = [hit for hit in found.answer.hits if hit.rank in set(ranks)] if found else []
    if not hits:
        raise SearchError('found no hit that is chosen; search, then choose some by their number')
    return hits


def _choices(gallery: Gallery) -> dict[str, list]:
    """The values of every column of the user's that has few, in order."""
    found = {}
    for column, kind in gallery.columns.items():
        values = gallery.rows(FOUND, [column])[column].unique().drop_null()
        if kind != 'double' and 1 < len(values) <= MOST_CHOICES:
            found[column] = sorted(values.to_pylist())
    return found


def _at_most(what: str, count: int, most: int) -> None:
    if count > most:
        raise SearchError(f'found {count:,} {what}, expected at most {most:,}')
