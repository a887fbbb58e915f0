"""One loop: it resumes exactly, keeps the best, stops on a loss that is not finite, and agrees on any device count."""

import dataclasses
import functools
import json
import os
import shutil
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcr2s_jax import optim, train
from lcr2s_jax.checkpoint import CheckpointError, Checkpoints, checksum
from lcr2s_jax.errors import ConfigError, Interrupted
from lcr2s_jax.parallel import Parallel
from lcr2s_jax.report import Report
from tests import tiny

# eps: a key's bias has no gradient but rounding noise, which Adam with a tiny eps would make steps of
OPTIM = dict(
    learning_rate=1e-3, warmup=0.1, warmup_start=0.1, b1=0.9, b2=0.999, eps=1e-3, clip_norm=1.0,
    rules=(('logit_scale', 0.0, 0.0), ('.*', 1.0, 1e-4)),
)  # fmt: skip


def batches(start):
    step = start
    while True:
        yield tiny.batch(seed=step)
        step += 1


def run(folder, stage, steps=6, driver='jit', devices=1, fsdp=False, validate=None, batches=batches, adam=None, **more):
    settings = dict(seed=3, steps=steps, eval_every=2, save_every=2, log_every=1) | more
    parallel = Parallel(driver, devices, fsdp)
    with Checkpoints(folder / stage.name) as checkpoints:
        return train.fit(
            stage, batches, tx=optim.adam(steps=steps, **OPTIM | (adam or {})), parallel=parallel,
            checkpoints=checkpoints, report=Report(folder, quiet=True), validate=validate, **settings,
        )  # fmt: skip


def losses(folder):
    return [row['loss'] for row in map(json.loads, (folder / 'metrics.jsonl').open()) if 'loss' in row]


class Killed(Exception):
    pass


def killed_after(count):
    def some(start):
        for step, batch in enumerate(batches(start), start):
            if step == count:
                raise Killed
            yield batch

    return some


def any_stage(name):
    return tiny.stage(name, **({'support_dropout': 0.5} if name == 'teacher' else {}))


@pytest.fixture(scope='module')
def one_device(tmp_path_factory):
    """Name of a stage -> the folder and parameters of its run on one device, trained once."""

    @functools.cache
    def trained(name):
        folder = tmp_path_factory.mktemp(name)
        return folder, run(folder, any_stage(name))[0]

    return trained


@pytest.mark.parametrize('name', ['baseline', 'teacher', 'student'])
@pytest.mark.parametrize('driver', ['jit', 'pmap'])
def test_eight_devices_train_the_model_that_one_trains(tmp_path, one_device, name, driver):
    folder, one = one_device(name)
    many, _ = run(tmp_path, any_stage(name), driver=driver, devices=8)
    np.testing.assert_allclose(losses(tmp_path), losses(folder), rtol=1e-5)
    chex.assert_trees_all_close(many, one, rtol=1e-4, atol=1e-5)


def test_a_state_spread_over_the_devices_trains_the_same_model(tmp_path, one_device):
    stage = tiny.stage('baseline', tiny.clip(vision_width=32, text_width=32))
    whole, _ = run(tmp_path / 'whole', stage, devices=4)
    spread, _ = run(tmp_path / 'spread', stage, devices=4, fsdp=True)
    np.testing.assert_allclose(losses(tmp_path / 'spread'), losses(tmp_path / 'whole'), rtol=1e-5)
    chex.assert_trees_all_close(spread, whole, rtol=1e-4, atol=1e-5)
    kernel = spread['clip']['vision']['block_0']['mlp']['fc1']['kernel']
    assert kernel.addressable_shards[0].data.size == kernel.size // 4
    with pytest.raises(ConfigError, match='config.parallel.fsdp'):
        Parallel('pmap', 4, True)


@pytest.mark.parametrize('driver', ['jit', 'pmap'])
def test_nothing_is_compiled_after_the_first_step(tmp_path, driver):
    compiled, before_step = [], []

    def note(event, seconds, **more):
        if event == '/jax/core/compile/backend_compile_duration':
            compiled.append(more.get('fun_name'))

    def counted(start):
        for batch in batches(start):
            before_step.append(len(compiled))
            yield batch

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        run(tmp_path, any_stage('teacher'), driver=driver, devices=4, eval_every=99, save_every=99, batches=counted)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert len(before_step) >= 6 and before_step[1] > before_step[0], 'the first step is'
    assert before_step[1] == before_step[-1], compiled[before_step[1] : before_step[-1]]


