"""The lines of README and docs/python.md that show the API, run as they stand."""

import re

import numpy as np
import pytest
from PIL import Image

from tests import searching
from tests.road import ROOT

SENTENCES = ['a woman in a red coat', 'a man with a black backpack']


def lines_of(page, first):
    """The block of Python that begins with a line."""
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / page).read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith(first))


def pictures(folder):
    paths = [folder / 'a.jpg', folder / 'b.jpg']
    for number, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (90, 40, 3)).astype(np.uint8)).save(path)
    return paths


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
    pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(lines_of('README.md', 'import lcr2s_jax'), names)
    assert names['v'].shape == (2, 128) and names['t'].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(names['v'], axis=1), 1, atol=1e-6)


def test_the_lines_of_the_python_page_run(tmp_path):
    names = dict(pictures=pictures(tmp_path), sentences=SENTENCES, text_pid=np.arange(2), image_pid=np.arange(2))
    exec(lines_of('docs/python.md', 'import lcr2s_jax'), names)
    assert names['cosine'].shape == (2, 2) and 0 <= names['scores']['R1'] <= 100
    model, opened = names['model'], Image.open(tmp_path / 'a.jpg')
    same = model.encode_image([tmp_path / 'a.jpg', opened, np.asarray(opened), (tmp_path / 'a.jpg').read_bytes()])
    np.testing.assert_allclose(same, np.repeat(same[:1], 4, axis=0), atol=1e-5)


def test_an_index_is_searched_by_the_lines_of_the_page(tmp_path, capsys):
    made = searching.index(tmp_path, count=6)
    made.update()
    capsys.readouterr()
    names = {'lcr2s_jax': __import__('lcr2s_jax'), 'uri': made.uri}
    exec(lines_of('docs/python.md', 'index = '), names)
    assert len(capsys.readouterr().out.splitlines()) == 5 and len(names['index']) == 6


@pytest.mark.slow
def test_the_notebook_runs_in_two_minutes():
    import nbclient
    import nbformat

    book = nbformat.read(ROOT / 'docs' / 'quickstart.ipynb', as_version=4)
    nbclient.NotebookClient(book, timeout=120, resources={'metadata': {'path': str(ROOT / 'docs')}}).execute()
    assert any('R1' in str(cell.get('outputs')) for cell in book.cells)
