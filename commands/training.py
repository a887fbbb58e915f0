"""A run in its workdir: stages trained one after the other, evaluated, drawn. Nothing else writes a workdir."""

import contextlib
import functools
import json
import os
import pathlib
import time
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from commands.inputs import Encoder, Inputs, open_inputs
from commands.workdir import refuse_another_config
from lcr2s_jax import files, images, threads
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError, Interrupted, UserError, meant
from lcr2s_jax.evaluation import evaluate, figures, metrics
from lcr2s_jax.method import sampling, stages, targets
from lcr2s_jax.search import appearance, calibration, rows, wording
from lcr2s_jax.training import checkpoint, optim, parallel, train
from lcr2s_jax.training import run as runs
from lcr2s_jax.training.report import Report
from lcr2s_jax.training.run_files import read_chosen

_FEATURES, _SUMS = ('image_GE', 'text_QE'), 'sums.json'


class Training:
    """Trains and evaluates the stages of a config, in a workdir that `run.alone_in` has made and locked.

    Attributes:
      stages, params, steps, embedders: of the stages trained so far, by name.
      seconds: what took how long.
    """

    def __init__(self, inputs: Inputs, workdir: pathlib.Path):
        self.inputs, self.workdir, self.report = inputs, workdir, Report(workdir)
        self.stages: dict[str, stages.Stage] = {}
        self.params: dict[str, Any] = {}
        self.steps: dict[str, int] = {}
        self.embedders: dict[str, evaluate.Embedder] = {}
        self.seconds: dict[str, float] = {}
        config = inputs.config
        with parallel.agreed('the comparison with the run in the workdir'):
            refuse_another_config(workdir, config, made_of=inputs.made_of)
            self._chosen = read_chosen(workdir)
        with parallel.agreed('writing into the workdir'):
            if parallel.is_primary():
                resolved = json.loads(config.to_json()) | {'made_of': inputs.made_of}
                files.write(workdir / 'config.json', json.dumps(resolved, indent=2) + '\n')
                facts = {  # beside the sizes
                    'stages': list(config.stages),
                    'fusion': {'heads': config.teacher.heads, 'shared': config.teacher.shared_fusion},
                    'views': config.batch.views,
                    'trained_on': inputs.trained_on,
                }
                runs.keep_model(workdir, inputs.encoder.clip, inputs.encoder.tokenizer, facts)

    def train_stage(self, name: str) -> None:
        """Train one stage to its end, from wherever it stands."""
        inputs, config = self.inputs, self.inputs.config
        taught_by, entry = stages.needs(name, config.stages), stages.STAGES[name]
        options = config[entry.options or name]
        cache = None
        if entry.of or options.get('cache_teacher', False):
            # folds tell of different people each, so that they have no relation of all
            cache = teacher_features(self, taught_by, entry.of == 'member' and not options.feature_weight)
        before = {earlier: (stage, self.params[earlier]) for earlier, stage in self.stages.items()}
        stage = self.stages[name] = _build(
            name, config, inputs.encoder, inputs.splits['train'].num_people, before, cache
        )
        self.embedders[name] = evaluate.Embedder(stage.encoder, inputs.parallel)
        seed, how = config.seed + config.reseed.get(name, 0), sampling.of(name, config.stages)
        optimiser = config.optim.to_dict()
        rate = {field: optimiser[field] for field in ('learning_rate', 'warmup', 'warmup_start')}
        if entry.kind == 'member':
            shapes = jax.eval_shape(stage.init, jax.random.key(0))
            optimiser['rules'] = optim.freeze(optimiser['rules'], shapes, **config.members)
        with checkpoint.Checkpoints(self.workdir / name, self.report.say) as checkpoints:
            try:
                self.params[name], self.steps[name] = train.fit(
                    stage,
                    lambda start: inputs.batches(seed, start, how),
                    tx=optim.adam(steps=config.train.steps, **optimiser),
                    learning_rate=optim.schedule(config.train.steps, **rate),
                    parallel=inputs.parallel,
                    checkpoints=checkpoints,
                    report=self.report,
                    validate=(lambda params: self._validate(name, params)) if 'val' in inputs.splits else None,
                    seed=config.seed,
                    **config.train,
                )
            except train.NonFinite as error:
                pids = next(inputs.batches(seed, error.step - 1, how)).pid_B.tolist()
                self.report.end(name, error.step, 'not finite', identities=pids, **error.metrics)
                raise UserError(self._not_finite(name, error, pids, checkpoints.latest())) from error
            except Interrupted as stop:
                self.report.end(name, stop.step, 'stopped by a signal')
                raise
            except (checkpoint.CheckpointError, OSError) as error:
                self.report.end(name, checkpoints.latest() or 0, f'failed: {error}')
                raise
        self.report.end(name, config.train.steps, 'done', best_step=self.steps[name])
        self.seconds[name] = self.report.seconds[name]
        self._choose(name)

    def evaluate(self) -> dict:
        """Every stage's best parameters on val and, for the first and only time, on test; writes the pictures."""
        clock, inputs, results = time.perf_counter(), self.inputs, {}
        for name, stage in self.stages.items():
            results[name] = {'step': self.steps[name]}
            for split in inputs.evaluated:
                embeddings = inputs.embed(self.embedders[name], self.params[name], split)
                results[name][split] = evaluate.retrieval_metrics(embeddings)
                if stage.fusion:
                    views = inputs.config.batch.views
                    rich = evaluate.with_supports(stage.fusion, self.params[name], embeddings, views)
                    kept = results[name].setdefault('with_supports_oracle', {})
                    kept[split] = evaluate.retrieval_metrics(rich)
                if split == 'val' and parallel.is_primary():
                    self._calibrate(name, embeddings)
        if parallel.is_primary():
            split = inputs.splits[inputs.evaluated[0]]
            runs.keep_sample(self.workdir, split.jpegs, split.image_pid, split.captions, split.caption_image)
            self._draw(embeddings, f'{name}: test captions and the ten best images')
        results['oracle'], results['random'] = inputs.oracle(), inputs.random()
        results['seconds'] = {k: round(v, 1) for k, v in self.seconds.items()}
        results['seconds']['evaluate'] = round(time.perf_counter() - clock, 1)
        return results

    def _calibrate(self, name: str, val: Embeddings) -> None:
        """Keep what val says of scores; of a single person it says nothing, as there are no strangers."""
        if self.inputs.splits['val'].num_people < 2:
            self.report.say(f'{name}: val has one person, so searches with it will have no probabilities')
            return
        said = self.inputs.splits['val'].captions
        pieces = wording.pieces_of(said, self.inputs.encoder.tokenizer.lengths)
        runs.keep_calibration(self.workdir, name, calibration.fit(val, word_pieces=pieces, look_GS=self._looks))

    @functools.cached_property
    def _looks(self) -> np.ndarray:
        """What val's pictures look like, read as an index reads its own; NaN for one that it would refuse."""
        val, size = self.inputs.splits['val'], self.inputs.encoder.clip.image_size

        def look(number: int) -> np.ndarray | None:
            with contextlib.suppress(images.PictureError):
                return appearance.statistics(images.pixels(val.jpegs[number], size))

        return rows.looks_of(list(threads.in_order(look, range(len(val.jpegs)))))

    def _choose(self, name: str) -> None:
        """Write down which step a stage is left with. Raises UserError where a student has learnt from another one."""
        before, now = self._chosen.get(name), self.steps[name]
        names = self.inputs.config.stages
        for taught in (other for other in names if name in stages.needs(other, names)):
            folder = self.workdir / taught
            if before not in (None, now) and any(folder.glob('[0-9]*')):
                raise UserError(
                    f'{folder}: found a {taught} of the {name} at step {before}, which cannot be read any more; the '
                    f'best that is left is step {now}, another {name}. Delete {folder} to train it again.'
                )
        if before not in (None, now):
            self.report.say(f'{name}: found step {now} as the best that is left, where it was step {before} before')
        self._chosen[name] = now
        if parallel.is_primary():
            files.write(self.workdir / 'chosen.json', json.dumps(self._chosen) + '\n')

    def _draw(self, embeddings, title: str) -> None:
        test, seed = self.inputs.splits['test'], self.inputs.config.seed
        shown = figures.ranked_queries(embeddings, test.captions, test.jpegs, count=6, top=10, seed=seed)
        figures.contact_sheet(shown, self.workdir / 'sheet.png', title)
        figures.learning_curves(self.workdir / 'metrics.jsonl', self.workdir / 'curves.png')

    def _validate(self, name: str, params) -> tuple[float, dict]:
        stage, views = self.stages[name], self.inputs.config.batch.views
        embeddings = {'val': self.inputs.embed(self.embedders[name], params, 'val')}
        if stage.fusion:  # what a student learns from, so it is what a teacher is chosen by (docs/evidence.md)
            embeddings['val_with_supports'] = evaluate.with_supports(stage.fusion, params, embeddings['val'], views)
        scores = {which: evaluate.retrieval_metrics(e) for which, e in embeddings.items()}
        logged = {
            which: {way: {m: values[m] for m in metrics.NAMES} for way, values in ways.items()}
            for which, ways in scores.items()
        }
        return list(scores.values())[-1]['t2i']['R1'], logged

    def _not_finite(self, name: str, error: train.NonFinite, pids: list[int], saved: int | None) -> str:
        config = self.inputs.config
        terms = '  '.join(f'{term} {value:g}' for term, value in error.metrics.items())
        return (
            f'{name}, step {error.step}: found a loss or gradient that is not finite ({terms}) on the identities '
            f'{", ".join(map(str, pids))}. It was not saved; the last checkpoint is '
            f'{"none" if saved is None else f"of step {saved}"}. What to try, in another --workdir: a smaller '
            f'config.optim.learning_rate (now {config.optim.learning_rate:g}), config.optim.clip_norm (now '
            f"{config.optim.clip_norm:g}; 0 is none), config.model.dtype='float32' (now {config.model.dtype})."
        )


