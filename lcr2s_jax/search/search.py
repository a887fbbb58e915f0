"""Queries in, ranked pictures out: the one road that the command, the page and anybody's own program take."""

import pathlib
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.model import Model
from lcr2s_jax.search import approximate, calibration, conditions
from lcr2s_jax.search import query as asking
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.gallery import FOUND, OWN, Gallery
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.storage import TRACKS, located
from lcr2s_jax.search.topk import Exact


class Hit(NamedTuple):
    """A picture that was found.

    Attributes:
      rank: from 1.
      root, path: the file.
      score: weighted mean of the cosines, see `query`.
      probability: that it shows the described person, see `calibration`; None without one.
      passes: whether the score reaches the threshold; None without a calibration.
      metadata: the user's columns.
      row: of the gallery, at the version that was searched.
    """

    rank: int
    root: str
    path: str
    score: float
    probability: float | None
    passes: bool | None
    metadata: dict[str, Any]
    row: int


class Answer(NamedTuple):
    """What one query found.

    Attributes:
      query: the query.
      hits: best first.
      found: whether any hit passes; False is 'no such person', None is without a calibration.
      threshold: score that must be reached.
      searched: pictures that were looked through; of a track of a video so many as it has crops.
      exact: whether each of them was compared.
      false_alarms: the rate that the threshold is for.
      notes: what the user should know of this search.
    """

    query: Query
    hits: list[Hit]
    found: bool | None
    threshold: float | None
    searched: int
    exact: bool
    false_alarms: float
    notes: list[str]