@pytest.mark.parametrize('driver', ['jit', 'pmap'])
def test_a_batch_that_reaches_the_device_by_accident_is_an_error(tmp_path, monkeypatch, driver):
    monkeypatch.setattr(Parallel, 'put', lambda self, batch: batch)
    with pytest.raises(Exception, match='Disallowed host-to-device transfer'):
        run(tmp_path, tiny.stage('baseline'), driver=driver)


def test_the_teacher_is_bit_identical_after_the_student_has_trained(tmp_path):
    stage = tiny.stage('student')
    before = jax.tree.map(np.array, stage.frozen)
    run(tmp_path, stage, steps=2)
    chex.assert_trees_all_equal(jax.tree.map(np.array, stage.frozen), before)


def test_a_killed_run_ends_exactly_like_one_that_was_not(tmp_path, one_device):
    folder, whole = one_device('teacher')
    stage = any_stage('teacher')
    with pytest.raises(Killed):
        run(tmp_path, stage, batches=killed_after(5))
    resumed, step = run(tmp_path, stage)
    assert step == 6
    chex.assert_trees_all_equal(resumed, whole)
    assert losses(tmp_path) == losses(folder)


def test_a_finished_stage_is_not_trained_again(tmp_path):
    stage = tiny.stage('baseline')
    first, _ = run(tmp_path, stage)

    def never(start):
        raise AssertionError('a finished stage needs no batch')
        yield

    again, step = run(tmp_path, stage, batches=never)
    assert step == 6
    chex.assert_trees_all_equal(again, first)


def test_the_best_step_is_returned_and_the_latest_kept(tmp_path):
    seen = {}

    def validate(params):
        seen[len(seen)] = jax.tree.map(np.array, params)
        return [1.0, 9.0, 2.0][len(seen) - 1], {'val': {'R1': 0.0}}

    best, step = run(tmp_path, tiny.stage('baseline'), validate=validate)
    assert step == 4
    chex.assert_trees_all_equal(jax.tree.map(np.array, best), seen[1])
    with Checkpoints(tmp_path / 'baseline') as checkpoints:
        assert (checkpoints.latest(), checkpoints.best()) == (6, 4)


def test_a_loss_that_is_not_finite_stops_with_its_step_and_is_not_saved(tmp_path):
    stage = tiny.stage('baseline')
    poisoned = stage.init(jax.random.key(0))

    def explode(params, frozen, batch, key, axis):
        value, terms = stage.loss(params, frozen, batch, key, axis)
        return jnp.where(batch.pid_B[0] == tiny.batch(seed=4).pid_B[0], jnp.nan, 1.0) * value, terms

    pids = [tiny.batch(seed=s).pid_B[0] for s in range(6)]
    first_bad = 1 + pids.index(pids[4])
    with pytest.raises(train.NonFinite) as caught:
        run(tmp_path, dataclasses.replace(stage, loss=explode), log_every=100)
    assert caught.value.step == first_bad
    with Checkpoints(tmp_path / 'baseline') as checkpoints:
        assert checkpoints.latest() == (first_bad - 1) // 2 * 2
        kept = checkpoints.restore_params(Parallel('jit', 1, False).put_state(poisoned))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(kept))


