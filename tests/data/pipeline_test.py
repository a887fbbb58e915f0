"""Batches: the planned rows, the same from any start and on any number of hosts."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from data import pipeline
from data.people import Split
from data.plan import Plan
from lcr2s_jax.errors import DataError
from lcr2s_jax.method.fusion import support_mask

IMAGES_OF = (4, 2, 5, 3, 1, 4)
LENGTH, SOT, EOT = 9, 98, 99
PLAIN = dict(augment=dict(flip=0.0, pad=0, erase=0.0), masking=dict.fromkeys(
    ('prob', 'mask_share', 'replace_share', 'delete_share'), 0.0
))  # fmt: skip
FULL = dict(
    augment=dict(flip=0.5, pad=3, erase=0.5),
    masking=dict(prob=0.5, mask_share=0.5, replace_share=0.2, delete_share=0.2),
)


class Ids:
    """What the pipeline asks of a tokenizer."""

    mask_token = ordinary = 97


def colour(image):
    """A colour that tells the image: 20 levels apart, more than JPEG or a resize can blur."""
    return np.array([20 + 40 * (image % 5), 20 + 40 * (image // 5 % 5), 120])


def jpeg(image):
    """A plain picture of that colour with a corner cut out, so that flips and crops show."""
    pixels = np.full((32, 16, 3), colour(image), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'JPEG', quality=95)
    return buffer.getvalue()


def make_split():
    """Image i has the colour of i and two captions whose second token is 1 + i."""
    pid = np.random.default_rng(0).permutation(np.repeat(np.arange(len(IMAGES_OF)), IMAGES_OF)).astype(np.int32)
    caption_image = np.repeat(np.arange(len(pid), dtype=np.int32), 2)
    tokens = np.zeros((len(caption_image), LENGTH), np.int32)
    tokens[:, 0], tokens[:, 1], tokens[:, 2], tokens[:, 5] = SOT, 1 + caption_image, 50, EOT
    tokens[:, 3] = 60 + np.arange(len(caption_image)) % 2
    tokens[:, 4] = 40
    names = [f'{i}.jpg' for i in range(len(pid))]
    return Split(
        'train',
        [jpeg(i) for i in range(len(pid))],
        names,
        pid,
        [''] * len(tokens),
        tokens,
        caption_image,
    )


SPLIT = make_split()


def batches(split=SPLIT, **options):
    defaults = dict(identities=4, views=3, captions=1, seed=0, image_size=(24, 12), tokenizer=Ids, stop=6)
    return list(pipeline.train_batches(split, **defaults | PLAIN | options))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_shapes_and_types_are_those_of_a_batch():
    found = {key: (value.shape, value.dtype) for key, value in batches(stop=1)[0].items()}
    assert found == dict(
        image=((4, 3, 24, 12, 3), np.uint8), tokens=((4, 3, LENGTH), np.int32),
        pid=((4,), np.int32), view=((4, 3), np.int32), caption=((4, 3), np.int32),
    )  # fmt: skip


def test_every_row_holds_its_image_its_caption_and_its_identity():
    plan = Plan(SPLIT.image_pid, SPLIT.caption_image, identities=4, views=3, captions=1, seed=0)
    for step, batch in enumerate(batches()):
        image_BK, caption_BK, pid_B = plan.batch(step)
        np.testing.assert_array_equal(batch['view'], image_BK)
        np.testing.assert_array_equal(batch['pid'], pid_B)
        np.testing.assert_array_equal(batch['tokens'], SPLIT.tokens[caption_BK])
        expected = np.array([[colour(i) for i in row] for row in image_BK])[:, :, None, None]
        assert np.abs(batch['image'].astype(int) - expected).max() < 8
        np.testing.assert_array_equal(SPLIT.image_pid[batch['view']], np.tile(batch['pid'][:, None], 3))
        np.testing.assert_array_equal(batch['tokens'][..., 1] - 1, batch['view'])


def test_a_run_that_starts_later_yields_the_same_batches():
    assert_same(batches(start=4, **FULL), batches(**FULL)[4:])


def test_another_seed_yields_other_batches():
    assert any((a['view'] != b['view']).any() for a, b in zip(batches(), batches(seed=1), strict=True))


def test_two_hosts_together_yield_the_batches_of_one():
    parts = [batches(process_index=i, process_count=2, **FULL) for i in range(2)]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)]
    assert_same(joined, batches(**FULL))


def test_augmentation_and_masking_differ_by_row_and_by_step():
    one = dataclasses.replace(SPLIT, jpegs=[jpeg(0)] * len(SPLIT.jpegs), tokens=SPLIT.tokens[[0] * len(SPLIT.tokens)])
    rows = [row.tobytes() for batch in batches(one, **FULL) for row in batch['image'].reshape(-1, 24 * 12 * 3)]
    assert len(set(rows)) > len(rows) * 0.7
    texts = [row.tobytes() for batch in batches(one, **FULL) for row in batch['tokens'].reshape(-1, LENGTH)]
    assert len(set(texts)) > 20


def an_epoch(views=2):
    """Its batches, flipped and shifted, and of each the images that its decoded pixels show, int [B, K]."""
    plan = Plan(SPLIT.image_pid, SPLIT.caption_image, identities=3, views=views, captions=1, seed=0)
    found = batches(identities=3, views=views, stop=plan.steps_per_epoch, augment=dict(flip=0.5, pad=2, erase=0.0))
    colours = np.array([colour(i) for i in range(sum(IMAGES_OF))])
    middles = [np.median(batch['image'], axis=(2, 3))[:, :, None] for batch in found]
    return found, [np.abs(middle - colours).sum(-1).argmin(-1) for middle in middles]


def test_every_decoded_image_is_of_its_row_s_identity_and_no_image_is_in_its_own_support():
    for batch, pixels_BK in zip(*an_epoch(views=3), strict=True):
        np.testing.assert_array_equal(SPLIT.image_pid[pixels_BK], np.tile(batch['pid'][:, None], 3))
        supports_BKK = np.asarray(support_mask(batch['view'])) & ~np.eye(3, dtype=bool)
        assert not (supports_BKK & (pixels_BK[:, :, None] == pixels_BK[:, None, :])).any()


def test_an_epoch_decodes_every_image_of_every_identity_up_to_the_remainder_of_k():
    _, pixels = an_epoch(views=2)  # 9 chunks fill 3 batches: none is dropped
    seen = np.bincount(SPLIT.image_pid[np.unique(pixels)], minlength=len(IMAGES_OF))
    np.testing.assert_array_equal(seen, [n - n % 2 if n > 1 else n for n in IMAGES_OF])


def test_without_a_stop_there_is_no_end():
    endless = pipeline.train_batches(
        SPLIT, identities=4, views=3, captions=1, seed=0, image_size=(24, 12), tokenizer=Ids, **PLAIN
    )  # fmt: skip
    assert len(list(itertools.islice(endless, 20))) == 20


@pytest.mark.parametrize('hosts', [1, 2])
def test_the_gallery_is_every_image_once_in_order(hosts):
    parts = [list(pipeline.gallery_batches(SPLIT, (24, 12), 8, i, hosts)) for i in range(hosts)]
    rows = np.concatenate([part[step] for step in range(3) for part in parts])
    assert rows.shape == (24, 24, 12, 3) and sum(IMAGES_OF) < 24
    for i, image in enumerate(rows):
        assert np.abs(image.astype(int) - colour(i if i < sum(IMAGES_OF) else 0)).max() < 8


def test_the_queries_are_every_caption_once_in_order():
    found = list(pipeline.query_batches(SPLIT, 16))
    assert {batch.shape for batch in found} == {(16, LENGTH)}
    np.testing.assert_array_equal(np.concatenate(found)[: len(SPLIT.tokens)], SPLIT.tokens)


def test_an_image_that_cannot_be_decoded_is_named():
    broken = dataclasses.replace(SPLIT, jpegs=[*SPLIT.jpegs[:7], SPLIT.jpegs[7][:40], *SPLIT.jpegs[8:]])
    with pytest.raises(DataError, match=r'7\.jpg \(40 bytes\)'):
        list(pipeline.gallery_batches(broken, (24, 12), 8))
    with pytest.raises(DataError, match=r'7\.jpg \(40 bytes\)'):
        batches(broken, stop=20)


def test_hosts_that_cannot_share_a_batch_and_shares_above_one_name_the_field():
    with pytest.raises(DataError, match='config.batch.identities: found 4, expected a multiple of the 3'):
        batches(process_count=3)
    with pytest.raises(DataError, match='config.masking'):
        batches(masking=dict(prob=0.5, mask_share=0.8, replace_share=0.2, delete_share=0.2))
