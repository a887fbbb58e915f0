"""The model inside an index is the student, whole, and known by its hash."""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

import lcr2s_jax
from lcr2s_jax import images
from lcr2s_jax.errors import SearchError, UserError
from lcr2s_jax.model import identity, open_model
from tests import searching


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    index = tmp_path_factory.mktemp('model')
    searching.make_model(index)
    return index / 'model'


def test_it_embeds_as_the_student_does_on_all_devices(folder):
    clip, params, opened = searching.clip(), searching.params(), open_model(folder)
    image = np.random.default_rng(0).integers(0, 256, (11, 16, 8, 3)).astype(np.uint8)
    tokens = searching.words().encode([searching.WORDS, 'a man'], clip.context_length)
    for found, rows, method in (
        (opened.embed_image(image), image, 'encode_image'),
        (opened.embed_text(tokens), tokens, 'encode_text'),
    ):
        expected = np.asarray(jax.jit(lambda p, x, m=method: clip.apply({'params': p}, x, method=m))(params, rows))
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_copies_have_one_vector_in_whatever_batch_they_come(folder):
    opened, picture = open_model(folder), np.random.default_rng(0).integers(0, 256, (16, 8, 3)).astype(np.uint8)
    for vectors in (opened.encode_text(['a man in red'] * 70), opened.encode_image([picture] * 70)):
        assert vectors.shape == (70, searching.clip().embed_dim) and len(np.unique(vectors, axis=0)) == 1


def test_text_is_embedded_without_reading_the_image_tower(folder, tmp_path):
    half = tmp_path / 'model'
    half.mkdir()
    for file in folder.iterdir():
        if file.name != 'vision.safetensors':
            (half / file.name).write_bytes(file.read_bytes())
    tokens = searching.words().encode(['a man'], 16)
    np.testing.assert_array_equal(open_model(half).embed_text(tokens), open_model(folder).embed_text(tokens))
    with pytest.raises(SearchError, match='vision.safetensors'):
        open_model(half).embed_image(np.zeros((1, 16, 8, 3), np.uint8))


def test_the_hash_changes_with_model_preprocessing_and_tokenizer_and_with_nothing_else(monkeypatch):
    model = dict(clip=searching.clip(), params=searching.params(), tokenizer=searching.words().files)

    def hash_of(**facts):
        return identity(**facts)['hash']

    same = hash_of(**model)
    assert same == hash_of(**model | {'params': searching.params()}) == searching.model().hash
    others = [
        model | {'params': searching.params(seed=1)},
        model | {'tokenizer': {'tokenizer.json': b'{}'}},
        model | {'clip': searching.clip().copy(activation='gelu')},
    ]
    hashes = {same, *(hash_of(**other) for other in others)}
    assert hash_of(**model | {'clip': searching.clip().copy(remat=True, chunks=2)}) == same, 'they change no number'
    monkeypatch.setattr(images, 'RECIPE', 'nearest')
    assert len(hashes | {hash_of(**model)}) == 5


def test_a_damaged_file_or_another_format_is_refused(folder, tmp_path):
    spoilt = tmp_path / 'model'
    spoilt.mkdir()
    for file in folder.iterdir():
        (spoilt / file.name).write_bytes(file.read_bytes())
    content = bytearray((spoilt / 'text.safetensors').read_bytes())
    content[-1] ^= 1
    (spoilt / 'text.safetensors').write_bytes(content)
    with pytest.raises(SearchError, match='text.safetensors'):
        open_model(spoilt).embed_text(np.zeros((1, 16), np.int32))
    facts = json.loads((spoilt / 'model.json').read_text())
    (spoilt / 'model.json').write_text(json.dumps(facts | {'format': 99}))
    with pytest.raises(SearchError, match='format 99, expected 2'):
        open_model(spoilt)
    with pytest.raises(SearchError, match='lcr2s index'):
        open_model(tmp_path)


def test_the_tokenizer_comes_back_as_it_was(folder):
    from lcr2s_jax.weights.tokenizer import Tokenizer

    assert Tokenizer(str(folder)).fingerprint == searching.words().fingerprint


def test_whatever_is_no_picture_sentence_or_vector_is_called_by_its_kind():
    model = lcr2s_jax.load('synthetic-pedestrians')
    for given, found in (
        (np.zeros((9, 9), np.uint8), r'an array uint8 \[9, 9\]'),
        (io.BytesIO(b'x'), 'BytesIO'),
        (bytearray(b'x'), 'bytearray'),
        (Image.new('RGB', (0, 0)), 'a PIL picture of 0 x 0 pixels'),
    ):
        with pytest.raises(UserError, match=found):
            model.encode_image(given)
    for given in ([None], ['a', 0], b'a'):
        with pytest.raises(UserError, match='encode_text: found (NoneType|int|bytes)'):
            model.encode_text(given)
    for t, v in ((None, None), (np.ones((1, 2, 3)), np.ones((1, 2, 3))), (np.full((1, 2), np.nan), np.ones((1, 2)))):
        with pytest.raises(UserError, match='similarity: found (arrays|NaN)'):
            model.similarity(t, v)
