"""The same training on any number of devices, by either driver, whole or spread."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from lcr2s_jax.errors import ConfigError, UserError
from lcr2s_jax.parallel import Parallel, agreed
from tests import tiny
from tests.training import STAGES, Killed, any_stage, apart, killed_after, losses, run

FEWER = [pytest.param(devices, marks=pytest.mark.slow) for devices in (1, 2, 4)]


@pytest.mark.parametrize('name', STAGES)
@pytest.mark.parametrize('driver', ['jit', 'pmap'])
@pytest.mark.parametrize('devices', [*FEWER, 8])
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
    with pytest.raises(ConfigError, match='identities'):
        Parallel('jit', 8, False).put(tiny.batch(identities=6))


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


def test_unknown_drivers_and_missing_devices_are_errors():
    with pytest.raises(ConfigError, match="'jit' or 'pmap'"):
        Parallel('xmap', 1, False)
    with pytest.raises(ConfigError, match='8 devices'):
        Parallel('jit', 9, False)
