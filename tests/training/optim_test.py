"""The table decides: who learns how fast, who decays, who is frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.training import optim

SETTINGS = dict(steps=100, learning_rate=0.1, warmup=0.1, warmup_start=0.1, b1=0.9, b2=0.999, eps=1e-8, clip_norm=0.0)
RULES = (('tower', 0.0, 0.0), ('head/.*bias', 5.0, 0.0), ('head', 5.0, 0.5), ('.*', 1.0, 0.0))


def params():
    return {
        'tower': {'kernel': jnp.ones(3)},
        'head': {'kernel': jnp.ones(3), 'bias': jnp.ones(3)},
        'other': {'kernel': jnp.ones(3)},
    }


def first_update(grads, **changes):
    tx = optim.adam(**SETTINGS | dict(rules=RULES) | changes)
    return tx.update(grads, tx.init(params()), params())[0]


def test_the_first_rule_that_finds_a_path_wins():
    pace, decay = optim.match(RULES, params())
    assert pace == {'tower': {'kernel': 0}, 'head': {'kernel': 5, 'bias': 5}, 'other': {'kernel': 1}}
    assert decay['head'] == {'kernel': 0.5, 'bias': 0}


def test_a_parameter_that_no_rule_finds_is_an_error_that_names_it():
    with pytest.raises(ConfigError, match='other/kernel'):
        optim.match(RULES[:-1], params())


def test_updates_follow_multiplier_and_decay():
    updates = first_update(jax.tree.map(jnp.ones_like, params()))
    rate = 0.1 * 0.1  # the first step of warm-up; Adam's first step is the sign of the gradient
    np.testing.assert_allclose(updates['other']['kernel'], -rate * np.ones(3), rtol=1e-4)
    np.testing.assert_allclose(updates['head']['bias'], -5 * rate * np.ones(3), rtol=1e-4)
    np.testing.assert_allclose(updates['head']['kernel'], -5 * rate * 1.5 * np.ones(3), rtol=1e-4)
    np.testing.assert_array_equal(updates['tower']['kernel'], np.zeros(3))


def test_a_frozen_parameter_has_no_optimiser_memory_and_does_not_count_in_the_norm():
    tx = optim.adam(**SETTINGS | dict(rules=RULES, clip_norm=1.0, eps=1.0))
    memory = sum(x.size for x in jax.tree.leaves(tx.init(params())) if x.ndim)
    assert memory == 2 * 9
    small = jax.tree.map(lambda x: 0.1 * jnp.ones_like(x), params())
    loud = small | {'tower': {'kernel': 1e6 * jnp.ones(3)}}
    a, b = first_update(small, clip_norm=1.0, eps=1.0), first_update(loud, clip_norm=1.0, eps=1.0)
    np.testing.assert_array_equal(a['other']['kernel'], b['other']['kernel'])


def test_what_members_of_an_ensemble_do_not_train_goes_before_every_rule():
    assert optim.freeze(RULES, params(), frozen='') is RULES
    pace, decay = optim.match(optim.freeze(RULES, params(), frozen='kernel'), params())
    assert pace == {'tower': {'kernel': 0}, 'head': {'kernel': 0, 'bias': 5}, 'other': {'kernel': 0}}
    assert decay == jax.tree.map(lambda _: 0, decay)


@pytest.mark.parametrize(
    ('frozen', 'told'), [('/block_9/', 'expected a part of a path such as'), ('[', 'expected a regular expression')]
)
def test_a_part_that_no_member_has_is_told(frozen, told):
    with pytest.raises(ConfigError, match='config.members.frozen: found.*' + told):
        optim.freeze([('.*', 1.0, 0.1)], params(), frozen=frozen)


def test_gradients_are_clipped_to_the_norm():
    grads = jax.tree.map(lambda x: 100 * jnp.ones_like(x), params())
    free, cut = (first_update(grads, clip_norm=norm, eps=1.0, rules=(('.*', 1.0, 0.0),)) for norm in (0.0, 1.0))
    assert float(optax.global_norm(cut)) < 0.5 * float(optax.global_norm(free))


def test_the_schedule_rises_then_falls_to_zero():
    rate = optim.schedule(steps=100, learning_rate=1.0, warmup=0.1, warmup_start=0.1)
    values = np.array([float(rate(step)) for step in range(101)])
    np.testing.assert_allclose([values[0], values[10], values[55], values[100]], [0.1, 1.0, 0.5, 0.0], atol=1e-6)
    assert (np.diff(values[:11]) > 0).all() and (np.diff(values[10:]) < 0).all()


def test_a_warmup_of_all_steps_only_rises_up_to_the_learning_rate():
    rate = optim.schedule(steps=100, learning_rate=1.0, warmup=1.0, warmup_start=0.1)
    values = np.array([float(rate(step)) for step in range(101)])
    assert (np.diff(values) > 0).all() and values[-1] == 1.0


@pytest.mark.parametrize(
    ('rules', 'told'),
    [
        ((('(', 1.0, 0.0),), 'expected a regular expression'),
        ((('.*', 1.0),), 'expected .regex, learning-rate multiplier'),
        (((1, 1.0, 0.0),), 'expected .regex, learning-rate multiplier'),
        ((('.*', 'x', 0.0),), 'numbers of 0 or more'),
        ((('.*', -1.0, 0.0),), 'numbers of 0 or more'),
        (5, 'expected .regex'),
    ],
)
def test_a_rule_that_is_none_is_told(rules, told):
    with pytest.raises(ConfigError, match=f'config.optim.rules: found .*{told}'):
        optim.match(rules, {'a': np.zeros(2)})
