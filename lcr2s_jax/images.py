"""Pictures as bytes -> upright RGB -> pixels: the one decoder outside training, which reads the same within one level.

Formats, pixels, bytes, scans and time are bounded, and no other program is ever started (ours).
"""

import contextlib
import io
import os
import pathlib
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageOps import exif_transpose

from lcr2s_jax import image_headers
from lcr2s_jax.errors import UserError
from lcr2s_jax.threads import Room

warnings.filterwarnings('ignore', category=UserWarning, module='PIL')  # of a damaged file: PictureError tells more

# What `pixels` makes of a file, for those who keep what came of it: to be changed with it.
RECIPE = (
    'RGB uint8, upright by EXIF, the first picture of a file, alpha dropped, 16 bits cut to their upper 8, floats and '
    '32 bits scaled; JPEG by the accurate integer transform; bilinear of Pillow, antialiased where a side shrinks'
)
SUFFIXES = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.apng', '.bmp', '.dib', '.webp'),
    *('.tif', '.tiff', '.gif', '.heic', '.heif', '.hif'),
)


class _Jpeg(JpegImagePlugin.JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Leave EXIF alone until `_turn` has looked at its size; nobody asks for dots per inch."""


class _Tiff(TiffImagePlugin.TiffImageFile):
    def _setup(self) -> None:
        super()._setup()
        image_headers.name_ycbcr(self)

    def load_end(self) -> None:
        """Turn as Pillow does, but read no other table than the checked one."""
        exif_transpose(self, in_place=True)


# The classes themselves are called, as `Image.open` would try every format that any library has registered.
_READERS = {
    'JPEG': _Jpeg,
    'PNG': PngImagePlugin.PngImageFile,
    'BMP': BmpImagePlugin.BmpImageFile,
    'WebP': WebPImagePlugin.WebPImageFile,
    'TIFF': _Tiff,
    'GIF': GifImagePlugin.GifImageFile,
}
FORMATS = (*_READERS, 'HEIC')
HEAD = 64  # bytes that tell the format
# Their work is bounded by pixels. JPEG within TIFF is not, as it may have scans.
_TIFF_PACKINGS = ('raw', 'packbits', 'tiff_lzw', 'tiff_deflate', 'tiff_adobe_deflate', 'group3', 'group4')
_SLOW = ('WebP', 'HEIC')  # twice as slow, and not to be interrupted: half as many pixels
_ORIENTATION = 0x0112  # of EXIF
_TURNS = (  # what the values from 2 to 8 ask for
    *('FLIP_LEFT_RIGHT', 'ROTATE_180', 'FLIP_TOP_BOTTOM', 'TRANSPOSE', 'ROTATE_270', 'TRANSVERSE', 'ROTATE_90'),
)
_BLOCK = 1 << 14  # bytes between two looks at the clock


class Limits(NamedTuple):
    """What is read: `benchmarks/pictures.py` measures the slowest that is within.

    Attributes:
      max_pixels: width times height; half as many of a WebP or HEIC.
      max_scans: of a JPEG; and scans times pixels are at most 20 times max_pixels.
      seconds: processor time of one picture.
    """

    max_pixels: int = 50_000_000
    max_bytes: int = 64 << 20
    max_scans: int = 100
    seconds: float = 5.0


DEFAULT = Limits()
MISSING = 'no such file'  # why a picture cannot be used, where the others are longer


class PictureError(UserError):
    """Why a picture cannot be used, half a sentence, such as 'an EPS file, expected JPEG, PNG or BMP'."""


def read(path: str | pathlib.Path, limits: Limits = DEFAULT) -> bytes:
    """The bytes of a file, looked at before they are read. Raises PictureError: no file, empty, or above the limit."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            kind = 'a folder' if stat.S_ISDIR(found.st_mode) else 'a pipe, socket or device'
            raise PictureError(f'{kind}, expected a file')
        check_bytes(found.st_size, limits)
        with open(path, 'rb') as file:
            encoded = file.read(limits.max_bytes + 1)
    except FileNotFoundError:
        raise PictureError(MISSING) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise PictureError(getattr(error, 'strerror', '') or 'cannot be read') from None
    check_bytes(len(encoded), limits)  # it may have grown
    return encoded


def check_bytes(count: int, limits: Limits = DEFAULT) -> None:
    """Refuse a file by its size. Raises PictureError."""
    if not count:
        raise PictureError('empty: a file of 0 bytes')
    if count > limits.max_bytes:
        raise PictureError(f'a file of {count:,} bytes, above the limit of {limits.max_bytes:,}')


def check(encoded: bytes, limits: Limits = DEFAULT) -> tuple[str, int, int]:
    """Look at the header alone: (format, width, height) of a picture as it lies in the file. Raises PictureError."""
    kind, opened = _open(encoded, limits)
    return kind, *opened.size


def rgb(encoded: bytes, limits: Limits = DEFAULT) -> np.ndarray:
    """Decode a picture to uint8 [h, w, 3], upright. Raises PictureError."""
    return np.asarray(image(encoded, limits))


def image(encoded: bytes, limits: Limits = DEFAULT) -> Image.Image:
    """The same as a Pillow image of mode RGB, with nothing else that came in the file. Raises PictureError."""
    _, opened = _open(encoded, limits)
    with _ROOM.of(opened.width * opened.height), _explained(len(encoded)):
        return upright(opened)


def opened(picture: Image.Image) -> np.ndarray:
    """Upright RGB uint8 [h, w, 3] of a picture that PIL holds. Raises PictureError: closed, or its file is cut off."""
    if not all(picture.size):
        raise PictureError(f'a PIL picture of {picture.width} x {picture.height} pixels, expected one or more')
    try:
        return np.asarray(upright(picture))
    except (OSError, ValueError) as error:
        raise PictureError(f'a PIL picture cannot be read ({error})') from None


def upright(opened: Image.Image) -> Image.Image:
    """Any Pillow image as mode RGB, turned as its EXIF says, without its notes and profiles."""
    opened.load()
    turn, found = _turn(opened), _colours(opened)
    found = found.transpose(turn) if turn is not None else found.copy() if found is opened else found
    found.info = {}  # Pillow would write a colour profile from here
    return found


def pixels(encoded: bytes, image_size: tuple[int, int], limits: Limits = DEFAULT) -> np.ndarray:
    """Decode and resize: uint8 [h, w, 3] of `image_size` (height, width), as training reads it within one level."""
    return np.asarray(_resized(image(encoded, limits), image_size))


def resize(rgb_hw3: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [h, w, 3] to `image_size` (height, width); bilinear, antialiased where a side shrinks."""
    return np.asarray(_resized(Image.fromarray(rgb_hw3), image_size))


def _resized(opened: Image.Image, image_size: tuple[int, int]) -> Image.Image:
    height, width = image_size
    # Pillow rounds between its two passes, which moves a pixel by half a level at most
    return opened.resize((width, height), Image.Resampling.BILINEAR)


def png(encoded: bytes, limits: Limits = DEFAULT) -> bytes:
    """A picture as a PNG of its upright pixels, with nothing else that came in the file. Raises PictureError."""
    out = io.BytesIO()
    image(encoded, limits).save(out, 'PNG')
    return out.getvalue()


def thumbnail(encoded: bytes, height: int, limits: Limits = DEFAULT) -> bytes:
    """A JPEG of what `pixels` reads, `height` pixels high and at most twice as wide. Raises PictureError."""
    whole, out = image(encoded, limits), io.BytesIO()
    scale = min(height / whole.height, 2 * height / whole.width)
    size = tuple(max(1, round(side * scale)) for side in whole.size)
    whole.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0).save(out, 'JPEG', quality=88)
    return out.getvalue()


def is_turned(encoded: bytes, limits: Limits = DEFAULT) -> bool:
    """Whether EXIF says that a picture is to be turned or mirrored. Raises PictureError."""
    _, opened = _open(encoded, limits)
    return _turn(opened) is not None


def _open(encoded: bytes, limits: Limits) -> tuple[str, Image.Image]:
    """(Format, a Pillow image that is not decoded yet), within the limits."""
    check_bytes(len(encoded), limits)
    kind = image_headers.sniff(encoded)
    with _explained(len(encoded)):
        if kind == 'JPEG':
            width, height, scans = image_headers.jpeg(encoded)
            _check_pixels(width * height, limits)
            if scans > limits.max_scans or scans * width * height > 20 * limits.max_pixels:
                most = min(limits.max_scans, 20 * limits.max_pixels // (width * height))
                raise PictureError(f'a JPEG with {scans:,} scans, above the limit of {most:,} at its size')
        elif kind == 'PNG' and b'IEND' not in encoded:
            raise ValueError('cut off')  # Pillow takes it where the last row is there
        elif kind == 'TIFF':
            image_headers.check_tiff(encoded)
        opened = _reader(kind)(_Timed(encoded, limits.seconds))
        _check_pixels(opened.width * opened.height, limits, kind)
        if kind == 'JPEG' and opened.size != (width, height):
            raise ValueError('two sizes')
        image_headers.check_opened(kind, opened)
        if kind == 'TIFF' and (packed := opened.info.get('compression', 'raw')) not in _TIFF_PACKINGS:
            raise PictureError(f'a TIFF packed by {packed}, expected LZW, Deflate, PackBits or none')
    opened.decodermaxblock = _BLOCK
    return kind, opened


def _reader(kind: str) -> Callable:
    if kind in _READERS:
        return _READERS[kind]
    if kind == 'HEIC':
        try:
            import pillow_heif
        except ImportError:
            raise PictureError('a HEIC file, which is read with pillow-heif: pip install pillow-heif') from None
        return pillow_heif.HeifImageFile
    what = f'{"an" if kind[0] in "AEHIS" else "a"} {kind} file' if kind else 'no picture'
    raise PictureError(f'{what}, expected JPEG, PNG, BMP, WebP, TIFF, GIF or HEIC')


def _check_pixels(count: int, limits: Limits, kind: str = '') -> None:
    most = limits.max_pixels // 2 if kind in _SLOW else limits.max_pixels
    if count > most:
        of = f' of a {kind}' if kind in _SLOW else ''
        found = f'a picture of {count / 1e6:.4g} million pixels'
        raise PictureError(f'{found}, above the limit of {most / 1e6:.4g} million{of}')


@contextlib.contextmanager
def _explained(count: int) -> Iterator[None]:
    try:
        yield
    except PictureError:
        raise
    except image_headers.HeaderError as error:
        raise PictureError(str(error)) from None
    except MemoryError:
        raise PictureError('too large for the memory that is left') from None
    except Exception:  # Pillow raises a dozen kinds
        raise PictureError(f'damaged: its {count:,} bytes cannot be decoded') from None


class _Timed(io.BytesIO):
    """A file in memory that is read no longer than for some seconds of this thread's processor time."""

    def __init__(self, encoded: bytes, seconds: float):
        super().__init__(encoded)
        self._seconds, self._end = seconds, time.thread_time() + seconds

    def read(self, size: int | None = -1) -> bytes:
        if time.thread_time() > self._end:
            raise PictureError(f'takes more than {self._seconds:g} s to decode')
        return super().read(size)


_ROOM = Room(200_000_000)  # about 10 bytes each, 2 GB


def _turn(opened: Image.Image) -> Image.Transpose | None:
    """What brings a decoded picture upright; None where nothing does, or where EXIF is damaged."""
    try:
        image_headers.check_exif(opened.info)
        value = opened.getexif().get(_ORIENTATION)
        return Image.Transpose[_TURNS[value - 2]] if value in range(2, 9) else None
    except Exception:  # Pillow raises a dozen kinds
        return None


def _colours(opened: Image.Image) -> Image.Image:
    """Mode RGB. Pillow's own conversion would clip what has more than 8 bits."""
    if opened.mode.startswith('I;16'):
        return Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8)).convert('RGB')
    if opened.mode in ('I', 'F'):
        levels = np.nan_to_num(np.asarray(opened, np.float32), posinf=0, neginf=0)
        low, high = min(0.0, float(levels.min())), float(levels.max())
        whites = (1.0, 255.0, 65535.0) if opened.mode == 'F' else (255.0, 65535.0)
        white = next((white for white in whites if high <= white), high)
        levels = (levels - low) * (255 / max(white - low, 1e-9))
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert('RGB')
    if 'transparency' in opened.info:  # of a palette: Pillow would warn of it
        opened = opened.copy()
        del opened.info['transparency']
    return (opened.convert('RGBA') if opened.mode == 'RGBa' else opened).convert('RGB')
