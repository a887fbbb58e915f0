"""benchmarks.device from beginning to end at sizes that a CPU runs; how fast anything is, no test says."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import device, device_steps, device_table

ROOT = pathlib.Path(__file__).parents[1]


def run(out, *words, path=''):
    """The script, as it is typed, on one device."""
    environment = os.environ | {
        'PYTHONPATH': f'{path}:{ROOT}',
        'XLA_FLAGS': '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false',
    }
    return subprocess.run(
        [sys.executable, '-m', 'benchmarks.device', '--tiny', '--out', str(out), *words],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def read(out, part):
    return json.loads((out / f'{part}.json').read_text())


def test_a_part_that_fails_costs_itself_and_the_next_goes_on(tmp_path):
    (tmp_path / 'torch.py').write_text('raise ImportError("libcuda.so is missing")')
    out = tmp_path / 'out'
    done = run(out, '--parts', 'torch', 'search', '--compare', 'echo {seconds} seconds', path=tmp_path)
    assert done.returncode == 1, done.stderr
    assert 'libcuda.so is missing' in read(out, 'torch')['error']
    search = read(out, 'search')
    assert search['done'] and search['machine']['device'] == 'cpu'
    assert [row['rows_as_by_a_plain_product'] for row in search['rows']] == ['10 of 10', '10 of 10']
    assert 100 < int(read(out, 'compare')['said'][0].split()[0]) < 570
    assert '| 4,096 x 16 | 64 |' in done.stdout and 'libcuda.so is missing' in done.stdout
    assert device_table.text(out) in done.stdout
    assert {path.name for path in out.iterdir()} == {
        'torch.json', 'torch.log', 'search.json', 'compare.json', 'compare.log', 'table.md'
    }  # fmt: skip


def test_a_program_that_hangs_is_stopped_and_what_it_said_is_kept(tmp_path):
    assert not device.compare("sh -c 'echo begun; sleep 99'", tmp_path, 1.0)
    found = read(tmp_path, 'compare')
    assert found['error'] == 'stopped after 1 s' and found['said'] == ['begun'] and found['seconds'] < 10
    assert not device.compare('no-such-program', tmp_path, 1.0)
    assert 'no-such-program' in read(tmp_path, 'compare')['error']


def test_a_part_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(device, 'GRACE', -1e9)
    assert device.main(['--tiny', '--out', str(tmp_path), '--parts', 'peak', '--seconds', '20']) == 1
    assert read(tmp_path, 'peak')['error'].startswith('stopped after')


def test_without_results_the_table_says_how_to_get_them(tmp_path, capsys):
    assert device.main(['--table', str(tmp_path)]) == 0
    assert 'found no results' in capsys.readouterr().out


def test_a_step_that_this_device_has_no_kernel_for_is_told_and_the_others_are_timed():
    steps = device_steps.Steps(tiny=True)
    plain = device_steps.Case('baseline', 8, 'float32')
    rows = device_steps.wave_rows(steps, [plain._replace(kernel='cudnn', dtype='bfloat16'), plain], threads=1)
    refused, timed = rows.values()
    assert 'failed' in refused and 'seconds' not in refused
    assert timed['seconds'] > 0 and timed['ratio'] == 1.0 and timed['tflops'] > 0
    assert 0 < timed['planned_gib'] < 0.1


def test_every_stage_type_and_number_of_rows_is_asked_for_and_the_most_important_first():
    waves = device_steps.waves('cudnn', (64, 256, 1024))
    asked = [case for wave in waves for case in wave]
    kinds = {(case.kind, case.dtype, case.rows) for case in asked}
    assert len(kinds) == 3 * 2 * 3
    first = [(case.kind, case.dtype, case.rows) for case in asked[:3]]
    assert first == [(kind, 'bfloat16', 256) for kind in ('baseline', 'teacher', 'student')]
    assert {case.kernel for case in asked if case.dtype == 'float32'} == {'einsum'}, 'cuDNN has none for float32'
    assert {'einsum', 'xla', 'cudnn'} == {case.kernel for case in asked}
    assert {(case.scan, case.remat) for case in asked} >= {(True, False), (False, False), (True, True)}


def test_the_table_sets_what_was_found_beside_what_was_aimed_at(tmp_path):
    step = dict(rows=256, dtype='bfloat16', attention='cudnn', how='scan', pairs_per_s=2560.0)
    found = {
        'peak': [{'what': 'bfloat16', 'side': 8192, 'tflops': 600.0}],
        'step': [
            step | {'what': 'baseline', 'seconds': 0.1, 'tflops': 306.0, 'ratio': 1.0},
            step | {'what': 'teacher', 'seconds': 0.102, 'tflops': 300.0, 'ratio': 1.02},
            step | {'what': 'baseline', 'how': 'remat', 'failed': 'RESOURCE_EXHAUSTED'},
        ],
        'torch': [step | {'what': 'torch CLIPModel', 'seconds': 0.16, 'tflops': 190.0, 'how': 'compiled'}],
    }
    for part, rows in found.items():
        (tmp_path / f'{part}.json').write_text(json.dumps({'part': part, 'rows': rows, 'error': None}))
    lines = device_table.text(tmp_path).splitlines()
    assert '| share of the matrix peak | 51 % | at least 50% |' in lines
    assert "| pairs/s over torch's best (compiled) | 1.6 | 1.5 |" in lines
    assert '| teacher over baseline | 1.020 | at most 1.03 |' in lines
    assert '| step | baseline 256 bfloat16 cudnn remat | RESOURCE_EXHAUSTED |' in lines


@pytest.mark.slow
def test_every_part_measures_something_where_there_is_only_a_cpu(tmp_path):
    done = run(tmp_path, '--seconds', '500', '--compare', 'echo compared in {out}')
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {part: read(tmp_path, part)['rows'] for part in device.SHARES}
    assert all(rows.values())
    stages = [row for row in rows['step'] if 'seconds' in row]
    assert {'baseline', 'teacher', 'student'} <= {row['what'] for row in stages}
    assert not [row for part in rows.values() for row in part if 'failed' in row]
    assert {row['how'] for row in rows['torch'] if 'seconds' in row} >= {'eager', 'compiled'}
    assert read(tmp_path, 'compare')['said'] == [f'compared in {tmp_path}']
