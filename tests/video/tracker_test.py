"""Boxes become tracks, and a track's pictures one vector; what a detector may give, whoever wrote it."""

import importlib.metadata

import jax
import numpy as np
import pytest

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import DataError
from lcr2s_jax.evaluation import evaluate
from lcr2s_jax.video import detectors, pooling
from lcr2s_jax.video import tracker as tracks
from tests import tiny


def boxes(*lefts, top=0, score=0.9):
    return np.array([[left, top, left + 20, top + 50, score] for left in lefts], float).reshape(-1, 5)


def follow(rows, interval=0.2, start=0.0):
    """The numbers of each frame's boxes, and of the tracks that ended there."""
    tracker = tracks.Tracker(interval)
    return list(zip(*(tracker.step(start + interval * n, box_n5) for n, box_n5 in enumerate(rows)), strict=True))


def test_two_people_who_cross_at_a_distance_keep_their_tracks():
    rows, orders = [], []
    for number in range(20):
        near, far = boxes(8 * number), boxes(160 - 8 * number, top=30)  # overlapping a little where they pass
        orders.append(slice(None, None, -1 if number % 2 else 1))  # the detector names them in any order
        rows.append(np.concatenate([near, far])[orders[-1]])
    numbers, _ = follow(rows)
    assert [found[order] for found, order in zip(numbers, orders, strict=True)] == [[1, 2]] * 20


@pytest.mark.parametrize('interval', [1 / 30, 0.2, 1.0])
def test_who_walks_on_is_found_where_he_must_be_after_he_was_hidden(interval):
    speed = min(8, 1.4 * interval / 0.6 * 20)  # a box of 20 pixels is 0.6 m wide
    lefts = [speed * number for number in range(20)]
    rows = [boxes(left) for left in lefts]
    for hidden in (12,) if interval == 1.0 else (12, 13):
        rows[hidden] = boxes()
    numbers, ended = follow(rows, interval)
    assert sum(numbers, []) == [1] * (19 if interval == 1.0 else 18) and not any(ended)


@pytest.mark.parametrize('missed', [0, 4, 5, 8])
def test_a_track_is_waited_for_a_second_and_then_at_its_end(missed):
    numbers, ended = follow([boxes(10)] * 5 + [boxes()] * missed + [boxes(10)] * 3)
    again = 1 if missed <= 5 else 2
    assert numbers[-3:] == ([again],) * 3 and sum(ended, []) == ([1] if again == 2 else [])


def test_a_box_that_is_seen_once_has_a_number_of_its_own():
    numbers, ended = follow([boxes(10), boxes(10), boxes(10, 200), boxes(10), boxes(10)])
    assert numbers == ([1], [1], [1, 2], [1], [1]) and sum(ended, []) == [2]


def test_unsure_boxes_go_on_with_a_track_and_begin_none():
    weak = boxes(10, score=0.2)
    numbers, _ = follow([boxes(10), boxes(10), weak, weak, boxes(10)])
    assert numbers == ([1],) * 5
    assert follow([weak] * 4)[0] == ([0],) * 4
    assert follow([boxes(10, score=0.05)] * 2)[0] == ([0],) * 2


def test_every_box_of_a_frame_has_another_track():
    numbers, _ = follow([boxes(0, 12), boxes(0, 12), boxes(1, 13), boxes(1, 13, 100)])
    assert numbers[2] == [1, 2] and sorted(numbers[3]) == [1, 2, 3]
    assert follow([boxes(), boxes()])[0] == ([], [])


def test_a_pause_or_another_scene_ends_all_tracks():
    tracker = tracks.Tracker(0.2)
    assert tracker.step(0.0, boxes(10, 90)) == ([1, 2], []) and tracker.step(0.2, boxes(10, 90)) == ([1, 2], [])
    assert tracker.step(5.0, boxes(10)) == ([3], [1, 2]), 'as long as that nobody is waited for'
    assert tracker.step(5.2, boxes(10), scene=1) == ([4], [3])


def test_a_picture_each_minute_makes_tracks_of_who_stands_still():
    numbers, _ = follow([boxes(10)] * 4, interval=60.0)
    assert numbers == ([1],) * 4


@pytest.mark.parametrize('version', ['', '0.29.1', '0.31.2'])
def test_without_its_library_the_extra_is_named(monkeypatch, version):
    def told(name):
        if not version:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, 'version', told)
    found = f'found supervision {version}' if version else 'found no supervision'
    with pytest.raises(DataError, match=f'{found}, expected 0.30.*requirements-video.txt'):
        tracks.Tracker(0.2)


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
    assert detectors.detect(lambda _: [[0, 0, 9, 9, 7.5]], image)[0, 4] == 1, 'the tracker takes scores of 0 to 1'
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
