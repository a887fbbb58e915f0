"""The one decoder of pictures: formats, bytes, pixels, scans and time are bounded, and no other program is started."""

import contextlib
import multiprocessing
import os
import resource
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from lcr2s_jax import image_headers, images
from tests.images_test import chunk, encoded, exif, picture

OTHERS = {
    'EPS': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EOF\n',
    'PDF': b'%PDF-1.7\n',
    'SVG': b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    'HTML': b'<!DOCTYPE html><html>',
    'Photoshop': b'8BPS\0\1' + bytes(40),
    'ICO': encoded(picture(), 'ICO'),
    'JPEG 2000': encoded(picture(), 'JPEG2000'),
    'ZIP': b'PK\3\4' + bytes(40),
    'video': b'\0\0\0\x18ftypisom' + bytes(40),
    'Git LFS pointer': b'version https://git-lfs.github.com/spec/v1\n',
}


@pytest.mark.parametrize('kind', OTHERS)
def test_other_formats_are_refused_by_name(kind):
    with pytest.raises(
        images.PictureError, match=f'^an? {kind} file, expected JPEG, PNG, BMP, WebP, TIFF, GIF or HEIC$'
    ):
        images.rgb(OTHERS[kind])


def test_what_has_no_known_format_is_no_picture():
    for file in (b'hello', b'BMbut this is a text', b'RIFF\0\0\0\0WAVE', encoded(picture(), 'PPM'), bytes(100)):
        with pytest.raises(images.PictureError, match='^no picture, expected JPEG'):
            images.rgb(file)
    with pytest.raises(images.PictureError, match='^empty'):
        images.rgb(b'')


def test_no_program_is_started_whatever_the_bytes_are(monkeypatch, tmp_path):
    def started(*args, **more):
        pytest.fail(f'{args} was started')

    monkeypatch.setattr(subprocess, 'Popen', started)
    monkeypatch.setattr(os, 'system', started)
    for number, file in enumerate((*OTHERS.values(), encoded(picture(), 'EPS'), b'\xc5\xd0\xd3\xc6' + bytes(60))):
        (tmp_path / f'{number}.jpg').write_bytes(file)
        with pytest.raises(images.PictureError):
            images.thumbnail(images.read(tmp_path / f'{number}.jpg'), 20)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF'])
def test_a_truncated_file_is_an_error_and_too_many_pixels_are_told_before_any_is_decoded(kind, monkeypatch):
    file = encoded(picture(60, 50), kind)
    for kept in (0.5, 0.9):
        with pytest.raises(images.PictureError, match='^damaged: its [0-9,]+ bytes cannot be decoded$'):
            images.rgb(file[: int(kept * len(file))])
    monkeypatch.setattr(Image.Image, 'load', lambda self: pytest.fail('decoded'))
    with pytest.raises(images.PictureError, match='^a picture of 0.003 million pixels, above the limit of'):
        images.rgb(file, images.Limits(max_pixels=2999))
    assert images.check(file)[1:] == (50, 60)


