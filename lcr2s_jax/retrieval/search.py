"""Queries in, ranked pictures out: the one road that the command, the page and anybody's own program take."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.retrieval import query as asking
from lcr2s_jax.retrieval.gallery import OWN, Gallery
from lcr2s_jax.retrieval.query import Query
from lcr2s_jax.retrieval.searcher import Searcher
from lcr2s_jax.retrieval.topk import Exact


class Hit(NamedTuple):
    """A picture that was found.

    Attributes:
      rank: from 1.
      root, path: the file.
      score: weighted mean of the cosines, see `query`.
      probability: that it shows the described person, estimated; None without a calibration.
      passes: whether the score reaches the threshold; None without a calibration.
      metadata: the user's columns.
    """

    rank: int
    root: str
    path: str
    score: float
    probability: float | None
    passes: bool | None
    metadata: dict[str, Any]


class Answer(NamedTuple):
    """What one query found.

    Attributes:
      query: the query.
      hits: best first.
      found: whether any hit passes; False is 'no such person', None is without a calibration.
      threshold: score that must be reached.
      searched: pictures that were compared.
      notes: what the user should know of this search.
    """

    query: Query
    hits: list[Hit]
    found: bool | None
    threshold: float | None
    searched: int
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

    def __init__(self, gallery: Gallery, searcher: Searcher, tokenizer, devices=None):
        self.gallery, self.searcher, self.tokenizer, self._devices = gallery, searcher, tokenizer, devices
        self._loaded = None

    def refresh(self) -> None:
        """See what was committed since."""
        self.gallery.refresh()

    def __call__(
        self, queries: Sequence[Query], *, top: int, where: str = '', group_by: str = '', false_alarms: float
    ) -> list[Answer]:
        """Rank the pictures for every query.

        Args:
          queries: one or more.
          top: hits of each.
          where: a condition in SQL; '' for all pictures.
          group_by: a column of which every value is shown once, by its best picture; '' for none.
          false_alarms: share of the searches for somebody who is not there that may find somebody, 0..1.

        Raises:
          SearchError: a query without words, a condition or a column that cannot be used.
        """
        noted: list[list[str]] = [[] for _ in queries]
        query_QE = np.stack([self.embed(one, notes) for one, notes in zip(queries, noted, strict=True)])
        if group_by and group_by not in self.gallery.columns:
            raise SearchError(f"--group-by: found '{group_by}', expected one of {', '.join(self.gallery.columns) or 'none'}")
        score_QK, row_QK, searched = self._nearest(query_QE, top, where, group_by)
        return [
            self._answer(*one, searched, false_alarms)
            for one in zip(queries, query_QE, score_QK, row_QK, noted, strict=True)
        ]

    def embed(self, query: Query, notes: list[str]) -> np.ndarray:
        """The vector [E] of a query; what was done to it goes to `notes`."""
        if not query.sentences and not query.example_nE or not all(text.strip() for text in query.sentences):
            raise SearchError('found a query without words; expected a sentence such as "a woman in a red coat"')
        parts_nE, longest = list(query.example_nE), self.searcher.clip.context_length
        for sentence in query.sentences:
            parts = asking.chunks(sentence, self.tokenizer.lengths, longest)
            if len(parts) > 1:
                notes.append(
                    f'a sentence has {self.tokenizer.lengths([sentence])[0]} tokens, the model reads {longest}: searched '
                    f'by {len(parts)} parts of it'
                )
            text_nE = self.searcher.embed_text(self.tokenizer.encode(parts, longest))
            parts_nE.append(text_nE.mean(axis=0))
        parts_nE = np.stack(parts_nE)
        return asking.fuse(parts_nE, self._deviation(parts_nE)).astype(np.float32)

    def _deviation(self, parts_nE: np.ndarray) -> np.ndarray:
        calibration = self.searcher.calibration
        return np.ones(len(parts_nE)) if calibration is None else calibration.spread(parts_nE)[1]

    def _nearest(self, query_QE, top: int, where: str, group_by: str):
        exact, row_G = self._vectors()
        allowed_G = np.isin(row_G, self.gallery.rows_where(where), assume_unique=True) if where else None
        searched = len(row_G) if allowed_G is None else int(allowed_G.sum())
        score_QK, place_QK = exact(query_QE, top, allowed_G)
        return score_QK, np.where(place_QK < 0, -1, row_G[place_QK]) if len(row_G) else place_QK, searched

    def _vectors(self):
        version = self.gallery.version
        if self._loaded is None or self._loaded[0] != version:
            vector_GE, row_G = self.gallery.vectors()
            self._loaded = version, Exact(vector_GE, self._devices), row_G
        return self._loaded[1:]

    def _answer(self, query, query_E, score_K, row_K, notes, searched: int, false_alarms: float) -> Answer:
        there = row_K >= 0
        score_K, facts = score_K[there], self.gallery.facts(row_K[there])
        probability_K, threshold = [None] * len(score_K), None
        hits = [
            Hit(
                rank, one['root'], one['path'], float(score), probability, None,
                {name: value for name, value in one.items() if name not in OWN},
            )
            for rank, (one, score, probability) in enumerate(zip(facts, score_K, probability_K, strict=True), 1)
        ]  # fmt: skip
        return Answer(query, hits, None, threshold, searched, notes)
