"""From a score to the probability that a hit is the described person, and to 'no such person'. All of it is ours.

Fitted on val, for every kind of query (a sentence, several, an example picture, both), on scores as `query.fuse` makes
them. N pictures are in the index, N0 were in val:

    P(person | score, a hit)  = sigmoid(a score + b - log(max(N / N0, 1)))
    threshold(rate, N)        = quantile_{1 - rate}(top score without the person) + c (g(max(N, N0)) - g(N0))
                                                                                             with g = sqrt(2 log)

The first is a logistic regression on the `TOP` best pictures of every val query, the only ones that a user sees; the
second takes the person's own pictures out of the gallery and looks how high the best of the others gets. Both allow for
the gallery: with N times as many strangers a given score is so many times as often a stranger's, and the best of them
rises with g(N), as the largest of N normal numbers does; c is measured on halves, quarters and eighths of val's
people. (With log N, as for an exponential tail, false alarms fall to half the rate at four times N0.)

A large gallery makes both more cautious; a small one makes neither bolder than val was. Fewer pictures are fewer
strangers alone only if all of the person's own are still among them, which nobody knows: a condition on the camera
takes both away alike, and leaves the odds of a score as they were. So N is of the whole index, whatever the condition.
The best stranger of a part scores no higher than the best of the whole: false alarms are those chosen, or fewer.

What is assumed: an index holds as many pictures of a person as val did, strangers as much alike as val's, and
photographs like val's. With more pictures of each person both are too cautious. Pictures that are unlike val's get no
probability: see `domain`. How often somebody who is there reaches the threshold is kept beside it, as quantiles of the
person's own best score: where that is rare, 'no such person' would mean little.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from lcr2s_jax.arrays import Embeddings, unit
from lcr2s_jax.errors import SearchError
from lcr2s_jax.files import misfit
from lcr2s_jax.search.domain import ARRAYS, Domain

TOP = 10  # hits of each query that the logistic regression sees
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # false-alarm rates with a threshold of their own; between them, by log rate
_QUERIES = 4000  # of val that are used, at most
_DRAWS = 4  # parts of the people drawn for each share
_OWN = np.linspace(0, 1, 21)  # quantiles that are kept of the person's own best score
_CONTENT = {  # of a file
    'pictures': int,
    'deviation': {'sentence': float, 'example': float},
    'kinds': {
        str: {'slope': float, 'offset': float, 'thresholds': [float], 'growth': float, 'queries': int, 'own': [float]}
    },
    'domain': (None, dict.fromkeys(ARRAYS, str) | {'rest': float, 'limit': float, 'pictures': int}),
    'rates': [float],
    'word_pieces': (None, float),
}
_RIDGE = 1.0  # weight of slope^2 / 2 in units of pairs: keeps the slope finite where val is separable


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is known of one kind of query."""

    slope: float  # a
    offset: float  # b
    thresholds: tuple[float, ...]  # of RATES, at N0
    growth: float  # c
    queries: int  # that it was fitted on
    own: tuple[float, ...]  # quantiles of the person's own best score, rising


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What val taught about scores."""

    pictures: int  # N0
    deviation: Mapping[str, float]  # of the scores of one query over the gallery, for a 'sentence' and an 'example'
    kinds: Mapping[str, Fit]  # `query.Query.kind` -> Fit; without 'example' where val has one picture a person
    domain: Domain | None = None  # what val's pictures look like; None where they were too few
    # tokens of a word of val's captions at most, see `wording.pieces_of`; None where not counted
    word_pieces: float | None = None

    def probability(self, kind: str, score_K: np.ndarray, pictures: int) -> np.ndarray | None:
        """That each hit in an index of so many pictures shows the described person; None for a kind not fitted."""
        fit = self.kinds.get(kind)
        if fit is None:
            return None
        strangers = np.log(max(pictures / self.pictures, 1))
        return _sigmoid(fit.slope * np.asarray(score_K, np.float64) + fit.offset - strangers)

    def threshold(self, kind: str, rate: float, pictures: int) -> float | None:
        """The score that the best stranger of so many pictures, or of val's if they are more, reaches at that rate."""
        fit = self.kinds.get(kind)
        if fit is None:
            return None
        higher = fit.growth * (_highest(max(pictures, self.pictures)) - _highest(self.pictures))
        return float(np.interp(np.log(rate), np.log(RATES), fit.thresholds) + higher)

    def detection(self, kind: str, rate: float, pictures: int) -> float | None:
        """Share of val's searches in which a picture of the person reaches the threshold, or None."""
        fit, threshold = self.kinds.get(kind), self.threshold(kind, rate, pictures)
        if fit is None:
            return None
        return float(1 - np.interp(threshold, fit.own, np.linspace(0, 1, len(fit.own)), left=0, right=1))

    def to_json(self) -> dict:
        content = dataclasses.asdict(dataclasses.replace(self, domain=None)) | {'rates': RATES}
        return content | {'domain': self.domain and self.domain.to_json()}

    @classmethod
    def from_json(cls, content: Any, where: Any = 'calibration') -> 'Calibration':
        """The inverse of `to_json`. Raises SearchError, naming `where` it was found, if the content is none."""
        try:
            if fault := misfit(content, _CONTENT):
                raise ValueError(fault)
            return cls._of(content)
        except (TypeError, ValueError) as error:  # TypeError: a name that `Fit` has not
            raise SearchError(
                f'{where}: found no calibration ({error}); restore it from a copy, or delete it'
            ) from None

    @classmethod
    def _of(cls, content: dict) -> 'Calibration':
        kinds = {
            kind: Fit(**one | {name: tuple(one[name]) for name in ('thresholds', 'own')})
            for kind, one in content['kinds'].items()
        }
        for kind, one in kinds.items():
            if len(one.thresholds) != len(RATES) or not one.own or list(one.own) != sorted(one.own):
                raise ValueError(f'{len(RATES)} thresholds and rising quantiles were expected of kinds.{kind}')
        if content['rates'] != list(RATES):
            raise ValueError(f'expected thresholds of the rates {RATES}')
        if content['pictures'] < 1 or min(content['deviation'].values()) < 0:
            raise ValueError('pictures or a deviation below what can be')
        known = content['domain'] and Domain.from_json(content['domain'])
        return cls(content['pictures'], content['deviation'], kinds, known, content['word_pieces'])


