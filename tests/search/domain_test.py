"""Pictures that are unlike val's get no probability, and those that are like them keep theirs."""

import json

import numpy as np
import pytest

from lcr2s_jax.search.domain import QUANTILE, Domain


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def people(count, seed, views=5, width=48, rank=12):
    """Vectors of people of one kind: a few directions that vary much, and a little of all."""
    mixing = np.random.default_rng(0).normal(size=(rank, width))
    rng = np.random.default_rng(seed)
    who = rng.normal(size=(count, rank)) @ mixing
    pid = np.repeat(np.arange(count), views)
    seen = who[pid] + rng.normal(size=(len(pid), rank)) @ mixing / 2 + 0.5 * rng.normal(size=(len(pid), width))
    return unit(seen + 6), pid


@pytest.fixture(scope='module')
def fitted():
    return Domain.fit(*people(200, seed=1))


def test_as_many_of_the_same_kind_lie_outside_as_the_quantile_says(fitted):
    outside = fitted.outside(people(400, seed=2)[0])
    assert outside.mean() < 3 * (1 - QUANTILE) and not fitted.foreign(outside)


def test_vectors_of_another_kind_lie_outside(fitted):
    rng = np.random.default_rng(3)
    other = unit(rng.normal(size=(100, 48)) + 6 * np.sign(rng.normal(size=48)))
    assert fitted.outside(other).mean() > 0.9 and fitted.foreign(fitted.outside(other))


def test_a_person_is_held_out_whole_so_that_his_other_pictures_do_not_vouch_for_him():
    image_GE, pid = people(40, seed=4)
    alone = Domain.fit(image_GE, np.arange(len(pid)))
    assert Domain.fit(image_GE, pid).limit > alone.limit


@pytest.mark.parametrize('total, most', [(2, 2), (3, 2), (14, 4), (100, 18), (2000, 232)])
def test_a_collection_is_foreign_where_more_lie_outside_than_is_likely_if_a_tenth_does(fitted, total, most):
    assert not fitted.foreign(np.arange(total) < most)
    if most < total:
        assert fitted.foreign(np.arange(total) < most + 1)


def test_a_picture_without_statistics_is_not_called_strange(fitted):
    assert not fitted.outside(np.full((1, 48), np.nan)).any()


def test_a_number_counts_by_how_much_it_varies_unless_all_are_of_one_kind():
    image_GE, pid = people(60, seed=7)
    scaled = image_GE * np.geomspace(1, 1000, 48)
    one, other = Domain.fit(image_GE, pid), Domain.fit(scaled, pid)
    np.testing.assert_allclose(one.distance(image_GE), other.distance(scaled), rtol=1e-2)
    as_they_are = [Domain.fit(x, pid, standardise=False).distance(x) for x in (image_GE, scaled)]
    assert np.abs(as_they_are[0] / as_they_are[1] - 1).max() > 0.1


def test_too_few_pictures_or_people_say_nothing():
    assert Domain.fit(*people(5, seed=5)) is None and Domain.fit(people(60, seed=5)[0], np.zeros(300, int)) is None


def test_a_domain_survives_its_file_and_is_small(fitted):
    text = json.dumps(fitted.to_json())
    again = Domain.from_json(json.loads(text))
    image_GE, _ = people(50, seed=6)
    assert again == fitted and len(text) < 20_000
    np.testing.assert_array_equal(again.distance(image_GE), fitted.distance(image_GE))
