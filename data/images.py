"""The pictures that annotations name: read, looked at, and told apart into usable and not, in parallel and in order."""

import collections
import concurrent.futures
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

from PIL import ExifTags, Image, ImageOps

from data import transforms
from data.annotations import Entry
from data.transforms import tf

_FORMATS = ('JPEG', 'MPO', 'PNG', 'BMP')  # MPO: what phones call a JPEG with a second picture behind the first
_MARKS = (b'Exif', b'eXIf', b'tiff:Orientation')  # of JPEG, of PNG, of XMP in either
_AHEAD = 64  # images under way for each thread, ...
_MOST = 256  # ... and of all threads: they lie in memory, and a big machine has hundreds of threads


def fault_of(encoded: bytes, max_pixels: int) -> str:
    """Why training could not use an image, half a sentence; '' where it can."""
    if fault := header_fault(encoded, max_pixels):
        return fault
    try:
        transforms.decode(tf.constant(encoded))
    except tf.errors.InvalidArgumentError:
        return f'damaged: its {len(encoded)} bytes cannot be decoded'
    return ''


def header_fault(encoded: bytes, max_pixels: int) -> str:
    """The same from the header alone, before a pixel is decoded: a small file cannot ask for much memory."""
    try:
        with Image.open(io.BytesIO(encoded)) as header:
            kind, mode, (width, height) = header.format, header.mode, header.size
    except Image.DecompressionBombError as error:  # Pillow's own limit, above every sensible max_pixels
        return f'too many pixels ({error})'
    except Exception as error:  # Pillow raises a dozen kinds on damaged headers
        return f'no picture ({len(encoded)} bytes; {type(error).__name__})'
    if kind not in _FORMATS:
        return f'a {kind} file, expected JPEG, PNG or BMP'
    if kind == 'BMP' and mode in ('P', '1'):  # TensorFlow takes the numbers of the colours for grey
        return 'a BMP with a palette; save it as PNG or JPEG'
    if width * height > max_pixels:
        return f'{width} x {height} pixels, above config.data.max_pixels = {max_pixels}'
    return ''


def turned(encoded: bytes) -> bool:
    """Whether EXIF says that a picture is to be turned or mirrored; TensorFlow shows it as it lies in the file."""
    if not any(mark in encoded for mark in _MARKS):  # opening the file takes fifty times as long
        return False
    try:
        with Image.open(io.BytesIO(encoded)) as header:
            return header.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
    except Exception:  # Pillow raises a dozen kinds
        return False


def upright(encoded: bytes) -> bytes:
    """A picture that is `turned` as a PNG that is not; as it is where it is damaged."""
    file = io.BytesIO()
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            ImageOps.exif_transpose(opened).convert('RGB').save(file, 'PNG', compress_level=1, exif=b'')
    except Exception:  # Pillow raises a dozen kinds
        return encoded
    return file.getvalue()


def read(entries: Iterable[Entry], folder: pathlib.Path, max_pixels: int) -> Iterator[tuple[Entry, bytes, str]]:
    """The file of every entry, in order: (entry, its bytes, '' or why it cannot be used).

    Args:
      entries: in the order wanted.
      folder: that file names are below.
      max_pixels: width times height.
    """

    def one(entry: Entry) -> tuple[Entry, bytes, str]:
        try:
            encoded = (folder / entry.file_name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return entry, b'', 'no such file'
        except OSError as error:
            return entry, b'', f'{error.strerror}'
        return entry, encoded, fault_of(encoded, max_pixels) or ('' if entry.captions else 'no caption')

    yield from in_order(one, entries)


def in_order(one: Callable, things: Iterable) -> Iterator:
    """`one` of every thing, by a thread a core, in the order of the things and only so far ahead of who takes them."""
    waiting: collections.deque = collections.deque()
    # those that this process may use, where the system tells
    threads = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    ahead = max(threads, min(_AHEAD * threads, _MOST))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(one, thing))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
