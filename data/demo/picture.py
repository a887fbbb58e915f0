"""Puts a picture together: street, figure from far to near, what is in the way, and who looks.

Reproducible to the byte: all randomness of an image comes from its own generator, in this order. The same coat is
another colour in another camera, and a far one sees no print: as in the published datasets, whose pictures come from
cameras that the pretrained CLIP has never seen through.
"""

import dataclasses
import io

import numpy as np
from PIL import Image, ImageFilter

from data.demo.bags import paint_backpack, paint_shoulder_bag, paint_straps
from data.demo.brush import HEIGHT, SCALE, WIDTH, Brush
from data.demo.head import paint_hair, paint_head
from data.demo.limbs import paint_arm, paint_legs
from data.demo.outfits import Identity
from data.demo.street import paint_occlusion, paint_street
from data.demo.torso import paint_collar, paint_torso, rows_of
from data.demo.views import View

# Film grain is cut from one strip at a random place: fresh noise would cost a tenth of the drawing.
_GRAIN = np.random.default_rng(0).standard_normal(8 * HEIGHT * WIDTH * 3, np.float32)
_SLOPE = np.linspace(-0.1, 0.1, WIDTH)


@dataclasses.dataclass(frozen=True)
class Camera:
    """One fixed surveillance camera, with its distance, colours, light, grain and compression."""

    height: int  # of a crop, in pixels, on average; width is half of it
    cast: tuple[float, float, float]  # what red, green and blue are multiplied by
    gamma: float  # exponent of the exposure; above 1 is dark
    contrast: float  # share of it that is left
    lift: float  # levels of haze
    grain: float  # deviation of the noise, in levels
    quality: int


CAMERAS = (
    Camera(40, (1.05, 0.93, 1.32), 0.67, 0.89, 5, 4, 58),
    Camera(35, (0.88, 0.99, 1.21), 1.02, 0.87, 11, 9, 67),
    Camera(61, (0.99, 1.09, 0.74), 0.74, 0.86, 2, 10, 71),
    Camera(60, (0.97, 1.00, 1.16), 1.48, 0.99, 10, 10, 62),
    Camera(64, (0.89, 1.08, 1.10), 0.64, 0.93, 8, 7, 67),
    Camera(41, (0.99, 0.96, 0.86), 0.74, 0.83, 11, 7, 40),
)


def _paint_figure(f: Brush) -> None:
    rows, sideways, bag = rows_of(f), abs(f.sin) > 0.5, f.a['bag']
    far_arm, near_arm = sorted((-1, 1), key=lambda s: f.depth(s * f.W, 0))
    bag_depth = f.depth(f.side, 0) if bag == 'shoulder bag' else -1.0
    # The shadow falls to the side that the light leaves dark.
    f.pen.ellipse(f.around(f.flat(0.05 * f.dark, 0.985), 0.17, 0.022, 0.03), (0, 0, 0, 90))
    if bag == 'backpack' and f.front:
        paint_backpack(f)
    if f.front:
        paint_hair(f, over=False)
    if sideways:
        paint_arm(f, far_arm)
    paint_legs(f)
    if -0.9 < bag_depth < -0.3:
        paint_shoulder_bag(f)
    paint_torso(f, rows)
    paint_straps(f, rows)
    paint_collar(f)
    if bag == 'backpack' and not f.front:
        paint_backpack(f)
    if not sideways:
        paint_arm(f, far_arm)
    paint_arm(f, near_arm)
    if bag_depth >= -0.3:
        paint_shoulder_bag(f)
    paint_head(f)


def _develop(image: Image.Image, dark: int, rng: np.random.Generator) -> Image.Image:
    """Focus, exposure, white balance, light from one side, grain."""
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.BoxBlur(0.3 + 0.5 * rng.random()))
    gain = (0.72 + 0.42 * rng.random()) * (1 + 0.05 * rng.standard_normal(3))
    slope_w = 1 + _SLOPE * -dark * rng.random()
    pixels_hwc = np.asarray(image) * (slope_w[:, None] * gain).astype(np.float32)
    strength, start = 2 + 5 * rng.random(), int(rng.integers(len(_GRAIN) - pixels_hwc.size))
    grain_hwc = _GRAIN[start : start + pixels_hwc.size].reshape(pixels_hwc.shape)
    pixels_hwc += np.float32(strength) * grain_hwc
    return Image.fromarray(np.clip(pixels_hwc, 0, 255, out=pixels_hwc).astype(np.uint8))


def film(image: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """What the camera keeps of a clear picture: a smaller one; distance, brightness and grain are drawn from `rng`."""
    height = round(camera.height * rng.uniform(0.85, 1.15))
    small = image.resize((height // 2, height), Image.Resampling.BILINEAR)
    pixels = np.clip(np.asarray(small, np.float32) / 255 * np.float32(camera.cast), 0, 1)
    pixels = pixels ** np.float32(camera.gamma * np.exp(0.1 * rng.standard_normal()))
    pixels = 255 * (0.5 + (pixels - 0.5) * np.float32(camera.contrast)) + np.float32(camera.lift)
    pixels += np.float32(camera.grain) * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def paint_jpeg(person: Identity, view: View, rng: np.random.Generator, camera: Camera | None = None) -> bytes:
    """Paint one view as a JPEG: a clear photograph of 128 x 64 pixels (height x width), or what a camera makes of it.

    Place, light, background, blur, noise and quality are drawn from `rng`, the image's own generator.
    """
    image = paint_street(rng)
    brush = Brush(image, person, view, rng)
    _paint_figure(brush)
    paint_occlusion(brush, rng)
    out, quality = _develop(image.reduce(SCALE), brush.dark, rng), int(rng.integers(80, 93))
    if camera:
        out, quality = film(out, camera, rng), camera.quality
    buffer = io.BytesIO()
    out.save(buffer, 'JPEG', quality=quality)
    return buffer.getvalue()
