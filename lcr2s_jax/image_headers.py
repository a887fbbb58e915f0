"""What is read of a picture before a decoder is started: its format, a JPEG's scans, a TIFF's table."""

import re
import struct
from collections.abc import Mapping
from typing import Any

_FIRST = (
    (b'\xff\xd8\xff', 'JPEG'),
    (b'\x89PNG\r\n\x1a\n', 'PNG'),
    (b'GIF87a', 'GIF'),
    (b'GIF89a', 'GIF'),
    (b'II*\0', 'TIFF'),
    (b'MM\0*', 'TIFF'),
    (b'II+\0', 'TIFF'),  # of more than 4 GB
    (b'MM\0+', 'TIFF'),
    (b'%!PS', 'EPS'),
    (b'\xc5\xd0\xd3\xc6', 'EPS'),
    (b'%PDF', 'PDF'),
    (b'8BPS', 'Photoshop'),
    (b'\0\0\1\0', 'ICO'),
    (b'\0\0\0\x0cjP  ', 'JPEG 2000'),
    (b'\xff\x4f\xff\x51', 'JPEG 2000'),
    (b'\0\0\0\x0cJXL ', 'JPEG XL'),
    (b'\xff\x0a', 'JPEG XL'),
    (b'PK\3\4', 'ZIP'),
    (b'version https://git-lfs', 'Git LFS pointer'),
)
_HEIC = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the second header, by version
# What libjpeg takes for the next marker: not a stuffed zero, not a fill byte, not a restart.
_MARKER = re.compile(rb'\xff([^\x00\x01\xd0-\xd7\xff])')
_SOF = range(0xC0, 0xD0)  # but for tables (C4, CC) and extensions (C8)
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_MOST_SEGMENTS, _MOST_VALUES, _MOST_TAGS = 20_000, 100_000, 1000
_MOST_WIDE = 100_000  # pixels of a BMP packed by run lengths, of which four bytes skip 255 rows
_TILE = 1 << 22  # pixels of a TIFF's tile, which is unpacked whole
_SHARED = 1 << 16  # bytes that several tags of a table may have in common
_EXIF = b'Exif\0\0'
_WIDTHS = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # bytes of a value by TIFF's types; else 1
_BYTES = (1, 2, 6, 7)  # TIFF's types of one byte: profiles and notes, which nobody reads one by one


class HeaderError(ValueError):
    """Why a picture is not decoded, half a sentence."""


def sniff(head: bytes) -> str:
    """The format that a file's first 64 bytes tell, by the name that people use; '' for none that is known."""
    for first, name in _FIRST:
        if head.startswith(first):
            return name
    if head[:2] == b'BM' and len(head) >= 18 and struct.unpack_from('<I', head, 14)[0] in _BMP_HEADERS:
        return 'BMP'
    if head[:4] == b'RIFF' and head[8:12] in (b'WEBP', b'AVI '):
        return 'WebP' if head[8:12] == b'WEBP' else 'video'
    if head[4:8] == b'ftyp':
        brands = head[8:64]
        if b'avif' in brands or b'avis' in brands:
            return 'AVIF'
        return 'HEIC' if head[8:12] in _HEIC else 'video'
    text = head[:64].lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if text.startswith((b'<svg', b'<?xml')):
        return 'SVG'
    return 'HTML' if text.startswith((b'<!doctype html', b'<html')) else ''


def jpeg(encoded: bytes) -> tuple[int, int, int]:
    """Width, height and scans of a JPEG's first picture, found as libjpeg finds them.

    Raises HeaderError: what takes a decoder long without bound. ValueError, struct.error: damaged.
    """
    at, size, scans = 2, None, 0
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(encoded, at)
        if found is None:
            raise ValueError('no end')
        code, at = found[1][0], found.end()
        if code == _EOI:
            break
        (length,) = struct.unpack_from('>H', encoded, at)
        if code == _SOS:
            scans += 1
        elif code in _SOF and code not in (0xC4, 0xC8, 0xCC):
            if code > 0xC2:
                raise HeaderError(f'a JPEG of a rare kind (SOF{code - 0xC0}), expected baseline or progressive')
            if size:
                raise ValueError('two sizes')
            height, width = struct.unpack_from('>HH', encoded, at + 3)
            size = width, height
        elif code == _SOI or length < 2:
            raise ValueError('no segment')
        at += length
    else:
        raise HeaderError(f'a JPEG with more than {_MOST_SEGMENTS:,} segments')
    if not scans or not size or not all(size):
        raise ValueError('no picture')
    return *size, scans


