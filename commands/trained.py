"""A finished run's student and what it was trained and evaluated with: what an export is made and checked with."""

import dataclasses
import pathlib

from commands.inputs import Inputs
from commands.workdir import best_of, config_of, refuse_another_config


class Trained(Inputs):
    """Opens a workdir and what its config names: the student's best parameters, its tokenizer, its val and test.

    Attributes, besides those of Inputs:
      clip, params: the student alone, without classifier; clip computes in float32 whatever it was trained in.
      step: that the parameters are of.
      split: the name of the split to check on: val, or test where there is no val.
      made_of: with a hash of the student.

    Raises:
      UserError, DataError: what was found, what was expected, what to change.
    """

    def __init__(self, workdir: pathlib.Path):
        from lcr2s_jax.weights import pretrained

        config = config_of(workdir)
        params, self.step = best_of(workdir, 'student')
        self.params = params['clip']
        super().__init__(config)
        refuse_another_config(workdir, config, made_of=self.made_of)
        self.clip = dataclasses.replace(self.clip, dtype='float32', remat=False, scan=False, chunks=1)
        self.split = self.evaluated[0]
        self.made_of |= {'student': pretrained.fingerprint(self.params)}

    def features(self):
        """Every image and caption of `split`, by the float32 model: `lcr2s_jax.arrays.Embeddings`."""
        import jax

        from lcr2s_jax.evaluation import evaluate
        from lcr2s_jax.method import stages

        stage = stages.baseline_stage(self.clip, self.params, 1, align='sdm', identity_weight=0.0, scale=1.0)
        with jax.default_matmul_precision('highest'):
            params = self.parallel.put_state({'clip': self.params})
            return self.embed(evaluate.Embedder(stage, self.parallel), params, self.split)
