"""A short training of `tests.tiny`, as the tests of loop, checkpoints and devices run it."""

import json
import pathlib

import jax
import optax
import orbax.checkpoint as ocp

from lcr2s_jax.training import optim, train
from lcr2s_jax.training.checkpoint import Checkpoints
from lcr2s_jax.training.parallel import Parallel
from lcr2s_jax.training.report import Report
from tests import tiny

STAGES = ('baseline', 'teacher', 'student')
# eps: a key's bias has no gradient but rounding noise, which Adam with a tiny eps would make steps of
OPTIM = dict(
    learning_rate=1e-3, warmup=0.1, warmup_start=0.1, b1=0.9, b2=0.999, eps=1e-3, clip_norm=1.0,
    rules=(('logit_scale', 0.0, 0.0), ('.*', 1.0, 1e-4)),
)  # fmt: skip


class Killed(Exception):
    """Raised where a batch is asked for: the end of a run that nobody announced."""


def batches(start):
    step = start
    while True:
        yield tiny.batch(seed=step)
        step += 1


def killed_after(count):
    """Batches until `count` steps are done, then the end."""

    def some(start):
        for step, batch in enumerate(batches(start), start):
            if step == count:
                raise Killed
            yield batch

    return some


def run(folder, stage, steps=6, driver='jit', devices=1, fsdp=False, validate=None, batches=batches, adam=None, **more):
    """`train.fit` as main.py calls it: (best parameters, their step)."""
    settings = dict(seed=3, steps=steps, eval_every=2, save_every=2, log_every=1) | more
    parallel = Parallel(driver, devices, fsdp)
    with Checkpoints(folder / stage.name) as checkpoints:
        return train.fit(
            stage, batches, tx=optim.adam(steps=steps, **OPTIM | (adam or {})), parallel=parallel,
            checkpoints=checkpoints, report=Report(folder, quiet=True), validate=validate, **settings,
        )  # fmt: skip


def losses(folder):
    """Of every step that a run logged."""
    return [row['loss'] for row in map(json.loads, (folder / 'metrics.jsonl').open()) if 'loss' in row]


def saved(workdir, stage, step):
    """The parameters in a checkpoint, as they are on disk."""
    path = pathlib.Path(workdir).absolute() / stage / str(step) / 'params'
    shapes = ocp.StandardCheckpointer().metadata(path).item_metadata.tree
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
    return jax.device_get(ocp.StandardCheckpointer().restore(path, like))


def any_stage(name):
    """A stage whose step draws random numbers, where it has any."""
    return tiny.stage(name, **({'support_dropout': 0.5, 'wrong_supports': 0.5} if name == 'teacher' else {}))


def apart(tree, other):
    """Distance of two trees of parameters, relative to the length of `other`."""
    tree, other = jax.device_get((tree, other))
    return float(optax.global_norm(jax.tree.map(lambda a, b: a - b, tree, other)) / optax.global_norm(other))
