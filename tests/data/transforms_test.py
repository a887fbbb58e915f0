"""Transforms: each does what its name says, and nothing to what it must not touch."""

import functools
import io

import numpy as np
import pytest
from PIL import Image

from data import transforms
from data.transforms import tf

SOT, EOT, MASK, LENGTH = 98, 99, 97, 40
HALF = dict(prob=1.0, mask_share=0.0, replace_share=0.0, delete_share=0.0, mask_token=MASK, ordinary=MASK)


def picture(height=24, width=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def encoded(pixels, kind='PNG'):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def many(function, value, count=400):
    """function(value, seed) for many seeds in one graph, as an array [count, ...]."""
    seeds = tf.stack([tf.range(count, dtype=tf.int64), tf.fill([count], tf.constant(3, tf.int64))], 1)
    value = tf.constant(value)
    return tf.function(
        lambda: tf.map_fn(lambda seed: function(value, seed), seeds, fn_output_signature=value.dtype)
    )().numpy()


def caption(words=20):
    tokens = np.zeros(LENGTH, np.int32)
    tokens[: words + 2] = [SOT, *range(1, words + 1), EOT]
    return tokens


def masked(tokens, count=400, **options):
    return many(functools.partial(transforms.mask_tokens, **HALF | options), tokens, count)


@pytest.mark.parametrize('kind', ['PNG', 'BMP'])
def test_png_and_bmp_decode_to_their_pixels(kind):
    np.testing.assert_array_equal(transforms.decode(encoded(picture(), kind)), picture())


@pytest.mark.parametrize('size', [(24, 12), (301, 131)])
def test_a_jpeg_has_the_pixels_that_pillow_reads(size):
    rough = Image.fromarray(picture(*size)).resize(size[::-1], Image.BICUBIC, box=(0, 0, size[1] / 3, size[0] / 3))
    jpeg = encoded(np.asarray(rough), 'JPEG')
    np.testing.assert_array_equal(transforms.decode(jpeg), np.asarray(Image.open(io.BytesIO(jpeg))))


def test_a_grey_jpeg_becomes_rgb():
    assert transforms.decode(encoded(picture()[..., 0], 'JPEG')).shape == (24, 12, 3)


@pytest.mark.parametrize('size', [(48, 36), (12, 6), (30, 6), (20, 12), (12, 20)])
def test_resizing_equals_pillow_whether_it_shrinks_or_grows(size):
    expected = np.asarray(Image.fromarray(picture()).resize(size[::-1], Image.BILINEAR)).astype(int)
    found = transforms.resize(tf.constant(picture()), size).numpy().astype(int)
    assert np.abs(found - expected).max() <= 1


def test_flipping_twice_changes_nothing_and_once_mirrors():
    flip = functools.partial(transforms.mirror, seed=tf.constant([1, 2]), prob=1.0)
    np.testing.assert_array_equal(flip(tf.constant(picture())), picture()[:, ::-1])
    np.testing.assert_array_equal(flip(flip(tf.constant(picture()))), picture())


def test_images_flip_with_their_probability():
    flipped = many(functools.partial(transforms.mirror, prob=0.3), picture())
    is_flipped = (flipped == picture()[:, ::-1]).all((1, 2, 3))
    assert (is_flipped | (flipped == picture()).all((1, 2, 3))).all()
    assert 0.22 < is_flipped.mean() < 0.38


def test_cropping_without_padding_changes_nothing():
    found = transforms.pad_crop(tf.constant(picture()), tf.constant([1, 2]), pad=0)
    np.testing.assert_array_equal(found, picture())


def test_every_crop_is_a_shift_by_at_most_the_padding_with_zeros_around():
    padded = np.pad(picture(6, 5) | 1, ((2, 2), (2, 2), (0, 0)))
    shifts = {padded[y : y + 6, x : x + 5].tobytes(): (y, x) for y in range(5) for x in range(5)}
    found = {shifts[crop.tobytes()] for crop in many(functools.partial(transforms.pad_crop, pad=2), picture(6, 5) | 1)}
    assert found == {(y, x) for y in range(5) for x in range(5)}


def test_erasing_fills_one_box_of_the_stated_size_with_the_normalised_mean():
    assert transforms.ERASED == (156, 147, 133)
    image = np.zeros((40, 30, 3), np.uint8)
    changed = many(functools.partial(transforms.erase_box, prob=1.0, area=(0.1, 0.3), aspect=(0.5, 2.0)), image)
    for one in changed:
        rows, columns = np.flatnonzero(one.any((1, 2))), np.flatnonzero(one.any((0, 2)))
        box = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (box == transforms.ERASED).all()
        assert 0.09 < box.size / image.size < 0.32
        assert 0.4 < len(rows) / len(columns) < 2.4
    assert changed[:, 0].any() and changed[:, -1].any() and changed[:, :, 0].any() and changed[:, :, -1].any()


def test_images_are_erased_with_their_probability():
    changed = many(functools.partial(transforms.erase_box, prob=0.4), np.zeros((40, 30, 3), np.uint8))
    assert 0.32 < changed.any((1, 2, 3)).mean() < 0.48


def test_augmenting_with_nothing_changes_nothing_and_a_seed_decides():
    image, seed = tf.constant(picture()), tf.constant([5, 6])
    np.testing.assert_array_equal(transforms.augment(image, seed, flip=0.0, pad=0, erase=0.0), picture())
    full = dict(flip=0.5, pad=3, erase=0.5)
    np.testing.assert_array_equal(transforms.augment(image, seed, **full), transforms.augment(image, seed, **full))
    assert len({one.tobytes() for one in many(functools.partial(transforms.augment, **full), picture(), 50)}) > 40


@pytest.mark.parametrize('share', ['mask_share', 'replace_share'])
def test_only_words_between_start_and_end_are_masked_or_replaced(share):
    tokens = caption()
    found = masked(tokens, **{share: 1.0})
    assert (found[:, 0] == SOT).all() and (found[:, 21] == EOT).all() and (found[:, 22:] == 0).all()
    words = found[:, 1:21]
    if share == 'mask_share':
        assert (words == MASK).all()
    else:
        assert set(np.unique(words)) == set(range(1, MASK))


def test_words_are_masked_with_their_probability_and_shares():
    tokens = caption()
    found = masked(tokens, count=2000, prob=0.15, mask_share=0.8, replace_share=0.1)[:, 1:21]
    assert abs((found == MASK).mean() - 0.12) < 0.01
    assert abs(((found != MASK) & (found != tokens[1:21])).mean() - 0.015) < 0.005


def test_deleting_keeps_the_order_and_the_end():
    found = masked(caption(), prob=0.5, delete_share=1.0)
    lengths = set()
    for row in found:
        words = row[1 : row.argmax()]
        lengths.add(len(words))
        assert row[0] == SOT and row.max() == EOT and (row == EOT).sum() == 1
        assert (np.diff(words) > 0).all() and (row[row.argmax() + 1 :] == 0).all()
    assert len(lengths) > 5
    assert 9 < np.mean([row.argmax() - 1 for row in found]) < 11


def test_a_full_caption_and_one_without_words_survive():
    full = masked(caption(LENGTH - 2), mask_share=0.4, replace_share=0.3, delete_share=0.3)
    assert ((full == EOT).sum(1) == 1).all() and (full[:, 0] == SOT).all()
    np.testing.assert_array_equal(masked(caption(0), delete_share=1.0), np.tile(caption(0), (400, 1)))
