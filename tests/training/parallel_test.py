"""The same training on any number of devices, by either driver, whole or spread."""

import itertools

import chex
import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from lcr2s_jax.errors import ConfigError, UserError
from lcr2s_jax.training import optim, train
from lcr2s_jax.training.parallel import Parallel, agreed, same_everywhere
from tests import tiny
from tests.tiny_runs import OPTIM, STAGES, Killed, any_stage, apart, killed_after, losses, run

# each driver once; the others are slow
QUICK = ('jit', 8, 'teacher'), ('pmap', 8, 'student')
ALL = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in itertools.product(('jit', 'pmap'), (1, 2, 4, 8), STAGES)
]


@pytest.mark.parametrize('driver,devices,name', ALL)
def test_any_devices_and_driver_train_the_model_that_one_device_trains(tmp_path, one_device, name, driver, devices):
    folder, one = one_device(name, 10)
    every = dict(eval_every=10, save_every=10)
    many, _ = run(tmp_path, any_stage(name), steps=10, driver=driver, devices=devices, **every)
    ours, theirs = np.array(losses(tmp_path)), np.array(losses(folder))
    found = dict(losses=np.abs(ours / theirs - 1).max(), parameters=apart(many, one))
    print(f'{name}, {driver}, {devices} devices, relative:', *(f'{what} {x:.1e}' for what, x in found.items()))
    assert len(theirs) == 10 and max(found.values()) <= 1e-5


def test_a_state_spread_over_the_devices_trains_the_same_model(tmp_path):
    stage = tiny.stage('baseline', tiny.clip(vision_width=32, text_width=32))
    whole, _ = run(tmp_path / 'whole', stage, devices=4)
    spread, _ = run(tmp_path / 'spread', stage, devices=4, fsdp=True)
    np.testing.assert_allclose(losses(tmp_path / 'spread'), losses(tmp_path / 'whole'), rtol=1e-5)
    print(f'fsdp on 4 devices, relative: parameters {apart(spread, whole):.1e}')
    assert apart(spread, whole) <= 1e-5
    kernel = spread['clip']['vision']['block_0']['mlp']['fc1']['kernel']
    assert kernel.addressable_shards[0].data.size == kernel.size // 4
    with pytest.raises(ConfigError, match='config.parallel.fsdp'):
        Parallel('pmap', 4, True)


@pytest.mark.slow  # of eight and one the journey tells too
@pytest.mark.parametrize('devices', [1, 4])
def test_a_run_saved_on_eight_devices_goes_on_on_fewer(tmp_path, one_device, devices):
    stage = any_stage('teacher')
    with pytest.raises(Killed):
        run(tmp_path, stage, devices=8, batches=killed_after(4))
    resumed, _ = run(tmp_path, stage, devices=devices)
    np.testing.assert_allclose(losses(tmp_path), losses(one_device('teacher')[0]), rtol=1e-5)
    print(f'from 8 devices to {devices}, relative: parameters {apart(resumed, one_device("teacher")[1]):.1e}')
    assert apart(resumed, one_device('teacher')[1]) <= 1e-5


def test_rows_that_the_devices_cannot_share_are_an_error():
    eight = Parallel('jit', 8, False)
    with pytest.raises(ConfigError, match='rows of a batch: found 6, expected a multiple of the 8 devices'):
        eight.put(tiny.batch(identities=6))
    eight.check_rows(16, 'config.batch.identities')
    with pytest.raises(ConfigError, match='config.batch.identities: found 12'):
        eight.check_rows(12, 'config.batch.identities')


def test_a_mistake_in_an_agreed_block_is_the_caller_s(monkeypatch):
    with pytest.raises(ConfigError, match='mine'), agreed('it'):
        raise ConfigError('mine')
    monkeypatch.setattr(jax, 'process_count', lambda: 3)
    for failed, message in (([False, True, True], 'it failed on process 1, 2, which says why'), ([True] * 3, 'mine')):
        monkeypatch.setattr(multihost_utils, 'process_allgather', lambda mine, failed=failed: np.array(failed))
        with pytest.raises(UserError, match=message), agreed('it'):
            if failed[0]:
                raise ConfigError('mine')
    monkeypatch.setattr(multihost_utils, 'process_allgather', lambda mine: np.array([False] * 3))
    with agreed('it'):
        pass


def test_what_one_process_has_otherwise_is_named_on_all(monkeypatch):
    same_everywhere({'data': 'a'})
    monkeypatch.setattr(jax, 'process_count', lambda: 3)
    others = [None, None]
    monkeypatch.setattr(
        multihost_utils, 'process_allgather', lambda mine: np.stack([mine if one is None else one for one in others])
    )
    mine = {'data': 'a', 'images_train': '27 images, c0'}
    same_everywhere(mine)
    others[:] = [np.zeros((2, 32), np.uint8), None]
    with pytest.raises(UserError, match=r'else on process 1 than .* data \(a\), images_train \(27 images, c0'):
        same_everywhere(mine)


def test_unknown_drivers_and_missing_devices_are_errors():
    with pytest.raises(ConfigError, match="'jit' or 'pmap'"):
        Parallel('xmap', 1, False)
    for count in (9, -1):
        with pytest.raises(ConfigError, match=f'8 devices, {count} are asked for; expected 0 .all. to 8'):
            Parallel('jit', count, False)


def test_with_fsdp_no_device_ever_holds_the_whole_optimiser_state():
    stage = tiny.stage('baseline', tiny.clip(vision_width=32, text_width=32))
    spread = Parallel('jit', 8, True)
    tx = optim.adam(steps=6, **OPTIM)
    state, shapes = (make(stage, tx, spread, 3) for make in (train.initial_state, train.shaped_state))
    cut = [x for x in jax.tree.leaves(state.opt_state) if not x.sharding.is_fully_replicated]
    assert cut and all(x.addressable_shards[0].data.size * 8 == x.size for x in cut)
    assert all(x.sharding == spread.placement(x) for x in jax.tree.leaves(state))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, shapes)
    assert [x.sharding for x in jax.tree.leaves(state)] == [x.sharding for x in jax.tree.leaves(shapes)]
