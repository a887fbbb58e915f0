"""Optimiser from a table: the first regular expression that finds a parameter's path sets its pace.

A row is (regex, learning-rate multiplier, weight decay); a multiplier of 0 freezes, without optimiser memory.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import optax

from lcr2s_jax.arrays import leaves_of
from lcr2s_jax.errors import ConfigError

Rule = tuple[str, float, float]


def paths(params) -> list[str]:
    """Every leaf's path, such as `clip/vision/block_0/attn/q/kernel`, in the order of `jax.tree.leaves`."""
    return [path for path, _ in leaves_of(params)]


def match(rules: Sequence[Rule], params) -> tuple:
    """Two trees shaped like `params`: learning-rate multipliers and weight decays.

    Raises ConfigError: no rule, or naming the parameters that no rule finds.
    """
    _check(rules)
    found = [next((r for r in rules if re.search(r[0], path)), None) for path in paths(params)]
    lost = [path for path, rule in zip(paths(params), found, strict=True) if rule is None]
    if lost:
        raise ConfigError(
            f'config.optim.rules: no rule finds {len(lost)} parameters, such as {lost[:3]}; '
            "end the table with a row for '.*'"
        )
    tree = jax.tree.structure(params)
    return tree.unflatten([float(r[1]) for r in found]), tree.unflatten([float(r[2]) for r in found])


def freeze(rules: Sequence[Rule], params, *, frozen: str) -> Sequence[Rule]:
    """The rules with one in front: parameters whose path the regex `frozen` finds are not trained. '' is no regex.

    Raises ConfigError: no regular expression, or it finds no parameter of `params`, which may be shapes only.
    """
    if not frozen:
        return rules
    rule, known = (frozen, 0.0, 0.0), paths(params)
    _check([rule], 'members.frozen')
    if not any(re.search(frozen, path) for path in known):
        raise ConfigError(f'config.members.frozen: found {frozen!r}, expected a part of a path such as {known[0]}')
    return rule, *rules


def _check(rules: Any, field: str = 'optim.rules') -> None:
    for rule in rules if isinstance(rules, list | tuple) else [rules]:
        fault = 'expected (regex, learning-rate multiplier, weight decay)'
        if isinstance(rule, list | tuple) and len(rule) == 3 and isinstance(rule[0], str):
            numbers = all(isinstance(x, int | float) and 0 <= x < math.inf for x in rule[1:])
            fault = '' if numbers else 'expected numbers of 0 or more behind the regex'
            try:
                re.compile(rule[0])
            except re.error as error:
                fault = f'expected a regular expression ({error})'
        if fault:
            raise ConfigError(f'config.{field}: found {rule!r}, {fault}')


def schedule(steps: int, learning_rate: float, warmup: float, warmup_start: float) -> optax.Schedule:
    """Linear rise from `warmup_start` x `learning_rate`, then cosine to 0.  [field: IRRA]

    The rate is the peak, before a rule's multiplier; `warmup` is a share of the steps, 0..1; at 1 it only rises.
    """
    ramp = round(warmup * steps)
    rise = optax.linear_schedule(warmup_start * learning_rate, learning_rate, max(ramp, 1))
    fall = optax.cosine_decay_schedule(learning_rate, max(steps - ramp, 1))
    return optax.join_schedules([rise, fall], [ramp])


def adam(
    *,
    steps: int,
    learning_rate: float,
    warmup: float,
    warmup_start: float,
    b1: float,
    b2: float,
    eps: float,
    clip_norm: float,
    rules: Sequence[Rule],
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay, the global gradient norm cut at `clip_norm` (0: never cut).

    The order matters: frozen gradients are zeroed before the norm is taken, and decay is scaled by the schedule.
    """

    def trainable(params):
        return jax.tree.map(lambda pace: pace > 0, match(rules, params)[0])

    return optax.chain(
        _scale_by_tree(lambda params: jax.tree.map(float, trainable(params))),
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.masked(optax.scale_by_adam(b1=b1, b2=b2, eps=eps), trainable),
        _add_decay(lambda params: match(rules, params)[1]),
        _scale_by_tree(lambda params: match(rules, params)[0]),
        optax.scale_by_learning_rate(schedule(steps, learning_rate, warmup, warmup_start)),
    )


def _scale_by_tree(factors) -> optax.GradientTransformation:
    """Multiply each update by the constant that `factors(params)` holds for it."""
    return optax.stateless(lambda updates, params: jax.tree.map(lambda u, f: u * f, updates, factors(params)))


def _add_decay(decays) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, params: jax.tree.map(lambda u, d, p: u + d * p if d else u, updates, decays(params), params)
    )
