"""What bounds a server, each bound alone: calls, bodies, the folder of uploads, logins, decoding."""

import asyncio
import io
import os
import time

import numpy as np
import pytest
from PIL import Image

from lcr2s_jax import images
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search.web import bounds, sessions
from lcr2s_jax.search.web.decoding import Decoders
from tests.searching import photo

SIZE = (16, 8)


def test_where_one_more_comes_the_oldest_call_of_the_same_key_ends():
    newest, ended = bounds.Newest(each=2, total=3), []

    async def hold(name):
        if not await newest.run(name[0], asyncio.sleep(60)):
            ended.append(name)

    async def all_():
        tasks = []
        for name in ('a1', 'b1', 'a2', 'a3', 'c1'):
            tasks.append(asyncio.create_task(hold(name)))
            await asyncio.sleep(0.01)
        assert ended == ['a1', 'b1'], 'a has two at most, all have three'
        assert len(newest) == 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(newest) == 0

    asyncio.run(all_())


@pytest.mark.parametrize(
    'messages,status',
    [
        ([{'type': 'http.request', 'body': b'x' * 11}], 413),
        ([{'type': 'http.request', 'body': b'x', 'more_body': True}, {'type': 'http.disconnect'}], 400),
        ([{'type': 'http.request', 'body': b'x', 'more_body': True}], 408),
    ],
)
def test_a_body_that_is_too_long_or_late_is_given_up(messages, status):
    async def receive():
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    with pytest.raises(bounds.Late) as late:
        asyncio.run(bounds.body(receive, 10, 0.05))
    assert late.value.status == status


def test_boundaries_are_counted_wherever_they_are_cut():
    file = io.BytesIO(b'ab' * (1 << 20) + b'--x' * 7)
    assert bounds.occurrences(file, b'--x') == 7 and bounds.occurrences(file, b'ab') == 1 << 20


def test_the_room_of_uploads_is_bounded_for_each_and_for_all_and_old_ones_go(tmp_path):
    known = {'/nowhere'}
    room = bounds.Room(tmp_path, total=40_000, each=20_000, seconds=100, known=known)
    assert room.take('ann', 15_000) == 0 and room.take('ann', 6_000) == 429, 'what comes counts, too'
    file = tmp_path / 'a' / 'x.png'
    file.parent.mkdir()
    file.write_bytes(b'x' * 10_000)
    room.give('ann', 15_000, [str(file)])
    assert room.owns('ann', str(file)) and not room.owns('bob', str(file)) and not known
    assert room.take('ann', 11_000) == 429 and room.take('bob', 19_000) == 0 and room.take('eve', 15_000) == 503
    os.utime(file, (time.time() - 101,) * 2)
    (tmp_path / 'tmpempty').touch()
    os.utime(tmp_path / 'tmpempty', (time.time() - 61,) * 2)
    assert room.take('eve', 15_000) == 0 and not file.exists() and not (tmp_path / 'tmpempty').exists()
    assert not room.owns('ann', str(file))


def test_wrong_passwords_wait_for_each_other_in_a_short_line_that_keeps_nobody_else_out(monkeypatch):
    monkeypatch.setattr(sessions, '_WAIT', 0.2)
    log = []
    people = sessions.Sessions({'ann': 'a', 'bob': 'b'}, lambda *line: log.append(line))

    async def flood():
        clock = time.monotonic()
        ann = [asyncio.create_task(people.login('ann', word)) for word in 'xyzxyzxyz']
        nobody = [asyncio.create_task(people.login(f'user {number}', 'a')) for number in range(9)]
        await asyncio.sleep(0.01)
        assert await people.login('bob', 'b') and time.monotonic() - clock < 0.2, 'the line of ann is not that of bob'
        assert not await people.login('ann', 'a'), 'her line is full'
        assert not any(await asyncio.gather(*ann, *nobody)) and time.monotonic() - clock >= 5 * 0.2
        assert await people.login('ann', 'a')

    asyncio.run(flood())
    assert [name for name, right in log if right] == ['bob', 'ann'] and log.count(('ann', False)) == 5
    assert len(log) == 2 + 5 + 5, 'what was not looked at does not fill the disk'


