"""Is a picture like those that a model was calibrated on? By its distance to val's image features.

    D^2(x) = sum_i (u_i . (x - m))^2 / l_i  +  |rest of x - m|^2 / s

with m the mean of val's unit vectors, u_i and l_i its first principal directions and variances, s the mean variance of
all others: the Mahalanobis distance of probabilistic PCA (Tipping and Bishop 1999; as a measure of the unfamiliar: Lee
et al. 2018). The limit is what 99 % of val stays below, each person measured by a fit that has not seen him (ours).
A collection is foreign as a whole where more than a tenth of it lies beyond the limit: a model may take a strange
picture for a familiar one, but seldom most of them. How often that fails is measured by benchmarks/domain.py.
"""

import base64
import dataclasses

import numpy as np

QUANTILE = 0.99  # of val lies within the limit
DIRECTIONS = 32  # at most
SHARE = 0.1  # of a collection beyond the limit, above which all of it is taken for foreign ...
_ENOUGH = 20  # ... from so many pictures on
_FOLDS = 5
_FEWEST = 40  # pictures of val; fewer say nothing of their own spread


@dataclasses.dataclass(frozen=True, eq=False)
class Domain:
    """Val's image features, in short.

    Attributes:
      mean_E, direction_ME, variance_M: of unit vectors, float32.
      rest: mean variance of all other directions.
      limit: distance D that 1 - QUANTILE of val exceeds.
      pictures: that it was fitted on.
    """

    mean_E: np.ndarray
    direction_ME: np.ndarray
    variance_M: np.ndarray
    rest: float
    limit: float
    pictures: int

    @classmethod
    def fit(cls, image_GE: np.ndarray, person_G: np.ndarray, seed: int = 0) -> 'Domain | None':
        """Learn what val's pictures look like; None where they are too few to tell.

        Args:
          image_GE: unit vectors of val.
          person_G: identities; a person's pictures are held out together.
          seed: of the folds.
        """
        people = np.random.default_rng(seed).permutation(np.unique(person_G))
        if len(image_GE) < _FEWEST or len(people) < _FOLDS:
            return None
        distance_G = np.empty(len(image_GE))
        for part in np.array_split(people, _FOLDS):
            held_G = np.isin(person_G, part)
            distance_G[held_G] = _fit(image_GE[~held_G], 0.0).distance(image_GE[held_G])
        return _fit(image_GE, float(np.quantile(distance_G, QUANTILE, method='higher')))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and self.to_json() == other.to_json()

    def distance(self, vector_NE: np.ndarray) -> np.ndarray:
        """D of unit vectors, [N]."""
        apart_NE = np.asarray(vector_NE, np.float32) - self.mean_E
        along_NM = apart_NE @ self.direction_ME.T
        beside_N = np.maximum((apart_NE**2).sum(axis=1) - (along_NM**2).sum(axis=1), 0)
        return np.sqrt((along_NM**2 / self.variance_M).sum(axis=1) + beside_N / self.rest)

    def outside(self, vector_NE: np.ndarray) -> np.ndarray:
        """Whether each unit vector is farther away than the limit, bool [N]."""
        return self.distance(vector_NE) > self.limit

    def foreign(self, outside_N: np.ndarray) -> bool:
        """Whether a collection as a whole is unlike val, by what `outside` says of its pictures."""
        return len(outside_N) >= _ENOUGH and float(np.mean(outside_N)) > SHARE

    def to_json(self) -> dict:
        """What `from_json` reads; arrays are the base64 of their little-endian float32."""
        arrays = {name: _text(getattr(self, name)) for name in ('mean_E', 'direction_ME', 'variance_M')}
        return arrays | {'rest': self.rest, 'limit': self.limit, 'pictures': self.pictures}

    @classmethod
    def from_json(cls, content: dict) -> 'Domain':
        """The inverse of `to_json`. Raises ValueError or KeyError where the content is none."""
        mean_E, flat, variance_M = (_array(content[name]) for name in ('mean_E', 'direction_ME', 'variance_M'))
        numbers = float(content['rest']), float(content['limit']), int(content['pictures'])
        if not numbers[0] > 0 or not (variance_M > 0).all() or not np.isfinite(mean_E.sum() + flat.sum()):
            raise ValueError('a variance that is not above 0, or a direction that is none')
        return cls(mean_E, flat.reshape(len(variance_M), len(mean_E)), variance_M, *numbers)


def _fit(image_GE: np.ndarray, limit: float) -> Domain:
    count, width = image_GE.shape
    mean_E = image_GE.mean(axis=0)
    _, spread, direction_EE = np.linalg.svd(image_GE - mean_E, full_matrices=False)
    variance = np.maximum(spread**2 / (count - 1), 1e-12)
    kept = min(DIRECTIONS, width // 2, count // 4)
    rest = float(max((spread[kept:] ** 2).sum() / (count - 1) / (width - kept), 1e-12))
    arrays = (np.asarray(x, np.float32) for x in (mean_E, direction_EE[:kept], variance[:kept]))
    return Domain(*arrays, rest, limit, count)


def _text(x: np.ndarray) -> str:
    return base64.b64encode(np.asarray(x, '<f4', order='C').tobytes()).decode()


def _array(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), '<f4').copy()
