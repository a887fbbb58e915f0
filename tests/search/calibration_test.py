"""Probabilities and thresholds are what they say, on people whose scores are known by construction."""

import json

import numpy as np
import pytest

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.search import calibration, query
from lcr2s_jax.search.domain import Domain


def split(people, seed, views=4, width=48):
    """People drawn alike and independently, so that a larger gallery has just more strangers."""
    rng = np.random.default_rng(seed)
    pid = np.repeat(np.arange(people, dtype=np.int32), views)
    who, own = rng.normal(size=(people, width)), np.arange(len(pid), dtype=np.int32)
    image, text = (who[pid] + noise * rng.normal(size=(len(pid), width)) for noise in (0.9, 1.5))
    return Embeddings(image, text, pid, pid, own, own)


def scores(e):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (e.text_QE, e.image_GE)]
    return unit[0] @ unit[1].T, e.text_pid_Q[:, None] == e.image_pid_G[None]


def error(probability, right, bins=10):
    """Expected calibration error: bins of equal size."""
    order = np.argsort(probability)
    parts = np.array_split(order, bins)
    return sum(len(part) * abs(probability[part].mean() - right[part].mean()) for part in parts) / len(order)


@pytest.fixture(scope='module')
def fitted():
    return calibration.fit(split(150, seed=1))


@pytest.mark.parametrize('people', [150, 600])
def test_a_hit_is_the_described_person_as_often_as_its_probability_says(fitted, people):
    score_QG, right_QG = scores(split(people, seed=2))
    top_QK = np.argsort(-score_QG, axis=1)[:, : calibration.TOP]
    hit_QK, right_QK = (np.take_along_axis(x, top_QK, axis=1) for x in (score_QG, right_QG))
    found = fitted.probability('sentence', hit_QK.ravel(), score_QG.shape[1])
    assert 0.2 < right_QK.mean() < 0.35 or people == 600, 'neither hopeless nor easy'
    assert error(found, right_QK.ravel()) < 0.05


@pytest.mark.parametrize('people', [150, 600])
def test_somebody_who_is_not_there_is_found_as_often_as_was_chosen_on_average(people):
    found, rates = [], np.array([0.05, 0.2])
    for seed in range(6):  # a val of 150 people knows its own tail to a third or so
        score_QG, right_QG = scores(split(people, seed=100 + seed))
        best_Q, fit = np.where(right_QG, -np.inf, score_QG).max(axis=1), calibration.fit(split(150, seed=seed))
        found.append([(best_Q >= fit.threshold('sentence', rate, score_QG.shape[1])).mean() for rate in rates])
    assert (abs(np.mean(found, axis=0) - rates) <= 0.3 * rates).all()


