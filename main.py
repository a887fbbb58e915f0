"""Train, distil and evaluate LCR2S:  python main.py --config=configs/demo.py --workdir=runs/demo

The same command again resumes. Any field of the config can be set: --config.train.steps=1000
"""

import json
import pathlib
import sys
import time

from absl import flags
from ml_collections import ConfigDict, config_flags

from data.records import DataError
from lcr2s_jax.errors import ConfigError, UserError

_CONFIG = config_flags.DEFINE_config_file('config', help_string='A file such as configs/demo.py.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of this run: checkpoints, results, pictures.')
_MAY_CHANGE = ('parallel',)  # when a run is resumed: it says where to compute, not what


class UsageError(Exception):
    """The command line itself is wrong."""


def main(argv: list[str]) -> int:
    """Exit status: 0 done, 1 a mistake in config, data or files, 2 a mistake on the command line."""
    try:
        config, workdir = parse(argv)
        train(config, workdir)
    except UsageError as error:
        print(f'main.py: {error}\n\n{__doc__}', file=sys.stderr)
        return 2
    except (UserError, DataError) as error:
        print(f'main.py: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('main.py: stopped; the same command resumes from the last checkpoint', file=sys.stderr)
        return 130
    return 0


def parse(argv: list[str]) -> tuple[ConfigDict, pathlib.Path]:
    """The command line's config, overrides applied, and workdir. Raises UsageError, ConfigError."""
    try:
        rest = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        raise UsageError(error) from error
    except (AttributeError, KeyError) as error:  # config_flags' answer to a field that is not there
        raise ConfigError(f'unknown config field: {error}') from error
    if rest:
        raise UsageError(f"found '{' '.join(rest)}', expected flags only")
    if not _WORKDIR.value or not flags.FLAGS['config'].present:
        raise UsageError('--config and --workdir are both needed')
    if not isinstance(_CONFIG.value, ConfigDict):
        file = flags.FLAGS['config'].config_filename
        raise ConfigError(f'--config: no such file or no get_config() in it: {file}')
    return _CONFIG.value, pathlib.Path(_WORKDIR.value)


def train(config: ConfigDict, workdir: pathlib.Path) -> dict:
    """Train the config's stages, evaluate them once on test, write results and pictures; returns the results."""
    from lcr2s_jax import report

    clock = time.perf_counter()
    resolved = claim(workdir, config)
    finished = workdir / 'results.json'
    if finished.exists():
        print(f'{workdir} is finished: delete {finished} to evaluate it again')
        results = json.loads(finished.read_text())
    else:
        run = Run(config, workdir)
        workdir.mkdir(parents=True, exist_ok=True)  # not before: a mistake in the config leaves nothing behind
        report.write_text(workdir / 'config.json', resolved)
        for name in config.stages:
            run.train_stage(name)
        results = run.evaluate()
        results['seconds']['this_call'] = round(time.perf_counter() - clock, 1)
        report.write_text(finished, json.dumps(results, indent=2) + '\n')
    for split in ('val', 'test'):
        print('\n' + report.table(results, split))
    print(f'\n{workdir}: results.json  curves.png  sheet.png  metrics.jsonl  tensorboard/')
    return results


def claim(workdir: pathlib.Path, config: ConfigDict) -> str:
    """The resolved config as JSON. Raises ConfigError if the workdir has another run's, naming the fields."""
    from lcr2s_jax import report

    path = workdir / 'config.json'
    wanted = json.loads(config.to_json())
    if path.exists():
        found = dict(report.flatten(json.loads(path.read_text())))
        now = dict(report.flatten(wanted))
        differing = [
            f'  {field}: {found.get(field)} there, {now.get(field)} now'
            for field in sorted(found | now)
            if found.get(field) != now.get(field) and field.split('/')[0] not in _MAY_CHANGE
        ]
        if differing:
            raise ConfigError(
                f'{workdir} belongs to a run with another config:\n' + '\n'.join(differing).replace('/', '.')
                + '\nChoose another --workdir, or set these fields as they were.'
            )  # fmt: skip
    return json.dumps(wanted, indent=2) + '\n'


class Run:
    """Joins config, data and models: the only place that knows all three."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path):
        import jax

        from data import people, tokens
        from lcr2s_jax import parallel, pretrained, report

        clock = time.perf_counter()
        self.config, self.workdir = config, workdir
        self.parallel = parallel.Parallel(**config.parallel)
        self.report = report.Report(workdir)
        self.host = dict(process_index=jax.process_index(), process_count=jax.process_count())
        self.clip, self.clip_params = pretrained.load(**config.model.to_dict())
        self.tokenizer = tokens.Tokenizer(config.tokenizer or config.model.pretrained)
        data = config.data.to_dict()
        cache = data.pop('cache')
        source = people.open_source(**data)
        self.splits = people.load(source, self.tokenizer, config.model.context_length, cache)
        self.stages, self.params, self.steps, self.embedders = {}, {}, {}, {}
        known = ('baseline', 'teacher', 'student')
        names = tuple(config.stages)
        if not set(names) <= set(known) or 'student' in names and 'teacher' not in names[: names.index('student')]:
            raise ConfigError(f'config.stages: found {names}; expected some of {known}, the student after the teacher')
        self.seconds = {'data': time.perf_counter() - clock}

    def train_stage(self, name: str) -> None:
        """Train one stage to its end, from wherever it stands."""
        from lcr2s_jax import checkpoint, evaluate, optim
        from lcr2s_jax import train as training

        stage = self.stages[name] = self._stage(name)
        self.embedders[name] = evaluate.Embedder(stage, self.parallel)
        config = self.config
        with checkpoint.Checkpoints(self.workdir / name) as checkpoints:
            try:
                self.params[name], self.steps[name] = training.fit(
                    stage,
                    self._batches,
                    tx=optim.adam(steps=config.train.steps, **config.optim.to_dict()),
                    parallel=self.parallel,
                    checkpoints=checkpoints,
                    report=self.report,
                    validate=(lambda params: self._validate(name, params)) if 'val' in self.splits else None,
                    seed=config.seed,
                    **config.train,
                )
            except training.NonFinite as error:
                raise UserError(self._explain(error, checkpoints)) from error
        self.seconds[name] = self.report.seconds[name]

    def evaluate(self) -> dict:
        """Every stage's best parameters on val and, for the first and only time, on test; writes the pictures."""
        from lcr2s_jax import pictures

        clock = time.perf_counter()
        results: dict = {}
        for name, stage in self.stages.items():
            results[name] = {'step': self.steps[name], **self._measure(name, stage)}
        results['oracle'], results['chance'] = self._oracle(), self._chance()
        results['seconds'] = {k: round(v, 1) for k, v in self.seconds.items()}
        results['seconds']['evaluate'] = round(time.perf_counter() - clock, 1)
        last = self.config.stages[-1]
        split = self.splits['test']
        shown = pictures.ranked_queries(
            self._embed(last, 'test'), split.captions, split.jpegs, count=6, top=10, seed=self.config.seed
        )
        pictures.contact_sheet(shown, self.workdir / 'sheet.png', f'{last}: test captions and the ten best images')
        pictures.learning_curves(self.workdir / 'metrics.jsonl', self.workdir / 'curves.png')
        return results

    def _stage(self, name: str):
        from lcr2s_jax import stages

        common = (self.clip, self.clip_params, self.splits['train'].num_people)
        if name == 'baseline':
            return stages.baseline_stage(*common, **self.config.baseline)
        if name == 'teacher':
            return stages.teacher_stage(*common, **self.config.teacher)
        teacher = (self.stages['teacher'], self.params['teacher'])
        return stages.student_stage(*common, *teacher, **self.config.student)

    def _batches(self, start: int):
        from data import pipeline
        from lcr2s_jax.arrays import Batch

        config = self.config
        for batch in pipeline.train_batches(
            self.splits['train'],
            **config.batch,
            seed=config.seed,
            image_size=config.model.image_size,
            augment=config.augment.to_dict(),
            masking=config.masking.to_dict(),
            tokenizer=self.tokenizer,
            start=start,
            **self.host,
        ):
            yield Batch(batch['image'], batch['tokens'], batch['pid'], batch['view'])

    def _embed(self, name: str, split: str, params=None):
        from data import pipeline

        params = self.params[name] if params is None else params
        people, size = self.splits[split], self.config.evaluate.batch_size
        return self.embedders[name](
            params,
            people,
            gallery=pipeline.gallery_batches(people, self.config.model.image_size, size, **self.host),
            queries=pipeline.query_batches(people, size, **self.host),
        )

    def _validate(self, name: str, params) -> tuple[float, dict]:
        from lcr2s_jax import evaluate, metrics

        found = evaluate.both_ways(self._embed(name, 'val', params))
        logged = {way: {m: found[way][m] for m in metrics.NAMES} for way in found}
        return found['t2i']['R1'], {'val': logged}

    def _measure(self, name: str, stage) -> dict:
        from lcr2s_jax import evaluate

        results: dict = {}
        for split in self._evaluated:
            single = self._embed(name, split)
            results[split] = evaluate.both_ways(single)
            if stage.enrich:
                rich = evaluate.with_supports(stage, self.params[name], single, self.config.batch.views)
                results.setdefault('with_supports_oracle', {})[split] = evaluate.both_ways(rich)
        return results

    @property
    def _evaluated(self) -> list[str]:
        return [split for split in ('val', 'test') if split in self.splits]

    def _oracle(self) -> dict:
        """What an observer who sees every attribute exactly would reach; only drawn people have one."""
        from data import demo
        from lcr2s_jax import metrics

        if self.config.data.dataset != 'demo':
            return {}
        results = {}
        for split in self._evaluated:
            score_QG, query_pid_Q, gallery_pid_G = demo.oracle_scores(**self.config.data.demo.to_dict(), split=split)
            score_QG = score_QG.argsort(axis=1).argsort(axis=1)  # float32 would round its tie-breaking jitter away
            found = metrics.from_scores(lambda rows: score_QG[rows], query_pid_Q, gallery_pid_G)  # noqa: B023
            results[split] = {'t2i': found}
        return results

    def _chance(self) -> dict:
        from lcr2s_jax import metrics

        ways = {'t2i': ('caption_pid', 'image_pid'), 'i2t': ('image_pid', 'caption_pid')}
        return {
            split: {way: metrics.chance(*(getattr(self.splits[split], x) for x in pair)) for way, pair in ways.items()}
            for split in self._evaluated
        }

    def _explain(self, error, checkpoints) -> str:
        pids = next(self._batches(error.step - 1)).pid_B
        terms = '  '.join(f'{name} {value:g}' for name, value in error.metrics.items())
        saved = checkpoints.latest()
        return (
            f'step {error.step}: found a loss or gradient that is not finite ({terms}) on the identities '
            f'{", ".join(map(str, pids))}. It was not saved; the last checkpoint is '
            f'{"none" if saved is None else f"of step {saved}"}. What to try, in another --workdir: a smaller '
            f'config.optim.learning_rate (now {self.config.optim.learning_rate:g}), config.optim.clip_norm (now '
            f"{self.config.optim.clip_norm:g}), config.model.dtype='float32' (now {self.config.model.dtype})."
        )


if __name__ == '__main__':
    sys.exit(main(sys.argv))
