"""Checkpoints of one stage, by Orbax: the latest ones to resume from, the best one to keep, parameters on their own.

<folder>/<step>/params     what a model needs
<folder>/<step>/progress   what training needs besides: step number and optimiser state
<folder>/<step>/sums       a checksum of either, taken before they were written and compared after they are read
"""

import errno
import gc
import logging
import pathlib
import re
import sys
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from lcr2s_jax.errors import Interrupted, UserError
from lcr2s_jax.files import kind, misfit
from lcr2s_jax.training.parallel import is_primary, wait_for_all

SCORE = 'score'
_MAY_PASS = (
    errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT
)  # fmt: skip
_ITEMS = ('params', 'progress', 'sums')


class CheckpointError(UserError):
    """A checkpoint cannot be read or does not fit; the message is all that the user sees."""


class Damaged(CheckpointError):
    """What was written is not there any more; where a read merely failed, of a disk or for memory, it may be."""


@jax.jit
def checksum(tree) -> jax.Array:
    """uint32 of all bits of a tree of arrays: exact, and the same however the arrays are spread over devices. [ours]

    Every word is multiplied by an odd number that depends on its place, so that a word that changes or moves shows.
    """
    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(tree):
        x = jnp.asarray(leaf)
        words = jax.lax.bitcast_convert_type(x, jnp.uint32 if x.dtype.itemsize == 4 else jnp.uint8).astype(jnp.uint32)
        place = jnp.arange(words.size, dtype=jnp.uint32).reshape(words.shape)
        mixed = words * (2 * place + 1) * jnp.uint32(2654435761)
        total = total * jnp.uint32(31) + jnp.sum(mixed ^ (mixed >> 15), dtype=jnp.uint32)
    return total


