"""The contestants of benchmarks.input do the same work; how fast is the benchmark's to say."""

import random

import numpy as np
import pytest

from benchmarks import input as bench
from lcr2s_jax.models import clip

NOTHING = dict(augment=dict(flip=0.0, pad=0, erase=0.0), masking=dict(prob=0.0))


@pytest.fixture(scope='module')
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp('cuhk')
    bench.write_folder(root, list(bench.crops(40)), {'train': (40, 90)})
    return bench.load(root)


def both(loaded, normalised, **changes):
    """The first batch of ours and of torch's, flat over rows."""
    config, tokenizer, splits = loaded
    config = config.copy_and_resolve_references().unlock()
    for group, values in changes.items():
        config[group].update(values)
    ours = next(iter(bench.our_batches(config, tokenizer, splits['train'], 0, 1)))
    rows = bench.Rows(splits['train'], config, tokenizer, normalised)
    steps = bench.Steps(splits['train'], config, 1)
    theirs = [rows[row] for row in next(iter(steps))]
    joined = {key: np.stack([np.asarray(row[key]) for row in theirs]) for key in theirs[0]}
    return {key: np.asarray(value).reshape(-1, *value.shape[2:]) for key, value in ours.items()}, joined


@pytest.mark.parametrize('normalised', [False, True])
def test_without_augmentation_torch_s_rows_are_the_pipeline_s(loaded, normalised):
    ours, theirs = both(loaded, normalised, **NOTHING)
    image = theirs['image']
    if normalised:
        image = 255 * (image.transpose(0, 2, 3, 1) * clip.PIXEL_STD + clip.PIXEL_MEAN)
    apart = np.abs(image - ours['image'].astype(float))  # TensorFlow decodes JPEG by a faster transform than Pillow
    assert apart.max() < 10 and apart.mean() < 1.5
    np.testing.assert_array_equal(theirs['tokens'], ours['tokens'])
    np.testing.assert_array_equal(theirs['view'], ours['view'])


def test_with_it_both_erase_and_mask_about_as_much(loaded):
    random.seed(0)
    np.random.seed(0)
    ours, theirs = both(loaded, False)
    erased = [(rows['image'] == np.array((156, 147, 133))).all(-1).mean() for rows in (ours, theirs)]
    masked = [(rows['tokens'] == loaded[1].mask_token).mean() for rows in (ours, theirs)]
    assert all(0.04 < share < 0.2 for share in erased) and all(0.02 < share < 0.12 for share in masked)
