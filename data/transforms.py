"""One image, one caption on its way to a batch: pure functions of (value, seed) in TensorFlow.

Images stay uint8 throughout; the model normalises them on the device. Recipe: IRRA's.
"""

import math
import os

# Read once, when TensorFlow is imported. No op here uses oneDNN.
# It would announce itself at every start.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP
# IRRA erases after normalisation and writes the mean into the normalised image: this pixel it is,
# not the mean one.
ERASED = tuple(round(255 * (mean + std * mean)) for mean, std in zip(_MEAN, _STD, strict=True))
_ERASE_ATTEMPTS = 10  # torchvision's: a box that sticks out is drawn anew


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG or BMP bytes (CUHK-PEDES has all three) to uint8 [h, w, 3]; grey becomes RGB."""
    # TensorFlow's usual JPEG transform is a faster one, a level away from what Pillow, and so the field, reads.
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method='INTEGER_ACCURATE'),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Bilinear resize of uint8 [h, w, 3] to `size` (height, width), as Pillow and torchvision do.

    That is an antialiased resize, which matters where an image shrinks (without it, levels differ
    by up to 30). Where it grows the filter changes nothing and costs several times as much: only
    the sides that are too long are filtered, and the rest is plain.
    """
    fits = tf.reduce_all(tf.shape(image)[:2] <= tf.constant(size))
    resized = tf.cond(fits, lambda: _grow(image, size), lambda: _grow(_shrink(image, size), size))
    return tf.ensure_shape(tf.cast(resized + 0.5, tf.uint8), (*size, 3))


def _grow(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Float [*size, 3]; a side that has its length already stays as it is."""
    return tf.raw_ops.ResizeBilinear(images=image[None], size=size, half_pixel_centers=True)[0]


def _shrink(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Float [min(h, height), min(w, width), 3], antialiased."""
    height, width = size
    shape, image = tf.shape(image), tf.cast(image, tf.float32)
    image = tf.cond(shape[1] > width, lambda: _turn(_shrink_rows(_turn(image), width)), lambda: image)
    return tf.cond(shape[0] > height, lambda: _shrink_rows(image, height), lambda: image)


def _turn(image: tf.Tensor) -> tf.Tensor:
    # Turned twice because the filter is fast over rows alone: along one it moves three numbers at a time.
    return tf.transpose(image, [1, 0, 2])


def _shrink_rows(image: tf.Tensor, rows: int) -> tf.Tensor:
    """Float [h, w, 3] to [rows, w, 3], antialiased."""
    height, width = tf.unstack(tf.shape(image)[:2])
    shrunk = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(image, [1, height, 1, 3 * width]),
        size=[rows, 1],
        scale=tf.stack([rows / tf.cast(height, tf.float32), 1.0]),
        translation=[0.0, 0.0],
        kernel_type='triangle',
    )
    return tf.reshape(shrunk, [rows, width, 3])


def mirror(image: tf.Tensor, seed: tf.Tensor, prob: float) -> tf.Tensor:
    # One of two branches: a select over pixels costs five times the mirroring.
    mirrored = tf.random.stateless_uniform([], seed) < prob
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def pad_crop(image: tf.Tensor, seed: tf.Tensor, pad: int) -> tf.Tensor:
    """Pad every side with `pad` zero pixels, then crop the image's own size at random."""
    height, width, _ = image.shape
    top, left = tf.unstack(tf.random.stateless_uniform([2], seed, 0, 2 * pad + 1, tf.int32))
    padded = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]])
    return tf.slice(padded, [top, left, 0], [height, width, 3])


def erase_box(
    image: tf.Tensor,
    seed: tf.Tensor,
    prob: float,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 3.3),
) -> tf.Tensor:
    """Fill a random box of uint8 [h, w, 3] with `ERASED`, with probability `prob`, by a seed int [2].

    The box's share of the image is uniform in `area`, its height over width uniform in the logarithm of `aspect`. Of up
    to 10 draws the first box smaller than the image is taken; where there is none nothing is erased.
    """
    height, width, _ = image.shape
    draw = tf.random.stateless_uniform([5, _ERASE_ATTEMPTS], seed)
    pixels = height * width * (area[0] + draw[0] * (area[1] - area[0]))
    ratio = tf.exp(math.log(aspect[0]) + draw[1] * math.log(aspect[1] / aspect[0]))
    tall, wide = (tf.cast(tf.round(tf.sqrt(x)), tf.int32) for x in (pixels * ratio, pixels / ratio))
    fits = (tall < height) & (wide < width)
    first = tf.argmax(tf.cast(fits, tf.int32))
    tall, wide, down, across = tall[first], wide[first], draw[2, first], draw[3, first]

    def fill():
        top = tf.cast(down * tf.cast(height - tall + 1, tf.float32), tf.int32)
        left = tf.cast(across * tf.cast(width - wide + 1, tf.float32), tf.int32)
        box = tf.constant(np.full(image.shape, ERASED, np.uint8))[:tall, :wide]
        rows = image[top : top + tall]
        rows = tf.concat([rows[:, :left], box, rows[:, left + wide :]], axis=1)
        return tf.ensure_shape(tf.concat([image[:top], rows, image[top + tall :]], axis=0), image.shape)

    return tf.cond(fits[first] & (draw[4, 0] < prob), fill, lambda: image)


def augment(image: tf.Tensor, seed: tf.Tensor, *, flip: float, pad: int, erase: float) -> tf.Tensor:
    """IRRA's order: flip, pad and crop, erase; of an image uint8 [h, w, 3] of static shape, by a seed int [2].

    `flip` and `erase` are probabilities, `pad` pixels. What has probability or padding 0 adds no op.
    """
    seeds = tf.unstack(tf.random.split(seed, 3))
    if flip:
        image = mirror(image, seeds[0], flip)
    if pad:
        image = pad_crop(image, seeds[1], pad)
    if erase:
        image = erase_box(image, seeds[2], erase)
    return image


def mask_tokens(
    tokens: tf.Tensor,
    seed: tf.Tensor,
    *,
    prob: float,
    mask_share: float,
    replace_share: float,
    delete_share: float,
    mask_token: int,
    ordinary: int,
) -> tf.Tensor:
    """Corrupt the words of a caption, int32 [L]: SOT, words, EOT (the highest id), 0; never its ends [IRRA, RDE].

    Args:
      seed: int [2].
      prob: of each word to be chosen.
      mask_share, replace_share, delete_share: what becomes of the chosen: the mask token, a random
        ordinary token, or nothing, what follows moving up. The rest of them stay as they are.
      ordinary: ids 1 .. ordinary - 1 may replace a word.
    """
    length = tokens.shape[0]
    place = tf.range(length)
    inside = (place > 0) & (place < tf.argmax(tokens, output_type=tf.int32))
    draw = tf.random.stateless_uniform([3, length], seed)
    fate = tf.where(inside & (draw[0] < prob), draw[1], 2.0)
    random = 1 + tf.cast(draw[2] * (ordinary - 1), tf.int32)
    masked, replaced = mask_share, mask_share + replace_share
    tokens = tf.where(fate < masked, mask_token, tf.where(fate < replaced, random, tokens))
    if not delete_share:
        return tokens
    deleted = (fate >= replaced) & (fate < replaced + delete_share)
    order = tf.argsort(tf.cast(deleted, tf.int32), stable=True)
    return tf.gather(tf.where(deleted, 0, tokens), order)
