"""Two real processes work on one run through main.py, and end where one process with as many devices ends."""

import json
import os
import socket
import subprocess
import sys

import pytest

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.parallel import join
from tests.journey_test import ROOT, command


def environment(devices):
    """Ours with so many CPU devices in a process."""
    return os.environ | {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}


def free_port():
    with socket.socket() as probe:
        probe.bind(('localhost', 0))
        return probe.getsockname()[1]


def together(workdir, cache, processes, devices, **changes):
    """Start the processes of one run; their outputs, after all have ended well."""
    flags = [f'--coordinator=localhost:{free_port()}', f'--num_processes={processes}']
    started = [
        subprocess.Popen(
            command(workdir, cache, *flags, f'--process_id={i}', **changes), cwd=ROOT, env=environment(devices),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(processes)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=400)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, '\n\n'.join(outputs)
    return outputs


def losses(workdir):
    return [row['loss'] for row in map(json.loads, (workdir / 'metrics.jsonl').open()) if 'loss' in row]


def test_two_hosts_train_distil_and_rank_like_one(tmp_path):
    cache = tmp_path / 'cache'
    outputs = together(tmp_path / 'two', cache, processes=2, devices=2)
    one = subprocess.run(
        command(tmp_path / 'one', cache), cwd=ROOT, env=environment(4), capture_output=True, text=True, timeout=400
    )
    assert one.returncode == 0, one.stderr
    assert losses(tmp_path / 'two') == pytest.approx(losses(tmp_path / 'one'), rel=1e-5)
    two, single = (json.loads((tmp_path / name / 'results.json').read_text()) for name in ('two', 'one'))
    assert two['student'] == single['student'] and two['teacher'] == single['teacher']
    assert 'student' in outputs[0] and 'loss' not in outputs[1], 'only the first host speaks of the run'


def test_flags_that_say_half_are_refused():
    with pytest.raises(ConfigError, match='all three'):
        join('localhost:1', None, 0)


def test_a_process_alone_joins_nobody(monkeypatch):
    for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'):
        monkeypatch.delenv(name, raising=False)
    join(None, None, None)
    code = 'import main, jax; jax.distributed.initialize = lambda *a: print(a); from lcr2s_jax import parallel; '
    code += 'parallel.join(None, None, None)'
    env = os.environ | {'SLURM_STEP_NUM_TASKS': '2'}
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert '(None, None, None)' in run.stdout, 'under srun JAX finds the others'