def teacher_features(run: Training, names: Sequence[str], related: bool = False) -> Embeddings:
    """Features of every training image and caption, memory-mapped from <workdir>/teacher_features/<a hash>/.

    Of several teachers the mean; of the folds' baselines each tells of the people that it never saw. `related`: of
    several, features whose cosines are the mean of theirs. On several hosts all compute them and the first writes.
    """
    hashed = parallel.fingerprint({name: run.params[name] for name in names})
    folder = run.workdir / 'teacher_features' / (hashed[:16] + '-relation' * related)
    split = run.inputs.splits['train']
    parallel.wait_for_all('all look for the same features')
    features = _kept_features(folder, [len(split.image_pid), len(split.caption_pid)])
    parallel.wait_for_all('the features were looked for')
    if features is None:
        clock = time.perf_counter()
        who = f'{" and ".join(names)} look' if names[1:] else f'the {names[0]} looks'
        run.report.say(f'student: {who} at the training split once ({folder})')
        caches = [run.inputs.embed(run.embedders[name], run.params[name], 'train') for name in names]
        found = _joined(caches, names, split.image_pid, related)
        with parallel.agreed("keeping the teacher's features"):
            if parallel.is_primary():
                folder.mkdir(parents=True, exist_ok=True)
                for field in _FEATURES:
                    with files.aside(folder / f'{field}.npy') as partial, partial.open('wb') as file:
                        np.save(file, getattr(found, field))
                sums = {field: zlib.crc32(np.ascontiguousarray(getattr(found, field))) for field in _FEATURES}
                files.write(folder / _SUMS, files.to_json(sums))
        features = _mapped(folder)
        run.seconds['teacher_features'] = time.perf_counter() - clock
    places = np.arange(len(split.image_pid), dtype=np.int32)
    return Embeddings(*features, split.image_pid, split.caption_pid, places, split.caption_image)


