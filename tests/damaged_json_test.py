"""A JSON file of ours that was edited or damaged by hand is refused by its name, whatever is in it."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from commands.compare import tabulate
from commands.workdir import config_of
from configs import smoke
from lcr2s_jax import api, files
from lcr2s_jax import model as models
from lcr2s_jax.errors import ConfigError, UserError
from lcr2s_jax.evaluation import compare
from lcr2s_jax.search import index, seal
from lcr2s_jax.training import run as runs
from lcr2s_jax.training import run_files
from lcr2s_jax.video import crops
from lcr2s_jax.weights import layouts, sidecar, sizes
from tests import searching, tiny

DAMAGES = {
    'list': b'[]',
    'number': b'1',
    'null': b'null',
    'text': b'"x"',
    'empty': b'',
    'empty object': b'{}',
    'NaN': b'NaN',
    'brackets': b'[' * 10_000,
    'objects': b'{"a":' * 10_000,
    'blanks': b' ' * (100 << 20),
    'bytes': b'\xff\xfe\x00{',
    'digits': b'{"format": ' + b'9' * 5000 + b'}',
}
SCORES = {'t2i': dict.fromkeys((*compare.METRICS, 'queries'), 1.0)}
RESULTS = {'student': {'step': 2, 'test': SCORES}, 'random': {'test': {'t2i': {'R1': 1.0}}}, 'seconds': {'data': 0.1}}


def save(path: pathlib.Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(files.to_json(value))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A workdir without checkpoints, an export's file, a compared row, an index's model and seal."""
    folder = tmp_path_factory.mktemp('made')
    config = json.loads(smoke.get_config().to_json())
    config['stages'], size = ['student'], config['model']
    save(folder / 'run' / 'config.json', config | {'made_of': {'data': 'd', 'weights': 'w'}})
    facts = {'stages': ['student'], 'views': config['batch']['views'], 'trained_on': {'dataset': 'demo', 'people': 24}}
    facts['fusion'] = {'heads': config['teacher']['heads'], 'shared': config['teacher']['shared_fusion']}
    shape = dict(image_size=tuple(size['image_size']), context_length=size['context_length'])
    runs.keep_model(folder / 'run', tiny.clip(**shape), searching.words(), facts)
    runs.keep_calibration(folder / 'run', 'student', searching.fitted())
    save(folder / 'run' / 'chosen.json', {'student': 2})
    save(folder / 'run' / 'results.json', RESULTS)
    (folder / 'export').mkdir()
    sidecar.write(folder / 'export', tiny.clip(), {'dataset': 'demo'}, searching.fitted().to_json())
    save(folder / 'rows' / 'base-0.json', {'label': 'a row', 'seconds': 3.0, 'val': {'single': SCORES['t2i']}})
    made = searching.index(folder, 2)
    made.update()
    return folder


READERS = {
    'run/config.json': lambda root: config_of(root / 'run'),
    'run/model/model.json': lambda root: run_files.read_facts(root / 'run'),
    'run/model/calibration_student.json': lambda root: opened(root).calibration,
    'run/chosen.json': lambda root: run_files.read_chosen(root / 'run'),
    'run/results.json': lambda root: run_files.read_results(root / 'run', ['student']),
    'export/lcr2s.json': lambda root: sizes.clip_of(sidecar.FILE, sidecar.read(root / 'export').get('clip')),
    'rows/base-0.json': lambda root: compare.summarise(compare.read(root / 'rows'), 'val'),
    'index/model/model.json': lambda root: models.open_model(root / 'index' / 'model'),
    'index/model/calibration.json': lambda root: models.open_model(root / 'index' / 'model'),
    'index/model/tokenizer.json': lambda root: models.open_model(root / 'index' / 'model'),
    'index/sealed.json': lambda root: seal.read(str(root / 'index')),
}


def opened(root: pathlib.Path) -> runs.Run:
    return runs.Run(root / 'run', 'student', 2, {}, tiny.clip(), {})


def refused(root: pathlib.Path, file: str, content: bytes) -> str:
    """What is said of a file with that content; the file is as before then."""
    path = root / file
    before = path.read_bytes()
    READERS[file](root)
    path.write_bytes(content)
    try:
        with pytest.raises(UserError) as told:
            READERS[file](root)
    finally:
        path.write_bytes(before)
    return str(told.value)


