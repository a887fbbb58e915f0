"""Pictures of a run are whole, or what was there stays."""

import errno
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from lcr2s_jax.evaluation import compare, figures
from tests.searching import photo

PHOTO = photo(0)
VIEWS = {
    'name': 'person 0',
    'jpegs': [photo(0), photo(1)],
    'notes': [['front'], ['back']],
    'captions': ['a man', 'a man in red'],
    'weights': {'image': np.full((2, 2, 2), 0.5)},
}
LINE = {'row': 'a', 'label': 'a', 'way': 'single', 'R1': 1.0, 'mAP': 2.0}
NUMBERS = dict.fromkeys(('scatter_images', 'scatter_texts', 'cosine_matching', 'cosine_others'), 1.0)
PANEL = {
    'name': 'student',
    'image_N2': np.eye(2),
    'text_N2': np.eye(2),
    'image_pid': np.arange(2),
    'text_pid': np.arange(2),
    'numbers': {'drawn': NUMBERS, 'all': NUMBERS, 'variance_shown': 0.5},
}
ROWS = [{'stage': 'student', 'step': step, 'loss': 1.0, 'val/t2i/R1': 3.0} for step in (1, 2)]
DRAWN = {
    'sheet': lambda path: figures.contact_sheet([{'text': 'a man', 'jpegs': [PHOTO], 'right': [True]}], path, 't'),
    'curves': lambda path: figures.learning_curves(_log(path), path),
    'attention': lambda path: figures.attention_sheet([VIEWS], path, 't'),
    'embedding': lambda path: figures.embedding([PANEL], {'drawn by seed': [0, 1]}, path),
    'plot': lambda path: compare.plot([LINE], path, 'a'),
}


def _log(path):
    log = path.parent.parent / 'metrics.jsonl'
    log.write_text(''.join(json.dumps(row) + '\n' for row in ROWS))
    return log


def _full(picture, where, *given, **more):
    """As a disk that is full in the middle of a picture."""
    pathlib.Path(where).write_bytes(b'half')
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('name', DRAWN)
def test_a_picture_is_written_whole_or_what_was_there_stays(name, tmp_path, monkeypatch):
    path = tmp_path / 'drawn' / 'picture.png'
    path.parent.mkdir()
    DRAWN[name](path)
    before = path.read_bytes()
    assert Image.open(path).format == 'PNG'
    monkeypatch.setattr(Image.Image, 'save', _full)
    with pytest.raises(OSError, match='No space left'):
        DRAWN[name](path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
