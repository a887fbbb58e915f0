"""The numbers that say what a picture is made of."""

import numpy as np

from lcr2s_jax.search import appearance


def test_numbers_are_finite_for_every_picture_however_small_or_plain():
    rng = np.random.default_rng(0)
    for pixels in (
        np.zeros((48, 24, 3)),
        np.full((12, 12, 3), 255),
        rng.integers(0, 256, (3, 3, 3)),
        np.zeros((3, 8, 3)),
    ):
        found = appearance.statistics(pixels.astype(np.uint8))
        assert found.shape == (appearance.COUNT,) and found.dtype == np.float32 and np.isfinite(found).all()


def test_each_number_is_what_its_place_says():
    grey = np.random.default_rng(1).integers(0, 256, (64, 32, 1)).astype(np.uint8).repeat(3, axis=2)
    found = appearance.statistics(grey)
    np.testing.assert_allclose(found[:3], grey.mean() / 255, rtol=1e-5)
    np.testing.assert_allclose(found[3:6], grey.std() / 255, rtol=1e-5)
    np.testing.assert_allclose(found[6:10], 0, atol=1e-6)  # no colour
    down = np.abs(np.diff(grey[..., 0].astype(float) / 255, axis=0))
    np.testing.assert_allclose(found[10], np.log(down.mean() + 1e-3), rtol=1e-5)
    np.testing.assert_allclose(found[12], (down < 0.5 / 255).mean(), atol=1e-6)
    plain = appearance.statistics(np.full_like(grey, 128))
    assert plain[12] == 1 and plain[10] < found[10] and plain[-1] == 0 < found[-1]


def test_a_blurred_picture_has_less_fine_grain_and_keeps_its_mean():
    sharp = np.random.default_rng(2).integers(0, 256, (32, 16, 3)).astype(np.uint8)
    blurred = sharp.reshape(16, 2, 8, 2, 3).mean(axis=(1, 3)).repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
    one, other = appearance.statistics(sharp), appearance.statistics(blurred)
    assert other[10] < one[10] and other[13] < one[13] and other[12] > one[12]
    np.testing.assert_allclose(one[:3], other[:3], atol=0.01)


def test_pictures_together_have_the_numbers_of_each_alone():
    pixels = np.random.default_rng(3).integers(0, 256, (2, 5, 224, 100, 3)).astype(np.uint8)  # halved first
    alone = [[appearance.statistics(one) for one in some] for some in pixels]
    np.testing.assert_array_equal(appearance.statistics(pixels), alone)
