"""Measures of tracks against a truth, compared with values worked out by hand; and the truth's format."""

import json
import sys

import numpy as np
import pytest

from benchmarks import tracking
from benchmarks import video as benchmark
from benchmarks.tracking import Frame
from lcr2s_jax.errors import DataError


def frame(people, found):
    """Of {whose: left}, boxes of 10 by 10 pixels."""

    def boxes(lefts):
        return np.array([[left, 0, left + 10, 10] for left in lefts], float).reshape(-1, 4)

    return Frame(list(people), boxes(people.values()), list(found), boxes(found.values()))


def test_a_perfect_finding_is_one_in_all():
    frames = [frame({1: 0, 2: 100}, {7: 0, 8: 100}) for _ in range(4)]
    assert tracking.detection(frames) == {'recall': 1.0, 'precision': 1.0}
    assert tracking.hota(frames) == {'HOTA': 1.0, 'DetA': 1.0, 'AssA': 1.0}
    assert tracking.identity(frames) == {'IDF1': 1.0, 'MOTA': 1.0, 'switches': 0}
    told = tracking.tracks(frames)
    assert (told['purity'], told['tracks a person'], told['mixed tracks'], told['nobody']) == (1.0, 1.0, 0, 0.0)


def test_a_track_that_breaks_in_the_middle():
    """One person in 4 frames, two tracks of 2: TP 4; each TP has TPA 2, FNA 2, FPA 0, so A = 1/2 and HOTA = sqrt(1/2).

    IDF1: one track of 2 is the person's: IDTP 2, IDFN 2, IDFP 2. MOTA: 1 - 1 switch / 4.
    """
    frames = [frame({1: 0}, {7 if number < 2 else 8: 0}) for number in range(4)]
    told = tracking.hota(frames)
    assert told['DetA'] == 1.0 and told['AssA'] == pytest.approx(0.5) and told['HOTA'] == pytest.approx(0.5**0.5)
    assert tracking.identity(frames) == {'IDF1': 0.5, 'MOTA': 0.75, 'switches': 1}
    assert tracking.tracks(frames)['tracks a person'] == 2.0


def test_a_track_that_goes_from_one_person_to_another():
    """Two people in 4 frames each, one found: 7 is on the first for 3 frames, then on the second.

    TP 4, FN 4: DetA 1/2. Three TP have TPA 3, FNA 1, FPA 1: 3/5; one has TPA 1, FNA 3, FPA 3: 1/7.
    """
    frames = [frame({1: 0, 2: 100}, {7: 0 if number < 3 else 100}) for number in range(4)]
    told = tracking.hota(frames)
    assert told['DetA'] == pytest.approx(0.5) and told['AssA'] == pytest.approx((3 * 3 / 5 + 1 / 7) / 4)
    assert told['HOTA'] == pytest.approx((0.5 * (3 * 3 / 5 + 1 / 7) / 4) ** 0.5)
    found = tracking.tracks(frames)
    assert (found['purity'], found['mixed tracks'], found['people found'], found['people']) == (0.75, 1, 1, 2)


def test_hota_is_a_mean_over_overlaps():
    """A box that is 2 of 10 pixels beside overlaps by 8/12: right up to 0.65, 13 of the 19 overlaps."""
    told = tracking.hota([frame({1: 0}, {7: 2}) for _ in range(3)])
    assert told['HOTA'] == told['DetA'] == pytest.approx(13 / 19)


def test_boxes_of_nobody_and_missed_people_count():
    frames = [frame({1: 0, 2: 50}, {7: 0, 9: 300}), frame({1: 0}, {7: 0}), frame({}, {7: 500}), frame({3: 0}, {})]
    assert tracking.detection(frames) == {'recall': 0.5, 'precision': 0.5}
    found = tracking.tracks(frames)
    assert (found['nobody'], found['tracks of nobody'], found['seen once'], found['purity']) == (0.5, 1, 1, 1.0)


def test_where_two_boxes_compete_as_many_as_possible_are_matched():
    assert sorted(tracking.matched(np.array([[0.9, 0.6], [0.6, 0.1]]))) == [(0, 1), (1, 0)]
    assert tracking.matched(np.array([[0.4, 0.2]])) == [] and tracking.matched(np.empty((0, 3))) == []


def test_the_truth_leaves_out_who_is_not_considered_and_what_is_no_pedestrian(tmp_path):
    file = tmp_path / 'gt.txt'
    file.write_text('1,5,10,20,30,40,1,-1.5,2.5,0\n1,6,0,0,9,9,0,1,1,1\n\n2,7,0,0,9,9,1,1,0.5\n2,8,0,0,9,9,1,3,0.5\n')
    assert benchmark.read_truth(file) == {0: [(5, 10, 20, 40, 60)], 1: [(7, 0, 0, 9, 9)]}
    file.write_text('1,5,10\n')
    with pytest.raises(DataError, match='line 1.*expected lines of frame,person'):
        benchmark.read_truth(file)
    with pytest.raises(DataError, match='No such file'):
        benchmark.read_truth(tmp_path / 'none.txt')


def test_the_benchmark_measures_a_film_whose_truth_is_known(tmp_path, monkeypatch, capsys):
    from tests.video import videos_test as films

    one, other = (np.full((96, 48, 3), grey, np.uint8) for grey in (40, 90))
    frames = [[(4 + 2 * n, 8, one), (180 - 2 * n, 8, other)] for n in range(20)]
    films.film(tmp_path / 'walk.mp4', frames)
    rows = [
        f'{number},{person},{left + 1},{top + 1},48,96,1,-1,-1,-1'
        for number, people in enumerate(frames, 1)
        for person, (left, top, _) in enumerate(people, 1)
    ]
    (tmp_path / 'gt.txt').write_text('\n'.join(rows))
    words = ['video', f'--video={tmp_path}/walk.mp4', f'--truth={tmp_path}/gt.txt', f'--detector={films.DETECTOR}']
    monkeypatch.setattr(sys, 'argv', [*words, f'--out={tmp_path}'])
    benchmark.main()
    (file,) = tmp_path.glob('video*.json')  # named after an accelerator where there is one
    (told,) = json.loads(file.read_text())['rows']
    assert (told['frames'], told['read'], told['expected'], told['tracks'], told['people']) == (10, 20, 20, 2, 2)
    assert told['detection recall'] == told['tracked precision'] == told['IDF1'] == told['purity'] == 1.0
    assert 0.8 < told['HOTA'] <= 1 and 'frames/s' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', [*words, '--truth=none.txt'])
    with pytest.raises(SystemExit, match='--truth: none.txt.*No such file'):
        benchmark.main()
