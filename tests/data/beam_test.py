"""Built by Apache Beam: the same files to the byte. The usual environment is without it (requirements-beam.txt)."""

import importlib.util
import sys

import pytest

from data import people, sources
from lcr2s_jax.errors import ConfigError, DataError
from lcr2s_jax.weights.tokenizer import Tokenizer
from tests import folders

WORDS = Tokenizer('lcr2s_jax/weights/demo_clip')
needs_beam = pytest.mark.skipif(
    not importlib.util.find_spec('apache_beam'), reason='apache-beam is not installed (requirements-beam.txt)'
)
HERE = ['--runner=DirectRunner', '--direct_running_mode=in_memory']
PROCESSES = ['--direct_num_workers=2']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """102 images in seven record files."""
    monkeypatch.setattr(sources, '_IMAGES', 20)
    return folders.table(tmp_path / 'data', splits=True, people=34)


def build(folder, cache, beam=None):
    return people.build(folders.open_source('folder', folder.root), WORDS, 12, str(cache), beam)


@needs_beam
@pytest.mark.parametrize('options', [HERE, PROCESSES], ids=['in this process', 'in two others'])
def test_beam_builds_what_is_built_without_it_to_the_byte(options, folder, tmp_path):
    folder.damage(folder.rows[40])
    plain, beam = build(folder, tmp_path / 'plain'), build(folder, tmp_path / 'beam', options)
    content = {path.name: path.read_bytes() for path in plain.iterdir()}
    assert len([name for name in content if 'array_record' in name]) == 7
    assert {path.name: path.read_bytes() for path in beam.iterdir()} == content


@needs_beam
@pytest.mark.parametrize('options', [HERE, PROCESSES], ids=['in this process', 'in two others'])
def test_too_many_unusable_images_stop_workers_too_and_leave_nothing(options, folder, tmp_path):
    for number in (40, 41, 90):
        folder.damage(folder.rows[number])
    with pytest.raises(DataError, match="^dataset 'folder': found [23] unusable among the first"):
        build(folder, tmp_path / 'cache', options)
    assert [path.suffix for path in (tmp_path / 'cache').rglob('*') if path.is_file()] == ['.lock']


@needs_beam
@pytest.mark.parametrize(
    ('option', 'told'),
    [
        ('--runner=Nonsense', 'Unexpected pipeline runner: Nonsense'),
        ('--direct_num_workers=many', "invalid int value: 'many'"),
    ],
)
def test_a_runner_or_an_option_that_beam_does_not_know_is_told(option, told, folder, tmp_path):
    with pytest.raises(ConfigError, match=f'--beam-options: found {option}; .*{told}'):
        build(folder, tmp_path / 'cache', [option])


def test_without_beam_it_is_said_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'apache_beam.options', None)
    with pytest.raises(ConfigError, match='--beam: found no apache-beam.* pip install -r requirements-beam.txt'):
        build(folder, tmp_path / 'cache', [])
