"""The lines of README and docs/python.md that show the API, run as they stand."""

import copy
import multiprocessing
import pickle
import re

import numpy as np
import pytest
from PIL import Image

import lcr2s_jax
from lcr2s_jax.errors import UserError
from lcr2s_jax.search import retention
from tests import searching
from tests.road import ROOT

VECTORS = np.eye(2), np.eye(2)
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


@pytest.fixture(scope='module')
def model():
    return lcr2s_jax.load('synthetic-pedestrians')


@pytest.mark.parametrize(
    'call,words',
    [
        (lambda m: m.encode_image(None), 'encode_image: found NoneType, expected paths'),
        (lambda m: m.encode_image({'a': 1}), 'encode_image: found dict'),
        (lambda m: m.encode_image([np.zeros((0, 4, 3), np.uint8)]), r'found an array uint8 \[0, 4, 3\]'),
        (lambda m: m.encode_text(5), 'encode_text: found int, expected sentences'),
        (lambda m: m.similarity('a', np.ones((1, 128))), 'similarity: found no vectors'),
        (lambda m: lcr2s_jax.metrics.retrieval(*VECTORS, [0], [0, 1]), r'identities of shape \(1,\)'),
        (lambda m: lcr2s_jax.metrics.retrieval(*VECTORS, [[0], [1]], [0, 1]), 'an identity for each'),
        (lambda m: lcr2s_jax.metrics.retrieval(*VECTORS, [5, 6], [0, 1]), 'found no identity that'),
        (lambda m: lcr2s_jax.metrics.retrieval([[1, 2], [3]], VECTORS[1], [0, 1], [0, 1]), 'rows of several lengths'),
        (lambda m: lcr2s_jax.metrics.retrieval(np.ones((2, 0)), np.ones((2, 0)), [0, 1], [0, 1]), r'shape \(2, 0\)'),
        (lambda m: lcr2s_jax.metrics.retrieval(*VECTORS, [0, 1], [0, 1], 0), 'found block 0, expected a whole number'),
        (lambda m: m.encode_image({'a.jpg'}), 'found a set, which has no order, expected a list'),
        (lambda m: m.encode_text(frozenset(SENTENCES)), 'found a set, which has no order'),
        (lambda m: m.encode_text(np.array('a man')), 'encode_text: found ndarray'),
        (lambda m: m.encode_image(np.zeros((9, 9, 3))), r'encode_image, picture 1: found an array float64'),
        (lambda m: m.encode_image([np.zeros((9, 9, 3), np.uint8), b'x' * 9]), 'encode_image, picture 2: no picture'),
        (lambda m: m.encode_image(str(ROOT / 'README.md').encode()), 'the path of a file, which is given as str'),
        (lambda m: m.similarity(np.full((1, 128), np.nan), np.ones((1, 128))), 'NaN or infinity .* of sentences'),
        (lambda m: m.similarity(np.ones((1, 128)), np.ones((1, 128)) * 1j), 'similarity: found no vectors'),
        (lambda m: m.save(None), 'save: found NoneType'),
        (lambda m: m.save(ROOT / 'README.md' / 'x'), r'save: .* cannot be made \(.*\); name another'),
        (pickle.dumps, 'found a Model to be pickled'),
        (lambda m: lcr2s_jax.load('/' + 'a' * 300), 'File name too long, expected a folder'),
        (lambda m: lcr2s_jax.load('a\0b'), 'embedded null byte'),
        (lambda m: lcr2s_jax.open_index('/' + 'a' * 300), 'File name too long, expected a folder'),
        (lambda m: lcr2s_jax.open_index('a\0b'), 'embedded null byte'),
        (lambda m: lcr2s_jax.open_index(None), 'uri: found a NoneType, expected text or a path'),
    ],
)
def test_a_wrong_value_is_a_sentence(model, call, words):
    with pytest.raises(UserError, match=words):
        call(model)


def test_a_closed_picture_is_a_sentence(model):
    picture = Image.new('RGB', (4, 4))
    picture.close()
    with pytest.raises(UserError, match='a PIL picture cannot be read'):
        model.encode_image(picture)


def test_a_model_is_saved_under_a_name_and_never_over_another(model, tmp_path):
    model.save(str(tmp_path / 'new'))
    assert lcr2s_jax.load(tmp_path / 'new').hash == model.hash
    with pytest.raises(UserError, match='found .* there already'):
        model.save(tmp_path / 'new')


def test_a_search_with_a_value_of_another_kind_is_a_sentence(tmp_path):
    made = searching.index(tmp_path, count=2)
    made.update()
    opened = lcr2s_jax.open_index(made.uri)
    assert len(opened.search('a man', top=np.int64(1)).hits) == 1
    for given, words in (
        (dict(sentence=5), r"sentence: found '5' \(int\), expected text"),
        (dict(sentence='a', top='5'), 'top: found .* expected a whole number'),
        (dict(sentence='a', top=1.5), 'top: found .* expected a whole number'),
        (dict(sentence='a', where=None), 'where: found'),
        (dict(sentence='a', false_alarms='5%'), 'false_alarms: found .* expected a number'),
    ):
        with pytest.raises(UserError, match=words):
            opened.search(**given)


def test_a_copy_of_a_model_embeds_as_it_does(model):
    np.testing.assert_array_equal(copy.deepcopy(model).encode_text('a man'), model.encode_text('a man'))


def _says(said, model) -> None:
    try:
        said.put(model.encode_text('a man').shape)
    except UserError as error:
        said.put(str(error))


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
def test_a_process_that_was_forked_after_jax_had_computed_says_so_and_does_not_hang(model):
    model.encode_text('a man')
    fork = multiprocessing.get_context('fork')
    said = fork.Queue()
    child = fork.Process(target=_says, args=(said, model))
    child.start()
    try:
        assert 'forked from one in which JAX had computed' in str(said.get(timeout=60))
    finally:
        child.kill()
        child.join()


def test_an_open_index_shows_nothing_that_another_call_erased_and_finds_what_one_added(tmp_path):
    made = searching.index(tmp_path, count=6)
    made.update()
    opened, unused = (lcr2s_jax.open_index(made.uri) for _ in range(2))
    assert len(opened.search('a man').hits) == 6
    gone = opened.search('a man').hits[0].path
    retention.forget(made.uri, f"path = '{gone}'", 'ann', True)
    for one in (opened, unused):
        assert len(one) == 5 and gone not in [hit.path for hit in one.search('a man').hits]
    searching.pictures(made.root, 2, first=50)
    made.update()
    assert len(opened) == 7 and len(opened.search('a man').hits) == 7


@pytest.mark.slow
def test_the_notebook_runs_in_two_minutes():
    import nbclient
    import nbformat

    book = nbformat.read(ROOT / 'docs' / 'quickstart.ipynb', as_version=4)
    nbclient.NotebookClient(book, timeout=120, resources={'metadata': {'path': str(ROOT / 'docs')}}).execute()
    assert any('R1' in str(cell.get('outputs')) for cell in book.cells)
