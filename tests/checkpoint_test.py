"""Nothing that was saved is lost, and nothing that was damaged is trusted: a run goes on as if it had never stopped."""

import contextlib
import os
import resource
import shutil
import signal

import chex
import jax
import numpy as np
import pytest

from lcr2s_jax.checkpoint import CheckpointError, checksum
from lcr2s_jax.errors import Interrupted
from lcr2s_jax.parallel import Parallel
from tests import tiny
from tests.training import Killed, any_stage, batches, killed_after, losses, run


def test_a_killed_run_ends_exactly_like_one_that_was_not(tmp_path, one_device):
    folder, whole = one_device('teacher')
    stage = any_stage('teacher')
    with pytest.raises(Killed):
        run(tmp_path, stage, batches=killed_after(5))
    resumed, step = run(tmp_path, stage)
    assert step == 6
    chex.assert_trees_all_equal(resumed, whole)
    assert losses(tmp_path) == losses(folder)


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


@contextlib.contextmanager
def no_file_beyond(size):
    """Every write past `size` bytes fails, as all do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_with_a_message_and_leaves_the_older_checkpoint_whole(tmp_path, one_device):
    shutil.copytree(one_device('baseline')[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / 'baseline' / '6')
    stage = tiny.stage('baseline')
    with (
        no_file_beyond(16_384),
        pytest.raises(CheckpointError, match='not be written.*File too large.* steps: (2, )?4. Make'),
    ):
        run(tmp_path, stage)
    resumed, _ = run(tmp_path, stage, batches=killed_after(6))
    chex.assert_trees_all_equal(resumed, one_device('baseline')[1])
