"""The folder of a run: who may be in it, and what a finished stage left there. `Run.open` is the one way in.

<workdir>/config.json                     the config, and hashes of what the run was made of
<workdir>/<stage>/                        checkpoints of a stage
<workdir>/model/model.json                sizes, preprocessing, fusion, what it was trained on
<workdir>/model/tokenizer.json            the tokenizer
<workdir>/model/calibration_<stage>.json  scores -> probabilities, fitted on val
<workdir>/model/sample.npz                some pictures and captions of val, with which an export is checked

All of it is relative: a run may be moved, and needs neither its data nor its starting weights to be used.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lcr2s_jax import files, locks
from lcr2s_jax import model as models
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.method.fusion import Fusion
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.search.calibration import Calibration
from lcr2s_jax.training import parallel
from lcr2s_jax.training.checkpoint import Checkpoints
from lcr2s_jax.training.run_files import FORMAT, MODEL, read_calibration, read_chosen, read_facts
from lcr2s_jax.weights import sizes
from lcr2s_jax.weights.tokenizer import Tokenizer

_READING = 3.0  # seconds that somebody may take to read a checkpoint
_SAMPLE = 256  # pictures of val that are kept for checks
_KEPT = ('image_pid', 'caption_image')  # beside them
_ANEW = 'delete it and results.json: the training command makes both again, and trains nothing anew'


@dataclasses.dataclass(frozen=True)
class Run:
    """One stage of a run, opened, at the step that is the best on val.

    `params` are all of the stage's, float32 on the host: 'clip', and 'head' and 'fusion' where it has them.
    """

    workdir: pathlib.Path
    stage: str
    step: int
    params: Mapping[str, Any]
    clip: CLIP
    facts: Mapping

    @classmethod
    def open(cls, workdir: str | os.PathLike, stage: str = '', dtype: str = '') -> 'Run':
        """Open a stage from its workdir alone.

        `stage` is '' for the student, or the last one where there is none; `dtype`, the compute type, '' for that of
        the training. Raises ConfigError: no run, no such stage. CheckpointError: none of its checkpoints is whole.
        """
        workdir = files.expanded(workdir)
        facts = read_facts(workdir)
        there = stages_of(workdir, facts)
        stage = stage or ('student' if 'student' in there else (there or [''])[-1])
        if stage not in there:
            raise ConfigError(
                f'{workdir}: found {"no trained stage" if not there else "the stages " + ", ".join(there)}, expected '
                f'{stage or "one"}; train it: python main.py --config=... --workdir={workdir}'
            )
        params, step = best_parameters(workdir, stage)
        clip = sizes.clip_of(workdir / MODEL / 'model.json', facts['clip'])
        return cls(workdir, stage, step, params, clip.clone(dtype=dtype) if dtype else clip, facts)

    @property
    def encoder(self) -> DualEncoder:
        return DualEncoder(self.clip)

    @property
    def fusion(self) -> Fusion | None:
        """Of a stage that fuses; None of one that does not."""
        return Fusion(**self.facts['fusion'], dtype=self.clip.dtype) if 'fusion' in self.params else None

    @property
    def views(self) -> int:
        """K, the views of an identity that were fused in training."""
        return self.facts['views']

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(str(self.workdir / MODEL))

    @property
    def calibration(self) -> Calibration | None:
        """Fitted on val; None where the dataset has no val, or the run was not evaluated."""
        return read_calibration(self.workdir, self.stage)

    def model(self) -> models.Model:
        """The stage's encoder as every index, export and notebook uses it."""
        return models.Model(
            self.clip,
            {tower: functools.partial(self.params['clip'].__getitem__, tower) for tower in models.TOWERS},
            lambda: self.tokenizer,
            origin={'workdir': str(self.workdir), 'stage': self.stage, 'step': self.step},
            trained_on=self.facts['trained_on'],
            calibration=self.calibration,
        )

    def sample(self) -> dict | None:
        """Some pictures of val: `encoded`, `image_pid`, `captions`, `caption_image`; None where none were kept."""
        path = self.workdir / MODEL / 'sample.npz'
        if not path.is_file():
            return None
        kept = files.read_arrays(path, ConfigError, _ANEW, ('content', 'lengths', 'captions', *_KEPT))
        ends, content = np.cumsum(kept['lengths']), kept['content'].tobytes()
        return {
            'encoded': [content[end - n : end] for end, n in zip(ends, kept['lengths'], strict=True)],
            'captions': kept['captions'].tolist(),
            **{name: kept[name] for name in _KEPT},
        }


def keep_model(workdir: pathlib.Path, clip: CLIP, tokenizer: Tokenizer, facts: Mapping) -> None:
    """Write what `Run.open` needs besides checkpoints: at the start of a run, the same again when it is resumed."""
    folder = workdir / MODEL
    folder.mkdir(exist_ok=True)
    for name, content in tokenizer.files.items():
        files.write(folder / name, content)
    files.write(folder / 'model.json', files.to_json({'format': FORMAT, 'clip': sizes.kept(clip), **facts}))


