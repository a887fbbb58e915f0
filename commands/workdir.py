"""The folder of a run: what it says it was made of, who may be in it, and what a finished stage left in it."""

import contextlib
import functools
import json
import os
import pathlib

from ml_collections import ConfigDict

from lcr2s_jax import files
from lcr2s_jax.errors import ConfigError

# When a run is resumed: they say where and how something is computed, and not what.
_MAY_CHANGE = (
    'parallel', 'evaluate', 'data.root', 'data.cache', 'model.kernel', 'model.remat', 'model.scan', 'model.chunks'
)  # fmt: skip


def config_of(workdir: pathlib.Path) -> ConfigDict:
    """The config that a workdir's run was made with. Raises ConfigError where there was none, or of other fields."""
    from configs import base

    path = workdir / 'config.json'
    if not path.is_file():
        raise ConfigError(
            f'--workdir: found no run in {workdir}; expected a folder that training made, with config.json'
        )
    config, found = base.get_config(), read_json(path)
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
    from lcr2s_jax.training import report

    path = workdir / 'config.json'
    if not path.exists():
        return
    found = dict(report.flatten(read_json(path), '.'))
    now = dict(report.flatten(json.loads(config.to_json()) | more, '.'))
    differing = [
        f'  {field}: {found.get(field)} there, {now.get(field)} now'
        for field in sorted(now if more else found | now)
        if found.get(field) != now.get(field) and not field.startswith(_MAY_CHANGE)
        if more or not field.startswith('made_of')
        if field in found or not field.startswith('made_of.images_')  # older runs did not write it down
    ]
    if differing:
        raise ConfigError(
            f'{workdir} belongs to a run with another config:\n'
            + '\n'.join(differing)
            + '\nChoose another --workdir, or set these fields as they were.'
        )


def best_of(workdir: pathlib.Path, name: str, *, finished: int = 0) -> tuple[dict, int]:
    """The parameters of a stage's best checkpoint on val, on no device, and its step; nobody may be at work there.

    Args:
      workdir: of a run.
      name: 'baseline', 'teacher' or 'student'.
      finished: steps that it must have been trained for; 0 takes whatever is best so far.

    Raises:
      ConfigError: no such stage, or one that is not finished. CheckpointError: none of its checkpoints is whole.
    """
    import jax

    from lcr2s_jax.training import checkpoint

    folder, go_on = workdir / name, f'python main.py --config=... --workdir={workdir}'
    if not folder.is_dir():  # Checkpoints would make it
        raise ConfigError(
            f'--workdir: found no {name} in {workdir}, expected a run that has trained one: {go_on}, with '
            f"'{name}' in config.stages"
        )
    # what is being trained has no best yet, and may lose the checkpoint that is read
    with alone_in(workdir), checkpoint.Checkpoints(folder) as checkpoints:
        if finished and checkpoints.latest() != finished:
            raise ConfigError(
                f'--workdir: found {name} in {workdir} at step {checkpoints.latest() or 0} of {finished}, expected a '
                f'finished one; this goes on: {go_on}'
            )
        step = checkpoints.best()
        return jax.device_get(checkpoints.restore_params(checkpoints.shapes(step), step)), step


@contextlib.contextmanager
def alone_in(workdir: pathlib.Path):
    """Make a workdir and keep other processes out of it; where nothing came to lie in it, it is taken away again.

    Of several hosts the first holds the lock for all. Raises ConfigError where another process is in it.
    """
    from lcr2s_jax.training import parallel

    with contextlib.ExitStack() as stack:
        with parallel.agreed('locking the workdir'):
            if parallel.first():
                made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
                stack.enter_context(files.alone(workdir / '.lock', functools.partial(_refuse_busy, workdir)))
                stack.callback(_remove_unused, workdir, made)
        yield


def _refuse_busy(workdir: pathlib.Path) -> None:
    raise ConfigError(
        f'{workdir}: another process is running in it, and two would overwrite each other. Wait for it or stop it, or '
        'choose another --workdir.'
    )


def _remove_unused(workdir: pathlib.Path, made: list[pathlib.Path]) -> None:
    """Remove the lock of a workdir with nothing else in it, and the folders that were `made` for it, inmost first."""
    if os.listdir(workdir) == ['.lock']:
        (workdir / '.lock').unlink()
        with contextlib.suppress(OSError):  # somebody else's files are in it by now
            for folder in made:
                folder.rmdir()


def read_json(path: pathlib.Path) -> dict:
    """A JSON file of the workdir. Raises ConfigError where it is damaged."""
    return files.read_json(path, ConfigError, 'delete it or choose another --workdir')