@pytest.mark.filterwarnings('ignore')  # Pillow's, of odd values in a TIFF
def test_damage_anywhere_is_told_or_read_and_never_anything_else():
    rng = np.random.default_rng(3)
    files = [encoded(picture(), kind) for kind in ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF')]
    files += [encoded(picture(), 'JPEG', progressive=True, exif=exif(6)), encoded(picture(), 'TIFF', exif=exif(6))]
    for file in files:
        for _ in range(150):
            damaged = bytearray(file)
            for _ in range(rng.integers(1, 5)):
                damaged[rng.integers(len(file) if rng.random() < 0.5 else min(100, len(file)))] = rng.integers(256)
            try:
                assert images.pixels(bytes(damaged), (8, 8), images.Limits(max_pixels=10**6)).shape == (8, 8, 3)
            except images.PictureError:
                pass


def scans(count, side=64, hidden=False):
    """A progressive JPEG whose last scan is repeated; `hidden` behind a comment that holds an end of image."""
    file = encoded(Image.new('L', (side, side), 128), 'JPEG', progressive=True)
    last = file[file.rindex(b'\xff\xda') : -2]
    between = b'\xff\xfe\0\4\xff\xd9' if hidden else b''
    return file[:-2] + (between + last) * count + b'\xff\xd9'


def test_scans_are_counted_before_a_jpeg_is_decoded_and_a_thumbnail_inside_it_is_not_one_of_them():
    assert images.rgb(scans(90)).shape == (64, 64, 3)
    for hidden in (False, True):
        with pytest.raises(
            images.PictureError, match=r'^a JPEG with 3,00[0-9] scans, above the limit of 100 at its size'
        ):
            images.rgb(scans(3000, hidden=hidden))
    with pytest.raises(images.PictureError, match='^a JPEG with 4[0-9] scans, above the limit of 27 at its size'):
        images.check(scans(40, side=6000))
    one = encoded(picture(), 'JPEG')
    inside = one[:2] + b'\xff\xe1' + struct.pack('>H', 2 + len(scans(200))) + scans(200) + one[2:]
    assert image_headers.jpeg(inside) == (16, 24, 1)
    np.testing.assert_array_equal(images.rgb(inside), images.rgb(one))


JPEG, GIF, PNG = encoded(picture(), 'JPEG'), encoded(picture().convert('L'), 'GIF'), encoded(picture(), 'PNG')
GIF_HEADER = 13 + 3 * 2 ** ((GIF[10] & 7) + 1)
BMP_HEADER = struct.pack('<IHHI', 0, 0, 0, 1078) + struct.pack('<IiiHHIIiiII', 40, 7000, 7000, 1, 8, 1, 0, 0, 0, 256, 0)
TIFF_TAGS = [(256, 4, 1, 5), (257, 4, 1, 10**7), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 10**6, 200)]
TIFF_TABLE = struct.pack('<H', len(TIFF_TAGS)) + b''.join(struct.pack('<HHII', *tag) for tag in TIFF_TAGS)
HOSTILE = {
    'segments of a jpeg': lambda: JPEG[:2] + b'\xff\xfe\0\2' * 1_000_000 + JPEG[2:],
    'fill bytes of a jpeg': lambda: JPEG[:2] + b'\xff' * 6_000_000 + JPEG[2:],
    'chunks before the pixels': lambda: PNG[:33] + chunk(b'aaAa', b'') * 400_000 + PNG[33:],
    'chunks after the pixels': lambda: PNG[:-12] + chunk(b'aaAa', b'') * 400_000 + PNG[-12:],
    'a packed text': lambda: PNG[:33] + chunk(b'zTXt', b'k\0\0' + zlib.compress(bytes(1 << 26))) + PNG[33:],
    'comments of a gif': lambda: GIF[:GIF_HEADER] + b'\x21\xfe\1a\0' * 1_000_000 + GIF[GIF_HEADER:],
    'runs of one pixel': lambda: b'BM' + BMP_HEADER + bytes(1024) + b'\1\7' * 2_000_000,
    'strips of a tiff': lambda: b'II*\0\x08\0\0\0' + TIFF_TABLE + bytes(118) + b'\x08\0\0\0' * 10**6,
    'a jpeg within a tiff': lambda: encoded(picture(), 'TIFF', compression='jpeg'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_file_that_would_take_long_is_refused_in_bounded_time(name):
    file, clock = HOSTILE[name](), time.thread_time()
    with pytest.raises(images.PictureError):
        images.rgb(file, images.Limits(seconds=0.2))
    assert time.thread_time() - clock < 1


def notes(count, size):
    """A table of EXIF whose values are all the same bytes."""
    tags = b''.join(struct.pack('<HHII', 0x1000 + number, 7, size, 14 + 12 * count) for number in range(count))
    return b'II*\0\x08\0\0\0' + struct.pack('<H', count) + tags + bytes(4 + size)


def jpeg_with(block):
    parts = [b'Exif\0\0' + block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    return JPEG[:2] + b''.join(b'\xff\xe1' + struct.pack('>H', 2 + len(part)) + part for part in parts) + JPEG[2:]


def raw_profile(block):
    return (
        PNG[:33]
        + chunk(b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(b'\n\n1\n' + block.hex().encode()))
        + PNG[33:]
    )


def tiff(*more, blob=b''):
    tags = sorted([(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1), *more])
    tags = [(*tag[:3], 14 + 12 * len(tags) if tag[3] is None else tag[3]) for tag in tags]
    table = struct.pack('<H', len(tags)) + b''.join(struct.pack('<HHII', *tag) for tag in tags)
    return b'II*\0\x08\0\0\0' + table + bytes(4) + blob


RUNS = bytearray(b'BM' + BMP_HEADER + bytes(1024) + b'\0\2\0\xff')
RUNS[18:26] = struct.pack('<ii', 5_000_000, 10)
PACKED = zlib.compress(bytes(1 << 24))
STRIP = [(259, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 81)]
GREEDY = {
    'values of exif over each other': lambda: jpeg_with(notes(3000, 30_000)),
    'exif of many beginnings': lambda: jpeg_with(b'Exif\0\0' * 100_000),
    'exif of a png': lambda: PNG[:33] + chunk(b'eXIf', notes(900, 100_000)) + PNG[33:],
    'exif in a text of a png': lambda: raw_profile(notes(900, 100_000)),
    'exif of a webp': lambda: encoded(picture(), 'WEBP', exif=notes(900, 100_000)),
    'values of a tiff over each other': lambda: tiff(
        *STRIP, *((0x9000 + number, 7, 99_000, None) for number in range(900)), blob=bytes(99_000)
    ),
    'a second table of a tiff': lambda: tiff(*STRIP, (34665, 4, 1, None), blob=notes(3000, 30_000)[8:]),
    'rows that a bmp skips': lambda: bytes(RUNS),
    'a tile of a tiff': lambda: tiff(
        (259, 3, 1, 8),
        (322, 4, 1, 16_000),
        (323, 4, 1, 16_000),
        (324, 4, 1, None),
        (325, 4, 1, len(PACKED)),
        blob=PACKED,
    ),
}


def test_small_files_take_little_memory_and_time():
    made = {name: file() for name, file in GREEDY.items()}
    assert max(map(len, made.values())) < 700_000
    with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
        taken = {name: pool.apply(taken_by, (file,)) for name, file in made.items()}
    assert not {name: taken[name] for name in made if taken[name][0] > 60 or taken[name][1] > 1}


def taken_by(file):
    """(MB, seconds) that this process comes to need to decode a file."""
    images.rgb(JPEG)
    before, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    with contextlib.suppress(images.PictureError):
        images.rgb(file)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, time.thread_time() - clock


def test_exif_that_is_too_large_is_left_aside_and_the_picture_is_read():
    np.testing.assert_array_equal(images.rgb(jpeg_with(notes(3000, 30_000))), images.rgb(JPEG))
    turned = encoded(picture(), 'TIFF', exif=exif(6))
    assert images.rgb(turned).shape == images.rgb(encoded(picture(), 'JPEG', exif=exif(6))).shape


def test_a_file_is_looked_at_before_it_is_read(tmp_path):
    with open(tmp_path / 'sparse.jpg', 'wb') as file:
        file.truncate(300 << 30)
    os.mkfifo(tmp_path / 'pipe.jpg')  # opening it would wait forever
    (tmp_path / 'empty.jpg').touch()
    for name, words in (
        ('sparse.jpg', 'a file of 322,122,547,200 bytes, above the limit of 67,108,864'),
        ('pipe.jpg', 'a pipe, socket or device, expected a file'),
        ('empty.jpg', 'empty'),
        ('none.jpg', 'no such file'),
        ('', 'a folder, expected a file'),
        ('empty.jpg/under', 'Not a directory'),
        ('x\0y', 'cannot be read'),
    ):
        with pytest.raises(images.PictureError, match=words):
            images.read(tmp_path / name)
    (tmp_path / 'a.png').write_bytes(encoded(picture(), 'PNG'))
    assert images.read(tmp_path / 'a.png') == encoded(picture(), 'PNG')
