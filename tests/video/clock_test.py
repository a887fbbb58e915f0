"""The time of a frame never goes back, whatever a file's clock does."""

import numpy as np
import pytest

from lcr2s_jax.video.clock import Clock


def times(told, rate=10.0):
    clock = Clock(rate)
    found = np.array([clock.at(one) for one in told])
    assert (np.diff(found) >= 0).all() and found[0] == 0
    return clock, found


def ticks(count, start=0.0):
    return list(start + np.arange(count) / 10)


@pytest.mark.parametrize('start', [0.0, 36000.0, -1.4])
def test_a_good_clock_is_believed_and_begins_at_zero(start):
    clock, found = times(ticks(30, start))
    np.testing.assert_allclose(found, ticks(30), atol=1e-6)
    assert clock.jumps == [] and clock.breaks == 0


@pytest.mark.parametrize('again', [0.0, 0.4, -5.0])
def test_where_a_clock_goes_back_time_goes_on(again):
    clock, found = times(ticks(20) + ticks(20, again) + ticks(20, again))
    np.testing.assert_allclose(found, ticks(60), atol=1e-6)
    assert [round(jump.seconds, 3) for jump in clock.jumps] == [2.0, 4.0] and clock.breaks == 2
    assert all(jump.by < 0 for jump in clock.jumps)


def test_a_clock_of_mpeg_ts_that_goes_back_far_is_no_leap_of_a_day():
    clock, found = times(ticks(20, 100.0) + ticks(20, 2**33 / 90_000))
    np.testing.assert_allclose(found[-1], 3.9, atol=0.11)
    assert [round(jump.by) for jump in clock.jumps] == [-102] and clock.breaks == 2


def test_frames_out_of_order_are_no_jump_and_cost_no_time():
    told = np.array(ticks(40)).reshape(-1, 4)[:, [0, 2, 1, 3]].ravel()
    clock, found = times(told)
    assert clock.breaks == 0 and abs(found[-1] - 3.9) < 1e-6


def test_a_leap_is_kept_told_and_ends_the_scene():
    clock, found = times(ticks(20) + ticks(20, 3602.0))
    np.testing.assert_allclose(found[[19, 20, 21, 39]], [1.9, 2.0, 3602.1, 3603.9], atol=1e-6)
    assert [jump.by > 3000 for jump in clock.jumps] == [True] and clock.breaks == 2


def test_one_frame_with_a_wrong_clock_moves_no_other():
    clock, found = times([*ticks(10), 95443.7, *ticks(10, 1.1)])
    np.testing.assert_allclose(found, ticks(21), atol=1e-6)
    assert clock.jumps == []


@pytest.mark.parametrize('rate,step', [(10.0, 0.1), (0.0, 0.04), (90000.0, 0.04), (float('nan'), 0.04), (0.1, 10.0)])
def test_without_a_clock_frames_are_counted(rate, step):
    clock, found = times([0.0] * 30, rate)
    np.testing.assert_allclose(found, step * np.arange(30))
    assert clock.step == step


def test_a_clock_that_stands_still_is_counted_on_and_believed_when_it_goes_on():
    _, found = times(ticks(10) + [0.9] * 20 + ticks(10, 3.0))
    assert (np.diff(found)[12:28] > 0.09).all() and abs(found[-1] - 3.9) < 1e-6


def test_a_picture_each_quarter_of_a_minute_is_no_leap():
    clock, found = times([15.0 * number for number in range(9)], rate=1 / 15)
    assert clock.jumps == [] and found[-1] == 120.0


@pytest.mark.parametrize('rate', [1 / 15, 10.0, 0.0])
def test_a_clock_that_leaps_from_picture_to_picture_is_believed_from_the_second_leap_on(rate):
    clock, found = times([60.0 * number for number in range(9)], rate)
    assert found[1] == pytest.approx(clock.step) and len(clock.jumps) == 7
    np.testing.assert_allclose(found[2:], 60.0 * np.arange(2, 9))


@pytest.mark.parametrize('where', [10, 29])
def test_a_frame_without_a_time_is_no_clock_that_goes_back(where):
    told = ticks(30, 5.0)
    told[where] = 0.0
    clock, found = times(told)
    np.testing.assert_allclose(found, ticks(30), atol=1e-6)
    assert clock.jumps == []


def test_gaps_that_are_no_leaps_are_kept_and_small_ones_are_not():
    clock, _ = times(ticks(20) + ticks(20, 4.5) + ticks(20, 7.2))
    assert [(round(gap.seconds, 1), round(gap.by, 1)) for gap in clock.gaps] == [(4.5, 2.6)] and clock.jumps == []
