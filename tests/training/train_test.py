"""One loop: it compiles once, keeps the best step, leaves the teacher alone and stops on a loss that is not finite."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcr2s_jax.training import train
from lcr2s_jax.training.checkpoint import Checkpoints
from lcr2s_jax.training.parallel import Parallel
from tests import tiny
from tests.tiny_runs import any_stage, batches, losses, run


@pytest.mark.parametrize('driver', ['jit', pytest.param('pmap', marks=pytest.mark.slow)])
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

    def explode(params, frozen, batch, key, axis, step):
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


@pytest.mark.slow
def test_bf16_trains_close_to_f32(tmp_path):
    values = {}
    for dtype in ('float32', 'bfloat16'):
        run(tmp_path / dtype, tiny.stage('baseline', tiny.clip(dtype=dtype)))
        values[dtype] = losses(tmp_path / dtype)
    assert values['float32'] != values['bfloat16']
    np.testing.assert_allclose(values['bfloat16'], values['float32'], rtol=0.1)


def test_every_step_draws_anew(tmp_path):
    def the_same(start):
        while True:
            yield tiny.batch(seed=0)

    stage = any_stage('teacher')
    # a fusion that does something, or what is dropped would not show
    taught = dataclasses.replace(stage, init=lambda key: jax.tree.map(lambda x: x + 0.05, stage.init(key)))
    run(tmp_path, taught, batches=the_same, adam=dict(learning_rate=0.0), steps=4)
    assert len(set(losses(tmp_path))) == 4


def test_training_brings_the_loss_down(tmp_path):
    def same(start):
        while True:
            yield tiny.batch(seed=0)

    run(tmp_path, tiny.stage('baseline'), batches=same, adam=dict(learning_rate=1e-2, eps=1e-8), steps=40)
    assert losses(tmp_path)[-1] < 0.8 * losses(tmp_path)[0]