def fit(
    e: Embeddings, seed: int = 0, word_pieces: float | None = None, look_GS: np.ndarray | None = None
) -> Calibration:
    """Calibrate on a split, val, that the student was not trained on.

    Args:
      seed: of the queries and the people that are drawn where there are too many.
      word_pieces: of val's captions, see `wording.pieces_of`.
      look_GS: `appearance.statistics` of val's pictures, NaN for one without; None not to know the unfamiliar.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(e.text_pid_Q))[:_QUERIES])
    deviation, kinds = scores(e, chosen)
    people_G = np.asarray(e.image_pid_G)
    fits = {kind: _fit(*one, people_G, rng) for kind, one in kinds.items()}
    known = None
    if look_GS is not None:
        usable_G = np.isfinite(look_GS).all(axis=1)
        known = Domain.fit(look_GS[usable_G], people_G[usable_G], seed)
    return Calibration(len(people_G), deviation, fits, known, word_pieces)


def scores(e: Embeddings, rows: np.ndarray, deviation: Mapping[str, float] | None = None):
    """What every kind of query scores, as a search would have it; `rows` are the captions that are the queries.

    The second sentence is another caption of the person, the example another picture, which is then no hit. `deviation`
    is that of the calibration that is looked at; None to measure it here.

    Returns the deviation, and kind -> (score_QG, -inf for a picture that is the query itself; strangers_QG, bool).
    Kinds that no query has are left out.
    """
    image_GE, text_QE = unit(e.image_GE), unit(e.text_QE)
    text_pid_Q, image_pid_G = np.asarray(e.text_pid_Q), np.asarray(e.image_pid_G)
    own_Q, other_Q = np.asarray(e.text_view_Q)[rows], _another(text_pid_Q)[rows]
    example_Q = _another(image_pid_G)[own_Q]
    one_QG = text_QE[rows] @ image_GE.T
    two_QG = (one_QG + text_QE[other_Q] @ image_GE.T) / 2
    like_QG = image_GE[example_Q] @ image_GE.T
    deviation = deviation or {'sentence': _deviation(one_QG), 'example': _deviation(like_QG)}
    strangers_QG = text_pid_Q[rows, None] != image_pid_G[None]
    shown = np.flatnonzero(example_Q != own_Q)  # there is another picture
    hidden = np.arange(len(shown)), example_Q[shown]

    def beside(text_QG, sentences: int):
        text, example = sentences / deviation['sentence'], 1 / deviation['example']  # the weights of query.fuse
        score_QG = ((text * text_QG + example * like_QG) / (text + example))[shown]
        score_QG[hidden] = -np.inf
        return score_QG, strangers_QG[shown]

    kinds = {'sentence': (one_QG, strangers_QG), 'sentences': (two_QG, strangers_QG)}
    if len(shown):
        kinds |= {'example': beside(0 * one_QG, 0), 'sentence and example': beside(one_QG, 1)}
        kinds['sentences and example'] = beside(two_QG, 2)
    return deviation, kinds


def _fit(score_QG: np.ndarray, strangers_QG: np.ndarray, people_G: np.ndarray, rng) -> Fit:
    top_QK = np.argsort(-score_QG, axis=1, kind='stable')[:, :TOP]
    hit = np.take_along_axis(score_QG, top_QK, axis=1).ravel()
    right = ~np.take_along_axis(strangers_QG, top_QK, axis=1).ravel()
    slope, offset = _logistic(hit[np.isfinite(hit)], right[np.isfinite(hit)])
    alone_QG = np.where(strangers_QG, score_QG, -np.inf)
    thresholds = _quantiles(alone_QG)
    growth = _growth(alone_QG, people_G, thresholds, rng)
    own_Q = np.where(strangers_QG, -np.inf, score_QG).max(axis=1)
    own = np.quantile(own_Q[np.isfinite(own_Q)], _OWN)
    return Fit(slope, offset, tuple(thresholds.tolist()), growth, len(score_QG), tuple(own.tolist()))


def _quantiles(alone_QG: np.ndarray) -> np.ndarray:
    best_Q = alone_QG.max(axis=1)
    return np.quantile(best_Q[np.isfinite(best_Q)], 1 - np.array(RATES), method='higher')


def _growth(alone_QG: np.ndarray, people_G: np.ndarray, whole: np.ndarray, rng) -> float:
    """c: what the thresholds gain with g of the gallery, 0 or more."""
    people, size, level = np.unique(people_G), [_highest(len(people_G))], [whole.mean()]
    for share in (2, 4, 8):
        for _ in range(_DRAWS):
            kept_G = np.isin(people_G, rng.permutation(people)[: len(people) // share])
            if len(people) // share > 1:
                size.append(_highest(kept_G.sum()))
                level.append(_quantiles(alone_QG[:, kept_G]).mean())
    return max(float(np.polyfit(size, level, 1)[0]), 0.0) if len(size) > 1 else 0.0


def _logistic(score: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """a and b by Newton's method on standardised scores."""
    centre, scale = score.mean(), max(score.std(), 1e-6)
    x = np.stack([(score - centre) / scale, np.ones_like(score)], axis=1).astype(np.float64)
    # half a hit of either kind: finite where val has none
    start = np.log((right.sum() + 0.5) / ((~right).sum() + 0.5))
    weight, ridge = np.array([0.0, start]), np.array([_RIDGE, 1e-6])
    for _ in range(50):
        p = _sigmoid(x @ weight)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(hessian, x.T @ (p - right) + ridge * (weight - [0.0, start]))
        weight = weight - step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return float(weight[0] / scale), float(weight[1] - weight[0] * centre / scale)


def _another(pid: np.ndarray) -> np.ndarray:
    """For every item the next one of its identity, the first after the last; itself where it is the only one."""
    order = np.argsort(pid, kind='stable')
    start = np.searchsorted(pid[order], pid, 'left')
    count = np.searchsorted(pid[order], pid, 'right') - start
    place = np.empty(len(pid), int)
    place[order] = np.arange(len(pid))
    return order[start + (place - start + 1) % count]


def _highest(count: int) -> float:
    """g: about what the largest of so many standard normal numbers is."""
    return float(np.sqrt(2 * np.log(max(count, 1))))


def _deviation(score_QG: np.ndarray) -> float:
    return float(score_QG.std(axis=1).mean())


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
