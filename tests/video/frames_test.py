"""Every frame that a file has is read, and what it lacks is said: joined, cut, damaged, without count or clock."""

import pathlib

import numpy as np
import pytest

from lcr2s_jax.video import frames as video

cv2 = pytest.importorskip('cv2', reason='an extra: requirements-video.txt')

FILES = pathlib.Path(__file__).parent / 'files'


def film(path, count=40, size=(96, 64), code='MJPG'):
    """Frames of a grey each, with noise, ten a second."""
    noise = np.random.default_rng(0).integers(-25, 26, (size[1], size[0], 3))
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, size)
    assert out.isOpened()
    for number in range(count):
        out.write((30 + 5 * number + noise).astype(np.uint8))
    out.release()
    return path


def read(path, every=0.1):
    """(the reading, seconds, grey values)."""
    reading = video.Frames(path, every)
    rows = [(seconds, float(image.mean())) for seconds, image in reading]
    return reading, np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


@pytest.mark.parametrize('name', ['a.avi', 'a.mkv', 'a.ts', 'a.mp4', 'a.mpg'])
def test_a_whole_file_is_read_without_a_note(tmp_path, name):
    path = film(
        tmp_path / name, code={'.avi': 'MJPG', '.mkv': 'MJPG', '.mpg': 'MPG2'}.get(pathlib.Path(name).suffix, 'mp4v')
    )
    reading, seconds, grey = read(path)
    assert (reading.read, reading.broken, reading.notes()) == (40, 0, [])
    assert name == 'a.mpg' or (reading.expected, reading.piece) == (40, 0), (
        'MPEG-PS has no number of frames, and a last one without a time'
    )
    np.testing.assert_allclose(seconds, np.arange(40) / 10, atol=1e-3)
    np.testing.assert_allclose(grey, 30 + 5 * np.arange(40), atol=4)
    assert reading.seconds == pytest.approx(4.0, abs=0.5 * (name == 'a.mpg')) and reading.interval == 0.1


@pytest.mark.parametrize('pieces', [2, 3])
@pytest.mark.parametrize('size', [(96, 64), (128, 96)], ids=['alike', 'other size'])
def test_joined_streams_are_read_to_their_end_and_the_joint_is_told(tmp_path, pieces, size):
    first, other = film(tmp_path / 'a.ts', code='mp4v'), film(tmp_path / 'b.ts', 30, size, code='mp4v')
    joined = tmp_path / 'joined.ts'
    joined.write_bytes(first.read_bytes() + b''.join([other.read_bytes()] * (pieces - 1)))
    reading, seconds, _ = read(joined)
    count = 40 + 30 * (pieces - 1)
    assert reading.read == count and reading.piece == pieces - 1
    np.testing.assert_allclose(seconds, np.arange(count) / 10, atol=0.02)
    (note,) = reading.notes()
    assert ('once' if pieces == 2 else '2 times') in note and 'first at 4.0 s' in note


def test_a_recording_behind_an_mp4_is_told_as_its_index_knows_nothing_of_it(tmp_path):
    first, other = film(tmp_path / 'a.mp4', code='mp4v'), film(tmp_path / 'b.mp4', 30, code='mp4v')
    size = other.stat().st_size
    first.write_bytes(first.read_bytes() + other.read_bytes())
    (note,) = read(first)[0].notes()
    assert f'its last {size:,} bytes are of another recording' in note
    other.write_bytes(b'')
    with pytest.raises(video.VideoError, match='empty: a file of 0 bytes'):
        video.Frames(other, 0.1)


