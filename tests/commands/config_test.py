"""A field of the config that cannot be set so is told by its name and what it takes; a file of it, by its line."""

import importlib

import pytest
from flax.traverse_util import flatten_dict

from commands import config, limits
from configs import base
from lcr2s_jax.errors import ConfigError
from tests.configs_test import NAMES


@pytest.mark.parametrize(
    'word, expected',
    [
        ('train.steps=abc', 'a whole number, such as 20'),
        ('optim.learning_rate=fast', 'a number, such as 0.001'),
        ('train=3', 'one of its fields to be set, such as --config.train.'),
    ],
)
def test_a_value_that_a_field_cannot_have_is_told_with_one_that_it_can(word, expected):
    with pytest.raises(ConfigError, match=f'^found --config.{word}, expected {expected}'):
        config.read('configs/smoke.py', [f'--config.{word}'])
    assert config.read('configs/smoke.py', ['--config.train.steps=7', '--config.stages=teacher']).train.steps == 7


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('x = 1\nraise RuntimeError("boom")', r', line 2 cannot be used \(RuntimeError: boom\)'),
        ('def get_config():\n    return 1 / 0', r', line 2 cannot be used \(ZeroDivisionError'),
        ('import sys\nsys.exit(3)', r', line 2 cannot be used \(SystemExit: 3\)'),
        ('def get_config():\n    return get_config()', 'RecursionError'),
        ('from configs import smoke\nimport none_such', ', line 2 cannot be used .*none_such'),
        ('from configs import smoke\nc = smoke.get_config()\nc.train.steps = "x"', ', line 3 cannot be used .*steps'),
        ('def get_config(x):\n    pass', 'missing 1 required'),
        ('def get_config():\n    return {}', 'found dict from get_config'),
        ('', 'no attribute .get_config'),
    ],
)
def test_a_config_file_that_cannot_be_used_is_told_with_its_line(tmp_path, text, told):
    path = tmp_path / 'mine.py'
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        config.read(str(path))


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ('c.train.stepz = 7', 'found train.stepz .*expected a field of configs/base.py; did you mean train.steps'),
        ('del c.batch.views', 'found no batch.views .*expected int'),
        ('del c.optim', 'found no optim '),
        ('del c.seed; c.seed = "0"', 'found seed of the type str'),
    ],
)
def test_a_config_file_has_the_fields_of_base_and_no_others(tmp_path, change, told):
    path = tmp_path / 'mine.py'
    text = (
        f'from configs import smoke\ndef get_config():\n    c = smoke.get_config().unlock()\n    {change}\n    return c'
    )
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        config.read(str(path))


def test_a_config_file_may_define_classes_and_take_an_argument(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        'from __future__ import annotations\nimport dataclasses, pathlib\nfrom configs import smoke\n'
        '@dataclasses.dataclass\nclass Sizes:\n    steps: int = 5\n'
        'def get_config(factor="1"):\n    c = smoke.get_config()\n    c.train.steps = Sizes().steps * int(factor)\n'
        '    c.data.root = str(pathlib.Path(__file__).parent)\n    return c\n'
    )
    assert config.read(str(path)).train.steps == 5
    found = config.read(f'{path}:3', ['--config.seed=4'])
    assert (found.train.steps, found.seed, found.data.root) == (15, 4, str(tmp_path))


def test_a_config_file_is_executed_once_whatever_is_set(tmp_path):
    path, log = tmp_path / 'mine.py', tmp_path / 'log'
    path.write_text(f'open({str(log)!r}, "a").write("x")\nfrom configs import smoke\nget_config = smoke.get_config\n')
    assert config.read(str(path), ['--config.train.steps=7', '--config.seed=3']).train.steps == 7
    with pytest.raises(ConfigError):
        config.read(str(path), ['--config.train.steps=x'])
    assert log.read_text() == 'xx'


def test_every_number_of_the_config_has_a_limit_that_its_default_is_within():
    numbers = {
        name: x for name, x in flatten_dict(base.get_config().to_dict(), sep='.').items() if type(x) in (int, float)
    }
    assert len(numbers) > 60
    assert [name for name in numbers if limits.limit_of(name) is None] == []
    for name in NAMES:
        limits.check(importlib.import_module(f'configs.{name}').get_config().to_dict())


@pytest.mark.parametrize(
    'word',
    [
        'augment.pad=24', 'optim.warmup=1.1',
        'teacher.heads=0', 'teacher.scale=0.0', 'student.scale=nan', 'teacher.support_dropout=2.0', 'augment.pad=-3',
        'student.target_share=-1.0', 'optim.learning_rate=-1.0', 'optim.learning_rate=inf', 'optim.b1=2.0',
        'optim.eps=0.0', 'optim.clip_norm=nan', 'model.vocab_size=-1', 'model.activation=foo', 'model.resize=nearest',
        f'train.steps={"9" * 400}', f'model.heads={"9" * 400}',
        'seed=99999999999999999999', 'reseed.teacher=-1', 'data.demo.seed=-1', 'baseline.image_weight=-0.1',
    ],
)  # fmt: skip
def test_a_value_out_of_its_limits_is_told_before_anything_is_opened(word):
    with pytest.raises(ConfigError, match=rf'^config\.{word.partition("=")[0]}: found .*, expected '):
        config.read('configs/smoke.py', [f'--config.{word}'])


def test_all_values_out_of_their_limits_are_told_at_once():
    with pytest.raises(ConfigError) as told:
        config.read('configs/smoke.py', ['--config.train.steps=0', '--config.augment.flip=2.0', '--config.seed=5'])
    assert str(told.value).splitlines() == [
        'config.augment.flip: found 2.0, expected 0 to 1', 'config.train.steps: found 0, expected 1 or more'
    ]  # fmt: skip
