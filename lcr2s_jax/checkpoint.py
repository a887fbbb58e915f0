"""Checkpoints of one stage, by Orbax: the latest ones to resume from, the best one to keep, parameters on their own.

<folder>/<step>/params     what a model needs
<folder>/<step>/progress   what training needs besides: step number and optimiser state
"""

import logging
import pathlib

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from lcr2s_jax.errors import UserError

SCORE = 'score'


class CheckpointError(UserError):
    """A checkpoint cannot be read or does not fit; the message is all that the user sees."""


class Checkpoints:
    """The checkpoints under one folder: the last two are kept, and the one with the highest score.

    Saving is asynchronous; leaving the `with` block waits for it.
    """

    def __init__(self, folder: str | pathlib.Path):
        logging.getLogger('absl').setLevel(logging.ERROR)  # Orbax tells every step of every save
        self.folder = pathlib.Path(folder).absolute()
        # max_to_keep with best_fn would delete the newest checkpoint, the very one to resume from
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(2),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics[SCORE], n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep, best_fn=lambda metrics: metrics[SCORE], best_mode='max', create=True
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=('params', 'progress'))
        except ValueError as error:  # it reads the scores of all checkpoints at once
            raise CheckpointError(
                f'{self.folder}: the score of a checkpoint cannot be read ({error}). Expected JSON in '
                '<step>/metrics/metrics. Delete the folder of that step, or choose another --workdir.'
            ) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.wait_until_finished()
        self._manager.close()

    def latest(self) -> int | None:
        """The last step saved, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the highest score; the last step where none has a score; None where there is nothing."""
        best = self._manager.best_step()
        return self.latest() if best is None else best

    def save(self, state, score: float | None = None) -> None:
        """Write `state` under its own step number; does nothing if that step is there."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                progress=ocp.args.StandardSave({'step': state.step, 'opt_state': state.opt_state}),
            ),
            metrics=None if score is None else {SCORE: float(score)},
        )

    def restore(self, like):
        """The latest state, shaped, typed and placed as `like`. Raises CheckpointError."""
        items = self._read(self.latest(), params=like.params, progress={'step': like.step, 'opt_state': like.opt_state})
        return type(like)(step=items.progress['step'], params=items.params, opt_state=items.progress['opt_state'])

    def restore_params(self, like, step: int | None = None):
        """The parameters of `step` (default: the best), placed as `like`. Raises CheckpointError."""
        return self._read(self.best() if step is None else step, params=like).params

    def _read(self, step: int | None, **items):
        if step is None:
            raise CheckpointError(f'{self.folder}: no checkpoint here; train this stage first')
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, items)
        try:
            return self._manager.restore(
                step, args=ocp.args.Composite(**{k: ocp.args.StandardRestore(v) for k, v in abstract.items()})
            )
        except Exception as error:  # Orbax and its storage raise many kinds for files that are cut, altered or gone
            reason = (str(error).strip().splitlines() or [''])[0][:200]
            raise CheckpointError(
                f'{self.folder / str(step)}: the checkpoint cannot be read ({type(error).__name__}: {reason}). '
                'Expected a whole checkpoint of this very model. Delete that folder to resume from the one before, '
                'or choose another --workdir.'
            ) from error