def damage(folder, how):
    """Spoil the numbers of a checkpoint: 'cut' every file in half, or flip one 'bit' in the largest."""
    files = sorted((f for f in folder.rglob('*') if f.is_file()), key=lambda f: f.stat().st_size)
    for file in files if how == 'cut' else files[-1:]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :: len(content)] = bytes([content[len(content) // 2] ^ 16]) if content else b''
        file.write_bytes(content[: len(content) // 2] if how == 'cut' else content)


@pytest.mark.parametrize('how', ['cut', 'bit'])
@pytest.mark.parametrize('part', ['params', 'progress'])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(tmp_path, capsys, one_device, how, part):
    shutil.copytree(one_device('baseline')[0], tmp_path, dirs_exist_ok=True)
    damage(tmp_path / 'baseline' / '6' / part, how)
    resumed, step = run(tmp_path, tiny.stage('baseline'))
    told = capsys.readouterr().out
    assert 'baseline/6: the checkpoint cannot be read' in told and 'going on from step 4' in told
    assert step == 6
    chex.assert_trees_all_equal(resumed, one_device('baseline')[1])
    assert list(tmp_path.glob('baseline-6.damaged*')), 'kept for a closer look'


def test_without_any_whole_checkpoint_nothing_is_started_over(tmp_path, one_device):
    shutil.copytree(one_device('baseline')[0], tmp_path, dirs_exist_ok=True)
    for step in ('4', '6'):
        damage(tmp_path / 'baseline' / step / 'progress', 'cut')
    with pytest.raises(CheckpointError, match='baseline/4.*cannot be read'):
        run(tmp_path, tiny.stage('baseline'))


def test_a_checksum_is_the_same_on_any_devices_and_another_for_any_change():
    tree = {'a': np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32), 'b': np.int32(7)}
    spread = Parallel('jit', 8, False)
    assert int(checksum(tree)) == int(checksum(jax.device_put(tree, {'a': spread.sharded, 'b': spread.replicated})))
    swapped = tree | {'a': tree['a'][::-1]}
    flipped = tree | {'a': np.where(np.arange(384).reshape(16, 24) == 200, -tree['a'], tree['a'])}
    assert len({int(checksum(x)) for x in (tree, swapped, flipped, tree | {'b': np.int32(8)})}) == 4


def test_sigterm_saves_the_step_and_the_next_call_ends_like_an_unbroken_run(tmp_path, one_device):
    def with_signal(start):
        for step, batch in enumerate(batches(start), start):
            if step == 2 and start == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    stage = tiny.stage('baseline')
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        run(tmp_path, stage, batches=with_signal)
    assert stopped.value.step == 3, 'not a multiple of save_every: it is the signal that saved'
    assert signal.getsignal(signal.SIGTERM) is before
    resumed, _ = run(tmp_path, stage, batches=with_signal)
    chex.assert_trees_all_equal(resumed, one_device('baseline')[1])


@pytest.mark.parametrize('devices', [1, 4])
def test_a_run_saved_on_eight_devices_goes_on_on_fewer(tmp_path, one_device, devices):
    stage = any_stage('teacher')
    with pytest.raises(Killed):
        run(tmp_path, stage, devices=8, batches=killed_after(4))
    resumed, _ = run(tmp_path, stage, devices=devices)
    np.testing.assert_allclose(losses(tmp_path), losses(one_device('teacher')[0]), rtol=1e-5)
    chex.assert_trees_all_close(resumed, one_device('teacher')[1], rtol=1e-4, atol=1e-5)


def test_bf16_trains_close_to_f32(tmp_path):
    values = {}
    for dtype in ('float32', 'bfloat16'):
        run(tmp_path / dtype, tiny.stage('baseline', tiny.clip(dtype=dtype)))
        values[dtype] = losses(tmp_path / dtype)
    assert values['float32'] != values['bfloat16']
    np.testing.assert_allclose(values['bfloat16'], values['float32'], rtol=0.1)


def test_training_brings_the_loss_down(tmp_path):
    def same(start):
        while True:
            yield tiny.batch(seed=0)

    run(tmp_path, tiny.stage('baseline'), batches=same, adam=dict(learning_rate=1e-2, eps=1e-8), steps=40)
    assert losses(tmp_path)[-1] < 0.8 * losses(tmp_path)[0]


def test_rows_that_the_devices_cannot_share_are_an_error():
    with pytest.raises(ConfigError, match='identities'):
        Parallel('jit', 8, False).put(tiny.batch(identities=6))


def test_unknown_drivers_and_missing_devices_are_errors():
    with pytest.raises(ConfigError, match="'jit' or 'pmap'"):
        Parallel('xmap', 1, False)
    with pytest.raises(ConfigError, match='8 devices'):
        Parallel('jit', 9, False)