def check_opened(kind: str, opened) -> None:
    """Look at what a Pillow image says of how it is packed. Raises HeaderError: unpacking takes too much memory."""
    if kind == 'BMP' and opened.width > _MOST_WIDE and any(tile[0] == 'bmp_rle' for tile in opened.tile):
        limit = f'above the limit of {_MOST_WIDE:,}'
        raise HeaderError(f'a BMP packed by run lengths, {opened.width:,} pixels wide, {limit}')
    if kind == 'TIFF':
        wide, high = (opened.tag_v2.get(tag, 0) for tag in (322, 323))
        if wide * high > 2 * opened.width * opened.height + _TILE:
            raise HeaderError(f'a TIFF with tiles of {wide:,} x {high:,} pixels, far larger than its picture')


def name_ycbcr(opened) -> None:
    """Have Pillow take the pixels of a TIFF in YCbCr without packing for what they are; it knows packed ones alone.

    Raises HeaderError where they are not three bytes each, side by side.
    """
    tags = opened.tag_v2
    if (opened.info['compression'], tags.get(262)) != ('raw', 6):
        return
    if (tags.get(258), tags.get(530, (2, 2)), tags.get(284, 1)) != ((8, 8, 8), (1, 1), 1):
        raise HeaderError('a TIFF in YCbCr, subsampled or in planes, expected one in RGB; save it as PNG')
    opened._mode = 'YCbCr'
    opened.tile = [tile._replace(args=('YCbCr', 0, 1)) for tile in opened.tile]


def check_exif(info: Mapping[str, Any]) -> None:
    """Look at the EXIF notes that Pillow has found, whose table is a TIFF's. Raises as `check_tiff` does."""
    raw = 'Raw profile type exif'  # of a PNG by ImageMagick
    block = bytes.fromhex(''.join(info[raw].split('\n')[3:])) if raw in info else b''
    block = info.get('exif', block).removeprefix(_EXIF)
    if block.startswith(_EXIF):  # Pillow copies the whole for each
        raise HeaderError('EXIF notes that begin twice')
    if block:
        check_tiff(block)


def check_tiff(encoded: bytes) -> None:
    """Look at the table of a TIFF's first picture.

    Raises HeaderError: so many strips or values, or values so often, that reading it takes long or much memory.
    struct.error: damaged.
    """
    order, big = '<' if encoded[:1] == b'I' else '>', b'+' in encoded[2:4]
    (at,) = struct.unpack_from(order + ('Q' if big else 'I'), encoded, 8 if big else 4)
    (count,) = struct.unpack_from(order + ('Q' if big else 'H'), encoded, at)
    if count > _MOST_TAGS:
        raise HeaderError(f'a TIFF with {count:,} tags, above the limit of {_MOST_TAGS:,}')
    held = 0
    for number in range(count):
        entry = at + (8 + 20 * number if big else 2 + 12 * number)
        tag, kind, values = struct.unpack_from(order + ('HHQ' if big else 'HHI'), encoded, entry)
        if values > _MOST_VALUES and kind not in _BYTES:
            raise HeaderError(f'a TIFF with {values:,} values in its tag {tag}, above the limit of {_MOST_VALUES:,}')
        held += min(values * _WIDTHS.get(kind, 1), len(encoded))
    if held > 2 * len(encoded) + _SHARED:
        raise HeaderError(f'{len(encoded):,} bytes whose table of tags has {held:,}: they lie over each other')