@pytest.mark.parametrize('file', READERS)
def test_a_damaged_file_is_refused_by_its_name(made, file):
    content = (made / file).read_bytes()
    damages = DAMAGES | {'cut': content[: len(content) // 2], 'twice': content.replace(b'{', b'{"z": 1, "z": 2, ', 1)}
    if file == 'run/chosen.json':  # nothing is chosen yet
        del damages['empty object']
    for name, damage in damages.items():
        said = refused(made, file, damage)
        assert pathlib.Path(file).name in said or f'{pathlib.Path(file).parent}: found' in said, name
        assert len(said) < 600, name


@pytest.mark.parametrize('file', [file for file in READERS if not file.startswith('index/')])
@pytest.mark.parametrize('value', [None, 'x', float('nan'), [], 10**30], ids=repr)
def test_a_value_of_another_kind_is_refused_or_harmless(made, file, value):
    kept = json.loads((made / file).read_text())
    for name in kept:
        before = (made / file).read_bytes()
        save(made / file, kept | {name: value})
        try:
            READERS[file](made)
        except UserError as error:
            assert pathlib.Path(file).name in str(error)
        else:
            assert value == value, 'NaN is no JSON'
        finally:
            (made / file).write_bytes(before)


def test_a_config_that_says_otherwise_than_the_model_is_refused(made):
    content = json.loads((made / 'run/config.json').read_text())
    content['model']['image_size'] = [96, 48]
    before = (made / 'run/config.json').read_bytes()
    save(made / 'run/config.json', content)
    try:
        with pytest.raises(
            ConfigError, match=r'found \[96, 48\] as model.image_size, but \[48, 24\] as clip.image_size'
        ):
            run_files.read_facts(made / 'run')
    finally:
        (made / 'run/config.json').write_bytes(before)


def test_a_run_whose_config_is_no_object_is_still_a_run(made):
    before = (made / 'run/config.json').read_bytes()
    (made / 'run/config.json').write_bytes(b'[]')
    try:
        assert layouts.is_run(made / 'run') and not layouts.is_run(made / 'index')
        with pytest.raises(ConfigError, match='config.json: found a list of 0, expected a JSON object'):
            api.load(made / 'run')
    finally:
        (made / 'run/config.json').write_bytes(before)


def test_results_without_a_stage_of_the_run_are_refused(made):
    assert 'found 1 as student, expected a JSON object' in refused(made, 'run/results.json', b'{"student": 1}')
    assert 'found no student' in refused(made, 'run/results.json', b'{}')


@pytest.mark.parametrize('content', [b'[]', b'{}', b'[{"fits": true}]', b'[NaN]', b'[' * 10_000])
def test_a_damaged_choice_of_a_regime_is_refused_by_its_name(made, tmp_path, content):
    shutil.copytree(made / 'rows', tmp_path / 'rows')
    (tmp_path / 'rows' / 'regime.json').write_bytes(content)
    with pytest.raises(ConfigError, match='regime.json: .*delete it'):
        tabulate(tmp_path / 'rows', None, '')


def test_a_video_whose_list_of_tracks_is_damaged_is_cut_again(tmp_path):
    for content in DAMAGES.values():
        (tmp_path / crops.FILE).write_bytes(content)
        assert crops.read(tmp_path) is None


@pytest.mark.parametrize('name', ['a\nb', 'a\tb', 'a\x1b[31mb'])
def test_an_index_by_a_name_that_tables_cannot_have_is_refused_and_not_made(tmp_path, name):
    with pytest.raises(ConfigError, match=r'--index: found the control character .* expected none'):
        index.check(str(tmp_path / name), None, None)
    assert not (tmp_path / name).exists()


def test_a_misfit_is_told_by_its_place():
    like = {'a': [int], 'b?': {'c': (None, float)}}
    assert files.misfit({'a': [1], 'b': {'c': 0.5}, 'other': 1}, like) == ''
    assert files.misfit({'a': [1, 'x']}, like) == "found 'x' as a.1, expected a whole number"
    assert files.misfit({'a': [], 'b': {'c': True}}, like) == 'found True as b.c, expected null'
    assert files.misfit({}, like) == 'found no a'
    assert files.misfit({'a': [1], 'b': {'c': float(np.inf)}}, like)


def test_results_of_another_run_are_refused_and_those_of_this_run_stay_its_own(made, tmp_path):
    shutil.copytree(made / 'run', tmp_path / 'run')
    folder, config = tmp_path / 'run', json.loads((made / 'run' / 'config.json').read_text())
    assert run_files.read_results(folder) == RESULTS, 'an earlier version did not say whose they are'
    save(folder / 'results.json', {'run': run_files.identity(folder), **RESULTS})
    assert run_files.read_results(folder) == RESULTS
    config['data']['cache'] = 'elsewhere'
    save(folder / 'config.json', config)
    assert run_files.read_results(folder) == RESULTS, 'of where its data lies they do not tell'
    save(folder / 'config.json', config | {'seed': 7})
    with pytest.raises(UserError, match='results.json: found the results of another run, .*; delete it: the training'):
        run_files.read_results(folder)
    save(folder / 'results.json', RESULTS | {'student': {'step': 4, 'test': SCORES}})
    with pytest.raises(UserError, match='found the results of another run'):
        run_files.read_results(folder, ['student'])
