"""A run's finished stages, and the data that its config names: what explaining and measuring a run start from."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from commands.inputs import Encoder, Inputs, open_inputs
from commands.workdir import config_of, same_data
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import evaluate
from lcr2s_jax.training import run as runs
from lcr2s_jax.training.run import Run
from lcr2s_jax.training.run_files import read_facts


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run in which no training is at work; `stages` are the finished ones in order, each at its best step."""

    config: ConfigDict
    inputs: Inputs
    stages: Mapping[str, Run]

    def features(self, name: str, split: str) -> Embeddings:
        """Every image and caption of a split, embedded by a stage."""
        return self.inputs.embed(self._embedder, self.stages[name].params, split)

    @functools.cached_property
    def _embedder(self) -> evaluate.Embedder:
        """Compiled once: all stages have the same towers."""
        return evaluate.Embedder(next(iter(self.stages.values())).encoder, self.inputs.parallel)


def open_finished(workdir: pathlib.Path, needed: Sequence[str], reads: Sequence[str]) -> Finished:
    """Open a run; stages that are `needed` must be finished, others are taken where they are."""
    config = config_of(workdir)
    opened: dict[str, Run] = {}
    for name in dict.fromkeys([*runs.stages_of(workdir, read_facts(workdir)), *needed]):
        try:
            runs.best_parameters(workdir, name, finished=config.train.steps)
            opened[name] = Run.open(workdir, name)
        except ConfigError:
            if name in needed:
                raise  # others may still be in training
    first = next(iter(opened.values()))
    encoder = Encoder(first.clip, None, first.tokenizer)
    inputs = open_inputs(config, reads, encoder=lambda config: encoder, check_source=same_data(workdir, config))
    return Finished(config, inputs, opened)
