"""A run in its workdir: stages trained one after the other, evaluated, explained. Nothing else writes a workdir."""

import json
import pathlib
import time

from ml_collections import ConfigDict

from commands.cache import teacher_features
from commands.inputs import Inputs
from commands.workdir import read_json, refuse_another_config
from lcr2s_jax.errors import ConfigError, UserError

STAGES = ('baseline', 'teacher', 'student')


class Run(Inputs):
    """Opens everything and checks it; only then is anything written into the workdir, which `alone_in` has made."""

    reads = ('train', 'val', 'test')

    def __init__(self, config: ConfigDict, workdir: pathlib.Path):
        from lcr2s_jax.training import parallel, report

        clock = time.perf_counter()
        self.workdir = workdir
        self.stages, self.params, self.steps, self.embedders = {}, {}, {}, {}
        super().__init__(config)
        with parallel.agreed('the comparison with the run in the workdir'):
            refuse_another_config(workdir, config, made_of=self.made_of)
            chosen = workdir / 'chosen.json'
            self._chosen = read_json(chosen) if chosen.exists() else {}
        with parallel.agreed('writing into the workdir'):
            if parallel.first():
                resolved = json.loads(config.to_json()) | {'made_of': self.made_of}
                report.write_text(workdir / 'config.json', json.dumps(resolved, indent=2) + '\n')
        self.report = report.Report(workdir)
        self.seconds = {'data': time.perf_counter() - clock}

    def check_models(self) -> None:
        """Build every stage in shapes only: a mistake in the last should not cost the training of the first."""
        import jax

        names = tuple(self.config.stages)
        lonely = 'student' in names and 'teacher' not in names[: names.index('student')]
        if not names or not set(names) <= set(STAGES) or lonely:
            raise ConfigError(f'config.stages: found {names}; expected some of {STAGES}, the student after the teacher')
        shapes = {}
        for name in names:
            self.stages[name] = self._stage(name, 1, shapes.get('teacher'))
            shapes[name] = jax.eval_shape(self.stages[name].init, jax.random.key(0))
        self.stages.clear()

    def train_stage(self, name: str) -> None:
        """Train one stage to its end, from wherever it stands."""
        from lcr2s_jax.evaluation import evaluate
        from lcr2s_jax.training import checkpoint, optim
        from lcr2s_jax.training import train as training

        config = self.config
        cache = teacher_features(self) if name == 'student' and config.student.cache_teacher else None
        people = self.splits['train'].num_people
        stage = self.stages[name] = self._stage(name, people, self.params.get('teacher'), cache)
        self.embedders[name] = evaluate.Embedder(stage.encoder, self.parallel)
        seed = config.seed + config.reseed[name]
        with checkpoint.Checkpoints(self.workdir / name, self.report.say) as checkpoints:
            try:
                self.params[name], self.steps[name] = training.fit(
                    stage,
                    lambda start: self.batches(seed, start),
                    tx=optim.adam(steps=config.train.steps, **config.optim.to_dict()),
                    parallel=self.parallel,
                    checkpoints=checkpoints,
                    report=self.report,
                    validate=(lambda params: self._validate(name, params)) if 'val' in self.splits else None,
                    seed=config.seed,
                    **config.train,
                )
            except training.NonFinite as error:
                raise UserError(self._explain(name, error, seed, checkpoints)) from error
        self.seconds[name] = self.report.seconds[name]
        self._choose(name)

    def evaluate(self) -> dict:
        """Every stage's best parameters on val and, for the first and only time, on test; writes the pictures."""
        from lcr2s_jax.evaluation import evaluate
        from lcr2s_jax.training import parallel

        clock = time.perf_counter()
        results: dict = {}
        for name, stage in self.stages.items():
            results[name] = {'step': self.steps[name]}
            for split in self.evaluated:
                embeddings = self.embed(self.embedders[name], self.params[name], split)
                results[name][split] = evaluate.both_ways(embeddings)
                if stage.fusion:
                    rich = evaluate.with_supports(stage.fusion, self.params[name], embeddings, self.config.batch.views)
                    results[name].setdefault('with_supports_oracle', {})[split] = evaluate.both_ways(rich)
        if parallel.first():
            self._draw(embeddings, f'{name}: test captions and the ten best images')
        results['oracle'], results['chance'] = self.oracle(), self.chance()
        results['seconds'] = {k: round(v, 1) for k, v in self.seconds.items()}
        results['seconds']['evaluate'] = round(time.perf_counter() - clock, 1)
        return results

    def _choose(self, name: str) -> None:
        """Write down which step a stage is left with. Raises UserError where a student has learnt from another one."""
        from lcr2s_jax.training import parallel, report

        before, now = self._chosen.get(name), self.steps[name]
        taught = self.workdir / 'student'
        if name == 'teacher' and before not in (None, now) and any(taught.glob('[0-9]*')):
            raise UserError(
                f'{taught}: found a student of the teacher at step {before}, which cannot be read any more; the best '
                f'that is left is step {now}, another teacher. Delete {taught} to distil again, from that one.'
            )
        self._chosen[name] = now
        if parallel.first():
            report.write_text(self.workdir / 'chosen.json', json.dumps(self._chosen) + '\n')

    def _draw(self, embeddings, title: str) -> None:
        from lcr2s_jax.evaluation import figures as pictures

        test = self.splits['test']
        shown = pictures.ranked_queries(embeddings, test.captions, test.jpegs, count=6, top=10, seed=self.config.seed)
        pictures.contact_sheet(shown, self.workdir / 'sheet.png', title)
        pictures.learning_curves(self.workdir / 'metrics.jsonl', self.workdir / 'curves.png')

    def _stage(self, name: str, num_people: int, teacher_params, cache=None):
        from lcr2s_jax.method import stages

        common = (self.clip, self.clip_params, num_people)
        if name == 'baseline':
            return stages.baseline_stage(*common, **self.config.baseline)
        if name == 'teacher':
            return stages.teacher_stage(*common, **self.config.teacher)
        return stages.student_stage(*common, self.stages['teacher'], teacher_params, cache, **self.config.student)

    def _validate(self, name: str, params) -> tuple[float, dict]:
        from lcr2s_jax.evaluation import evaluate, metrics

        stage, views = self.stages[name], self.config.batch.views
        embeddings = {'val': self.embed(self.embedders[name], params, 'val')}
        if stage.fusion:  # what a student learns from, so it is what a teacher is chosen by (docs/evidence.md)
            embeddings['val_with_supports'] = evaluate.with_supports(stage.fusion, params, embeddings['val'], views)
        found = {which: evaluate.both_ways(e) for which, e in embeddings.items()}
        logged = {
            which: {way: {m: values[m] for m in metrics.NAMES} for way, values in ways.items()}
            for which, ways in found.items()
        }
        return list(found.values())[-1]['t2i']['R1'], logged

    def _explain(self, name: str, error, seed: int, checkpoints) -> str:
        config, saved = self.config, checkpoints.latest()
        pids = next(self.batches(seed, error.step - 1)).pid_B
        terms = '  '.join(f'{term} {value:g}' for term, value in error.metrics.items())
        return (
            f'{name}, step {error.step}: found a loss or gradient that is not finite ({terms}) on the identities '
            f'{", ".join(map(str, pids))}. It was not saved; the last checkpoint is '
            f'{"none" if saved is None else f"of step {saved}"}. What to try, in another --workdir: a smaller '
            f'config.optim.learning_rate (now {config.optim.learning_rate:g}), config.optim.clip_norm (now '
            f"{config.optim.clip_norm:g}; 0 is none), config.model.dtype='float32' (now {config.model.dtype})."
        )
