"""Support sets from a whole split, and what a target is made of."""

import jax
import numpy as np
import pytest

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.method import targets

PID = np.array([0, 1, 0, 0, 2, 1], np.int32)  # of images
CAPTION_IMAGE = np.array([0, 0, 1, 2, 2, 3, 4, 5, 5], np.int32)


_drawn = jax.jit(targets.draw, static_argnums=(5, 6))


def draw(views: int, seed: int = 0, wrong: float = 0.0):
    rows = np.arange(len(CAPTION_IMAGE))
    keys = jax.random.split(jax.random.key(seed), len(rows))
    tables = targets.members(PID, CAPTION_IMAGE)
    return _drawn(tables, CAPTION_IMAGE, rows, PID[CAPTION_IMAGE], keys, views, wrong)


def test_supports_are_other_images_of_the_identity_and_no_image_twice():
    for seed in range(20):
        image_NK, view_NK = map(np.asarray, draw(3, seed)['image'])
        np.testing.assert_array_equal(image_NK, view_NK)
        np.testing.assert_array_equal(view_NK[:, 0], CAPTION_IMAGE)
        for row, own in zip(view_NK, CAPTION_IMAGE, strict=True):
            others = [view for view in row[1:] if view != own]
            assert len(set(others)) == len(others) == min(2, (PID == PID[own]).sum() - 1)
            assert {PID[view] for view in row} == {PID[own]}


def test_texts_are_supported_by_captions_of_the_images_drawn_and_the_rows_own_stands_first():
    drawn = set()
    for seed in range(20):
        caption_NK, view_NK = map(np.asarray, draw(4, seed)['text'])
        np.testing.assert_array_equal(CAPTION_IMAGE[caption_NK], view_NK)
        np.testing.assert_array_equal(caption_NK[:, 0], np.arange(len(CAPTION_IMAGE)))
        drawn |= set(caption_NK[0, 1:].tolist())
    assert drawn == {0, 3, 4, 5}, 'any caption of the other images, and the own one where there are too few'


def test_wrong_supports_are_of_other_identities_in_the_place_of_so_many_right_ones_and_never_of_the_row_itself():
    exchanged, right = 0, 0
    for seed in range(40):
        for modality, image_of in (('image', np.arange(len(PID))), ('text', CAPTION_IMAGE)):
            item_NK, view_NK = map(np.asarray, draw(3, seed, 0.5)[modality])
            plain_NK = np.asarray(draw(3, seed)[modality][1])
            np.testing.assert_array_equal(image_of[item_NK], view_NK)
            changed = view_NK != plain_NK
            assert not changed[plain_NK == CAPTION_IMAGE[:, None]].any(), 'nor of what stands in for one'
            assert (PID[view_NK] != PID[plain_NK])[changed].all()
            exchanged, right = exchanged + changed.sum(), right + (plain_NK != CAPTION_IMAGE[:, None]).sum()
    assert abs(exchanged / right - 0.5) < 0.05


def test_a_mean_has_every_view_once_and_the_mean_of_the_others_leaves_out_the_view_itself():
    x_BKE = np.eye(3, dtype=np.float32)[None] * np.array([1.0, 5.0, 2.0])[:, None].astype(np.float32)
    mean = np.asarray(targets.richer('mean', None, 'image', x_BKE, np.array([[0, 1, 2]])))
    np.testing.assert_allclose(mean, np.full((1, 3, 3), 1 / 3), atol=1e-6)
    others = np.asarray(targets.richer('others', None, 'image', x_BKE, np.array([[0, 1, 1]])))  # a repeat is no view
    np.testing.assert_allclose(others[0, 0], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(others[0, 1], [1, 0, 0], atol=1e-6)
    alone = np.asarray(targets.richer('others', None, 'image', x_BKE[:, :1], np.array([[0]])))
    np.testing.assert_allclose(alone, x_BKE[:, :1], atol=1e-6)


def test_a_share_leads_from_the_own_view_to_the_richer_one():
    own, rich = (np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32) for seed in (0, 1))
    assert targets.mixed(own, rich, 1.0) is rich and targets.mixed(own, rich, 0.0) is own
    half = np.asarray(targets.mixed(own, rich, 0.5))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (own, rich)]
    np.testing.assert_allclose(half, (unit[0] + unit[1]) / 2, atol=1e-5)


