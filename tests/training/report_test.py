"""What a run writes about itself."""

import subprocess
import sys

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
