"""Pictures that somebody sends: limited, decoded and encoded again before a byte of them is kept."""

import io
import pathlib
from typing import NamedTuple

from PIL import Image, ImageOps

from lcr2s_jax import files
from lcr2s_jax.errors import SearchError

FORMATS = ('JPEG', 'PNG', 'BMP')  # what an index takes
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


class Limits(NamedTuple):
    """What is taken.

    Attributes:
      bytes: of a file, as it is sent.
      pixels: width times height, looked up before one is decoded.
      count: pictures at once.
    """

    bytes: int
    pixels: int
    count: int


def check(name: str, encoded: bytes, limits: Limits) -> None:
    """Raise SearchError, with the name that the user knows the file by, where it is larger than the limits."""
    if len(encoded) > limits.bytes:
        raise SearchError(f'{name}: found {len(encoded):,} bytes, expected at most {limits.bytes:,}')
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as opened:  # reads the header alone
            width, height = opened.size
    except Exception:  # Pillow raises a dozen kinds
        raise SearchError(f'{name}: found no picture, expected {", ".join(FORMATS)}') from None
    if width * height > limits.pixels:
        raise SearchError(f'{name}: found {width} x {height} pixels, expected at most {limits.pixels:,}')


def clean(name: str, encoded: bytes, limits: Limits) -> bytes:
    """The picture as a PNG of its pixels, upright, with nothing else that came in the file.

    Raises:
      SearchError: larger than the limits, or damaged.
    """
    check(name, encoded, limits)
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as opened:
            image = ImageOps.exif_transpose(opened).convert('RGB')
    except Exception:  # Pillow raises a dozen kinds
        raise SearchError(f'{name}: damaged: its {len(encoded):,} bytes cannot be decoded') from None
    image.info = {}  # Pillow would write a colour profile from here
    out = io.BytesIO()
    image.save(out, 'PNG')
    return out.getvalue()


def keep(path: pathlib.Path, content: bytes) -> None:
    """Write a file that only its owner may read; aside, then renamed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    files.write(path, content, mode=0o600)