def _joined(caches: Sequence[Embeddings], names: Sequence[str], image_pid: np.ndarray, related: bool) -> Embeddings:
    if related:
        return targets.mean_relation(caches)
    fold_G, everybody = image_pid % len(names), stages.STAGES[names[0]].kind != 'fold'
    told = [(fold_G == fold) | everybody for fold in range(len(names))]
    return targets.mean_features(caches, told) if caches[1:] else caches[0]


def _kept_features(folder: pathlib.Path, rows: Sequence[int]) -> list[np.ndarray] | None:
    """Those in a folder; None where they are not all there, or not what was written: they are made again."""
    try:
        found = _mapped(folder)
        sums = files.read_json(folder / _SUMS, UserError, '')
    except (OSError, ValueError, EOFError, UserError):
        return None
    whole = all(sums.get(field) == crc for field, crc in zip(_FEATURES, map(zlib.crc32, found), strict=True))
    return found if whole and [len(one) for one in found] == rows else None


def _mapped(folder: pathlib.Path) -> list[np.ndarray]:
    """Features, still of the file, but as plain arrays: on several hosts JAX places no subclass of them."""
    return [np.load(folder / f'{field}.npy', mmap_mode='r').view(np.ndarray) for field in _FEATURES]


def open_training(config: ConfigDict, workdir: pathlib.Path) -> Training:
    """Open everything and check it; only then is anything written into the workdir, which is made and locked."""
    clock = time.perf_counter()
    inputs = open_inputs(config, ('train', 'val', 'test'), check=lambda encoder: _check_stages(config, encoder))
    opened = Training(inputs, workdir)
    opened.seconds['data'] = time.perf_counter() - clock
    return opened


