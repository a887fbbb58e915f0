"""What `pip install .` gives: the library and nothing else, usable from any folder."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.road import ROOT

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
CALL = (
    'import data, configs, commands, lcr2s_jax, sys; from lcr2s_jax import cli; assert data.MINE;'
    "model = lcr2s_jax.load('synthetic-pedestrians'); assert model.encode_text('a man').shape == (1, 128);"
    "assert 'site' in lcr2s_jax.__file__, lcr2s_jax.__file__;"
    "assert not {'tensorflow', 'torch', 'gradio', 'matplotlib'} & set(sys.modules);"
    "sys.exit(cli.main(['--version']))"
)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder, tree = tmp_path_factory.mktemp('wheel'), tmp_path_factory.mktemp('tree')
    for name in ('pyproject.toml', 'README.md', 'LICENSE'):  # a copy: the build leaves files beside its sources
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / 'lcr2s_jax', tree / 'lcr2s_jax', ignore=shutil.ignore_patterns('__pycache__'))
    words = [
        'wheel',
        '--no-deps',
        '--no-build-isolation',
        '--no-index',
        '--quiet',
        '--wheel-dir',
        str(folder),
        str(ROOT),
    ]
    subprocess.run([sys.executable, '-m', 'pip', *words], check=True, capture_output=True)
    return next(folder.glob('*.whl'))


def test_it_holds_the_library_alone_with_the_small_clip_and_the_command(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split('/')[0] for name in names} == {'lcr2s_jax', f'lcr2s_jax-{PROJECT_VERSION}.dist-info'}
    assert {'model.safetensors', 'config.json', 'tokenizer.json', 'lcr2s.json'} <= {pathlib.Path(n).name for n in names}
    entry = zipfile.ZipFile(wheel).read(f'lcr2s_jax-{PROJECT_VERSION}.dist-info/entry_points.txt').decode()
    assert 'lcr2s = lcr2s_jax.cli:main' in entry


def test_it_works_in_an_empty_folder_beside_packages_named_as_the_clones(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    for name in ('data', 'configs', 'commands'):
        (tmp_path / 'mine' / name).mkdir(parents=True)
        (tmp_path / 'mine' / name / '__init__.py').write_text('MINE = True\n')
    environment = os.environ | {'PYTHONPATH': str(tmp_path / 'site'), 'JAX_PLATFORMS': 'cpu'}
    run = subprocess.run(
        [sys.executable, '-c', CALL], cwd=tmp_path / 'mine', env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0 and run.stdout == f'lcr2s {PROJECT_VERSION}\n', run.stderr


def test_pins_of_the_wheel_are_those_of_the_requirements():
    def pins(lines):
        found = (re.match(r'([\w-]+)(?:\[\w+\])?([<>=][^;#\s]*)', line.strip().strip('"')) for line in lines)
        return {one[1].lower().replace('_', '-'): one[2] for one in found if one}

    files = ('requirements.txt', 'requirements-video.txt', 'requirements-cluster.txt', 'requirements-beam.txt')
    asked = pins(line for file in files for line in (ROOT / file).read_text().splitlines())
    extras = PROJECT['optional-dependencies']
    given = pins([*PROJECT['dependencies'], *(one for extra in extras.values() for one in extra)])
    only_by_choice = {'pillow-heif', 'tensorboard', 'torch'}
    assert {name: pin for name, pin in given.items() if name not in only_by_choice} == asked


PROJECT_VERSION = re.search(r"__version__ = '(.*)'", (ROOT / 'lcr2s_jax' / '__init__.py').read_text())[1]
