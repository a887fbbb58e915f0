"""A trained student out of its workdir, and its teacher: what an index is made with."""

import pathlib
import sys
from typing import NamedTuple

from ml_collections import ConfigDict

from commands.inputs import Inputs
from commands.workdir import best_of, config_of, read_json
from lcr2s_jax.errors import UserError


class Student(NamedTuple):
    """A student, whole.

    Attributes:
      clip, params: the model, {'vision', 'text', 'logit_scale'}.
      tokenizer: made for it.
      config: of its run.
      step: of the checkpoint, the best on val.
      data: fingerprint of the dataset that it was trained on; '' where the run did not say.
    """

    clip: object
    params: dict
    tokenizer: object
    config: ConfigDict
    step: int
    data: str = ''

    def model(self) -> dict:
        """What `lcr2s_jax.weights.bundle` saves and hashes."""
        from lcr2s_jax.search import folder

        size = self.config.model.image_size
        preprocessing = {'recipe': folder.RECIPE, 'image_size': list(size)}
        params = {tower: self.params[tower] for tower in ('vision', 'text')}
        return dict(clip=self.clip, params=params, preprocessing=preprocessing, tokenizer=self.tokenizer.files)

    def origin(self, workdir: str) -> dict:
        """Where it comes from, for people to read."""
        data = self.config.data
        return {'workdir': str(workdir), 'step': self.step, 'dataset': data.dataset, 'max_pixels': data.max_pixels}


def open_student(workdir: pathlib.Path) -> Student:
    """The best student of a workdir in which nobody is at work. Raises UserError, DataError."""
    from lcr2s_jax.weights import pretrained
    from lcr2s_jax.weights import tokenizer as tokens

    config = config_of(workdir)
    params, step = best_of(workdir, 'student')
    clip, _ = pretrained.load(**config.model)
    tokenizer = tokens.Tokenizer(config.tokenizer or config.model.pretrained)
    data = read_json(workdir / 'config.json').get('made_of', {}).get('data', '')
    return Student(clip, params['clip'], tokenizer, config, step, data)


class Teacher(NamedTuple):
    """A richer model, as it fuses the pictures of a track.

    Attributes:
      stage, params: with `embed_image` and `enrich`; {'clip', 'fusion'}.
      views: K that it was trained with.
      hash: of params, hex.
    """

    stage: object
    params: dict
    views: int
    hash: str


def open_teacher(workdir: pathlib.Path) -> Teacher:
    """The best teacher of a workdir in which nobody is at work. Raises UserError."""
    from lcr2s_jax.method import stages
    from lcr2s_jax.weights import pretrained

    config = config_of(workdir)
    params, _ = best_of(workdir, 'teacher')
    clip, clip_params = pretrained.load(**config.model)
    params = {name: params[name] for name in ('clip', 'fusion')}
    stage = stages.teacher_stage(clip, clip_params, 1, **config.teacher)
    return Teacher(stage, params, config.batch.views, pretrained.fingerprint(params))


class Val(Inputs):
    """The val split of a student's own dataset, on which its scores are calibrated."""

    reads = ('val',)


def calibrate(student: Student):
    """The student's `lcr2s_jax.search.calibration.Calibration`; None, and why on stderr, without its val split."""
    from lcr2s_jax.evaluation import evaluate
    from lcr2s_jax.method import stages
    from lcr2s_jax.search import calibration

    reason = ''
    try:
        val = Val(student.config)
        if 'val' not in val.splits:
            reason = f"the dataset '{student.config.data.dataset}' has no split val"
        elif student.data not in ('', val.source.fingerprint):
            reason = f"the dataset '{student.config.data.dataset}' is not the one any more that the run was trained on"
    except UserError as error:
        reason = str(error)
    if reason:
        print(
            f'index: without probabilities, as there is nothing to calibrate on: {reason}\nThe same command with the '
            'dataset in place adds them.',
            file=sys.stderr,
        )
        return None
    stage = stages.baseline_stage(student.clip, student.params, 1, **student.config.baseline)
    embedder = evaluate.Embedder(stage, val.parallel)
    return calibration.fit(val.embed(embedder, {'clip': student.params}, 'val'))


def new_model(workdir: str):
    """The student of a workdir as `lcr2s_jax.search.index.NewModel`."""
    from lcr2s_jax.search.index import NewModel
    from lcr2s_jax.weights import bundle

    student = open_student(pathlib.Path(workdir))
    model, origin = student.model(), student.origin(workdir)

    def save(folder: pathlib.Path, calibration):
        return bundle.save(folder, **model, origin=origin, calibration=calibration)

    return NewModel(bundle.hash_of(**model), save, lambda: calibrate(student), workdir)


def teacher_pool(workdir: str):
    """The teacher of a workdir as `lcr2s_jax.video.pooling.Teacher`."""
    from lcr2s_jax.video import pooling

    return pooling.Teacher(*open_teacher(pathlib.Path(workdir)))
