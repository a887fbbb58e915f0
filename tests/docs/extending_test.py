"""The diffs of docs/extending.md apply to the tree as it is, and do what the page says."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.road import ROOT

DIFFS = re.findall(r'```diff\n(.*?)```', (ROOT / 'docs' / 'extending.md').read_text(), re.DOTALL)
CHECK = """
import json, pathlib
import jax, numpy as np
from configs import smoke
from data import annotations
from lcr2s_jax.method import losses, stages
v, t = np.eye(4, 8, dtype=np.float32), np.eye(4, 8, dtype=np.float32)
pid = np.array([0, 0, 1, 2])
right, wrong = (float(losses.ALIGNMENT['sigmoid'](v, x, pid, 10.0)) for x in (t, t[::-1]))
assert 0 < right < wrong
config = smoke.get_config()
assert stages.STAGES['again'].needs == ('student',) and config.again.target_share == 0.0
folder = pathlib.Path('My-PEDES')
(folder / 'imgs').mkdir(parents=True)
entries = [dict(split=s, file_path=f'{s}.jpg', captions=['a man'], id=i) for i, s in enumerate(('train', 'test'))]
(folder / 'my_pedes.json').write_text(json.dumps(entries))
found = annotations.read('my_pedes', folder)
assert found.splits == ('train', 'test')
"""


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy of the tree with all three diffs applied."""
    copy = tmp_path_factory.mktemp('tree')
    for name in ('lcr2s_jax', 'configs', 'data', 'commands'):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'main.py', copy)
    assert len(DIFFS) == 3
    for diff in DIFFS:
        subprocess.run(['git', 'apply', '-'], input=diff, text=True, cwd=copy, check=True)
    return copy


def test_a_loss_is_one_file_a_stage_two_and_a_dataset_one():
    assert [diff.count('+++ b/') for diff in DIFFS] == [1, 2, 1]


def test_the_diffs_apply_and_do_what_they_say(tree):
    done = subprocess.run([sys.executable, '-c', CHECK], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_new_stage_has_its_row_in_the_table(tree, tmp_path):
    words = ['--config=configs/smoke.py', f'--workdir={tmp_path / "run"}', f'--config.data.cache={tmp_path / "cache"}']
    words += [
        "--config.stages=('teacher','student','again')",
        '--config.student.align=sigmoid',
        '--config.parallel.devices=1',
    ]
    done = subprocess.run([sys.executable, 'main.py', *words], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0 and pathlib.Path(tmp_path / 'run' / 'again').is_dir(), done.stderr
    assert '│ again ' in done.stdout