class Checkpoints:
    """The checkpoints under one folder: the last two are kept, and the one with the highest score.

    Saving is asynchronous; leaving the `with` block waits for it. `say` is told what was found damaged, one line.
    """

    def __init__(self, folder: str | pathlib.Path, say=print):
        self._say = say
        for name in ('absl', 'asyncio'):  # Orbax tells every step of a save, and every array of one that fails
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is raised, and told once
        self.folder = pathlib.Path(folder).absolute()
        if not self.folder.is_dir() and (found := kind(self.folder)):
            raise CheckpointError(f'{self.folder}: found {found}, expected a folder of checkpoints; move it away')
        # max_to_keep with best_fn would delete the newest checkpoint, the very one to resume from
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(2),
                checkpoint_managers.BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep, best_fn=self._score, best_mode='max', create=True
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=_ITEMS)
        except (ValueError, RecursionError, OSError) as error:  # it reads the scores of all checkpoints at once
            raise CheckpointError(
                f'{self.folder}: a checkpoint cannot be looked at ({error}). Expected JSON in <step>/metrics/metrics '
                'and <step>/_CHECKPOINT_METADATA. Delete the folder of that step, or choose another --workdir.'
            ) from error

    def _score(self, metrics) -> float:
        if misfit(metrics, {SCORE: float}):
            raise CheckpointError(
                f'{self.folder}: found {str(metrics)[:60]} as the score of a checkpoint, expected {SCORE} in it. '
                'Delete the folder of that step, or choose another --workdir.'
            )
        return metrics[SCORE]

    def __enter__(self):
        self._tell_unraisable = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, kind, *_):
        try:
            self._settle()
        except CheckpointError:
            if kind is None or issubclass(kind, Interrupted):  # which says that all is saved
                raise  # any other error under way must not be hidden by this one
        finally:
            self._manager.close()
            sys.unraisablehook = self._tell_unraisable

    def latest(self) -> int | None:
        """The last step saved, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the highest score; the last step where none has a score; None where there is nothing."""
        best = self._manager.best_step()
        return self.latest() if best is None else best

    def save(self, state, score: float | None = None) -> None:
        """Write `state` under its own step number; does nothing if that step is there. Raises CheckpointError."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        progress = {'step': state.step, 'opt_state': state.opt_state}
        sums = {name: int(checksum(tree)) for name, tree in (('params', state.params), ('progress', progress))}
        self._settle()  # of the save before: its error must not surface as this one's
        self._attempt(
            lambda: self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    progress=ocp.args.StandardSave(progress),
                    sums=ocp.args.JsonSave(sums),
                ),
                metrics=None if score is None else {SCORE: float(score)},
            )
        )

    def restore(self, like):
        """The latest state that is whole, shaped, typed and placed as `like`; None where there is none at all.

        A damaged one is told and set aside, beside the folder, and the one before it is taken. Raises CheckpointError:
        there are checkpoints, and none of them can be used, or the machine could not read the last.
        """
        errors = []
        while (step := self.latest()) is not None:
            try:
                items = self._read(step, params=like.params, progress={'step': like.step, 'opt_state': like.opt_state})
            except Damaged as error:
                errors.append(error)
                if len(self._manager.all_steps()) == 1:
                    break  # nothing before it: left where it is, for a closer look
                self._set_aside(step, error, 'going on from step {latest}')
                continue
            progress = items['progress']
            return type(like)(step=progress['step'], params=items['params'], opt_state=progress['opt_state'])
        if errors:
            raise errors[-1]
        return None

    def shapes(self, step: int | None = None):
        """What `restore_params` would be given for the parameters of `step` (default: the best): shapes and types.

        For those who do not know the model, such as how many people its classifier tells apart. Raises CheckpointError.
        """
        step = self._wanted(step)
        try:
            tree = ocp.StandardCheckpointer().metadata(self.folder / str(step) / 'params').item_metadata.tree
        except Exception as error:  # as in _read
            raise self._unusable(step, _short(error)) from error
        # whole on every device of every host
        mesh = jax.sharding.Mesh(jax.devices(), ('all',))
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), tree)

    def restore_params(self, like, step: int | None = None):
        """The parameters of `step` (default: the best), placed as `like`. Raises CheckpointError."""
        step = self._wanted(step)
        return self._read(step, params=like)['params']

    def best_of(self, state) -> tuple[Any, int]:
        """Parameters and step of the highest score among the checkpoints that are whole; `state` is the last one.

        A damaged one is told and set aside, as by `restore`: a score whose parameters nobody can load is none.
        """
        while (best := self.best()) != int(state.step):
            try:
                return self.restore_params(state.params, best), best
            except Damaged as error:
                self._set_aside(best, error, 'the best of the others is taken, step {best}')
        return state.params, best

    def _wanted(self, step: int | None) -> int:
        step = self.best() if step is None else step
        if step is None:
            raise CheckpointError(f'{self.folder}: no checkpoint here; train this stage first')
        return step

    def _read(self, step: int, **items) -> dict:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, items)
        args = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
        reason = ''
        try:
            found = self._manager.restore(step, args=ocp.args.Composite(**args, sums=ocp.args.JsonRestore()))
        except Exception as error:  # Orbax and its storage raise many kinds for files that are cut, altered or gone
            reason = _short(error)
            if _of_the_machine(error):
                raise CheckpointError(
                    f'{self.folder / str(step)}: the checkpoint could not be read ({reason}), which is no fault of its '
                    'own; it was left as it is. Mend that, and the same command goes on.'
                ) from error
        if reason:  # out of the `except`, whose error holds on to the arrays that Orbax has given up to read
            gc.collect()  # they end here, unheard, and not later with a traceback each
            raise self._unusable(step, reason)
        if fault := misfit(found.sums, {name: int for name in items}):
            raise self._unusable(step, f'its checksums: {fault}')
        for name in items:
            if int(checksum(found[name])) != found.sums[name]:
                raise self._unusable(step, f'the numbers of {name} are not those that were written')
        return {name: found[name] for name in items}

    def _unusable(self, step: int, reason: str) -> Damaged:
        return Damaged(
            f'{self.folder / str(step)}: the checkpoint cannot be read ({reason}). Expected a whole checkpoint of this '
            'very model. Delete that folder to go on from the checkpoint before it, if there is one, or choose another '
            '--workdir.'
        )

    def _set_aside(self, step: int, error: CheckpointError, then: str) -> None:
        """Move a damaged checkpoint out of the way of the one that will have its number; say what is done `then`."""
        self._settle()  # what is half written would be forgotten
        aside = self.folder.with_name(f'{self.folder.name}-{step}.damaged-{time.time_ns()}')
        if is_primary():
            (self.folder / str(step)).rename(aside)
        wait_for_all(f'{self.folder}-{step} is set aside')
        self._manager.reload()
        self._say(f'{error}\nIt was moved to {aside}; {then.format(latest=self.latest(), best=self.best())}.')

    def _unraisable(self, what) -> None:
        """Of a save or a restore that has failed, every other array would print a traceback when it is dropped."""
        error = what.exc_value
        too_late = isinstance(error, RuntimeError) and 'Event loop is closed' in str(error)
        if not (too_late or isinstance(error.__cause__, GeneratorExit)):
            self._tell_unraisable(what)

    def _settle(self) -> None:
        self._attempt(self._manager.wait_until_finished)

    def _attempt(self, call) -> None:
        try:
            call()
        except Exception as error:  # a full disk shows as any of a dozen kinds
            _release()
            whole = ', '.join(map(str, sorted(self._manager.all_steps()))) or 'none'
            raise CheckpointError(
                f'{self.folder}: a checkpoint could not be written ({_short(error)}). Whole checkpoints are those of '
                f'the steps: {whole}. Make room on the disk or choose another --workdir; the same command then goes on.'
            ) from error


def _release() -> None:
    """End the threads of a save that has failed: they wait for a folder that could not be made.

    Python would wait for them, for minutes, when the process ends. Nothing public of Orbax ends them; where another
    version has other names, the process ends later, as it would without this.
    """
    future = sys.modules.get('orbax.checkpoint._src.futures.future')
    for thread in threading.enumerate():
        if isinstance(thread, getattr(future, '_SignalingThread', ())):
            thread._cancelled = True  # its own `cancel` fails where its event loop is closed
            future.set_signals(thread._receive_signals, operation_id=thread._operation_id)


def _of_the_machine(error: Exception) -> bool:
    """Whether a read failed for what may pass: no memory, no permission, a disk that is away."""
    told = re.search(r"\[os_error_code='(\d+)'\]", str(error))
    number = int(told[1]) if told else getattr(error, 'errno', None)
    return isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error) or number in _MAY_PASS


def _short(error: Exception) -> str:
    """Kind and text of an error in a line; of a long text the beginning and the cause.

    Storage names the operating system's reason with its number, and may write pages of its own settings behind it;
    where there is no such reason it is the end that says most.
    """
    text = (str(error).strip().splitlines() or [''])[0]
    if len(text) > 250:
        cause = re.search(r'([^:]*) \[os_error_code=', str(error))
        text = f'{text[:120]} ... {cause[1].strip() if cause else text[-120:]}'
    return f'{type(error).__name__}: {text}'
