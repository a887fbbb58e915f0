"""Boxes become tracks, and a track's pictures one vector; what a detector may give, whoever wrote it."""

import jax
import numpy as np
import pytest

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import DataError
from lcr2s_jax.evaluation import evaluate
from lcr2s_jax.video import detectors, pooling
from lcr2s_jax.video import tracker as tracks
from tests import tiny


def boxes(*lefts, top=0):
    return np.array([[left, top, left + 20, top + 50] for left in lefts], float).reshape(-1, 4)


def test_two_people_who_cross_at_a_distance_keep_their_tracks():
    tracker = tracks.Tracker()
    for number in range(20):
        near, far = boxes(8 * number), boxes(160 - 8 * number, top=30)  # overlapping a little where they pass
        order = slice(None, None, -1 if number % 2 else 1)  # the detector names them in any order
        assert tracker.step(np.concatenate([near, far])[order])[0] == [1, 2][order]


def test_who_moves_on_as_before_is_followed_where_boxes_do_not_overlap():
    tracker = tracks.Tracker()
    lefts = [0, 9, 18, 27, 50]  # hidden for a while
    assert [tracker.step(boxes(left))[0] for left in lefts[:4]] == [[1]] * 4
    tracker.step(boxes()), tracker.step(boxes())
    assert tracks.overlap(boxes(27), boxes(54)).item() == 0 and tracker.step(boxes(54))[0] == [1]


@pytest.mark.parametrize('missed', [0, 1, 3, 4])
def test_a_gap_longer_than_allowed_starts_a_new_track(missed):
    tracker = tracks.Tracker(gap=3)
    tracker.step(boxes(10))
    ended = [tracker.step(boxes())[1] for _ in range(missed)]
    assert tracker.step(boxes(10))[0] == [1 if missed <= 3 else 2]
    assert ended == [[1] if number == 4 else [] for number in range(1, missed + 1)]


def test_the_largest_overlap_is_given_first_and_every_box_gets_one_track():
    tracker = tracks.Tracker()
    tracker.step(boxes(0, 12))
    assert tracker.step(boxes(10, 11))[0] == [1, 2]
    assert sorted(tracker.step(boxes(10, 11, 100))[0]) == [1, 2, 3]
    assert tracker.step(boxes())[0] == []


def test_a_long_track_keeps_few_crops_evenly_over_its_time():
    kept = tracks.Kept(limit=4)
    for number in range(23):
        kept.add(number / 2, lambda number=number: number)
    assert kept.crops == [0, 8, 16] and (kept.count, kept.begins, kept.ends) == (23, 0.0, 11.0)


def test_of_overlapping_windows_the_surest_stays():
    found = np.array([[0, 0, 10, 20, 0.5], [1, 0, 11, 20, 0.9], [30, 0, 40, 20, 0.4]])
    np.testing.assert_array_equal(detectors._surest(found), found[[1, 2]])


def test_a_detectors_boxes_stay_within_the_frame():
    image = np.zeros((10, 20, 3), np.uint8)
    found = detectors.detect(lambda _: [[-5, 2, 8, 40, 1], [30, 0, 40, 5, 1], [1, 1, np.nan, 3, 1]], image)
    np.testing.assert_array_equal(found, [[0, 2, 8, 10, 1]])
    assert detectors.detect(lambda _: [], image).shape == (0, 5)
    assert detectors.detect(detectors.whole_frame, image).tolist() == [[0, 0, 20, 10, 1]]
    with pytest.raises(DataError, match='rows of left, top'):
        detectors.detect(lambda _: [[1, 2, 3]], image)


@pytest.mark.parametrize('name', ['yolo', 'no.such:detector', 'json:nothing', 'json:__doc__', ':f'])
def test_an_unknown_detector_is_explained(name):
    with pytest.raises(DataError, match='--detector'):
        detectors.open_detector(name)


def test_the_teacher_fuses_a_track_as_evaluation_fuses_an_identity():
    stage = tiny.stage('teacher')
    params = jax.tree.map(lambda x: x + 0.05, stage.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    track_N, image = np.array([0, 0, 0, 1, 2, 2]), rng.integers(0, 255, (6, 16, 8, 3)).astype(np.uint8)
    v_NE = np.asarray(stage.encoder.embed_image(params, image))
    view = np.arange(6)
    rich = evaluate.with_supports(
        stage.fusion, params, Embeddings(v_NE, v_NE, track_N, track_N, view, view), 3
    ).image_GE
    unit = rich / np.linalg.norm(rich, axis=1, keepdims=True)
    expected = np.stack([unit[track_N == track].mean(axis=0) for track in range(3)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    pool = pooling.Teacher(stage.encoder, stage.fusion, params, 3, 'abc')
    np.testing.assert_allclose(pool(image, track_N), expected, atol=1e-5)
    assert not np.allclose(pooling.mean(v_NE, track_N), expected, atol=1e-2) and pool.name == 'teacher abc'


def test_a_mean_is_of_directions_and_of_length_one():
    vector_NE = np.array([[3.0, 0], [0, 0.5], [0, -2]])
    np.testing.assert_allclose(pooling.mean(vector_NE, np.array([5, 5, 9])), [[0.5**0.5, 0.5**0.5], [0, -1]], atol=1e-6)