def test_a_user_has_few_sessions_and_few_pages_and_the_oldest_go(monkeypatch):
    people = sessions.Sessions({'ann': 'a', 'bob': 'b'}, lambda *_: None)

    async def come(name, password):
        return await people.login(name, password)

    bob, _ = asyncio.run(come('bob', 'b'))
    first, _ = asyncio.run(come('ann', 'a'))
    _, session = people.of(f'x=1; {sessions.COOKIE}={first}')
    out = [old for number in range(sessions._TABS + 2) for old in session.tab(f'page{number}')]
    assert out == ['page0', 'page1'] and len(session.tabs) == sessions._TABS
    ended = [asyncio.run(come('ann', 'a'))[1] for _ in range(sessions._MOST)]
    assert [len(tabs) for tabs in ended] == [0] * (sessions._MOST - 1) + [sessions._TABS]
    assert people.of(f'{sessions.COOKIE}={first}') is None and people.of(f'{sessions.COOKIE}={bob}')
    monkeypatch.setattr(sessions, '_IDLE', -1)
    assert people.of(f'{sessions.COOKIE}={bob}') is None, 'it has rested too long'
    assert people.of('"; =x; \x00') is None and people.of('') is None


@pytest.fixture(scope='module')
def decode(decoders):
    return lambda *args, **more: decoders[0](*args, SIZE, images.DEFAULT, **more)


def test_a_process_decodes_what_is_indexed_and_what_is_kept(decode):
    encoded = photo(3, size=(64, 128), format_='PNG')
    one = decode('x.png', encoded, png=True)
    assert np.array_equal(one.pixels, images.pixels(encoded, SIZE))
    assert np.array_equal(images.rgb(one.png), images.rgb(encoded)) and decode('x.png', encoded).png == b''


def test_a_small_picture_with_many_scans_or_pixels_is_refused_at_once(decode):
    out = io.BytesIO()
    Image.new('L', (2000, 2000), 128).save(out, 'JPEG', progressive=True)
    plain = out.getvalue()
    last = plain[plain.rindex(b'\xff\xda') : -2]
    began = time.monotonic()
    with pytest.raises(SearchError, match=r'bomb.jpg: a JPEG with [\d,]+ scans'):
        decode('bomb.jpg', plain[:-2] + last * 5000 + b'\xff\xd9')
    out = io.BytesIO()
    Image.new('1', (20_000, 10_000)).save(out, 'PNG')
    with pytest.raises(SearchError, match='wide.png: a picture of 200 million pixels'):
        decode('wide.png', out.getvalue())
    assert time.monotonic() - began < 5


def test_a_picture_that_takes_too_long_ends_its_process_and_not_the_server():
    decode, out = Decoders(1, seconds=0.05), io.BytesIO()
    Image.new('RGB', (6000, 6000)).save(out, 'PNG')
    try:
        with pytest.raises(SearchError, match='x.png: cannot be read within 0.05 s'):
            decode('x.png', out.getvalue(), SIZE, images.DEFAULT)
        decode._seconds = 20
        assert decode('x.png', photo(1), SIZE, images.DEFAULT).pixels.shape == (*SIZE, 3)
    finally:
        decode.close()


def test_so_much_of_a_refused_body_is_read_and_no_more():
    read = []

    async def receive():
        await asyncio.sleep(0)
        read.append(1)
        return {'type': 'http.request', 'body': b'x' * 100, 'more_body': len(read) < 7}

    asyncio.run(bounds.drain(receive, 1000, 1.0))
    assert len(read) == 7, 'all of a small one'
    read.clear()
    asyncio.run(bounds.drain(receive, 250, 1.0))
    assert len(read) == 3, 'a large one until the bound'

    async def never():
        await asyncio.sleep(60)

    began = time.monotonic()
    asyncio.run(bounds.drain(never, 1000, 0.05))
    assert time.monotonic() - began < 5
