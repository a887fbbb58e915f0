"""How well boxes and tracks fit the truth; the measures of benchmarks/video.py, each by its published definition.

A sequence is a list of `Frame`s. IDF1, MOTA and switches are motmetrics'; HOTA is here, as motmetrics has none.
"""

import collections
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from lcr2s_jax.video.tracker import overlap

ALPHAS = np.arange(1, 20) / 20  # overlaps over which HOTA is a mean
SAME = 0.5  # overlap from which a box is of a person, for all else


class Frame(NamedTuple):
    """Truth and finding of one frame: whose each box is, and boxes [n, 4] of left, top, right, bottom."""

    person_n: list[int]
    truth_n4: np.ndarray
    track_m: list[int]
    found_m4: np.ndarray

    def overlap(self) -> np.ndarray:
        """[n, m]."""
        return overlap(self.truth_n4, self.found_m4)


def matched(overlap_nm: np.ndarray, least: float = SAME) -> list[tuple[int, int]]:
    """Pairs of truth and finding, one to one: as many as can be, then the largest sum of overlaps."""
    good_nm = overlap_nm >= least
    rows, columns = linear_sum_assignment(np.where(good_nm, 1 + overlap_nm / (1 + overlap_nm.size), 0), maximize=True)
    return [(int(n), int(m)) for n, m in zip(rows, columns, strict=True) if good_nm[n, m]]


def detection(frames: list[Frame]) -> dict:
    """Recall and precision of the boxes, whosever they are."""
    right = sum(len(matched(frame.overlap())) for frame in frames)
    truth, found = sum(len(frame.person_n) for frame in frames), sum(len(frame.found_m4) for frame in frames)
    return {'recall': right / max(truth, 1), 'precision': right / max(found, 1)}


def identity(frames: list[Frame]) -> dict:
    """IDF1 (Ristani et al., 2016), MOTA and identity switches (Bernardin & Stiefelhagen, 2008), by motmetrics."""
    import motmetrics

    told = motmetrics.MOTAccumulator()
    for number, frame in enumerate(frames):
        overlap_nm = frame.overlap()
        told.update(frame.person_n, frame.track_m, np.where(overlap_nm >= SAME, 1 - overlap_nm, np.nan), number)
    names = ['idf1', 'mota', 'num_switches']
    row = motmetrics.metrics.create().compute(told, metrics=names, name='all').iloc[0]
    return {'IDF1': float(row.idf1), 'MOTA': float(row.mota), 'switches': int(row.num_switches)}


def hota(frames: list[Frame]) -> dict:
    """HOTA, DetA and AssA (Luiten et al., 2021), each a mean over ALPHAS.

    At an overlap alpha: DetA = TP / (TP + FN + FP); AssA, a mean over the true positives c, of
    TPA(c) / (TPA(c) + FNA(c) + FPA(c)), where TPA(c) are the matches of c's person with c's track;
    HOTA = sqrt(DetA AssA). Matches of a frame are as many as can be, of these those with the largest sum of A_max (the
    ratio above, were all pairs from alpha on matched), then of overlaps.
    """
    people = {person: place for place, person in enumerate(sorted({p for f in frames for p in f.person_n}))}
    tracks = {track: place for place, track in enumerate(sorted({t for f in frames for t in f.track_m}))}
    parts = [
        (np.array([people[p] for p in f.person_n], int), np.array([tracks[t] for t in f.track_m], int), f.overlap())
        for f in frames
    ]
    person_P, track_T = np.zeros(len(people)), np.zeros(len(tracks))
    for p_n, t_m, _ in parts:
        np.add.at(person_P, p_n, 1)
        np.add.at(track_T, t_m, 1)
    rows = np.array([_hota_at(alpha, parts, person_P, track_T) for alpha in ALPHAS]).reshape(-1, 2)
    return {'HOTA': float(np.sqrt(rows.prod(axis=1)).mean()), 'DetA': float(rows[:, 0].mean()),
            'AssA': float(rows[:, 1].mean())}  # fmt: skip


def _hota_at(alpha: float, parts: list, person_P: np.ndarray, track_T: np.ndarray) -> tuple[float, float]:
    def ratio(count_PT):
        return count_PT / np.maximum(person_P[:, None] + track_T - count_PT, 1)

    possible_PT = np.zeros((len(person_P), len(track_T)))
    for p_n, t_m, overlap_nm in parts:
        np.add.at(possible_PT, np.ix_(p_n, t_m), overlap_nm >= alpha - 1e-9)
    most_PT, count_PT = ratio(possible_PT), np.zeros_like(possible_PT)
    for p_n, t_m, overlap_nm in parts:
        good_nm = overlap_nm >= alpha - 1e-9
        score_nm = np.where(good_nm, 1e6 + most_PT[np.ix_(p_n, t_m)] + 1e-6 * overlap_nm, 0)
        chosen = linear_sum_assignment(score_nm, maximize=True)
        kept = good_nm[chosen]
        np.add.at(count_PT, (p_n[chosen[0][kept]], t_m[chosen[1][kept]]), 1)
    right = count_PT.sum()
    return right / max(person_P.sum() + track_T.sum() - right, 1), (count_PT * ratio(count_PT)).sum() / max(right, 1)


def tracks(frames: list[Frame]) -> dict:
    """Purity, and how many tracks there are of whom.

    A track's person is the one whom most of its boxes are of; purity: share of the boxes of anybody that are of their
    track's person. Mixed: less than nine tenths are. `nobody`: share of boxes that are of nobody.
    """
    whose = collections.defaultdict(collections.Counter)
    seen = collections.Counter(track for frame in frames for track in frame.track_m)
    for frame in frames:
        for n, m in matched(frame.overlap()):
            whose[frame.track_m[m]][frame.person_n[n]] += 1
    own = collections.Counter(counter.most_common(1)[0][0] for counter in whose.values())
    of_somebody = sum(counter.total() for counter in whose.values())
    purest = {track: counter.most_common(1)[0][1] / counter.total() for track, counter in whose.items()}
    return {
        'tracks': len(seen),
        'people': len({person for frame in frames for person in frame.person_n}),
        'people found': len(own),
        'tracks a person': len(whose) / max(len(own), 1),
        'tracks of nobody': len(seen) - len(whose),
        'purity': sum(purest[track] * counter.total() for track, counter in whose.items()) / max(of_somebody, 1),
        'mixed tracks': sum(share < 0.9 for share in purest.values()),
        'nobody': 1 - of_somebody / max(seen.total(), 1),
        'seen once': sum(count == 1 for count in seen.values()),
    }
