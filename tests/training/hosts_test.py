"""Two real processes work on one run through main.py, and end where one process with as many devices ends."""

import json
import os
import pathlib
import re
import signal
import subprocess
from typing import NamedTuple

import jax
import pytest
from flax.traverse_util import flatten_dict

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.training.parallel import join
from tests import folders
from tests.road import ROOT, command, free_port, here, wait_for
from tests.tiny_runs import apart, losses, saved

# no host has all of the parameters, and the student learns from what all of them embedded
CHANGES = {'train.steps': 4, 'train.eval_every': 4, 'student.cache_teacher': True, 'parallel.fsdp': True}


def environment(devices, programs=''):
    """Ours with so many CPU devices in a process; what one has compiled lies in `programs` for the others."""
    flags = os.environ['XLA_FLAGS'].replace('device_count=8', f'device_count={devices}')
    kept = {'JAX_COMPILATION_CACHE_DIR': str(programs), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    return os.environ | {'XLA_FLAGS': flags} | (kept if programs else {})


def start(workdir, cache, processes=2, devices=2, each=lambda i: {}):
    """The processes of one run; `each` may have settings of its own."""
    flags = [f'--coordinator=localhost:{free_port()}', f'--num_processes={processes}']
    return [
        subprocess.Popen(
            command(workdir, cache, *flags, f'--process_id={i}', **CHANGES | each(i)), cwd=ROOT,
            env=environment(devices, f'{cache}-programs'), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(processes)
    ]  # fmt: skip


def end(started, status):
    """What each of them printed, after all have ended with `status`."""
    outputs = [process.communicate(timeout=900)[0] for process in started]
    assert [process.returncode for process in started] == [status] * len(started), '\n\n'.join(outputs)
    return outputs


class TwoHosts(NamedTuple):
    """A run of two hosts."""

    workdir: pathlib.Path
    cache: pathlib.Path
    ended: list[str]  # what each host printed


@pytest.fixture(scope='module')
def two_hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hosts')
    workdir, cache = folder / 'two', folder / 'cache'
    return TwoHosts(workdir, cache, end(start(workdir, cache), 0))


@pytest.mark.slow
def test_sigterm_to_one_host_saves_the_same_step_on_all_and_the_next_call_ends_like_an_unbroken_run(two_hosts):
    workdir = two_hosts.workdir.with_name('stopped')
    started = start(workdir, two_hosts.cache)
    wait_for(workdir / 'metrics.jsonl', '"teacher", "step": 1', *started)
    started[1].send_signal(signal.SIGTERM)
    said = [re.search(r'stopped by SIGTERM after step (\d+), which is saved', output) for output in end(started, 143)]
    assert all(said) and len({one[1] for one in said}) == 1
    assert said[0][1] in [path.parent.name for path in workdir.glob('*/*/params')]
    end(start(workdir, two_hosts.cache), 0)
    assert losses(workdir) == losses(two_hosts.workdir)


@pytest.mark.slow
def test_two_hosts_train_distil_and_rank_like_one(two_hosts):
    workdir, alone = two_hosts.workdir, two_hosts.workdir.with_name('one')
    run = here(alone, two_hosts.cache, **CHANGES | {'parallel.devices': 4, 'parallel.fsdp': False})
    assert run.returncode == 0, run.stderr
    assert losses(workdir) == pytest.approx(losses(alone), rel=1e-5)
    found = {stage: apart(saved(workdir, stage, 4), saved(alone, stage, 4)) for stage in ('teacher', 'student')}
    print('two hosts beside one, relative:', found)
    assert max(found.values()) <= 1e-5
    two, one = (json.loads((folder / 'results.json').read_text()) for folder in (workdir, alone))
    for stage in ('teacher', 'student'):  # two pictures that score alike to the sixth digit may change places
        ours, theirs = (flatten_dict(results[stage], sep='/') for results in (two, one))
        assert ours == pytest.approx(theirs, abs=4)
    assert 'student' in two_hosts.ended[0] and 'loss' not in two_hosts.ended[1], 'only the first host speaks of the run'


def test_flags_that_say_half_are_refused():
    with pytest.raises(ConfigError, match='all three'):
        join('localhost:1', None, 0)


def test_a_process_alone_joins_nobody_unless_it_is_launched_with_others_or_asked_to(monkeypatch):
    for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'):
        monkeypatch.delenv(name, raising=False)
    join(None, None, None)
    asked = []
    monkeypatch.setattr(jax.distributed, 'initialize', lambda *given: asked.append(given))
    join('auto', None, None)
    monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '2')
    join(None, None, None)
    assert asked == [(None, None, None)] * 2, 'JAX finds the others'


def test_a_mistake_that_one_host_finds_ends_all_at_once(tmp_path):
    """The second host alone has no dataset; the first could train, and is told."""
    cuhk = folders.cuhk(tmp_path / 'root').root
    fields = {'config': 'configs/cuhk.py', 'model.image_size': '(96, 48)', 'model.context_length': 32}
    started = start(tmp_path / 'w', tmp_path / 'cache', each=lambda i: fields | {'data.root': (cuhk, '/no/such')[i]})
    said = end(started, 1)
    assert '/no/such' in said[1] and 'config.data.root' in said[1]
    assert 'failed on process 1, which says why' in said[0]
    assert 'Traceback' not in ''.join(said) and not (tmp_path / 'w').exists()
