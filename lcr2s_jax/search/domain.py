"""Is a picture like those that a model was calibrated on? By the distance of its statistics to those of val's pictures.

    D^2(x) = sum_i (u_i . z)^2 / l_i  +  |rest of z|^2 / s,    z = (x - m) / d

with x a picture's numbers (`appearance`), m and d val's mean and deviations of them, u_i and l_i the first principal
directions and variances of z, s the mean variance of all others: the Mahalanobis distance of probabilistic PCA
(Tipping and Bishop 1999; as a measure of the unfamiliar: Lee et al. 2018). The limit is what 99 % of val stays below,
each person measured by a fit that has not seen him (ours). A collection is foreign as a whole where more of it lies
beyond the limit than is likely if a tenth does. How often that fails, and what other measures find, is measured by
benchmarks/domain.py.
"""

import base64
import dataclasses

import numpy as np

QUANTILE = 0.99  # of val lies within the limit
DIRECTIONS = 32  # at most
SHARE = 0.1  # of a collection beyond the limit that is still familiar ...
_UNLIKELY = 0.01  # ... unless so many beyond it, or more, were less likely than this
_FOLDS = 5
ARRAYS = ('mean_S', 'deviation_S', 'direction_MS', 'variance_M')
_FEWEST = 40  # pictures of val; fewer say nothing of their own spread


@dataclasses.dataclass(frozen=True, eq=False)
class Domain:
    """Val's pictures, in short; S numbers of each."""

    mean_S: np.ndarray  # of the numbers, float32
    deviation_S: np.ndarray  # the same
    direction_MS: np.ndarray  # of the standardised numbers, float32
    variance_M: np.ndarray  # along each of these, float32
    rest: float  # mean variance of all other directions
    limit: float  # distance D that 1 - QUANTILE of val exceeds
    pictures: int  # that it was fitted on

    @classmethod
    def fit(
        cls, look_GS: np.ndarray, person_G: np.ndarray, seed: int = 0, *, standardise: bool = True
    ) -> 'Domain | None':
        """Learn what val's pictures look like; None where they are too few. A person's are held out together, in folds.

        `standardise` divides by deviations; False for vectors, whose numbers are of one kind.
        """
        people = np.random.default_rng(seed).permutation(np.unique(person_G))
        if len(look_GS) < _FEWEST or len(people) < _FOLDS:
            return None
        distance_G = np.empty(len(look_GS))
        for part in np.array_split(people, _FOLDS):
            held_G = np.isin(person_G, part)
            distance_G[held_G] = _fit(look_GS[~held_G], 0.0, standardise).distance(look_GS[held_G])
        return _fit(look_GS, float(np.quantile(distance_G, QUANTILE, method='higher')), standardise)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and self.to_json() == other.to_json()

    def distance(self, look_NS: np.ndarray) -> np.ndarray:
        """D of pictures by their numbers, [N]; NaN for one without."""
        apart_NS = (np.asarray(look_NS, np.float32) - self.mean_S) / self.deviation_S
        along_NM = apart_NS @ self.direction_MS.T
        beside_N = np.maximum((apart_NS**2).sum(axis=1) - (along_NM**2).sum(axis=1), 0)
        return np.sqrt((along_NM**2 / self.variance_M).sum(axis=1) + beside_N / self.rest)

    def outside(self, look_NS: np.ndarray) -> np.ndarray:
        """Whether each picture is farther away than the limit, bool [N]; False for one without numbers."""
        return self.distance(look_NS) > self.limit

    def foreign(self, outside_N: np.ndarray) -> bool:
        """Whether a collection as a whole is unlike val, by what `outside` says of its pictures."""
        return len(outside_N) > 0 and _tail(int(np.sum(outside_N)), len(outside_N)) < _UNLIKELY

    def to_json(self) -> dict:
        """What `from_json` reads; arrays are the base64 of their little-endian float32."""
        arrays = {name: _text(getattr(self, name)) for name in ARRAYS}
        return arrays | {'rest': self.rest, 'limit': self.limit, 'pictures': self.pictures}

    @classmethod
    def from_json(cls, content: dict) -> 'Domain':
        """The inverse of `to_json`. Raises ValueError where the content is none."""
        mean_S, deviation_S, flat, variance_M = (_array(content[name]) for name in ARRAYS)
        numbers = float(content['rest']), float(content['limit']), int(content['pictures'])
        if not numbers[0] > 0 or not (variance_M > 0).all() or not (deviation_S > 0).all():
            raise ValueError('a variance or a deviation that is not above 0')
        if not np.isfinite(mean_S.sum() + flat.sum()):
            raise ValueError('a mean or a direction that is none')
        return cls(mean_S, deviation_S, flat.reshape(len(variance_M), len(mean_S)), variance_M, *numbers)


def _fit(look_GS: np.ndarray, limit: float, standardise: bool) -> Domain:
    count, width = look_GS.shape
    mean_S, deviation_S = look_GS.mean(axis=0), np.ones(width)
    if standardise:
        deviation_S = look_GS.std(axis=0) + 1e-6
    _, spread, direction_SS = np.linalg.svd((look_GS - mean_S) / deviation_S, full_matrices=False)
    variance = np.maximum(spread**2 / (count - 1), 1e-12)
    kept = min(DIRECTIONS, width // 2, count // 4)
    rest = float(max((spread[kept:] ** 2).sum() / (count - 1) / (width - kept), 1e-12))
    arrays = (np.asarray(x, np.float32) for x in (mean_S, deviation_S, direction_SS[:kept], variance[:kept]))
    return Domain(*arrays, rest, limit, count)


def _tail(count: int, total: int) -> float:
    """How likely so many of a total, or more, lie beyond where each does with the probability SHARE."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    k = np.arange(count, total + 1)
    ways = log_factorial[total] - log_factorial[k] - log_factorial[total - k]
    return float(np.exp(ways + k * np.log(SHARE) + (total - k) * np.log1p(-SHARE)).sum())


def _text(x: np.ndarray) -> str:
    return base64.b64encode(np.asarray(x, '<f4', order='C').tobytes()).decode()


def _array(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), '<f4').copy()
