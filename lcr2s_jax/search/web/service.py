"""All that the page can do, without the page: find, judge, add, erase in two steps. Whoever does it is written down.

The audit log gets a line before anything is shown or changed, and of what is refused; feedback goes into a log of its
own beside it. Pictures are decoded and embedded before any lock is taken.
"""

import contextlib
import hashlib
import pathlib
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from lcr2s_jax import images
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import answer_text, appearance, audit, enrich, folder, repair, retention, storage, tables
from lcr2s_jax.search.answer import Answer, Hit
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.gallery import OK, Gallery, Row
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.search import Search
from lcr2s_jax.search.web import filters
from lcr2s_jax.search.web.decoding import Decoders
from lcr2s_jax.search.web.values import Index, Limits, SearchRequest, SearchResult

MOST_SENTENCES, MOST_LETTERS, MOST_HITS, MOST_EXAMPLES = 8, 2000, 100, 4
MOST_BYTES, MOST_PICTURES = 8 << 20, 32  # of one upload
MOST_PIXELS = 2  # pictures of the largest size, of all pictures of one upload together
MOST_NAME = 100  # letters of a user's name in the log
_TOLD = 300  # letters of a reason in the log
_EMBEDDED = 4  # pictures embedded at once: a search that comes meanwhile waits for so many


