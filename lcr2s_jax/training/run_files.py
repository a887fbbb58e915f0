"""The JSON files of a workdir, read: each is what training writes, or refused with a message."""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence

from flax.traverse_util import flatten_dict

from lcr2s_jax import files
from lcr2s_jax import model as models
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation.metrics import NAMES
from lcr2s_jax.search.calibration import Calibration
from lcr2s_jax.texts import near
from lcr2s_jax.weights.layouts import is_run

MODEL = 'model'
FORMAT = 1
# fields of config.json that may, when a run is resumed: they say where and how something is computed, and not what
MAY_CHANGE = (
    'parallel', 'evaluate', 'data.root', 'data.images', 'data.cache', 'data.in_memory', 'model.kernel', 'model.remat',
    'model.scan', 'model.chunks',
)  # fmt: skip
_DELETE = 'delete it or choose another --workdir'
_RESTORE = 'restore it from a copy, or train into another --workdir'
_FACTS = {
    'clip': {'image_size': [int], 'context_length': int, str: (str, int, bool, [int], None)},
    'stages': [str],
    'fusion': {'heads': int, 'shared': bool},
    'views': int,
    'trained_on': models.TRAINED_ON,
}
_CONFIG = {
    'seed': int,
    'stages': [str],
    'tokenizer': str,
    'model': {'image_size': [int], 'context_length': int, 'dtype': str, 'pretrained': str, 'architecture': str},
    'data': {'dataset': str, 'root': str, 'cache': str},
    'batch': {'identities': int, 'views': int},
    'teacher': {'heads': int, 'shared_fusion': bool},
    'train': {'steps': int},
    'parallel': dict,
    'made_of': {str: str},
}
_SAID_TWICE = {  # field of config.json: of model.json
    'model.image_size': 'clip.image_size',
    'model.context_length': 'clip.context_length',
    'stages': 'stages',
    'batch.views': 'views',
    'teacher.heads': 'fusion.heads',
    'teacher.shared_fusion': 'fusion.shared',
}
_METRICS = {name: float for name in NAMES} | {str: float}
_SPLITS = {'val?': {'t2i': _METRICS, 'i2t?': _METRICS}, 'test?': {'t2i': _METRICS, 'i2t?': _METRICS}}
_STAGE = {'step': int, **_SPLITS, 'with_supports_oracle?': _SPLITS}
_RANDOM = {split: {str: {str: float}} for split in ('val?', 'test?')}
_RESULTS = {'run?': str, 'oracle?': _SPLITS, 'random?': _RANDOM, 'seconds?': {str: float}, str: _STAGE}


def no_run(workdir: pathlib.Path) -> str:
    """That there is no run, and where one is: above, below or beside."""
    above = [folder for folder in workdir.absolute().parents[:2] if (folder / MODEL / 'model.json').is_file()]
    inside = sorted(path.parent.parent for path in workdir.glob(f'*/{MODEL}/model.json'))
    hint = next((f'; did you mean {folder}?' for folder in (*above, *inside)), near(workdir))
    return f'--workdir: found no run in {workdir}; expected a folder that training made, with config.json{hint}'


def read_facts(workdir: pathlib.Path) -> dict:
    """The content of <workdir>/model/model.json. Raises ConfigError, also where config.json says otherwise."""
    path = workdir / MODEL / 'model.json'
    if not path.is_file():
        if is_run(workdir):  # others have a config.json, too
            raise ConfigError(
                f'{workdir}: found a run without {MODEL}/model.json, as versions before 0.2 left them; type its '
                'training command again, which adds what is missing and trains nothing'
            )
        raise ConfigError(no_run(workdir))
    facts = files.read_json(path, ConfigError, _RESTORE)
    if facts.get('format') != FORMAT:
        raise ConfigError(f'{path}: found another format than {FORMAT}; this version did not write it')
    if fault := files.misfit(facts, _FACTS):
        raise ConfigError(f'{path}: {fault}; {_RESTORE}')
    if (workdir / 'config.json').exists():
        _refuse_disagreement(workdir, facts)
    return facts


def read_config(workdir: pathlib.Path) -> dict:
    """The content of <workdir>/config.json. Raises ConfigError."""
    return files.read_json(workdir / 'config.json', ConfigError, _RESTORE, _CONFIG)


def read_results(workdir: pathlib.Path, stages: Sequence[str] = ()) -> dict:
    """The content of <workdir>/results.json, of these stages at least. Raises ConfigError, also for another run's."""
    path, advice = workdir / 'results.json', 'delete it: the training command evaluates again and trains nothing anew'
    like = {name: _STAGE for name in stages} | _RESULTS
    found, chosen = files.read_json(path, ConfigError, advice, like), read_chosen(workdir)
    run = found.pop('run', None)  # which earlier versions did not write
    steps = {name: found[name]['step'] for name in chosen if name in found}
    known = run and (workdir / 'config.json').exists()
    if (known and run != identity(workdir)) or any(step != chosen[name] for name, step in steps.items()):
        raise ConfigError(f'{path}: found the results of another run, expected those of this one; {advice}')
    return found


def identity(workdir: pathlib.Path) -> str:
    """A hash of what config.json says that a run is a function of: results.json has that of its run as `run`."""
    flat = flatten_dict(read_config(workdir), sep='.')
    said = {name: value for name, value in flat.items() if not name.startswith(MAY_CHANGE)}
    return hashlib.sha256(files.to_json(said).encode()).hexdigest()[:32]


def read_chosen(workdir: pathlib.Path) -> dict[str, int]:
    """The step that each stage was left with, by <workdir>/chosen.json; {} where there is none. Raises ConfigError."""
    path = workdir / 'chosen.json'
    return files.read_json(path, ConfigError, _DELETE, {str: int}) if path.exists() else {}


def read_calibration(workdir: pathlib.Path, stage: str) -> Calibration | None:
    """Of a stage; None where there is none. Raises UserError where it is damaged."""
    path = workdir / MODEL / f'calibration_{stage}.json'
    return Calibration.from_json(files.read_json(path, ConfigError, _DELETE), path) if path.is_file() else None


def _refuse_disagreement(workdir: pathlib.Path, facts: Mapping) -> None:
    """Training wrote both files of the same values: where they differ, nobody knows which of them is the model's."""
    config, model = (flatten_dict(tree, sep='.') for tree in (read_config(workdir), facts))
    for one, other in _SAID_TWICE.items():
        found, expected = config[one], model[other]
        if found != expected:
            raise ConfigError(
                f'{workdir}/config.json: found {found} as {one}, but {expected} as {other} in {MODEL}/model.json, and '
                f'training wrote the same in both: one of them was changed. Set it back, or {_RESTORE}'
            )
