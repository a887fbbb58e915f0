"""A teacher's features that are kept in a workdir: used as they were written, or made again."""

import types

import numpy as np
import pytest

from commands import training
from lcr2s_jax.arrays import Embeddings


class Inputs:
    """Two images and three captions, whose features are counted when they are made."""

    def __init__(self):
        split = dict(image_pid=np.zeros(2), caption_pid=np.zeros(3), caption_image=np.array([0, 1, 1]))
        self.splits, self.made = {'train': types.SimpleNamespace(**split)}, 0

    def embed(self, *_):
        self.made += 1
        image, text = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((3, 4), np.float32)
        return Embeddings(image, text, None, None, None, None)


def run(workdir):
    """What `teacher_features` reads of a `Training`."""
    report = types.SimpleNamespace(say=lambda text: None)
    params = {'teacher': {'a': np.ones(3)}}
    return types.SimpleNamespace(
        inputs=Inputs(), workdir=workdir, params=params, embedders=params, report=report, seconds={}
    )


@pytest.mark.parametrize(
    ('change', 'again'),
    [
        (lambda path: None, False),
        (lambda path: path.with_name('sums.json').unlink(), True),
        (lambda path: path.write_bytes(b''), True),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), True),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b'x'), True),
        (lambda path: path.write_bytes(path.with_name('text_QE.npy').read_bytes()), True),
        (lambda path: path.unlink(), True),
        (lambda path: path.with_name('sums.json').write_text('{'), True),
    ],
)
def test_features_that_are_not_those_that_were_written_are_made_again(change, again, tmp_path):
    first = training.teacher_features(run(tmp_path), ['teacher'])
    change(next(tmp_path.rglob('image_GE.npy')))
    second = run(tmp_path)
    found = training.teacher_features(second, ['teacher'])
    assert second.inputs.made == again
    np.testing.assert_array_equal(found.image_GE, np.arange(8).reshape(2, 4))
    np.testing.assert_array_equal(found.text_QE, first.text_QE)
