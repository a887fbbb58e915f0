"""The one training loop and the one step; neither knows what it trains.

    state(t+1) = update(state(t), grad loss(params, frozen, batch(t), key(seed, t), t))

Batches and keys are functions of the step number, so that a state is all that resuming needs.
"""

import contextlib
import dataclasses
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from lcr2s_jax.errors import Interrupted
from lcr2s_jax.training.checkpoint import Checkpoints
from lcr2s_jax.training.parallel import Axis, Parallel

# Steps begin anew with every stage; a number that the hosts agree on must come even where a stage ends before it.
_QUESTIONS = itertools.count(1)


class State(NamedTuple):
    """All that changes while training, arrays only."""

    step: Any
    params: Any
    opt_state: Any


@dataclasses.dataclass(eq=False)
class NonFinite(Exception):
    """The loss or its gradient became NaN or infinite at `step`; nothing of it was saved."""

    step: int
    metrics: dict


class Interrupt:
    """Notes SIGTERM and Ctrl-C in its `with` block: the loop stops where it stands well, all hosts at the same step.

    Under `jax.distributed` the runtime itself listens to SIGTERM and makes the hosts agree on a step; alone, we do. A
    second Ctrl-C ends the step, too.
    """

    def __init__(self):
        self._noted = 0

    def __enter__(self):
        self._before = {}
        if jax.process_count() == 1:
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._note)
            if callable(signal.getsignal(signal.SIGINT)):  # a shell's background job ignores it
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._noted and kind is None:  # it came too late for the loop, while the last step was saved
            signal.raise_signal(self._noted)

    def due(self) -> int:
        """The signal to stop by after this step, 0 for none; every host must ask after every step, and all agree."""
        if self._before:
            return self._noted
        return multihost_utils.reached_preemption_sync_point(next(_QUESTIONS)) and signal.SIGTERM

    def _note(self, number, frame):
        if number == signal.SIGINT:
            if self._noted == number:
                self._before[number](number, frame)
            # no print: it may be one that was interrupted
            os.write(2, b'stopping when this step is saved; Ctrl-C once more stops at once\n')
        self._noted = number


def train_step(
    state: State, frozen, batch, axis: Axis, *, loss: Callable, tx: optax.GradientTransformation, seed: int
) -> tuple[State, dict]:
    """One optimiser step; returns the next state and scalar metrics, equal on all devices.

    `loss(params, frozen, batch, key, axis, step) -> (scalar, metrics)` sees this device's rows and gathers the rest.
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def mean_loss(params):
        value, metrics = loss(params, frozen, batch, key, axis, state.step)
        # averaged inside the differentiated function: the gather's transpose sums over devices, this divides
        return axis.mean(value), axis.mean(metrics)

    (value, metrics), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    grads = axis.mean(grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    metrics = {'loss': value, 'grad_norm': optax.global_norm(grads), **metrics}
    return State(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics


def initial_state(stage, tx: optax.GradientTransformation, parallel: Parallel, seed: int) -> State:
    """Step 0, where the state lives. The parameters are copies: the step donates them, and a stage may share its own.

    The optimiser's state is made there: with fsdp no device ever holds the whole of it.
    """
    params = jax.tree.map(lambda x: jnp.array(x, copy=True), stage.init(jax.random.key(seed)))
    state = parallel.put_state(State(jnp.zeros((), jnp.int32), params, None))
    placed = jax.tree.map(parallel.placement, jax.eval_shape(tx.init, params))
    return state._replace(opt_state=jax.jit(tx.init, out_shardings=placed)(state.params))


def shaped_state(stage, tx: optax.GradientTransformation, parallel: Parallel, seed: int) -> State:
    """Shapes, types and places of `initial_state`, without its numbers."""

    def init():
        params = stage.init(jax.random.key(seed))
        return State(jnp.zeros((), jnp.int32), params, tx.init(params))

    shapes = jax.eval_shape(init)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parallel.placement(x)), shapes)


def fit(
    stage,
    batches: Callable[[int], Iterator],
    *,
    tx: optax.GradientTransformation,
    parallel: Parallel,
    checkpoints: Checkpoints,
    report,
    validate: Callable[[Any], tuple[float, dict]] | None,
    seed: int,
    steps: int,
    eval_every: int,
    save_every: int,
    log_every: int,
    learning_rate: Callable[[int], Any] | None = None,
) -> tuple[Any, int]:
    """Train `stage` to `steps`, resuming from its latest checkpoint; returns the best step's parameters and number.

    Args:
      stage: has `name`, `init(key)`, `loss(params, frozen, batch, key, axis, step)` and `frozen`.
      batches: step -> the batches from that step on; this host's rows, as NumPy.
      validate: params -> (score to select by, metrics to log); None selects the last step.
      report: has `start`, `log` and `stop`; see lcr2s_jax/training/report.py.
      seed: of the initial parameters and of the step's random numbers.
      learning_rate: step -> rate, for the log; None logs none.
      eval_every, save_every, log_every: steps; the last step is always validated and saved. Validated steps are saved.

    Raises:
      NonFinite: with the step whose loss or gradient was not finite. CheckpointError: nothing that is whole to resume
      from, or no room to save. Interrupted: by SIGTERM or Ctrl-C, after saving.
    """
    state = checkpoints.restore(shaped_state(stage, tx, parallel, seed)) or initial_state(stage, tx, parallel, seed)
    first = int(state.step)
    frozen = parallel.put_state(stage.frozen)
    step_fn = parallel.compile(
        lambda state, frozen, batch, axis: train_step(state, frozen, batch, axis, loss=stage.loss, tx=tx, seed=seed)
    )
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())  # first: what is raised in TensorBoard's start hangs its end
        stack.callback(report.stop)  # also on an error: a live bar would swallow its message
        report.start(stage.name, first, steps)
        pending, clock = [], time.perf_counter()
        for step, batch in zip(range(first + 1, steps + 1), batches(first), strict=False):
            with jax.transfer_guard('disallow'):  # all but `put`, which says so: a transfer unseen costs every step
                state, metrics = step_fn(state, frozen, parallel.put(batch))
            pending.append(metrics)
            # two steps under way keep the device busy; a longer queue would only make an interruption wait
            jax.block_until_ready(pending[-3:-2])
            at_eval = step % eval_every == 0 or step == steps
            stopping = interrupt.due()
            at_save = at_eval or stopping or step % save_every == 0
            if at_save or step % log_every == 0 or step == 1:
                means = _collect(pending, step)
                now = time.perf_counter()
                rate = len(pending) * batch.rows * jax.process_count() / (now - clock)
                told = {'learning_rate': float(learning_rate(step - 1))} if learning_rate else {}
                report.log(stage.name, step, {**means, **told, 'pairs_per_s': rate}, seconds=now - clock)
                pending, clock = [], now
            if at_save:
                score = None
                if at_eval and validate is not None:
                    score, found = validate(state.params)
                    report.log(stage.name, step, found, seconds=time.perf_counter() - clock)
                # after the log: a run killed in between logs this step again, and the report drops the first telling
                checkpoints.save(state, score)
                clock = time.perf_counter()
            if stopping:
                raise Interrupted(step, stopping)
    return checkpoints.best_of(state)


def _collect(pending: list[dict], last: int) -> dict:
    """Mean of each metric over steps last-len+1 .. last; the one place that waits for the device."""
    rows = jax.device_get(pending)
    for offset, row in enumerate(rows):
        if not all(np.isfinite(value) for value in row.values()):
            raise NonFinite(last - len(rows) + 1 + offset, {k: float(v) for k, v in row.items()})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