def test_a_gate_tells_less_the_less_the_richer_view_agrees_and_none_at_a_right_angle():
    own = np.eye(4, dtype=np.float32)[[0, 0, 0, 0]]
    rich = np.array([[2, 0, 0, 0], [1, 1, 0, 0], [0, 3, 0, 0], [-1, 0, 0, 0]], np.float32)
    unit = rich / np.linalg.norm(rich, axis=1, keepdims=True)
    found = np.asarray(targets.mixed(own, rich, 1.0, 2.0))
    np.testing.assert_allclose(found[[0, 2, 3]], own[[0, 2, 3]], atol=1e-6)
    np.testing.assert_allclose(found[1], (own[1] + unit[1]) / 2, atol=1e-6)  # cos is 1 / sqrt 2, squared a half
    assert targets.mixed(own, rich, 0.0, 2.0) is own, 'SELF stays SELF'


def test_a_weight_fades_to_nothing_in_the_last_step_or_rises_from_nothing_in_the_first():
    out, into = ([float(targets.faded(way, 5, step)) for step in range(7)] for way in ('out', 'in'))
    assert out == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(np.add(out, into), 1.0)


def cache(seed: int, images: int = 6, width: int = 4) -> Embeddings:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images + len(CAPTION_IMAGE), width)).astype(np.float32)
    return Embeddings(x[:images], x[images:], PID, PID[CAPTION_IMAGE], np.arange(images), CAPTION_IMAGE)


def cosines(e: Embeddings) -> np.ndarray:
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (e.image_GE, e.text_QE))
    return image @ text.T


def test_the_mean_relation_of_teachers_is_the_mean_of_their_cosines_and_of_equal_ones_that_of_one():
    one, *others = (cache(seed) for seed in range(3))
    expected = np.mean([cosines(e) for e in (one, *others)], axis=0)
    np.testing.assert_allclose(cosines(targets.mean_relation([one, *others])), expected, atol=1e-5)
    np.testing.assert_allclose(cosines(targets.mean_relation([one, one, one])), cosines(one), atol=1e-5)


@pytest.mark.parametrize('folds', [2, 3])
def test_of_crossed_teachers_each_tells_of_the_people_whom_it_never_saw(folds):
    caches = [cache(seed) for seed in range(folds)]
    unseen = [PID % folds == fold for fold in range(folds)]
    found = targets.mean_features(caches, unseen)
    for e, unseen_G in zip(caches, unseen, strict=True):
        told = np.ix_(unseen_G, unseen_G[CAPTION_IMAGE])
        np.testing.assert_allclose(cosines(found)[told], cosines(e)[told], atol=1e-5)


def test_of_two_teachers_a_fold_it_is_their_mean_that_is_told():
    even, odd = PID % 2 == 0, PID % 2 == 1
    once = targets.mean_features([cache(0), cache(1)], [even, odd])
    twice = targets.mean_features([cache(0), cache(1), cache(0), cache(1)], [even, odd, even, odd])
    np.testing.assert_allclose(twice.image_GE, once.image_GE, atol=1e-5)
    mixed = targets.mean_features([cache(0), cache(1), cache(2), cache(1)], [even, odd, even, odd])
    np.testing.assert_allclose(mixed.image_GE[odd], once.image_GE[odd], atol=1e-5)
    assert np.abs(mixed.image_GE[even] - once.image_GE[even]).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(mixed.text_QE, axis=1), 1.0, atol=1e-5)


def test_a_second_teacher_that_is_the_first_one_turned_tells_what_the_first_does():
    first = cache(0)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0].astype(np.float32)
    second = first._replace(image_GE=first.image_GE @ turn, text_QE=first.text_QE @ turn)
    found = targets.mean_features([first, second], [PID % 2 == 1, PID % 2 == 0])
    np.testing.assert_allclose(
        found.image_GE, first.image_GE / np.linalg.norm(first.image_GE, axis=1)[:, None], atol=1e-5
    )