def keep_calibration(workdir: pathlib.Path, stage: str, calibration: Calibration) -> None:
    files.write(workdir / MODEL / f'calibration_{stage}.json', models.calibration_file(calibration))


def keep_sample(
    workdir: pathlib.Path, encoded: Sequence[bytes], image_pid, captions: Sequence[str], caption_image
) -> None:
    """Keep the first pictures of val, with their captions, for checks of an export."""
    count = min(_SAMPLE, len(encoded))
    rows = np.flatnonzero(np.asarray(caption_image) < count)
    with files.aside(workdir / MODEL / 'sample.npz') as partial, partial.open('wb') as file:
        np.savez(
            file,
            content=np.frombuffer(b''.join(encoded[:count]), np.uint8),
            lengths=np.array([len(one) for one in encoded[:count]]),
            image_pid=np.asarray(image_pid)[:count],
            captions=np.array([captions[row] for row in rows]),
            caption_image=np.asarray(caption_image)[rows],
        )


def stages_of(workdir: pathlib.Path, facts: Mapping) -> list[str]:
    """The stages that have a checkpoint, in the order of their training."""
    return [name for name in facts['stages'] if any((workdir / name).glob('[0-9]*'))]


def best_parameters(workdir: pathlib.Path, name: str, *, finished: int = 0) -> tuple[dict, int]:
    """The parameters of a stage's best checkpoint on val, on no device, and its step; of `finished` steps, or any.

    Raises ConfigError: no such stage, or one that is not finished, or was left with another step. CheckpointError: none
    of its checkpoints is whole.
    """
    folder, go_on = workdir / name, f'python main.py --config=... --workdir={workdir}'
    if not folder.is_dir():  # Checkpoints would make it
        raise ConfigError(
            f'--workdir: found no {name} in {workdir}, expected a run that has trained one: {go_on}, with '
            f"'{name}' in config.stages"
        )
    # what is being trained has no best yet, and may lose the checkpoint that is read
    alone = alone_in(workdir, reads=True) if os.access(workdir, os.W_OK) else contextlib.nullcontext()
    with alone, Checkpoints(folder) as checkpoints:
        if finished and checkpoints.latest() != finished:
            raise ConfigError(
                f'--workdir: found {name} in {workdir} at step {checkpoints.latest() or 0} of {finished}, expected a '
                f'finished one; this goes on: {go_on}'
            )
        step, chosen = checkpoints.best(), read_chosen(workdir).get(name)
        if chosen not in (None, step):
            raise ConfigError(
                f'{workdir}: found step {step} as the best of {name} by the scores of its checkpoints, but step '
                f'{chosen} in chosen.json, and training wrote both: something is lost or was changed. '
                f'{go_on} looks at all of them again; or restore the folder from a copy'
            )
        return jax.device_get(checkpoints.restore_params(checkpoints.shapes(step), step)), step


def refuse_no_folder(place: pathlib.Path) -> None:
    """Raise ConfigError where something else has the name of a folder that may be made."""
    if not place.is_dir() and (found := files.kind(place)):  # such as a link that leads nowhere
        raise ConfigError(f'{place}: found {found}, expected a folder, or a place where one can be made')


@contextlib.contextmanager
def alone_in(workdir: pathlib.Path, reads: bool = False) -> Iterator[None]:
    """Make a workdir and keep other processes out of it; where nothing came to lie in it, it is taken away again.

    Several may be in it that only read. Of several hosts the first holds the lock for all. Raises ConfigError where
    another process is in it; who writes waits for those who read, which takes a moment.
    """
    with contextlib.ExitStack() as stack:
        with parallel.agreed('locking the workdir'):
            if parallel.is_primary():
                made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
                busy, patience = functools.partial(_refuse_busy, workdir), 0 if reads else _READING
                stack.enter_context(locks.alone(workdir / '.lock', busy, patience, shared=reads))
                stack.callback(_remove_unused, workdir, made)
        yield


def _refuse_busy(workdir: pathlib.Path) -> None:
    raise ConfigError(
        f'{workdir}: another process is running in it, and two would overwrite each other. Wait for it or stop it, or '
        'choose another folder.'
    )


def _remove_unused(workdir: pathlib.Path, made: list[pathlib.Path]) -> None:
    """Remove the lock of a workdir with nothing else in it, and the folders that were `made` for it, inmost first."""
    if os.listdir(workdir) == ['.lock']:
        (workdir / '.lock').unlink()
        with contextlib.suppress(OSError):  # somebody else's files are in it by now
            for folder in made:
                folder.rmdir()
