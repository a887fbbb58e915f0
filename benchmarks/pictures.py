"""Decoding pictures outside training:  python -m benchmarks.pictures

Speed beside TensorFlow's, and the slowest picture within the default limits.
"""

import argparse
import io
import json
import os
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile

from lcr2s_jax import images

SIZE = (384, 128)  # height and width in pixels that the model of the paper reads


def rate(once: Callable[[], object], seconds: float) -> float:
    """Milliseconds of processor time a call, of all threads: TensorFlow has some of its own."""
    once()
    count, clock, end = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        once()
        count += 1
    return 1e3 * (time.process_time() - clock) / count


def speed(seconds: float, rounds: int) -> dict:
    """A JPEG of 300 x 130, by Pillow and by TensorFlow in turn, on one core; the median of the rounds."""
    from data import transforms
    from data.transforms import tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    file = encoded(noisy(300, 130), 'JPEG', quality=90)
    program = tf.function(
        lambda jpeg: transforms.resize(transforms.decode(jpeg), SIZE), input_signature=[tf.TensorSpec([], tf.string)]
    )
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(rate(lambda: images.pixels(file, SIZE), seconds))
        theirs.append(rate(lambda: program(tf.constant(file)).numpy(), seconds))
    pillow, tensorflow = float(np.median(ours)), float(np.median(theirs))
    return {'pillow_ms': pillow, 'tensorflow_ms': tensorflow, 'times_as_fast': tensorflow / pillow}


def noisy(height: int, width: int) -> Image.Image:
    """A soft picture with noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (max(2, height // 6), max(2, width // 6), 3)).astype(np.uint8))
    soft = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    return Image.fromarray((soft + rng.integers(-20, 20, soft.shape)).clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **more) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    picture.save(out, kind, **more)
    return out.getvalue()


def slowest() -> dict[str, float]:
    """Seconds of processor time of what is within the limits and takes long, by its name."""
    ImageFile.MAXBLOCK = 1 << 28  # or Pillow cannot write large JPEGs
    limits = images.DEFAULT
    side = int(limits.max_pixels**0.5)
    half = int((limits.max_pixels / 2) ** 0.5)
    noise, flat = noisy(side, side), Image.new('RGB', (side, side), (100, 20, 200))
    progressive = encoded(flat, 'JPEG', progressive=True, subsampling=0)
    last = progressive[progressive.rindex(b'\xff\xda') : -2]
    files = {
        'baseline JPEG': encoded(noise, 'JPEG', quality=85),
        'progressive JPEG': encoded(noise, 'JPEG', quality=85, subsampling=0, progressive=True),
        'JPEG of 20 scans': progressive[:-2] + 10 * last + progressive[-2:],
        'PNG': encoded(flat, 'PNG', compress_level=1),
        'TIFF': encoded(flat, 'TIFF', compression='tiff_lzw'),
        'GIF': encoded(flat, 'GIF'),
        'WebP': encoded(noisy(half, half), 'WEBP', method=0),
    }
    found = {}
    for name, file in files.items():
        clock = time.thread_time()
        try:
            images.pixels(file, SIZE)
            found[name] = round(time.thread_time() - clock, 2)
        except images.PictureError as error:
            found[name] = f'{time.thread_time() - clock:.2f} to refuse: {error}'
    return found


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=1.0, help='of each round')
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = {'one_core': speed(options.seconds, options.rounds), 'slowest_s': slowest()}
    print(json.dumps(found, indent=2))


if __name__ == '__main__':
    main()
