"""The run of a workdir: its config, read again and compared with another, and its finished stages with their data."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from commands.inputs import Encoder, Inputs, open_inputs
from configs import base
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import evaluate
from lcr2s_jax.method.stages import STAGES
from lcr2s_jax.training import run as runs
from lcr2s_jax.training.run import Run
from lcr2s_jax.training.run_files import MAY_CHANGE, no_run, read_config, read_facts
from lcr2s_jax.weights.layouts import is_run


def config_of(workdir: pathlib.Path) -> ConfigDict:
    """The config that a workdir's run was made with. Raises ConfigError where there was none, or of other fields."""
    path = workdir / 'config.json'
    if not is_run(workdir):  # an export has a config.json, too
        raise ConfigError(no_run(workdir))
    config, found = base.get_config(), read_config(workdir)
    found.pop('made_of', None)
    try:
        config.update(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'{path}: found fields that configs/base.py has not ({error}); another version of this project made it'
        ) from error
    # it may have been trained on other devices than it is looked at on
    config.model.kernel = 'einsum'
    config.parallel.update(driver='jit', devices=1, fsdp=False)
    return config


def refuse_another_config(workdir: pathlib.Path, config: ConfigDict, **more) -> None:
    """Raise ConfigError, naming the fields, if the workdir has a run of another config (or `more` that is saved)."""
    path = workdir / 'config.json'
    if not path.exists():
        if trained := sorted({place.parent.name for name in STAGES for place in (workdir / name).glob('[0-9]*')}):
            raise ConfigError(
                f'{workdir}: found checkpoints of {" and ".join(trained)} and no config.json, expected both: nobody '
                'knows what they were trained with. Restore it from a copy, or train into another --workdir.'
            )
        return
    # fields that runs of earlier versions did not write down: a new one has to have the default that they were made by
    later = flatten_dict(json.loads(base.get_config().to_json()), sep='.')
    found = later | flatten_dict(read_config(workdir), sep='.')
    now = flatten_dict(json.loads(config.to_json()) | more, sep='.')
    differing = [
        f'  {field}: {found.get(field)} there, {now.get(field)} now'
        for field in sorted(now if more else found | now)
        if found.get(field) != now.get(field) and not field.startswith(MAY_CHANGE)
        if more or not field.startswith('made_of')
        if field in found or not field.startswith('made_of.images_')  # older runs did not write it down
    ]
    if differing:
        raise ConfigError(
            f'{workdir} belongs to a run with another config:\n'
            + '\n'.join(differing)
            + '\nChoose another --workdir, or set these fields as they were.'
        )


def data_of(workdir: pathlib.Path, config: ConfigDict, opened: Sequence[Run], reads: Sequence[str]) -> Inputs:
    """The data that a run was trained on, and no other, for its opened stages, which share their towers' sizes."""
    encoder = Encoder(opened[0].clip, None, opened[0].tokenizer)

    def check(source) -> None:
        refuse_another_config(workdir, config, made_of={'data': source.fingerprint})

    return open_inputs(config, reads, encoder=lambda config: encoder, check_source=check)


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
    return Finished(config, data_of(workdir, config, [*opened.values()], reads), opened)
