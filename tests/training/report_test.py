"""What a run writes about itself."""

import os
import subprocess
import sys

import pytest

from lcr2s_jax.training.report import Report

FULL = """
import resource, signal, sys
from lcr2s_jax.training.report import Report
report = Report(sys.argv[1], quiet=True)
report.start('teacher', 0, 9)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    report.log('teacher', 1, {'loss': 1.0, 'pairs_per_s': 1.0}, 1.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, -1))
    raise ValueError('what stopped the run')
finally:
    report.stop()
"""


def test_a_full_disk_hides_not_what_stopped_a_run(tmp_path):
    run = subprocess.run([sys.executable, '-c', FULL, str(tmp_path)], capture_output=True, text=True)
    assert run.stderr.count('Traceback') == 1 and run.stderr.endswith('ValueError: what stopped the run\n'), run.stderr


def test_a_log_that_is_no_text_is_kept_where_it_can_be_and_a_pipe_in_its_place_hangs_nothing(tmp_path):
    (tmp_path / 'metrics.jsonl').write_bytes(b'\xff\n{"stage": "teacher", "step": 1, "elapsed": 2.0}\n')
    report = Report(tmp_path, quiet=True)
    report.start('teacher', 1, 1)
    assert (tmp_path / 'metrics.jsonl').read_text().count('\n') == 1 and report.seconds == {'teacher': 2.0}
    (tmp_path / 'metrics.jsonl').unlink()
    os.mkfifo(tmp_path / 'metrics.jsonl')
    with pytest.raises(OSError, match='a pipe, socket or device'):
        report.start('teacher', 1, 1)


def test_a_stage_that_was_finished_before_ends_in_the_log_once(tmp_path):
    for _ in range(3):
        for stage in ('teacher', 'student'):
            report = Report(tmp_path, quiet=True)
            report.start(stage, 9, 9)
            report.end(stage, 9, 'done', best_step=6)
    report.start('teacher', 9, 9)
    report.end('teacher', 9, 'done', best_step=3)  # another is left as the best
    told = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    assert [told[0][:19], told[1][:19]] == ['{"stage": "teacher"', '{"stage": "student"'] and len(told) == 3
