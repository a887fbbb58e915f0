"""A run killed by SIGKILL at twelve random moments and started again each time ends like one that nothing befell."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import time

import chex
import pytest

from tests.road import ROOT, call, command
from tests.tiny_runs import saved

STEPS = 12
CHANGES = {  # a model whose saves and evaluations take long enough to be met
    'model.pretrained': 'data/demo_clip', 'train.steps': STEPS, 'train.eval_every': 4, 'train.save_every': 3,
}  # fmt: skip


def moments(chance):
    """(name, what the run must have said, what must be seen in its folder, seconds more) in the order of a run.

    A moment comes after what the runs killed before it have saved, so that each is reached by training.
    """
    yield 'start', '', '', chance.uniform(0, 6)
    for stage in ('teacher', 'student'):
        said = rf'{stage} +%d/{STEPS}  %s'
        yield f'{stage}, step', said % (chance.randint(1, 3), 'loss'), '', chance.uniform(0, 0.2)
        yield f'{stage}, save', '', f'{stage}/*tmp*', chance.uniform(0, 0.03)
        yield f'{stage}, evaluation', said % (8, 'loss'), '', chance.uniform(0, 0.3)
        yield f'{stage}, step', said % (chance.randint(9, 11), 'loss'), '', chance.uniform(0, 0.2)
        yield f'{stage}, end', said % (STEPS, 'val'), '', chance.uniform(0, 1)
    yield 'results', '', 'sheet.png', 0


def kill_at(moment, workdir, cache, log):
    """Start the run and kill it there; the last line it said."""
    name, said, seen, seconds = moment
    clock = time.time()
    with log.open('w') as out:
        run = subprocess.Popen(command(workdir, cache, **CHANGES), cwd=ROOT, stdout=out, stderr=out)
    while not (
        re.search(said, log.read_text())
        and (not seen or any(path.stat().st_mtime >= clock for path in workdir.glob(seen)))
    ):
        assert run.poll() is None and time.time() < clock + 300, f'{name} was not reached:\n{log.read_text()}'
        time.sleep(0.002)
    time.sleep(seconds)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, f'{name}: the run was over'
    return (log.read_text().splitlines() or [''])[-1]


def outcome(workdir):
    """What must be equal: results and log, seconds aside."""
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').open()]
    results = json.loads((workdir / 'results.json').read_text())
    del results['seconds']
    return results, [{k: v for k, v in row.items() if k not in ('elapsed', 'pairs_per_s')} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0])
def test_twelve_kills_at_random_moments_change_no_bit(tmp_path, seed):
    workdir, cache = tmp_path / 'killed', tmp_path / 'cache'
    told = list(moments(random.Random(seed)))
    assert len(told) == 12
    for moment in told:
        print(moment[0], '|', kill_at(moment, workdir, cache, tmp_path / 'log'))
        assert not (workdir / 'results.json').exists()
    for folder in (workdir, tmp_path / 'whole'):
        run = call(folder, cache, **CHANGES)
        assert run.returncode == 0, run.stderr
    assert outcome(workdir) == outcome(tmp_path / 'whole')
    for stage in ('teacher', 'student'):
        chex.assert_trees_all_equal(saved(workdir, stage, STEPS), saved(tmp_path / 'whole', stage, STEPS))
        steps = [{path.name for path in (w / stage).iterdir()} for w in (workdir, tmp_path / 'whole')]
        assert steps[0] == steps[1], 'nothing half written is left'


@pytest.mark.slow
def test_a_disk_that_fills_stops_main_with_a_message_and_the_older_checkpoint_goes_on(tmp_path):
    workdir, cache, log = tmp_path / 'w', tmp_path / 'cache', tmp_path / 'log'
    unlasting = os.environ | {'JAX_ENABLE_COMPILATION_CACHE': 'false'}  # a program cut short must not stay there
    with log.open('w') as out:
        run = subprocess.Popen(command(workdir, cache, **CHANGES), cwd=ROOT, stdout=out, stderr=out, env=unlasting)
    while not (workdir / 'teacher' / '3').exists():
        assert run.poll() is None, log.read_text()
        time.sleep(0.01)
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (2**20, 2**20))  # no file of it grows any more
    assert run.wait() == 1, log.read_text()
    assert 'Traceback' not in log.read_text()
    whole = re.search(
        r'could not be written .*File too large.* Whole checkpoints are those of the steps: (.*)\. Make room',
        log.read_text(),
    )
    assert whole[1].split(', ')[0] == '3'
    again = call(workdir, cache, **CHANGES)
    assert again.returncode == 0, again.stderr
    assert f'teacher: resumed at step {whole[1].split(", ")[-1]} of {STEPS}' in again.stdout
