"""A field of the config that cannot be set so is told by its name and what it takes."""

import pytest

from commands import config
from lcr2s_jax.errors import ConfigError


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