def _check_stages(config: ConfigDict, encoder: Encoder) -> None:
    """Build every stage in shapes only: a mistake in the last should not cost the training of the first."""
    names, before = tuple(map(str, config.stages)), {}
    unknown = sorted(set(names) - set(stages.STAGES))
    early = [] if unknown else [x for i, x in enumerate(names) if not set(stages.needs(x, names)) <= set(names[:i])]
    if not names or unknown or early or len(set(names)) < len(names):
        several = {name: f'{name}, {entry.kind}_1, ...' for name, entry in stages.STAGES.items() if entry.kind}
        known = ', '.join(several.get(name, name) for name, entry in stages.STAGES.items() if not entry.number)
        order = '; '.join(f'{early} after {" and ".join(stages.needs(early, names))}' for early in early)
        raise ConfigError(
            f'config.stages: found {names}; expected some of {known}, each once{order and f"; the {order}"}'
            + (meant(unknown[0], stages.STAGES) if unknown else '')
        )
    for kind in ('fold', 'member'):
        found = stages.several(kind, names)
        if found and (len(found) < 2 or [stages.STAGES[name].number for name in found] != list(range(len(found)))):
            raise ConfigError(f"config.stages: found {', '.join(found)}; expected '{kind}_0', '{kind}_1' and so on")
    for name in names:
        stage = _build(name, config, encoder, 1, before, None)
        before[name] = stage, jax.eval_shape(stage.init, jax.random.key(0))


def _build(name: str, config: ConfigDict, encoder: Encoder, num_people: int, before: dict, cache) -> stages.Stage:
    options = config[stages.STAGES[name].options or name].to_dict()
    return stages.build(name, encoder.clip, encoder.params, num_people, before, cache, options)


def devices_line() -> str:
    """What computes, in words: '8 x cpu (TFRT_CPU)'."""
    kinds = [f'{device.platform} ({device.device_kind})' for device in jax.devices()]
    count = jax.process_count()
    hosts = f' on {count} hosts' if count > 1 else f', {os.cpu_count()} CPU cores'
    return ', '.join(f'{kinds.count(kind)} x {kind}' for kind in dict.fromkeys(kinds)) + hosts
