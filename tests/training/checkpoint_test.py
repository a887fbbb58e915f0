"""Nothing that was saved is lost, and nothing that was damaged is trusted: a run goes on as if it had never stopped."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import threading

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lcr2s_jax.errors import Interrupted
from lcr2s_jax.training import optim, train
from lcr2s_jax.training.checkpoint import CheckpointError, Checkpoints, _short, checksum
from lcr2s_jax.training.parallel import Parallel
from lcr2s_jax.training.report import Report
from tests import tiny
from tests.tiny_runs import OPTIM, Killed, any_stage, batches, killed_after, losses, run


def test_a_killed_run_ends_exactly_like_one_that_was_not(tmp_path, one_device):
    folder, whole = one_device('teacher')
    stage = any_stage('teacher')
    with pytest.raises(Killed):
        run(tmp_path, stage, batches=killed_after(5))
    resumed, step = run(tmp_path, stage)
    assert step == 6
    chex.assert_trees_all_equal(resumed, whole)
    assert losses(tmp_path) == losses(folder)


def files_of(folder):
    """Every file below a folder, in the order of their names."""
    return sorted(path for path in folder.rglob('*') if path.is_file())


def flip(file, places):
    """Another bit in the bytes that stand at these shares of a file's length; twice is never."""
    content = bytearray(file.read_bytes())
    for place in {int(share * len(content)) for share in places}:
        content[place] ^= 16
    file.write_bytes(content)