def test_a_smaller_gallery_makes_neither_probability_nor_threshold_bolder_than_val(fitted):
    score = np.array([0.1, 0.4])
    whole = fitted.probability('sentence', score, fitted.pictures)
    for pictures in (0, 1, fitted.pictures // 4):
        np.testing.assert_array_equal(fitted.probability('sentence', score, pictures), whole)
        assert fitted.threshold('sentence', 0.05, pictures) == fitted.threshold('sentence', 0.05, fitted.pictures)
    assert (fitted.probability('sentence', score, 4 * fitted.pictures) < whole).all()
    assert fitted.threshold('sentence', 0.05, 4 * fitted.pictures) > fitted.threshold('sentence', 0.05, fitted.pictures)


def test_a_part_that_the_person_may_be_missing_from_keeps_its_probabilities_and_its_false_alarms(fitted):
    """As by a condition on the camera: each picture is in the part by chance, the person's own as well."""
    e = split(600, seed=4)
    kept_G = np.random.default_rng(0).random(len(e.image_pid_G)) < 0.05
    score_QG, right_QG = (x[:, kept_G] for x in scores(e))
    top_QK = np.argsort(-score_QG, axis=1)[:, :3]
    hit_QK, right_QK = (np.take_along_axis(x, top_QK, axis=1).ravel() for x in (score_QG, right_QG))
    bold = calibration._sigmoid(  # as if all of the person's pictures were in the part
        fitted.kinds['sentence'].slope * hit_QK + fitted.kinds['sentence'].offset + np.log(5)
    )
    assert error(fitted.probability('sentence', hit_QK, len(kept_G)), right_QK) < 0.05 < error(bold, right_QK)
    best_Q = np.where(right_QG, -np.inf, score_QG).max(axis=1)
    assert (best_Q >= fitted.threshold('sentence', 0.2, len(kept_G))).mean() < 0.2


def test_without_allowing_for_the_gallery_false_alarms_would_multiply(fitted):
    score_QG, right_QG = scores(split(600, seed=3))
    best_Q = np.where(right_QG, -np.inf, score_QG).max(axis=1)
    assert (best_Q >= fitted.threshold('sentence', 0.05, fitted.pictures)).mean() > 0.1


def test_every_kind_of_query_has_its_own_fit_and_more_evidence_tells_people_apart_better(fitted):
    assert set(fitted.kinds) == {
        query.Query(('a',) * sentences, ('v',) * examples).kind
        for sentences in range(3)
        for examples in range(2)
        if sentences + examples
    }
    slope = {kind: one.slope * fitted.deviation['sentence'] for kind, one in fitted.kinds.items()}
    assert slope['sentence'] < slope['sentences'] < slope['sentences and example']


def test_people_with_one_picture_have_no_example(fitted):
    alone = calibration.fit(split(60, seed=1, views=1))
    assert 'example' not in alone.kinds and alone.probability('example', np.ones(3), 60) is None
    assert alone.threshold('example', 0.1, 60) is None and alone.kinds['sentence'].queries == 60


def test_what_is_fitted_are_the_scores_that_a_search_makes(fitted):
    e, parts = split(150, seed=1), fitted.deviation
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (e.text_QE, e.image_GE)]
    both_nE, spread_n = np.stack([unit[0][0], unit[1][1]]), np.array([parts['sentence'], parts['example']])
    share = parts['example'] / spread_n.sum()
    fused_G = unit[1] @ query.fuse(both_nE, spread_n)
    np.testing.assert_allclose(fused_G, unit[1] @ (share * both_nE[0] + (1 - share) * both_nE[1]), rtol=1e-6)
    own, kinds = calibration.scores(e, np.arange(5))
    spread_n = np.array([own['sentence'], own['example']])
    for caption, score_G in enumerate(kinds['sentence and example'][0]):
        (pictures,) = np.flatnonzero(e.image_pid_G == e.text_pid_Q[caption])[None]
        example = pictures[(list(pictures).index(e.text_view_Q[caption]) + 1) % len(pictures)]
        wanted_G = unit[1] @ query.fuse(np.stack([unit[0][caption], unit[1][example]]), spread_n)
        assert np.isneginf(score_G[example]), 'the picture that is asked with is no hit'
        np.testing.assert_allclose(np.delete(score_G, example), np.delete(wanted_G, example), rtol=1e-5, atol=1e-6)


def test_scores_that_tell_everything_or_nothing_have_a_finite_fit():
    e = split(40, seed=5)
    perfect = calibration.fit(e._replace(image_GE=e.text_QE))
    assert np.isfinite(perfect.probability('sentence', np.array([-1.0, 0.0, 1.0]), 160)).all()
    rng = np.random.default_rng(0)
    nothing = calibration.fit(e._replace(text_QE=rng.normal(size=e.text_QE.shape)))
    assert nothing.probability('sentence', np.array([0.9]), 160)[0] < 0.5


def test_a_calibration_survives_its_file(fitted):
    assert calibration.Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize('rate', [0.01, 0.05, 0.2, 0.3])
def test_detection_is_the_share_of_the_searches_for_somebody_there_that_reach_the_threshold(fitted, rate):
    score_QG, right_QG = scores(split(600, seed=7))
    kept_G = np.arange(len(right_QG[0])) < fitted.pictures
    own_Q = np.where(right_QG, score_QG, -np.inf).max(axis=1)
    found = (own_Q >= fitted.threshold('sentence', rate, kept_G.sum())).mean()
    assert fitted.detection('sentence', rate, kept_G.sum()) == pytest.approx(found, abs=0.06)
    more = fitted.detection('sentence', rate, 100 * fitted.pictures)
    assert more < fitted.detection('sentence', rate, fitted.pictures), 'a large gallery asks for more'


def test_what_val_looked_like_is_kept_with_its_calibration(fitted):
    e, rng = split(150, seed=1), np.random.default_rng(0)
    look_GS = rng.normal(size=(len(e.image_pid_G), 27))
    look_GS[5] = np.nan  # a picture that cannot be read
    known = calibration.fit(e, look_GS=look_GS)
    others = np.arange(len(look_GS)) != 5
    assert fitted.domain is None and known.kinds == fitted.kinds
    assert known.domain == Domain.fit(look_GS[others], e.image_pid_G[others])
    again = calibration.Calibration.from_json(json.loads(json.dumps(known.to_json())))
    assert again == known and known.domain.outside(rng.normal(size=(500, 27))).mean() < 0.05
