"""Every row says what its picture looks like."""

import dataclasses
import shutil

import numpy as np
import pytest

from lcr2s_jax import images
from lcr2s_jax.search import appearance, likeness
from lcr2s_jax.search.domain import Domain
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.rows import LOOK, looks_of
from tests import searching

ASKED = [Query((searching.WORDS,))]


@pytest.fixture
def small(tmp_path):
    made = searching.index(tmp_path, count=4)
    made.update()
    return made


def looks(uri: str) -> dict[str, np.ndarray]:
    found = Gallery(uri).rows(FOUND, ['path', LOOK])
    return dict(zip(found['path'].to_pylist(), looks_of(found[LOOK].to_pylist()), strict=True))


def checked(opened) -> list[str]:
    """Notes of a search with a calibration that knows val's pictures."""
    look_GS = np.random.default_rng(0).normal(size=(100, appearance.COUNT))
    known = Domain.fit(look_GS, np.arange(100))
    opened.model.calibration = dataclasses.replace(opened.model.calibration, domain=known)
    return opened(ASKED, top=3, false_alarms=0.05)[0].notes


def test_rows_hold_the_statistics_of_the_pixels_that_the_model_sees_copies_too(small):
    first = next(iter(sorted(small.root.rglob('*.png'))))
    shutil.copy(first, small.root / 'again.png')
    small.update()
    found, size = looks(small.uri), small.open().model.image_size
    assert len(found) == 5
    for path, look in found.items():
        pixels = images.pixels((small.root / path).read_bytes(), size)
        np.testing.assert_array_equal(look, appearance.statistics(pixels))


def test_nobody_is_shown_them_and_no_condition_names_them(small):
    opened = small.open()
    assert LOOK not in opened.gallery.columns and LOOK not in opened.gallery.kinds
    assert LOOK not in opened(ASKED, top=1, false_alarms=0.05)[0].hits[0].metadata


def test_with_statistics_on_both_sides_it_is_checked(small):
    opened = small.open()
    assert opened(ASKED, top=3, false_alarms=0.05)[0].notes[-1] == likeness.UNCHECKED, 'this calibration has none'
    assert 'unlike those that the model was calibrated on' in checked(opened)[-1]