def damage(folder, how):
    """Spoil all files of a part: 'cut' them in half, or flip 'bits', one in each sixty-fourth of a file."""
    for file in files_of(folder):
        if how == 'cut':
            os.truncate(file, file.stat().st_size // 2)
        else:
            flip(file, (i / 64 for i in range(64)))


@pytest.mark.filterwarnings('error::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('part', ['params', pytest.param('progress', marks=pytest.mark.slow)])
def test_one_flipped_bit_is_told_or_it_changes_nothing(tmp_path, one_device, part):
    """It may meet bytes that nothing refers to any more: the order in which storage writes is that of its threads."""
    folder = shutil.copytree(one_device('baseline')[0] / 'baseline', tmp_path / 'baseline')
    like = train.initial_state(tiny.stage('baseline'), optim.adam(steps=6, **OPTIM), Parallel('jit', 1, False), 3)

    def restored():
        said = []
        with Checkpoints(folder, said.append) as checkpoints:
            return jax.device_get(checkpoints.restore(like)), ''.join(said)

    whole, _ = restored()
    files = files_of(folder / '6' / part)
    largest = max(files, key=lambda file: file.stat().st_size)
    told = 0
    for file, place in [(file, 0.5) for file in files] + [(largest, i / 4) for i in (0, 1, 3)]:
        flip(file, [place])
        state, said = restored()
        if said:
            told += 1
            assert 'baseline/6: the checkpoint cannot be read' in said and state.step == 4
            (aside,) = tmp_path.glob('baseline-6.damaged*')
            aside.rename(folder / '6')
        else:
            chex.assert_trees_all_equal(state, whole)
        flip(file, [place])
    assert told > 1, 'the root of the storage at least, and some of its arrays'


@pytest.mark.filterwarnings('error::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('how', ['cut', 'bits'])
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


@pytest.mark.parametrize('spoilt,left', [((2,), 4), ((2, 4), 6)])
def test_a_damaged_best_checkpoint_is_told_and_the_best_of_the_others_is_taken(tmp_path, capsys, spoilt, left):
    scores, seen = {2: 9.0, 4: 3.0, 6: 1.0}, {}

    def validate(params):
        seen[2 * len(seen) + 2] = jax.tree.map(np.array, params)
        return scores[2 * len(seen)], {'val': {'R1': 0.0}}

    stage = tiny.stage('baseline')
    assert run(tmp_path, stage, validate=validate)[1] == 2
    for step in spoilt:
        damage(tmp_path / 'baseline' / str(step) / 'params', 'cut')
    best, step = run(tmp_path, stage, validate=validate)
    told = capsys.readouterr().out
    assert f'baseline/{spoilt[-1]}: the checkpoint cannot be read' in told
    assert f'the best of the others is taken, step {left}.' in told and step == left
    chex.assert_trees_all_equal(jax.device_get(best), seen[left])
    assert sorted(path.name.split('.')[0] for path in tmp_path.glob('*damaged*')) == [f'baseline-{s}' for s in spoilt]
    with Checkpoints(tmp_path / 'baseline') as checkpoints:
        assert checkpoints.best() == left


def test_without_any_whole_checkpoint_nothing_is_started_over(tmp_path, one_device):
    shutil.copytree(one_device('baseline')[0], tmp_path, dirs_exist_ok=True)
    for step in ('4', '6'):
        damage(tmp_path / 'baseline' / step / 'progress', 'cut')
    with pytest.raises(CheckpointError, match='baseline/4.*cannot be read'):
        run(tmp_path, tiny.stage('baseline'))


def test_a_score_that_is_none_is_told(tmp_path):
    stage = tiny.stage('baseline')
    run(tmp_path, stage, validate=lambda params: (0.5, {'val': {'R1': 0.0}}))
    files = list((tmp_path / 'baseline').glob('[0-9]*/metrics/metrics'))
    assert files
    for score in ('[]', '{"other": 1}', '{'):
        for file in files:
            file.write_text(score)
        with pytest.raises(CheckpointError, match='baseline.*(score of a checkpoint|a checkpoint cannot be looked at)'):
            run(tmp_path, stage)


def test_a_checksum_is_the_same_on_any_devices_and_another_for_any_change():
    tree = {'a': np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32), 'b': np.int32(7)}
    spread = Parallel('jit', 8, False)
    assert int(checksum(tree)) == int(checksum(jax.device_put(tree, {'a': spread.sharded, 'b': spread.replicated})))
    swapped = tree | {'a': tree['a'][::-1]}
    flipped = tree | {'a': np.where(np.arange(384).reshape(16, 24) == 200, -tree['a'], tree['a'])}
    assert len({int(checksum(x)) for x in (tree, swapped, flipped, tree | {'b': np.int32(8)})}) == 4


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_and_the_next_call_ends_like_an_unbroken_run(tmp_path, one_device, listening, number):
    def with_signal(start):
        for step, batch in enumerate(batches(start), start):
            if step == 2 and start == 0:
                os.kill(os.getpid(), number)
            yield batch

    stage = tiny.stage('baseline')
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name) as stopped:
        run(tmp_path, stage, batches=with_signal)
    assert stopped.value.step == 3, 'not a multiple of save_every: it is the signal that saved'
    assert signal.getsignal(number) is before
    resumed, _ = run(tmp_path, stage, batches=with_signal)
    chex.assert_trees_all_equal(resumed, one_device('baseline')[1])


@pytest.fixture
def listening():
    """Ctrl-C is heard: in a shell's background job it is not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_last_step_is_validated_is_not_lost(tmp_path, listening, number):
    class Told(Exception):
        pass

    def told(*_):
        raise Told

    def validate(_):
        os.kill(os.getpid(), number)
        return 1.0, {}

    before = signal.signal(number, told)
    try:
        with pytest.raises(Told):
            run(tmp_path, tiny.stage('baseline'), steps=1, validate=validate)
        assert (tmp_path / 'baseline' / '1').is_dir(), 'saved all the same'
    finally:
        signal.signal(number, before)


def test_a_signal_while_the_report_is_opened_waits_until_it_is(tmp_path, monkeypatch):
    def start(self, *given, real=Report.start):
        os.kill(os.getpid(), signal.SIGTERM)
        real(self, *given)

    monkeypatch.setattr(Report, 'start', start)
    with pytest.raises(Interrupted) as stopped:
        run(tmp_path, tiny.stage('baseline'))
    assert stopped.value.step == 1


def test_a_second_ctrl_c_does_not_wait_for_the_step(listening):
    reached = False
    with pytest.raises(KeyboardInterrupt), train.Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        reached = interrupt.due() == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        reached = False
    assert reached


def test_a_background_job_goes_on_ignoring_ctrl_c(listening):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with train.Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert not interrupt.due()


def test_a_read_that_fails_for_the_machine_leaves_the_checkpoint_where_it_is(tmp_path, one_device, monkeypatch):
    shutil.copytree(one_device('baseline')[0], tmp_path, dirs_exist_ok=True)
    storage = "Failed to read: Input/output error [os_error_code='5'][tensorstore_spec='{}']"
    for error in (OSError(errno.ESTALE, 'Stale file handle'), ValueError(storage), MemoryError('RESOURCE_EXHAUSTED')):

        def restore(self, *_, error=error, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(ocp.CheckpointManager, 'restore', restore)
            with pytest.raises(CheckpointError, match='baseline/6.*left as it is'):
                run(tmp_path, tiny.stage('baseline'))
    assert not list(tmp_path.glob('*damaged*'))
    run(tmp_path, tiny.stage('baseline'), batches=killed_after(6))  # all is there still, nothing is trained again


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
        pytest.raises(CheckpointError, match='not be written.* steps: (2, )?4. Make'),
    ):
        run(tmp_path, stage)
    resumed, _ = run(tmp_path, stage, batches=killed_after(6))
    chex.assert_trees_all_equal(resumed, one_device('baseline')[1])


@pytest.mark.parametrize('first', [False, True])
def test_a_save_whose_folder_cannot_be_made_leaves_no_thread_that_the_process_would_wait_for(tmp_path, first):
    folder, before = tmp_path / 'stage', set(threading.enumerate())
    with pytest.raises(CheckpointError, match='Not a directory'), Checkpoints(folder) as checkpoints:
        if not first:
            checkpoints.save(_state(1), 1.0)
            checkpoints._settle()
        shutil.rmtree(folder)
        folder.touch()  # as good as a disk that became read-only
        checkpoints.save(_state(2), 1.0)
    for thread in set(threading.enumerate()) - before:
        threading.Thread.join(thread, 10)  # Orbax's own raises that it was cancelled
        assert not thread.is_alive() or thread.daemon


def test_a_file_or_a_link_that_leads_nowhere_is_no_folder_of_checkpoints(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'link').symlink_to('link')
    for name in ('file', 'link'):
        with pytest.raises(CheckpointError, match=f'found a {name}, expected a folder of checkpoints'):
            Checkpoints(tmp_path / name)


def _state(step):
    return train.State(np.int32(step), {'a': np.ones(3, np.float32)}, {'m': np.zeros(3, np.float32)})


def test_sigterm_on_a_full_disk_does_not_say_that_the_step_is_saved(tmp_path):
    def with_signal(start):
        for step, batch in enumerate(batches(start), start):
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with no_file_beyond(16_384), pytest.raises(CheckpointError, match='not be written.*steps: none'):
        run(tmp_path, tiny.stage('baseline'), batches=with_signal, eval_every=100, save_every=100)


def test_the_cause_is_told_wherever_storage_writes_it():
    """Which write fails first is up to storage's threads, and some name their settings behind the cause."""
    cause = "Failed to write 9 bytes to file 6: No space left on device [os_error_code='28']"
    for behind in ('', f"[tensorstore_spec='{'y' * 300}']"):
        text = f'Error writing {"x" * 300}: {cause}{behind}'
        assert _short(ValueError(text)).endswith(' ... No space left on device')
        assert len(_short(ValueError(text))) < 200
    assert _short(ValueError(f'Error {"x" * 300} at the end')).endswith('at the end')
    assert _short(OSError('short\nmore')) == 'OSError: short'
