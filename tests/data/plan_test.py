"""The plan: who meets whom in a batch, and that only (seed, step) decides."""

import subprocess
import sys
import time

import numpy as np
import pytest

from data.plan import Plan
from lcr2s_jax.errors import DataError


def make(images_per_person, captions_per_image=2, **options):
    pid = np.repeat(np.arange(len(images_per_person)), images_per_person)
    pid = np.random.default_rng(9).permutation(pid)  # identities lie scattered in the split
    caption_image = np.repeat(np.arange(len(pid)), captions_per_image)
    return (
        Plan(pid, caption_image, **dict(identities=3, views=2, captions=1, seed=0) | options),
        pid,
        caption_image,
    )


def epoch(plan, number=0):
    first = number * plan.steps_per_epoch
    return [plan.batch(step) for step in range(first, first + plan.steps_per_epoch)]


def test_a_batch_depends_on_seed_and_step_only():
    plan, *_ = make([2, 5, 3, 4, 6])
    forwards = [plan.batch(step) for step in range(12)]
    other, *_ = make([2, 5, 3, 4, 6])
    for step in (11, 3, 7, 0):
        for a, b in zip(forwards[step], other.batch(step), strict=True):
            np.testing.assert_array_equal(a, b)
    changed, *_ = make([2, 5, 3, 4, 6], seed=1)
    assert any((changed.batch(step)[0] != forwards[step][0]).any() for step in range(12))


def test_epochs_differ():
    plan, *_ = make([4] * 9)
    assert any((a[0] != b[0]).any() for a, b in zip(epoch(plan, 0), epoch(plan, 1), strict=True))


def test_every_row_shows_its_identity_and_a_caption_of_its_image():
    plan, pid, caption_image = make([1, 2, 3, 4, 5, 6, 7])
    for image_BK, caption_BK, pid_B in epoch(plan):
        np.testing.assert_array_equal(pid[image_BK], np.broadcast_to(pid_B[:, None], image_BK.shape))
        np.testing.assert_array_equal(caption_image[caption_BK], image_BK)


@pytest.mark.parametrize('images', [[2] * 6, [6, 6, 6], [1, 1, 9, 9], [30, 2, 2, 2], [5, 1, 4, 2, 3, 8]])
def test_no_identity_occurs_twice_in_a_batch(images):
    plan, *_ = make(images)
    assert plan.steps_per_epoch > 0
    for number in range(3):
        for _, _, pid_B in epoch(plan, number):
            assert len(set(pid_B)) == 3


def test_an_image_is_repeated_only_where_an_identity_has_fewer_than_k():
    plan, pid, _ = make([1, 2, 3, 4, 5, 9], views=4)
    count = np.bincount(pid)
    for number in range(4):
        for image_BK, _, pid_B in epoch(plan, number):
            for row, person in zip(image_BK, pid_B, strict=True):
                assert len(set(row)) == min(4, count[person])


def test_a_repeated_image_takes_its_other_captions():
    plan, *_ = make([1, 1, 1], captions_per_image=2, views=2)
    for number in range(5):
        for _, caption_BK, _ in epoch(plan, number):
            assert (caption_BK[:, 0] != caption_BK[:, 1]).all()


def test_every_caption_is_drawn_about_equally_often():
    plan, *_ = make([2, 2, 2], captions_per_image=2)
    drawn = np.concatenate([caption.ravel() for n in range(400) for _, caption, _ in epoch(plan, n)])
    np.testing.assert_allclose(np.bincount(drawn, minlength=12) / 400, 0.5, atol=0.1)


def test_an_epoch_shows_every_image_once_up_to_the_remainder():
    plan, pid, _ = make([4, 6, 8, 5, 7, 9], identities=2, views=2)
    shown = np.concatenate([image.ravel() for image, _, _ in epoch(plan)])
    assert len(set(shown)) == len(shown)
    assert len(shown) == sum(n // 2 for n in (4, 6, 8, 5, 7, 9)) * 2 - len(shown) % 4
    unseen = np.bincount(pid) - np.bincount(pid[shown], minlength=6)
    assert unseen.sum() == 3 + 2 * (sum(n // 2 for n in (4, 6, 8, 5, 7, 9)) % 2)


def test_images_that_sit_out_an_epoch_are_shown_in_others():
    plan, pid, _ = make([3, 3, 5, 5], identities=2, views=2)
    shown = {image for n in range(12) for image_BK, _, _ in epoch(plan, n) for image in image_BK.ravel()}
    assert shown == set(range(len(pid)))


def test_one_to_one_batches_are_plainly_random():
    plan, pid, _ = make([4] * 4, identities=5, views=1)
    assert plan.steps_per_epoch == 3
    shown = np.concatenate([image.ravel() for image, _, _ in epoch(plan)])
    assert len(set(shown)) == 15
    assert any(len(set(pid_B)) < 5 for _, _, pid_B in epoch(plan))


@pytest.mark.parametrize(
    'images, options, words',
    [
        ([3, 3], dict(identities=3), 'has 2 identities'),
        ([3, 3], dict(identities=7, views=1), 'has 6 images'),
        ([3, 3], dict(identities=0), 'expected 1 or more'),
    ],
)
def test_a_batch_that_cannot_be_filled_names_the_field(images, options, words):
    with pytest.raises(DataError, match=words) as error:
        make(images, **options)
    assert 'config.batch' in str(error.value)


def test_an_image_without_caption_is_named():
    with pytest.raises(DataError, match='image 1 of the split'):
        Plan(np.array([0, 0, 1]), np.array([0, 2]), identities=1, views=2, captions=1, seed=0)


def test_an_epoch_of_11003_identities_is_planned_in_under_half_a_second():
    rng = np.random.default_rng(0)
    pid = np.sort(np.concatenate([np.arange(11_003), rng.integers(0, 11_003, 34_054 - 11_003)]))
    start = time.process_time()
    Plan(pid, np.repeat(np.arange(34_054), 2), identities=16, views=4, captions=1, seed=0).batch(0)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize('views', [1, 2])
def test_nobody_of_a_fold_that_is_left_out_is_in_a_batch_and_everybody_else_is(views):
    for fold in range(3):
        plan, pid, _ = make([2, 5, 3, 4, 6, 3, 2, 4], identities=2, views=views, left_out=(fold, 3))
        drawn = np.concatenate([np.unique(pid[plan.batch(step)[0]]) for step in range(6 * plan.steps_per_epoch)])
        assert set(drawn) == {person for person in range(8) if person % 3 != fold}


def test_plan_tokens_and_records_do_not_load_tensorflow():
    code = 'import data.plan, lcr2s_jax.weights.tokenizer, data.records, sys; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_an_image_takes_so_many_slots_in_a_row_each_with_another_caption():
    plan, pid, caption_image = make([2, 4, 6, 3, 5], captions_per_image=3, identities=2, views=4, captions=2)
    for image, caption, person in epoch(plan):
        assert image.shape == (2, 4) and len(set(person)) == 2
        np.testing.assert_array_equal(image[:, ::2], image[:, 1::2])
        assert (image[:, 0] != image[:, 2]).all(), 'K / captions distinct images'
        assert all(len(set(row)) == 4 for row in caption)
        np.testing.assert_array_equal(caption_image[caption], image)
        np.testing.assert_array_equal(pid[image], np.repeat(person[:, None], 4, axis=1))


def test_slots_that_the_captions_of_an_image_do_not_divide_are_refused():
    with pytest.raises(DataError, match='captions to divide views'):
        make([4, 4, 4], views=4, captions=3)
