"""What the input's time goes to, and what other options give:  python -m benchmarks.decode [--rounds 5]

Images a second through tf.data on 2 cores, 384 x 128, one part of the pipeline more in each line, and the same with
options that might help: JPEG's faster transform, decoding at half size, threads by number, and erasing left to the
device. `differs` is the mean difference, in levels of 0..255, from what the pipeline decodes, which is what the field's
Pillow reads. Crops are those of benchmarks.input, and once more of twice their sides.
"""

import argparse
import io
import os
import statistics

import numpy as np
from PIL import Image

from benchmarks import common, input

SIZE, AUGMENT = (384, 128), dict(flip=0.5, pad=10, erase=0.5)


def main() -> None:
    """Time every pipeline in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--images', type=int, default=1000, help='images of a round')
    args = parser.parse_args()
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: input.CORES])
    crops = list(input.crops(args.images))
    rows = []
    for name, contents, pipelines in (
        ('about 130 x 300', crops, small()),
        ('about 260 x 600', [enlarged(crop) for crop in crops], large()),
    ):
        sets = {what: dataset(contents, row, threads) for what, (row, threads) in pipelines.items()}
        seconds = common.interleaved({what: lambda it=it: [None for _ in it] for what, it in sets.items()}, args.rounds)
        first = next(iter(sets))
        for what, (row, _) in pipelines.items():
            rows.append(
                {
                    'crops': name,
                    'what': what,
                    'images_per_s_core': len(contents) / statistics.median(seconds[what]) / input.CORES,
                    'rate_to_first': common.ratio(seconds, first, what),
                    'differs': difference(contents[:100], row),
                }
            )
    common.write('decode', rows)


def small() -> dict:
    """name -> (jpeg, seed -> image, threads); the first is the pipeline as it is."""
    from data import transforms

    def ours(jpeg, seed):
        return transforms.augment(transforms.resize(transforms.decode(jpeg), SIZE), seed, **AUGMENT)

    def fast(jpeg, seed):
        return transforms.augment(transforms.resize(read(jpeg, dct_method='INTEGER_FAST'), SIZE), seed, **AUGMENT)

    def unerased(jpeg, seed):
        return transforms.augment(transforms.resize(transforms.decode(jpeg), SIZE), seed, **AUGMENT | {'erase': 0.0})

    return {
        'decode, resize, augment: the pipeline': (ours, None),
        'decode, resize': (lambda jpeg, seed: transforms.resize(transforms.decode(jpeg), SIZE), None),
        'decode': (lambda jpeg, seed: transforms.decode(jpeg), None),
        'nothing': (lambda jpeg, seed: jpeg, None),
        "the pipeline, dct_method='INTEGER_FAST'": (fast, None),
        'the pipeline, erasing left out': (unerased, None),
        'the pipeline, 2 threads': (ours, 2),
        'the pipeline, 4 threads': (ours, 4),
    }


def large() -> dict:
    """The same, of crops that shrink."""
    from data import transforms

    return {
        'decode, resize': (lambda jpeg, seed: transforms.resize(transforms.decode(jpeg), SIZE), None),
        'decode at half size, resize': (lambda jpeg, seed: transforms.resize(read(jpeg, ratio=2), SIZE), None),
    }


def read(jpeg, dct_method: str = 'INTEGER_ACCURATE', **options):
    """uint8 [h, w, 3] of a JPEG."""
    from data.transforms import tf

    return tf.io.decode_jpeg(jpeg, channels=3, dct_method=dct_method, **options)


def dataset(contents: list[bytes], row, threads: int | None):
    """Every image through `row`, as data.pipeline maps it."""
    from data.transforms import tf

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    if threads:
        options.threading.private_threadpool_size = threads
    seeds = np.random.default_rng(0).integers(1 << 30, size=(len(contents), 2)).astype(np.int32)
    images = tf.data.Dataset.from_tensor_slices((tf.constant(contents), seeds))
    return images.map(row, threads or tf.data.AUTOTUNE).prefetch(64).with_options(options)


def enlarged(jpeg: bytes) -> bytes:
    """The same picture of twice its sides, as a JPEG."""
    picture, buffer = Image.open(io.BytesIO(jpeg)), io.BytesIO()
    picture.resize((2 * picture.width, 2 * picture.height), Image.BICUBIC).save(buffer, 'JPEG', quality=90)
    return buffer.getvalue()


def difference(contents: list[bytes], row) -> float | str:
    """Mean absolute difference of a row's images from ours, resized alike; '' where it gives none of that size."""
    from data import transforms

    seed, total = np.array([1, 2], np.int32), []
    for jpeg in contents:
        image = np.asarray(row(jpeg, seed))
        if image.shape != (*SIZE, 3):
            return ''
        plain = transforms.resize(transforms.decode(jpeg), SIZE)
        augmented = np.asarray(transforms.augment(plain, seed, **AUGMENT))
        total.append(min(np.abs(image.astype(float) - np.asarray(x)).mean() for x in (plain, augmented)))
    return float(np.mean(total))


if __name__ == '__main__':
    main()
