"""2,000 steps in which what can happen does: signals, a damaged image, a deleted checkpoint; memory stays as it was."""

import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import time

import pytest

from tests import folders
from tests.road import ROOT, command

STEPS, STAGES = 1000, ('teacher', 'student')
CHANGES = {
    'data.dataset': 'folder', 'tokenizer': 'data/demo_clip', 'parallel.devices': 1,
    'model.pretrained': '', 'model.architecture': 'demo', 'model.image_size': '(24,12)', 'model.context_length': 16,
    'batch.identities': 4, 'batch.views': 2, 'augment.pad': 1,
    'train.steps': STEPS, 'train.eval_every': 100, 'train.save_every': 50, 'train.log_every': 10,
}  # fmt: skip
FAULTS, UNDISTURBED = 8, 600  # how many before, and how many steps after the last
WARM = 200  # steps of a process: compilation, the first evaluations and saves


class Life:
    """One process of the run, from its start to whatever ends it."""

    def __init__(self, workdir, root, log):
        self._log, self._out = log, log.open('w')
        changes = CHANGES | {'data.root': root}
        self.process = subprocess.Popen(
            command(workdir, root / 'built', **changes), cwd=ROOT, stdout=self._out, stderr=self._out
        )
        self.memory: list[tuple[int, int]] = []  # steps of the whole run, KiB

    def done(self) -> int:
        """The steps of the run that it told last; 0 before it tells any."""
        told = re.findall(rf'({"|".join(STAGES)}) +([\d,]+)/{STEPS:,}  loss', self._log.read_text())
        return STAGES.index(told[-1][0]) * STEPS + int(told[-1][1].replace(',', '')) if told else 0

    def until(self, step: int) -> None:
        """Watch it until it has done so many steps, or ends."""
        while self.process.poll() is None and self.done() < step:
            with open(f'/proc/{self.process.pid}/status') as status:
                size = re.search(r'VmRSS:\s+(\d+)', status.read())
            if size:  # none in the moment of its end
                self.memory.append((self.done(), int(size[1])))
            time.sleep(0.05)

    def text(self) -> str:
        """All that it said."""
        return self._log.read_text()


def delete_latest(workdir) -> str:
    """Remove the newest checkpoint of the stage under way."""
    stage = next(name for name in reversed(STAGES) if (workdir / name).is_dir())
    steps = [int(path.name) for path in (workdir / stage).iterdir() if path.name.isdigit()]
    if steps:
        shutil.rmtree(workdir / stage / str(max(steps)))
    return f'{stage}/{max(steps, default=None)} deleted'


def disturb(life, kind) -> float:
    """Send SIGTERM or SIGKILL; seconds until the process was gone."""
    clock = time.time()
    life.process.send_signal(kind)
    status = life.process.wait()
    seconds = time.time() - clock
    assert status == (143 if kind == signal.SIGTERM else -kind), life.text()
    return seconds


def grown(memory) -> float:
    """Growth of the resident memory of one process after its warm-up, as a share."""
    first, last = memory[0][0] + WARM, memory[-1][0]
    early = statistics.median(size for step, size in memory if first <= step < first + 100)
    late = statistics.median(size for step, size in memory if last - 100 <= step)
    return late / early - 1


@pytest.mark.slow
def test_two_thousand_steps_under_faults_finish_with_flat_memory_and_a_log_without_gaps(tmp_path):
    chance, workdir, log = random.Random(0), tmp_path / 'w', tmp_path / 'log'
    table = folders.table(tmp_path / 'people', splits=True, people=40)
    table.damage(table.of('train')[0])
    kinds = [signal.SIGTERM, signal.SIGKILL] * (FAULTS // 2)
    besides = ['latest', 'latest', 'image'] + [''] * (FAULTS - 3)
    chance.shuffle(kinds)
    chance.shuffle(besides)
    when = sorted(chance.sample(range(60, len(STAGES) * STEPS - UNDISTURBED), FAULTS))
    for step, kind, more in zip(when, kinds, besides, strict=True):
        life = Life(workdir, table.root, log)
        life.until(step)
        seconds = disturb(life, kind)
        if more == 'image':
            table.damage(table.of('train')[7])
        note = delete_latest(workdir) if more == 'latest' else more
        print(f'{kind.name} after step {step:,}: gone in {seconds:.1f} s; {note}')
    life = Life(workdir, table.root, log)
    life.until(len(STAGES) * STEPS)
    memory = [(step, size) for step, size in life.memory if step]
    assert life.process.wait(timeout=300) == 0, life.text()
    print(f'memory: {grown(memory):+.1%} over {memory[-1][0] - memory[0][0] - WARM} steps')
    assert 'is used without 1 of its images' in life.text()
    assert grown(memory) < 0.05
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').open()]
    for stage in STAGES:
        trained = [row['step'] for row in rows if row['stage'] == stage and 'loss' in row]
        assert trained == sorted(set(trained)) and {1, *range(10, STEPS + 1, 10)} <= set(trained)
        validated = [row['step'] for row in rows if row['stage'] == stage and 'val/t2i/R1' in row]
        assert validated == list(range(100, STEPS + 1, 100))
    assert {'teacher', 'student'} <= set(json.loads((workdir / 'results.json').read_text()))
    assert os.path.exists(workdir / 'sheet.png')
