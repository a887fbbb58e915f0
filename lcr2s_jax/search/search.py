"""Queries in, ranked pictures out: what the command, the page and programs of others call."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.model import Model
from lcr2s_jax.search import calibration, conditions, likeness, wording
from lcr2s_jax.search import query as asking
from lcr2s_jax.search.answer import Answer, Hit, Place
from lcr2s_jax.search.conditions import EVERY, Condition
from lcr2s_jax.search.gallery import FOUND, OWN, Gallery
from lcr2s_jax.search.nearest import Nearest
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.rows import ENRICHED, LOOK, NUMBERS, VECTOR, looks_of
from lcr2s_jax.search.storage import TRACKED, located

SAME = 1e-5  # distance of two vectors of one picture, by whatever device
_ENRICHED = 'compared enriched, {}: scores and ranks alone; probabilities are known of pictures as they are'
_STALE = (
    'compared by what each picture shows itself: pictures came or went, and the enriched vectors were not made again; '
    'lcr2s index --index=... does it'
)
KNOWN = 0.5  # detection from which on nobody's reaching the threshold says 'no such person' unasked


class Search:
    """An index that is open to queries; `tokenizer` is the model's own, with `encode` and `lengths`."""

    def __init__(self, gallery: Gallery, model: Model, tokenizer):
        gallery.refuse_another(model.hash)
        self.gallery, self.model, self.tokenizer, self._nearest = gallery, model, tokenizer, Nearest()
        self._foreign = -1, False  # the version that it is known of

    def __call__(
        self,
        queries: Sequence[Query],
        *,
        top: int,
        false_alarms: float,
        where: Condition | str = '',
        group_by: str = '',
        exact: bool = False,
        verify: bool = False,
    ) -> list[Answer]:
        """Rank the pictures for every query, in one batch, as of the version that the gallery is at.

        Args:
          top: hits of each; files with the same bytes are one hit.
          false_alarms: share of the searches for somebody who is not there that may find somebody, of the range of
            `calibration.RATES`.
          where: a condition in SQL, see `conditions`; '' for all pictures.
          group_by: a column of which every value is shown once, by its best picture; '' for none.
          exact: compare every vector even where the gallery has an approximate index.
          verify: say 'no such person' even where the model misses more than half of those who are there.

        Raises SearchError for a query without words, a condition, a column or a rate that cannot be used.
        """
        self._check(top, false_alarms, group_by)
        chosen = self.gallery.condition(where)
        noted: list[list[str]] = [[] for _ in queries]
        query_QE = np.stack([self.embed(one, notes) for one, notes in zip(queries, noted, strict=True)])
        depth = 1 << top.bit_length()  # one more at least, as copies may be among them
        searched = self._counted(chosen)
        whole = self._counted(EVERY) if chosen.sql else searched
        answers: dict[int, Answer] = {}
        columns = [self._column(query) for query in queries]
        for column in dict.fromkeys(columns):
            every = exact or column not in self.gallery.indexed
            ask = self._nearest.exact if every else self._nearest.approximate
            nearest = functools.partial(ask, self.gallery, column)
            asked = _Asked(searched, whole.pictures, every, false_alarms, verify)
            places = [place for place, one in enumerate(columns) if one == column]
            score_QK, row_QK = nearest(query_QE[places], 8 * depth if group_by else depth, chosen)
            for place, *best in zip(places, score_QK, row_QK, strict=True):
                found = self._distinct(nearest, query_QE[place], *best, searched.rows, top, chosen, group_by)
                answers[place] = self._answer(queries[place], *found, noted[place], asked, column)
        return [answers[place] for place in range(len(queries))]

    def _column(self, query: Query) -> str:
        """What a query is compared with: an example picture finds its like by what each picture shows itself."""
        return VECTOR if query.example_nE else self.gallery.compared

    def load(self) -> None:
        """Bring all vectors into memory before the first query: for a process that stays."""
        self._nearest.load(self.gallery, self.gallery.compared)

    def embed(self, query: Query, notes: list[str]) -> np.ndarray:
        """The vector [E] of a query; what was done to it goes to `notes`. Raises SearchError."""
        if not (query.sentences or query.example_nE) or not all(map(wording.visible, query.sentences)):
            raise SearchError('found a query without words; expected a sentence such as "a woman in a red coat"')
        if any('\ud800' <= sign <= '\udfff' for text in query.sentences for sign in text):
            raise SearchError('found a sentence that is no UTF-8; type it again, in a terminal whose locale is UTF-8')
        query = query._replace(sentences=tuple(map(wording.plain, query.sentences)))
        parts_nE, longest, fitted = [], self.model.clip.context_length, self.model.calibration
        if query.sentences:
            notes += wording.notes(query.sentences, self.tokenizer.lengths, fitted and fitted.word_pieces)
        for sentence in query.sentences:
            parts = asking.chunks(sentence, self.tokenizer.lengths, longest)
            if len(parts) > 1:
                notes.append(
                    f'a sentence has {self.tokenizer.lengths([sentence])[0]} tokens and the model reads {longest}: it '
                    f'was searched by {len(parts)} parts, whose scores are averaged'
                )
            parts_nE.append(self.model.embed_text(self.tokenizer.encode(parts, longest)).mean(axis=0))
        spread = {'sentence': 1.0, 'example': 1.0} if fitted is None else fitted.deviation
        deviation = [spread['sentence']] * len(parts_nE) + [spread['example']] * len(query.example_nE)
        return asking.fuse(np.stack([*parts_nE, *query.example_nE]), np.array(deviation)).astype(np.float32)

    def why(self, query: Query, hits: Sequence[Hit]) -> list[tuple[str, list[float]]]:
        """Leave one out: every phrase of the sentences, and what it added to the score of each hit.

        A sentence of one phrase is left out whole where there is another sentence or an example; else it is not told.
        """
        asking.check_phrases(query.sentences, self.tokenizer.lengths, self.model.clip.context_length)
        vector_KE = self.gallery.vectors_at([hit.row for hit in hits], self._column(query))
        whole_K, told = vector_KE @ self.embed(query, []), []
        for place, sentence in enumerate(query.sentences):
            for number, phrase in enumerate(said := asking.phrases(sentence)):
                less = [asking.without(sentence, number)] if len(said) > 1 else []
                rest = query._replace(sentences=(*query.sentences[:place], *less, *query.sentences[place + 1 :]))
                if rest.sentences or rest.example_nE:
                    told.append((phrase, (whole_K - vector_KE @ self.embed(rest, [])).tolist()))
        return told

    def _check(self, top: int, false_alarms: float, group_by: str) -> None:
        lowest, *_, highest = calibration.RATES
        if not lowest <= false_alarms <= highest:
            raise SearchError(f'false_alarms: found {false_alarms:g}, expected {lowest:g} to {highest:g}')
        if top < 1:
            raise SearchError(f'top: found {top}, expected 1 or more')
        if group_by and group_by not in {*OWN, *self.gallery.columns} - {*NUMBERS}:
            known = ', '.join(self.gallery.columns) or 'none: index with --metadata'
            raise SearchError(f"group_by: found '{group_by}', expected a column that came with --metadata ({known})")

    def _counted(self, where: Condition) -> '_Counted':
        """How many were searched: the best of some tracks is about as often a stranger's as the best of their crops."""
        rows = self.gallery.count(FOUND & where)
        if self.gallery.columns.get('crops') != 'int64':
            return _Counted(rows, 0, 0)
        tracks = FOUND & where & conditions.equal(root=TRACKED)
        found = self.gallery.rows(tracks, ['crops'])['crops'].to_pylist()
        return _Counted(rows, len(found), sum(crops or 1 for crops in found))

    def _distinct(self, nearest, query_E, score_K, row_K, rows: int, top: int, where: Condition, column: str):
        """The best of each picture or value of the column, found deeper and deeper: score_K, row_K, copies of each.

        Of a column, a picture without a value stands for itself. Copies of a picture have its score, so that all of
        them are known as soon as a lower score is.
        """
        depth = len(row_K)
        while True:
            there = row_K >= 0
            score_K, row_K = score_K[there], row_K[there]
            facts = self.gallery.facts(row_K, list(dict.fromkeys(['root', 'path', 'sha256', *[column] * bool(column)])))
            groups: dict = {}
            for place, one in enumerate(facts):
                alone = one['sha256'] or place
                value = one[column] if column else None
                groups.setdefault(('copy', alone) if value is None else ('value', value), []).append(place)
            kept = list(groups.values())[:top]
            complete = len(groups) >= top and score_K[-1] < score_K[kept[-1][0]] - SAME
            if complete or not there.all() or depth >= rows:
                break
            depth *= 4
            (score_K,), (row_K,) = nearest(query_E[None], depth, where)
        copies = [
            tuple(
                Place(located(self.gallery.uri, facts[place]['root']), facts[place]['path'])
                for place in others
                if facts[place]['sha256'] == facts[first]['sha256'] != ''
            )
            for first, *others in kept
        ]
        best = [first for first, *_ in kept]
        return score_K[best], row_K[best], copies

    def _outside(self, look_KS: np.ndarray) -> np.ndarray:
        """Which of some pictures are unlike those that the model was calibrated on; all, where the index is."""
        fitted, version = self.model.calibration, self.gallery.version
        if self._foreign[0] != version:
            self._foreign = version, fitted.domain.foreign(likeness.outside(self.gallery, fitted))
        return np.ones(len(look_KS), bool) if self._foreign[1] else fitted.domain.outside(look_KS)

    def _answer(self, query: Query, score_K, row_K, copies, notes: list[str], asked: '_Asked', column: str) -> Answer:
        kind, checked = query.kind, bool(self.model.calibration and self.model.calibration.domain)
        numbers = [VECTOR] * bool(query.example_nE) + [LOOK] * checked
        facts = self.gallery.facts(row_K, [*self.gallery.kinds, *numbers])
        fitted = None if column == ENRICHED else self.model.calibration  # val's scores were of pictures as they are
        threshold = fitted and fitted.threshold(kind, asked.false_alarms, asked.pictures)
        probability_K = fitted and fitted.probability(kind, score_K, asked.pictures)
        outside_K = np.zeros(len(row_K), bool)
        if checked:
            outside_K = self._outside(looks_of([one[LOOK] for one in facts]))
        same_K = [_is_example(one, query) for one in facts]
        told_K = [threshold is not None and not outside_K[k] and not same_K[k] for k in range(len(row_K))]
        hits = [
            Hit(
                rank=k + 1,
                root=located(self.gallery.uri, one['root']),
                path=one['path'],
                score=float(score_K[k]),
                probability=float(probability_K[k]) if told_K[k] else None,
                passes=bool(score_K[k] >= threshold) if told_K[k] else None,
                metadata={name: value for name, value in one.items() if name not in (*OWN, *NUMBERS)},
                row=int(row_K[k]),
                copies=copies[k],
                same=same_K[k],
                outside=bool(outside_K[k]),
            )
            for k, one in enumerate(facts)
        ]
        if column == ENRICHED:
            notes.append(_ENRICHED.format(self.gallery.enriched))
        else:
            notes += [_STALE] * (self.gallery.enriched is not None and not query.example_nE)
            notes += likeness.reasons(fitted, threshold, checked, hits)
        detection = fitted and fitted.detection(kind, asked.false_alarms, asked.pictures)
        found = True if any(hit.passes for hit in hits) else None
        if found is None and any(told_K) and (asked.verify or (detection or 0) >= KNOWN):
            found = False
        return Answer(
            query, hits, found, threshold, asked.searched.pictures, asked.exact, asked.false_alarms, notes, detection,
            asked.searched.tracks, asked.searched.crops,
        )  # fmt: skip


class _Counted(NamedTuple):
    """Rows that can be found, the tracks of videos among them, and the pictures of those."""

    rows: int
    tracks: int
    crops: int

    @property
    def pictures(self) -> int:
        return self.rows - self.tracks + self.crops


class _Asked(NamedTuple):
    """What is the same for all queries of a call; `pictures` are those of the whole index."""

    searched: _Counted
    pictures: int
    exact: bool
    false_alarms: float
    verify: bool


def _is_example(row: Mapping, query: Query) -> bool:
    """Whether a row is an example picture of the query: by its bytes, or as nothing else has its vector."""
    near = any(float(np.linalg.norm(row[VECTOR] - example_E)) < SAME for example_E in query.example_nE)
    return near or row['sha256'] in query.example_sha256
