"""Who looks: six fixed surveillance cameras, each with its distance, colours, light, grain and compression.

The same coat is another colour in another camera, and a far one sees no print: as in the published datasets, whose
pictures come from cameras that the pretrained CLIP has never seen through.
"""

import dataclasses

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Camera:
    """One fixed camera.

    Attributes:
      height: of a crop, in pixels, on average; width is half of it.
      cast: what red, green and blue are multiplied by.
      gamma: exponent of the exposure; above 1 is dark.
      contrast, lift: share that is left, and levels of haze.
      grain: deviation of the noise, in levels.
    """

    height: int
    cast: tuple[float, float, float]
    gamma: float
    contrast: float
    lift: float
    grain: float
    quality: int


CAMERAS = (
    Camera(40, (1.05, 0.93, 1.32), 0.67, 0.89, 5, 4, 58),
    Camera(35, (0.88, 0.99, 1.21), 1.02, 0.87, 11, 9, 67),
    Camera(61, (0.99, 1.09, 0.74), 0.74, 0.86, 2, 10, 71),
    Camera(60, (0.97, 1.00, 1.16), 1.48, 0.99, 10, 10, 62),
    Camera(64, (0.89, 1.08, 1.10), 0.64, 0.93, 8, 7, 67),
    Camera(41, (0.99, 0.96, 0.86), 0.74, 0.83, 11, 7, 40),
)


def film(image: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """What the camera keeps of a clear picture: a smaller one; distance, brightness and grain are drawn from `rng`."""
    height = round(camera.height * rng.uniform(0.85, 1.15))
    small = image.resize((height // 2, height), Image.Resampling.BILINEAR)
    pixels = np.clip(np.asarray(small, np.float32) / 255 * np.float32(camera.cast), 0, 1)
    pixels = pixels ** np.float32(camera.gamma * np.exp(0.1 * rng.standard_normal()))
    pixels = 255 * (0.5 + (pixels - 0.5) * np.float32(camera.contrast)) + np.float32(camera.lift)
    pixels += np.float32(camera.grain) * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
