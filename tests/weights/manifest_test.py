"""A saved model knows each of its files: one other bit is told, whichever file it is in."""

import json

import pytest

from lcr2s_jax.errors import SearchError
from lcr2s_jax.weights import manifest

CONTENT = {'words.json': b'{"a": 1}', 'text.safetensors': b'\0' * 40, 'calibration.json': b'{}'}


@pytest.fixture
def folder(tmp_path):
    for name, bytes_ in CONTENT.items():
        (tmp_path / name).write_bytes(bytes_)
    facts = manifest.seal({'format': 2, 'heads': 4, 'mean': [0.1, 0.25]}, CONTENT)
    (tmp_path / 'model.json').write_text(json.dumps(facts))
    return tmp_path


def test_what_was_sealed_comes_back_however_it_is_laid_out(folder):
    facts = manifest.read(folder / 'model.json')
    manifest.check(folder, facts)
    assert facts['heads'] == 4 and manifest.content(folder, facts, 'text.safetensors') == CONTENT['text.safetensors']


def test_any_bit_of_any_file_is_told(folder):
    for name in ('model.json', *CONTENT):
        good = (folder / name).read_bytes()
        for bit in range(0, 8 * len(good), 7):
            spoilt = bytearray(good)
            spoilt[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(spoilt)
            with pytest.raises(SearchError, match=name):
                facts = manifest.read(folder / 'model.json')
                manifest.check(folder, facts)
                manifest.content(folder, facts, name)
        (folder / name).write_bytes(good)
    manifest.check(folder, manifest.read(folder / 'model.json'))


@pytest.mark.parametrize('text', ['', '{', '[]', '{}', '{"format": 2}', '{"seal": "x", "files": []}'])
def test_a_manifest_that_is_none_is_told(folder, text):
    (folder / 'model.json').write_text(text)
    with pytest.raises(SearchError, match='model.json.*restore'):
        manifest.read(folder / 'model.json')


def test_a_file_that_is_gone_or_came_from_elsewhere_is_told(folder):
    facts = manifest.read(folder / 'model.json')
    (folder / 'merges.txt').touch()
    with pytest.raises(SearchError, match="found 'merges.txt', which is no part of the model"):
        manifest.check(folder, facts)
    (folder / 'merges.txt').unlink()
    (folder / 'calibration.json').unlink()
    with pytest.raises(SearchError, match='calibration.json: cannot be read'):
        manifest.check(folder, facts)


def test_a_file_that_comes_later_is_sealed_with_the_others(folder):
    facts = manifest.seal(manifest.read(folder / 'model.json'), {'later': b'x'})
    assert facts['files'].keys() == {*CONTENT, 'later'} and facts['heads'] == 4
    (folder / 'model.json').write_text(json.dumps(facts))
    assert manifest.read(folder / 'model.json') == facts