class Search:
    """An index that is open to queries.

    Args:
      gallery: the pictures.
      searcher: the model that embedded them.
      tokenizer: the model's own; has `encode` and `lengths`.
      devices: that compare; None for all of this host.

    Attributes:
      gallery, searcher, tokenizer: the same.
    """

    def __init__(self, gallery: Gallery, searcher: Model, tokenizer, devices=None):
        gallery.refuse_another(searcher.hash)
        self.gallery, self.searcher, self.tokenizer, self._devices = gallery, searcher, tokenizer, devices
        self._loaded, self._one = None, threading.Lock()  # a server asks from many threads

    def __call__(
        self,
        queries: Sequence[Query],
        *,
        top: int,
        false_alarms: float,
        where: Condition | str = '',
        group_by: str = '',
        exact: bool = False,
    ) -> list[Answer]:
        """Rank the pictures for every query, in one batch, as of the version that the gallery is at.

        Args:
          queries: one or more.
          top: hits of each.
          false_alarms: share of the searches for somebody who is not there that may find somebody, of the range of
            `calibration.RATES`.
          where: a condition in SQL, see `conditions`; '' for all pictures.
          group_by: a column of which every value is shown once, by its best picture; '' for none.
          exact: compare every vector even where the gallery has an approximate index.

        Raises:
          SearchError: a query without words, a condition, a column or a rate that cannot be used.
        """
        lowest, *_, highest = calibration.RATES
        if not lowest <= false_alarms <= highest:
            raise SearchError(f'--false-alarms: found {false_alarms:g}, expected {lowest:g} to {highest:g}')
        if group_by and group_by not in self.gallery.columns:
            known = ', '.join(self.gallery.columns) or 'none: index with --metadata'
            raise SearchError(f"--group-by: found '{group_by}', expected a column that came with --metadata ({known})")
        chosen = self.gallery.condition(where)
        noted: list[list[str]] = [[] for _ in queries]
        query_QE = np.stack([self.embed(one, notes) for one, notes in zip(queries, noted, strict=True)])
        nearest = self._approximate if self.gallery.approximate and not exact else self._exact
        if group_by:
            found = [self._grouped(nearest, query_E[None], top, chosen, group_by) for query_E in query_QE]
        else:
            score_QK, row_QK, searched = nearest(query_QE, top, chosen)
            found = [(score_K, row_K, searched) for score_K, row_K in zip(score_QK, row_QK, strict=True)]
        how, pictures = nearest == self._exact, self._pictures(conditions.EVERY) if chosen.sql else found[0][2]
        return [
            self._answer(query, *one, pictures, how, notes, false_alarms)
            for query, one, notes in zip(queries, found, noted, strict=True)
        ]

    def load(self) -> None:
        """Bring all vectors into memory before the first query: for a process that stays."""
        self._vectors()

    def embed(self, query: Query, notes: list[str]) -> np.ndarray:
        """The vector [E] of a query; what was done to it goes to `notes`. Raises SearchError."""
        if not (query.sentences or query.example_nE) or not all(text.strip() for text in query.sentences):
            raise SearchError('found a query without words; expected a sentence such as "a woman in a red coat"')
        parts_nE, longest = [], self.searcher.clip.context_length
        for sentence in query.sentences:
            parts = asking.chunks(sentence, self.tokenizer.lengths, longest)
            if len(parts) > 1:
                notes.append(
                    f'a sentence has {self.tokenizer.lengths([sentence])[0]} tokens and the model reads {longest}: it '
                    f'was searched by {len(parts)} parts, whose scores are averaged'
                )
            parts_nE.append(self.searcher.embed_text(self.tokenizer.encode(parts, longest)).mean(axis=0))
        fitted = self.searcher.calibration
        spread = {'sentence': 1.0, 'example': 1.0} if fitted is None else fitted.deviation
        deviation = [spread['sentence']] * len(parts_nE) + [spread['example']] * len(query.example_nE)
        return asking.fuse(np.stack([*parts_nE, *query.example_nE]), np.array(deviation)).astype(np.float32)

    def why(self, query: Query, hits: Sequence[Hit]) -> list[tuple[str, list[float]]]:
        """Leave one out: every phrase of the sentences, and what it added to the score of each hit.

        A sentence of one phrase is left out whole where there is another sentence or an example; else it is not told.
        """
        vector_KE = self.gallery.vectors_at([hit.row for hit in hits])
        whole_K, told = vector_KE @ self.embed(query, []), []
        for place, sentence in enumerate(query.sentences):
            said = asking.phrases(sentence)
            for number, phrase in enumerate(said):
                less = [asking.without(sentence, number)] if len(said) > 1 else []
                rest = query._replace(sentences=(*query.sentences[:place], *less, *query.sentences[place + 1 :]))
                if rest.sentences or rest.example_nE:
                    told.append((phrase, (whole_K - vector_KE @ self.embed(rest, [])).tolist()))
        return told

    def _exact(self, query_QE: np.ndarray, top: int, where: Condition):
        exact, row_G = self._vectors()
        allowed_G = np.isin(row_G, self.gallery.rows_where(where), assume_unique=True) if where.sql else None
        score_QK, place_QK = exact(query_QE, top, allowed_G)
        row_QK = np.where(place_QK < 0, -1, row_G[place_QK]) if len(row_G) else place_QK
        return score_QK, row_QK, self._pictures(where)

    def _approximate(self, query_QE: np.ndarray, top: int, where: Condition):
        with self._one:
            if self._loaded and self._loaded[0] != self.gallery.version:
                self._loaded = None  # to read a million vectors again takes longer than the disk costs a sentence
            there = self._loaded
        found = approximate.nearest(self.gallery, query_QE, top, where, memory=there and there[1:])
        return *found, self._pictures(where)

    def _pictures(self, where: Condition) -> int:
        """How many were searched: the best of some tracks is about as often a stranger's as the best of their crops."""
        count = self.gallery.count(FOUND & where)
        if self.gallery.columns.get('crops') != 'int64':
            return count
        # the root of earlier versions is the folder itself
        found = self.gallery.rows(FOUND & where & conditions.ending('root', f'/{TRACKS}'), ['crops'])[
            'crops'
        ].to_pylist()
        return count + sum(crops - 1 for crops in found if crops)

    def _grouped(self, nearest, query_1E: np.ndarray, top: int, where: Condition, column: str):
        """Deeper and deeper, until there are enough values of the column; a picture without one stands for itself."""
        depth = 8 * top
        while True:
            (score_K,), (row_K,), searched = nearest(query_1E, depth, where)
            there = row_K >= 0
            score_K, row_K = score_K[there], row_K[there]
            values = [one[column] for one in self.gallery.facts(row_K, [column])]
            first: dict = {}
            for place, value in enumerate(values):
                first.setdefault(('row', place) if value is None else value, place)
            if len(first) >= top or depth >= searched:
                kept = list(first.values())[:top]
                return score_K[kept], row_K[kept], searched
            depth *= 4

    def _vectors(self):
        with self._one:
            version = self.gallery.version
            if self._loaded is None or self._loaded[0] != version:
                vector_GE, row_G = self.gallery.vectors()
                self._loaded = version, Exact(vector_GE, self._devices), row_G
            return self._loaded[1:]

    def _answer(self, query, score_K, row_K, searched: int, pictures: int, exact: bool, notes, false_alarms) -> Answer:
        there = row_K >= 0
        score_K, row_K = score_K[there], row_K[there]
        facts, fitted = self.gallery.facts(row_K), self.searcher.calibration
        probability_K = fitted and fitted.probability(query.kind, score_K, pictures)
        threshold = fitted and fitted.threshold(query.kind, false_alarms, pictures)
        if threshold is None:
            notes.append('without a probability: the model was not calibrated for this kind of query')
        hits = [
            Hit(
                rank=place + 1,
                root=located(self.gallery.uri, one['root'], one['path']),
                path=one['path'],
                score=float(score_K[place]),
                probability=None if probability_K is None else float(probability_K[place]),
                passes=None if threshold is None else bool(score_K[place] >= threshold),
                metadata={name: value for name, value in one.items() if name not in OWN},
                row=int(row_K[place]),
            )
            for place, one in enumerate(facts)
        ]
        found = None if threshold is None else any(hit.passes for hit in hits)
        return Answer(query, hits, found, threshold, searched, exact, false_alarms, notes)


def picture(root: str, path: str) -> pathlib.Path | None:
    """The file of a hit; None where it is gone, or where it no longer lies below its root, as behind a link."""
    file = (pathlib.Path(root) / path).resolve()
    return file if file.is_relative_to(pathlib.Path(root).resolve()) and file.is_file() else None
