"""Threads: results in order, not too far ahead, and never more pixels at once than there is room for."""

import threading
import time

import pytest

from lcr2s_jax import threads


@pytest.mark.parametrize('cores,most', [(1, 64), (2, 128), (192, 256)])
def test_only_so_many_images_lie_ahead_of_who_takes_them_however_many_cores(cores, most, monkeypatch):
    monkeypatch.setattr(threads.os, 'sched_getaffinity', lambda process: range(cores))
    things = iter(range(1000))
    found = threads.in_order(lambda thing: thing, things)
    assert [next(found), next(found)] == [0, 1] and next(things) == most + 1
    assert list(found) == [number for number in range(2, 1000) if number != most + 1]


def test_no_more_is_taken_at_once_than_there_is_room_for_and_what_is_larger_comes_alone():
    room, inside, most, lock = threads.Room(10), 0, [], threading.Lock()

    def take(count):
        nonlocal inside
        with room.of(count):
            with lock:
                inside += count
                most.append(inside)
            time.sleep(0.002)
            with lock:
                inside -= count

    several = [threading.Thread(target=take, args=[count]) for count in (4, 3, 3, 8, 25, 1, 9, 2) * 3]
    [one.start() for one in several]
    [one.join(20) for one in several]
    assert len(most) == 24 and inside == 0
    assert set(most) - {25} <= set(range(11)) and max(most) == 25
