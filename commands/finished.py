"""A run's finished stages, opened to be looked at."""

import pathlib
from collections.abc import Sequence

from commands.inputs import Inputs
from commands.run import STAGES, alone_in, config_of, refuse_another_config
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
        from lcr2s_jax import pretrained

        config = config_of(workdir)
        self.workdir, self.split, self.reads = workdir, split, (split,)
        self.stages, self.params = {}, {}
        for name in needed:
            if not (workdir / name).is_dir():
                raise ConfigError(
                    f'--workdir: found no {name} in {workdir}, whose config.stages is {tuple(config.stages)}; expected '
                    f"a run that has trained '{name}'"
                )
        super().__init__(config)
        made_of = {'data': self.source.fingerprint, 'weights': pretrained.fingerprint(self.clip_params)}
        refuse_another_config(workdir, config, made_of=made_of)
        if split not in self.splits:
            raise ConfigError(f"config.data: '{config.data.dataset}' has no split '{split}'")
        with alone_in(workdir):  # what is being trained may lose the checkpoint that is read
            for name in STAGES:
                if (workdir / name).is_dir():  # Checkpoints would make it
                    self._take(name, name in needed)

    def features(self, name: str):
        """Every image and caption of the split, embedded by a stage: `lcr2s_jax.arrays.Embeddings`."""
        from lcr2s_jax import evaluate

        return self.embed(evaluate.Embedder(self.stages[name], self.parallel), self.params[name], self.split)

    def _take(self, name: str, needed: bool) -> None:
        from lcr2s_jax import checkpoint, stages

        steps = self.config.train.steps
        with checkpoint.Checkpoints(self.workdir / name) as checkpoints:
            if checkpoints.latest() != steps:
                if needed:
                    raise ConfigError(
                        f'--workdir: found {name} in {self.workdir} at step {checkpoints.latest() or 0} of {steps}, '
                        'expected a finished one; python main.py --config=... with this --workdir goes on'
                    )
                return
            self.params[name] = self.parallel.put_state(checkpoints.restore_params(checkpoints.shapes()))
        common = (self.clip, self.clip_params, 1)  # identities matter to the loss alone
        if name == 'teacher':
            self.stages[name] = stages.teacher_stage(*common, **self.config.teacher)
        else:
            self.stages[name] = stages.baseline_stage(*common, **self.config.baseline)
