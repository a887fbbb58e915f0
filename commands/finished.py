"""A run's finished stages, opened to be looked at."""

import contextlib
import pathlib
from collections.abc import Sequence

from commands.inputs import Inputs
from commands.run import STAGES
from commands.workdir import best_of, config_of, refuse_another_config
from lcr2s_jax.errors import ConfigError


class Finished(Inputs):
    """Opens a workdir and the data that its config names; no training may be at work in it.

    Args:
      workdir: of a run.
      needed: stages that must be finished; others are taken where they are.
      split: what is read of the data.

    Attributes, besides those of Inputs:
      workdir, split: as given.
      stages, params: the finished stages by name, in the order of training, each with its best parameters.

    Raises:
      UserError, DataError: what was found, what was expected, what to change.
    """

    def __init__(self, workdir: pathlib.Path, needed: Sequence[str], split: str):
        config = config_of(workdir)
        self.workdir, self.split, self.reads = workdir, split, (split,)
        self.params: dict = {}
        for name in dict.fromkeys((*STAGES, *needed)):
            if name in needed or (workdir / name).is_dir():
                with contextlib.suppress(*(() if name in needed else (ConfigError,))):  # it is still being trained
                    self.params[name], _ = best_of(workdir, name, finished=config.train.steps)
        super().__init__(config)
        refuse_another_config(workdir, config, made_of=self.made_of)
        if split not in self.splits:
            raise ConfigError(f"config.data: '{config.data.dataset}' has no split '{split}'")
        self.params = self.parallel.put_state(self.params)
        self.stages = {name: self._stage(name) for name in self.params}

    def features(self, name: str):
        """Every image and caption of the split, embedded by a stage: `lcr2s_jax.arrays.Embeddings`."""
        from lcr2s_jax.evaluation import evaluate

        return self.embed(evaluate.Embedder(self.stages[name].encoder, self.parallel), self.params[name], self.split)

    def _stage(self, name: str):
        from lcr2s_jax.method import stages

        common = (self.clip, self.clip_params, 1)  # identities matter to the loss alone
        if name == 'teacher':
            return stages.teacher_stage(*common, **self.config.teacher)
        return stages.baseline_stage(*common, **self.config.baseline)
