"""The best rows of an index for some vectors: every row compared, or its approximate index asked."""

import threading

import numpy as np

from lcr2s_jax.search import approximate
from lcr2s_jax.search.conditions import Condition
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.topk import Exact


class Nearest:
    """Keeps the vectors of the last version in memory; a server asks from many threads.

    `loaded` has column -> (version, vectors on the devices, their row numbers).
    """

    def __init__(self):
        self.loaded: dict[str, tuple[int, Exact, np.ndarray]] = {}
        self._one = threading.Lock()

    def exact(self, gallery: Gallery, column: str, query_QE: np.ndarray, top: int, where: Condition):
        """score_QK float32, falling, and row_QK int64; -inf and -1 behind the last row there is."""
        exact, row_G = self.load(gallery, column)
        allowed_G = np.isin(row_G, gallery.rows_where(where), assume_unique=True) if where.sql else None
        score_QK, place_QK = exact(query_QE, top, allowed_G)
        return score_QK, np.where(place_QK < 0, -1, row_G[place_QK]) if len(row_G) else place_QK

    def approximate(self, gallery: Gallery, column: str, query_QE: np.ndarray, top: int, where: Condition):
        """The same, of what the approximate index looks at."""
        with self._one:
            there = self.loaded.get(column)
            if there and there[0] != gallery.version:
                there = None  # to read a million vectors again takes longer than the disk costs a sentence
                del self.loaded[column]
        return approximate.nearest(gallery, query_QE, top, where, memory=there and there[1:], column=column)

    def load(self, gallery: Gallery, column: str) -> tuple[Exact, np.ndarray]:
        """Bring all vectors of a column into memory."""
        with self._one:
            version = gallery.version
            if column not in self.loaded or self.loaded[column][0] != version:
                self.loaded = {name: one for name, one in self.loaded.items() if one[0] == version}
                vector_GE, row_G = gallery.vectors(column)
                self.loaded[column] = version, Exact(vector_GE), row_G
            return self.loaded[column][1:]
