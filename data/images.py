"""The pictures that annotations name: read, looked at, and told apart into usable and not, in parallel and in order."""

import collections
import concurrent.futures
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

from PIL import Image

from data import transforms
from data.annotations import Entry
from data.transforms import tf

_FORMATS = ('JPEG', 'MPO', 'PNG', 'BMP')  # MPO: what phones call a JPEG with a second picture behind the first
_AHEAD = 64  # images under way for each thread


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
            kind, (width, height) = header.format, header.size
    except Image.DecompressionBombError as error:  # Pillow's own limit, above every sensible max_pixels
        return f'too many pixels ({error})'
    except Exception as error:  # Pillow raises a dozen kinds on damaged headers
        return f'no picture ({len(encoded)} bytes; {type(error).__name__})'
    if kind not in _FORMATS:
        return f'a {kind} file, expected JPEG, PNG or BMP'
    if width * height > max_pixels:
        return f'{width} x {height} pixels, above config.data.max_pixels = {max_pixels}'
    return ''


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
    threads = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(one, thing))
                if len(waiting) >= _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
