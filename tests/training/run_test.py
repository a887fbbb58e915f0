"""What a run leaves, when a part of it is lost or changed."""

import json
import threading
import time

import numpy as np
import pytest

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import figures
from lcr2s_jax.training import run as runs
from lcr2s_jax.training.checkpoint import Checkpoints
from lcr2s_jax.training.train import State


def test_pictures_that_are_kept_come_back_and_a_damaged_file_of_them_is_told(tmp_path):
    run = runs.Run(tmp_path, 'student', 1, {}, None, {})
    assert run.sample() is None
    (tmp_path / 'model').mkdir()
    runs.keep_sample(tmp_path, [b'one', b'', b'three'], [0, 0, 1], ['a man', 'a\u00e9', 'x'], [0, 2, 2])
    kept = run.sample()
    assert (kept['encoded'], kept['captions']) == ([b'one', b'', b'three'], ['a man', 'a\u00e9', 'x'])
    np.testing.assert_array_equal(kept['image_pid'], [0, 0, 1])
    path = tmp_path / 'model' / 'sample.npz'
    whole = path.read_bytes()
    for content in (b'', whole[: len(whole) // 2], whole.replace(b'one', b'two'), b'hello'):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match='sample.npz: cannot be read .*; delete it and results.json'):
            run.sample()


def test_a_lost_score_does_not_make_another_step_the_best_without_a_word(tmp_path):
    with Checkpoints(tmp_path / 'student') as checkpoints:
        for step, score in ((2, 9.0), (4, 8.0)):
            checkpoints.save(State(np.int32(step), {'clip': np.full(3, step, np.float32)}, ()), score)
    assert runs.best_parameters(tmp_path, 'student')[1] == 2
    (tmp_path / 'chosen.json').write_text(json.dumps({'student': 2}))
    assert runs.best_parameters(tmp_path, 'student')[1] == 2
    (tmp_path / 'student' / '2' / 'metrics' / 'metrics').unlink()
    with pytest.raises(ConfigError, match='found step 4 as the best of student .*but step 2 in chosen.json'):
        runs.best_parameters(tmp_path, 'student')


def test_several_read_a_run_at_once_and_who_writes_waits_for_them(tmp_path, monkeypatch):
    (tmp_path / 'x').touch()
    order = []

    def write():
        with runs.alone_in(tmp_path):
            order.append('written')

    with runs.alone_in(tmp_path, reads=True), runs.alone_in(tmp_path, reads=True):
        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.3)
        order.append('read')
    writer.join(5)
    assert order == ['read', 'written']
    with runs.alone_in(tmp_path), pytest.raises(ConfigError, match='another process'), runs.alone_in(tmp_path, True):
        pass
    monkeypatch.setattr(runs, '_READING', 0.1)
    with runs.alone_in(tmp_path, reads=True), pytest.raises(ConfigError, match='another process'):
        with runs.alone_in(tmp_path):
            pass


@pytest.mark.parametrize('rows', [[], [{'stage': 'teacher', 'step': 1, 'ended': 'done'}]])
def test_a_log_that_was_lost_has_no_curves_and_stops_nothing(rows, tmp_path):
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    figures.learning_curves(tmp_path / 'metrics.jsonl', tmp_path / 'curves.png')
    assert not (tmp_path / 'curves.png').exists()
    odd = [{'stage': 'a', 'step': 1, 'loss': 2.0}, {'stage': 'a', 'step': 2, 'loss': None, 'val/t2i/R1': 'x'}]
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in odd))
    figures.learning_curves(tmp_path / 'metrics.jsonl', tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size > 1000
