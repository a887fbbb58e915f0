"""The whole split on the device: augmentation by the recipe, and steps that are those of the one training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.plan import Plan
from lcr2s_jax.arrays import in_blocks
from lcr2s_jax.training import optim, resident, train
from lcr2s_jax.training.parallel import Axis
from tests import tiny

NOTHING = {'flip': 0.0, 'pad': 0, 'erase': 0.0}
UNMASKED = {'prob': 0.0}
KEY = jax.random.key(0)


def split(people: int = 8, views: int = 2) -> resident.ResidentSplit:
    batch = tiny.batch(identities=people, views=views, repeats=False)
    pid = np.repeat(np.arange(people, dtype=np.int32), views)
    image, tokens = (x.reshape(-1, *x.shape[2:]) for x in (batch.image_BKhwc, batch.tokens_BKL))
    return resident.ResidentSplit(image, tokens, pid, np.arange(people * views, dtype=np.int32))


def test_augmentation_follows_the_recipe():
    image = np.random.default_rng(0).integers(1, 100, (64, 32, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resident.augment(image, KEY, **NOTHING), image)
    mirrored = resident.augment(image, KEY, flip=1.0, pad=0, erase=0.0)
    np.testing.assert_array_equal(mirrored, image[:, :, ::-1])
    moved = np.asarray(resident.augment(np.repeat(image[:1], 200, axis=0), KEY, flip=0.0, pad=2, erase=0.0))
    assert len({x.tobytes() for x in moved}) == 25, 'every one of 5 x 5 places occurs'
    black = np.zeros((200, 32, 16, 3), np.uint8)
    erased = np.asarray(resident.augment(black, KEY, flip=0.0, pad=0, erase=1.0))
    share = np.mean((erased == resident.ERASED).all(axis=3), axis=(1, 2))
    assert 0.015 < share.min() < 0.08 and 0.3 < share.max() < 0.42
    assert (
        0.4 < np.mean((np.asarray(resident.augment(black, KEY, flip=0.0, pad=0, erase=0.5)) > 0).any((1, 2, 3))) < 0.6
    )


def test_an_erased_box_has_the_colour_of_the_training_input():
    transforms = pytest.importorskip('data.transforms')
    assert resident.ERASED == transforms.ERASED


def test_words_are_masked_replaced_and_deleted_between_the_ends_of_a_caption():
    tokens = np.zeros((500, 12), np.int32)
    tokens[:, 0], tokens[:, 1:9], tokens[:, 9] = 48, 7, 49
    given = dict(mask_share=0.5, replace_share=0.25, delete_share=0.25, mask_token=47, ordinary=47)
    found = np.asarray(resident.mask_tokens(tokens, KEY, prob=0.4, **given))
    assert (found[:, 0] == 48).all() and ((found == 49).sum(axis=1) == 1).all()
    words = found[(found != 48) & (found != 49) & (found != 0)]
    assert 0.15 < np.mean(words == 47) < 0.25 and 0.05 < np.mean((words != 47) & (words != 7)) < 0.15
    lengths = (found > 0).sum(axis=1)
    assert lengths.max() == 10 and 9.0 < lengths.mean() < 9.4, 'a tenth of eight words is gone'


def test_many_steps_of_one_dispatch_are_the_steps_of_the_training_loop():
    whole, stage = split(), tiny.stage('baseline')
    tx = optim.adam(
        steps=4, learning_rate=1e-2, warmup=0.1, warmup_start=0.1, b1=0.9, b2=0.99, eps=1e-8, clip_norm=1.0,
        rules=(('.*', 1.0, 0.0),),
    )  # fmt: skip
    plan = Plan(whole.image_pid_G, whole.caption_image_Q, identities=4, views=2, captions=1, seed=0)
    index = resident.indices(plan, 0, 4)
    start = resident.initial_state(stage.init(jax.random.key(0)), tx)
    given = dict(loss=stage.loss, tx=tx, augment_with=NOTHING, mask_with=UNMASKED)
    run = jax.jit(lambda state, index: resident.run_steps(state, None, jax.device_put(whole), index, 3, **given))
    together, told = run(start, index)
    state = start
    step = jax.jit(lambda s, b: train.train_step(s, None, b, Axis(), loss=stage.loss, tx=tx, seed=3))
    for number, (image, caption) in enumerate(zip(*index, strict=True)):
        batch = resident.make_batch(whole, image, caption, KEY, NOTHING, UNMASKED)
        np.testing.assert_array_equal(batch.pid_B, plan.batch(number)[2])
        state, metrics = step(state, batch)
        np.testing.assert_allclose(told['loss'][number], metrics['loss'], rtol=1e-4)
    for ours, theirs in zip(jax.tree.leaves(together.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_part_of_the_people_keeps_images_and_captions_together():
    whole = split(people=5, views=2)
    few = whole.people(3)
    assert few.image_Ghwc.shape[0] == 6 and few.image_pid_G.max() == 2
    np.testing.assert_array_equal(few.caption_image_Q, np.arange(6))


def test_rows_embedded_in_blocks_are_those_embedded_at_once():
    rows = jnp.arange(14.0).reshape(7, 2)
    found = in_blocks(lambda x: 2 * x, rows, 3)
    np.testing.assert_array_equal(found, 2 * rows)
