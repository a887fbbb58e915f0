"""Training identities and batches of each stage, for runs with several baselines (ours)."""

from collections.abc import Sequence
from typing import NamedTuple

from lcr2s_jax.method import stages


class Sampling(NamedTuple):
    """How a stage's batches differ from the config's.

    `left_out`: (i, n): without fold i of n; () for nobody. `one_to_one`: a view a person. `order`: added to the seed.
    """

    left_out: tuple[int, ...] = ()
    one_to_one: bool = False
    order: int = 0


def of(name: str, names: Sequence[str]) -> Sampling:
    """Of a stage, in a run of the stages `names`."""
    entry = stages.STAGES[name]
    if entry.kind == 'fold':
        return Sampling((entry.number, len(stages.several('fold', names))), one_to_one=True)
    if entry.kind == 'member':
        return Sampling(one_to_one=entry.number % 2 == 0, order=1000 * entry.number)
    return Sampling()