@pytest.mark.parametrize('name', ['a.avi', 'a.mkv'])
@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_a_file_that_ends_early_says_how_many_of_how_many_were_read(tmp_path, name, share):
    path = film(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    reading, seconds, _ = read(path)
    assert 5 < reading.read < 38 and reading.expected == 40 and len(seconds) == reading.read
    (note,) = reading.notes()
    assert note.startswith(f'it ends early: {reading.read} of the 40 frames') and f'{seconds[-1]:.1f} s' in note


@pytest.mark.parametrize('length', [188, 192, 204])
def test_a_transport_stream_that_was_cut_off_says_so(tmp_path, length):
    whole = film(tmp_path / 'a.ts', 100, code='mp4v').read_bytes()
    packets = [whole[at : at + 188] for at in range(0, len(whole), 188)]
    before, after = {188: (b'', b''), 192: (bytes(4), b''), 204: (b'', bytes(16))}[length]
    content = b''.join(before + packet + after for packet in packets)
    path = tmp_path / 'cut.ts'
    path.write_bytes(content)
    assert read(path)[0].notes() == []
    path.write_bytes(content[: len(content) // 2 // length * length + 100])
    reading, _, _ = read(path)
    assert 30 < reading.read < 70 and ['does not end with a whole packet' in note for note in reading.notes()] == [True]


@pytest.mark.parametrize('share', [0.2, 0.4])
@pytest.mark.parametrize('name', ['a.mkv', 'a.avi', 'a.ts', 'a.mp4'])
def test_damage_in_the_middle_is_passed_over_and_told(tmp_path, name, share):
    path = film(tmp_path / name, code='MJPG' if name in ('a.avi', 'a.mkv') else 'mp4v')
    content = bytearray(path.read_bytes())
    begin = len(content) * 3 // 10
    end = begin + int(share * len(content))
    content[begin:end] = np.random.default_rng(0).integers(0, 256, end - begin).astype(np.uint8).tobytes()
    path.write_bytes(content)
    reading, seconds, grey = read(path)
    assert 38 > reading.read >= 40 * (0.85 - share) and grey[-1] > 200, 'to the end'
    assert f'{reading.read} of the 40 frames that its container tells of could be read' in reading.notes()[0]


def test_a_varying_rate_loses_no_frame():
    reading, seconds, _ = read(FILES / 'vfr.mkv')
    assert reading.read == len(seconds) == 20
    np.testing.assert_allclose(seconds, [*np.arange(10) / 10, *(3 + np.arange(10) / 10)], atol=1e-3)
    assert 'its rate varies' in reading.notes()[0]


def test_a_clock_that_leaps_ahead_loses_no_frame_and_is_told():
    reading, seconds, _ = read(FILES / 'leap.mkv')
    assert reading.read == len(seconds) == 40 and reading.piece >= 1 and 3600 < seconds[-1] < 3605
    (note,) = reading.notes()
    assert note.startswith('its clock leaps ahead once')


def test_a_stream_without_count_and_clock_is_read_whole():
    reading, seconds, _ = read(FILES / 'bare.h264', every=0.01)
    assert (reading.expected, reading.read, reading.notes()) == (None, 40, []) and len(seconds) == 40
    assert video.Frames(FILES / 'bare.h264', 1.0).seconds is None


def test_a_file_without_a_frame_says_how_many_it_should_have(tmp_path):
    path = film(tmp_path / 'a.avi')
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b'movi') + 4])
    with pytest.raises(video.VideoError, match='no (frame|video)'):
        read(path)
    with pytest.raises(video.VideoError, match='lack its index'):
        (tmp_path / 'text.mp4').write_text('<html>')
        read(tmp_path / 'text.mp4')


def test_a_hole_in_an_avi_is_told_with_what_it_does_to_times_however_long_the_file(tmp_path):
    path = film(tmp_path / 'a.avi', count=1000, size=(32, 16))
    content = bytearray(path.read_bytes())
    begin = content.index(b'00dc', len(content) // 3)
    content[begin : begin + 2500] = bytes(2500)
    path.write_bytes(content)
    reading, seconds, _ = read(path)
    assert 990 < reading.read < 998 and np.diff(seconds).max() < 0.11, 'less than a hundredth of them, and no gap'
    (note,) = reading.notes()
    assert f'{reading.read} of the 1,000 frames' in note and 'the times after them are too early' in note


@pytest.mark.parametrize('name,code', [('a.wmv', 'WMV2'), ('a.mkv', 'MJPG')])
def test_a_hole_in_a_file_with_a_clock_is_told_where_its_number_of_frames_tells_nothing(tmp_path, name, code):
    path = film(tmp_path / name, count=3000, size=(64, 32), code=code)
    content = bytearray(path.read_bytes())
    begin, length = len(content) // 2, len(content) * 8 // 1000
    content[begin : begin + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(content)
    reading, seconds, _ = read(path)
    gap = np.diff(seconds).max()
    assert 1 < gap < 10 and 0 <= 3000 - reading.read <= 100
    assert any(f'no frame for {gap:.1f} s' in note or 'frames that its container' in note for note in reading.notes())