class Service:
    """An open index that several people use at once.

    Of the two pools of decoders one is for searches, the other for what is added; for `log` see `audit.write`.
    """

    def __init__(self, search: Search, decoders: tuple[Decoders, Decoders], log: str = audit.NAME):
        self.search, self._decoders, self._log = search, decoders, log
        self._uri = search.gallery.uri
        self._reading, self._changing = threading.Lock(), threading.Lock()
        pixels = images.DEFAULT.max_pixels
        self.limits = Limits(MOST_BYTES, pixels, MOST_PICTURES, MOST_PIXELS * pixels)
        self.filters = tables.lasting(lambda: filters.read(search.gallery), search.gallery.refresh)

    def close(self) -> None:
        for some in self._decoders:
            some.close()

    @property
    def index(self) -> Index:
        model = self.search.model
        trained_on = answer_text.trained_on(model.trained_on).removeprefix('model: ')
        return Index(self._uri, tables.lasting(lambda: Gallery(self._uri).count()), model.hash[:8], trained_on)

    def find(self, user: str, asked: SearchRequest) -> SearchResult:
        """Search the last version of the index. Raises SearchError, after that was written down."""
        try:
            return self._find(user, asked)
        except SearchError as error:
            line = {'text': asked.text[:MOST_LETTERS].splitlines(), 'where': asked.where[:MOST_LETTERS]}
            self._tell(user, 'search refused', line | {'why': str(error)[:_TOLD]})
            raise

    def _find(self, user: str, asked: SearchRequest) -> SearchResult:
        sentences = tuple(line.strip() for line in asked.text.splitlines() if line.strip())
        if not sentences and not asked.examples:
            raise SearchError('found nothing to look for; expected a sentence or an example picture')
        _at_most('sentences', len(sentences), MOST_SENTENCES)
        _at_most('letters', len(asked.text) + len(asked.where), MOST_LETTERS)
        _at_most('example pictures', len(asked.examples), MOST_EXAMPLES)
        _at_most('hits', asked.top, MOST_HITS)
        if asked.top < 1:
            raise SearchError(f'found {asked.top} hits, expected 1 or more')
        where = self.filters.condition(Gallery(self._uri), asked.where, asked.chosen, asked.ranges)
        pixels = [self._decode(*example, self._decoders[0]).pixels for example in asked.examples]
        hashes = tuple(hashlib.sha256(encoded).hexdigest() for _, encoded in asked.examples)
        query = Query(sentences, tuple(self._embed(pixels)), hashes)
        with self._reading:
            self._refresh()
            answer, why = tables.lasting(lambda: self._asked(query, asked, where), self._refresh)
            line, version = audit.line(user, answer, self.search, where.text), self.search.gallery.version
        audit.write(self._uri, [line], self._log)
        return SearchResult(answer, why, version)

    def _asked(self, query: Query, asked: SearchRequest, where: Condition) -> tuple[Answer, list]:
        how = dict(top=asked.top, false_alarms=asked.false_alarms, where=where, verify=asked.verify)
        (answer,) = self.search([query], **how)
        return answer, self.search.why(query, answer.hits) if asked.why else []

    def judge(self, user: str, found: SearchResult | None, ranks: Sequence[int], right: bool) -> int:
        """Keep what somebody says of hits: they show the described person, or do not. How many lines were written."""
        hits = _hits(found, ranks)
        asked = {
            'user': user,
            'text': list(found.answer.query.sentences),
            'examples': len(found.answer.query.example_nE),
            'model': self.search.model.hash,
            'version': found.version,
        }
        names = ('root', 'path', 'rank', 'score', 'probability')
        lines = [asked | {'right': right} | {name: getattr(hit, name) for name in names} for hit in hits]
        audit.write(self._uri, lines, audit.FEEDBACK)
        return len(lines)

    def mark(self, found: SearchResult | None, ranks: Sequence[int]) -> Sequence[tuple[str, str]]:
        """The first step of a deletion, which changes nothing: (root, path) of what the second takes."""
        hits = _hits(found, ranks)
        return [place for hit in hits for place in ((hit.root, hit.path), *hit.copies)]

    def erase(self, user: str, marked: Sequence[tuple[str, str]] | None, typed: str) -> int:
        """The second step: if their number was `typed`, marked pictures go for good. Returns how many rows."""
        if marked is None:
            raise SearchError('found no picture that is marked; mark some first')
        paths = [f'{root}/{path}' for root, path in marked]
        if typed.strip() != str(len(marked)):
            self._tell(user, 'erase refused', {'paths': paths})
            raise SearchError(
                f'nothing was erased: found {typed.strip()[:20] or "nothing"!r}, expected {len(marked)}, the '
                'number of pictures that are marked'
            )
        files = [(storage.stored(self._uri, root), path) for root, path in marked]
        with self._changing:
            gallery = Gallery(self._uri)
            self._tell(user, 'erase', {'paths': paths})
            rows = retention.delete(gallery, retention.plan(gallery, files)).rows
            _renew(gallery)
            return rows

    def add(self, user: str, files: Sequence[tuple[str, bytes]]) -> tuple[int, list[str]]:
        """Put pictures, (name, bytes), into the index, kept below it as PNG files; names are for messages alone.

        Returns how many can be found now that could not before, and why the others cannot.
        """
        root = storage.uploads(self._uri)
        try:
            if root is None:
                raise SearchError('an index on an object store keeps no pictures; put them into a folder, index that')
            if not files:
                raise SearchError('found no picture; choose some first')
            _at_most('pictures at once', len(files), self.limits.count)
            self._check_pixels(files)
        except SearchError as error:
            self._tell(user, 'upload refused', {'count': len(files), 'why': str(error)[:_TOLD]})
            raise
        refused, decoded = [], []
        for name, encoded in files:
            try:
                decoded.append((name, encoded, self._decode(name, encoded, self._decoders[1], png=True)))
            except SearchError as error:
                refused.append(str(error))
        vectors = self._embed([one.pixels for _, _, one in decoded])
        with self._changing:
            gallery, fresh = Gallery(self._uri), {}
            repair.own(gallery)
            gone, there = retention.forgotten(gallery), gallery.known(storage.UPLOADED)
            for (name, encoded, one), vector in zip(decoded, vectors, strict=True):
                try:
                    path = _admitted(name, encoded, one.png, gone, {*there, *fresh})
                except SearchError as error:
                    refused.append(str(error))
                else:
                    fresh[path] = one.png, vector, appearance.statistics(one.pixels)
            if fresh:
                self._tell(user, 'upload', {'paths': [f'{root}/{path}' for path in fresh]})
                self._keep(gallery, root, fresh)
                _renew(gallery)
        if refused:
            self._tell(user, 'upload refused', {'count': len(refused), 'why': refused[0].partition(': ')[2][:_TOLD]})
        return len(fresh), refused

    def login(self, user: str, accepted: bool) -> None:
        """Write down that somebody came in, or did not; of a name that is nobody's, no more than its beginning."""
        event = 'login' if accepted else 'login refused'
        audit.write(self._uri, [{'user': user[:MOST_NAME], 'event': event}], self._log)

    def refused(self, statuses: Mapping[int, int]) -> None:
        """Write down how many calls the server has refused in the last minute, by their HTTP status."""
        calls = {str(status): count for status, count in sorted(statuses.items())}
        audit.write(self._uri, [{'user': '', 'event': 'calls refused', 'statuses': calls}], self._log)

    def _check_pixels(self, files: Sequence[tuple[str, bytes]]) -> None:
        total = 0
        for name, encoded in files:
            try:
                _, width, height = images.check(encoded, self._picture_limits())
            except images.PictureError:  # told beside the others
                continue
            total += width * height
            if total > self.limits.together:
                raise SearchError(
                    f'found more than {self.limits.together:,} pixels, {name} the picture that is too much; send '
                    'fewer or smaller pictures at once'
                )

    def _picture_limits(self) -> images.Limits:
        return images.DEFAULT._replace(max_bytes=self.limits.bytes, max_pixels=self.limits.pixels)

    def _decode(self, name: str, encoded: bytes, decode: Decoders, png: bool = False):
        return decode(name, encoded, self.search.model.image_size, self._picture_limits(), png)

    def _embed(self, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
        parts = [pixels[start : start + _EMBEDDED] for start in range(0, len(pixels), _EMBEDDED)]
        return [vector for part in parts for vector in self.search.model.embed_image(np.stack(part))]

    def _keep(self, gallery: Gallery, root: pathlib.Path, fresh: Mapping[str, tuple]) -> None:
        with gallery.writing():  # or others would take the files for those of a call that was killed
            repair.begin(gallery, list(fresh))
            try:
                rows = []
                for path, (content, *numbers) in fresh.items():
                    repair.keep(root / path, content)
                    file = folder.look(root, root / path)
                    rows.append(Row(*file[:1], hashlib.sha256(content).hexdigest(), *file[1:], OK, *numbers))
                gallery.put(storage.UPLOADED, rows, new=True)
            finally:
                repair.settle(gallery)

    def _tell(self, user: str, event: str, facts: Mapping) -> None:
        line = {'user': user, 'event': event, 'model': self.search.model.hash, **facts}
        audit.write(self._uri, [line], self._log)

    def _refresh(self) -> None:
        # opened anew: another process may have written the table from scratch, as a deletion does
        self.search.gallery = Gallery(self._uri)


def _admitted(name: str, encoded: bytes, content: bytes, gone: set[str], there: set[str]) -> str:
    """The name that an upload is kept by. Raises SearchError."""
    hashes = [hashlib.sha256(one).hexdigest() for one in (encoded, content)]
    if any(retention.key('bytes', sha256) in gone for sha256 in hashes):
        raise SearchError(f'{name}: was deleted from this index once and stays out')
    path = f'{hashes[1][:24]}.png'
    if path in there:
        raise SearchError(f'{name}: is in the index already, as {path}')
    return path


def _renew(gallery: Gallery) -> None:
    """Make enriched vectors again where that is soon done; if not, every answer says that they are out of date."""
    with contextlib.suppress(SearchError):
        enrich.renew(gallery, enrich.WAITED_FOR)


def _hits(found: SearchResult | None, ranks: Sequence[int]) -> list[Hit]:
    hits = [hit for hit in found.answer.hits if hit.rank in set(ranks)] if found else []
    if not hits:
        raise SearchError('found no hit that is chosen; search, then choose some by their number')
    return hits


def _at_most(what: str, count: int, most: int) -> None:
    if count > most:
        raise SearchError(f'found {count:,} {what}, expected at most {most:,}')
