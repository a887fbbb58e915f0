"""Train, distil and evaluate LCR2S:  python main.py --config=configs/demo.py --workdir=runs/demo

The same command again resumes. Any field of the config can be set: --config.train.steps=1000
"""

import json
import pathlib
import sys
import time
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict, config_flags

from data.records import DataError
from lcr2s_jax.errors import ConfigError, UserError

_CONFIG = config_flags.DEFINE_config_file('config', help_string='A file such as configs/demo.py.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of this run: checkpoints, results, pictures.')
_MAY_CHANGE = ('parallel', 'data.root', 'data.cache')  # when a run is resumed: they say where, not what
STAGES = ('baseline', 'teacher', 'student')


class UsageError(Exception):
    """The command line itself is wrong."""


def main(argv: list[str], command: Callable) -> int:
    """Run `command(config, workdir)`; 0 done, 1 a mistake in config, data or files, 2 one on the command line."""
    try:
        command(*parse(argv))
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
    for file in (word.partition('=')[2] for word in argv if word.startswith('--config=')):
        if not pathlib.Path(file.partition(':')[0]).is_file():  # config_flags would log a traceback of it
            raise ConfigError(f'--config: found no file {file}; expected one such as configs/demo.py')
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
        raise ConfigError(f'--config: found no get_config() that works in {file}')
    return _CONFIG.value, pathlib.Path(_WORKDIR.value)


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Train the config's stages, evaluate them once on test, write results and pictures, print a table."""
    from lcr2s_jax import report

    clock = time.perf_counter()
    refuse_another_config(workdir, config)
    finished = workdir / 'results.json'
    if finished.exists():
        print(f'{workdir} is finished: delete {finished} to evaluate it again')
        results = read_json(finished)
    else:
        run = Run(config, workdir)
        for name in config.stages:
            run.train_stage(name)
        results = run.evaluate()
        results['seconds']['this_call'] = round(time.perf_counter() - clock, 1)
        report.write_text(finished, json.dumps(results, indent=2) + '\n')
    for split in ('val', 'test'):
        print('\n' + report.table(results, split))
    print(f'\n{workdir}: results.json  curves.png  sheet.png  metrics.jsonl  tensorboard/')


def refuse_another_config(workdir: pathlib.Path, config: ConfigDict, **more) -> None:
    """Raise ConfigError, naming the fields, if the workdir has a run of another config (or `more` that is saved)."""
    from lcr2s_jax import report

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
    ]
    if differing:
        raise ConfigError(
            f'{workdir} belongs to a run with another config:\n'
            + '\n'.join(differing)
            + '\nChoose another --workdir, or set these fields as they were.'
        )


def read_json(path: pathlib.Path) -> dict:
    """A JSON file of the workdir. Raises ConfigError where it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f'{path}: found no JSON ({error}); delete it or choose another --workdir') from error


class Run:
    """Joins config, data and models: the only place that knows all three."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path):
        """Open everything and check it; only then is anything written. Raises UserError, DataError."""
        import jax

        from data import people, tokens
        from lcr2s_jax import parallel, pretrained, report

        clock = time.perf_counter()
        self.config, self.workdir = config, workdir
        self.stages, self.params, self.steps, self.embedders = {}, {}, {}, {}
        self._check_fields()
        self.parallel = parallel.Parallel(**config.parallel)
        self.host = dict(process_index=jax.process_index(), process_count=jax.process_count())
        self.clip, self.clip_params = pretrained.load(**config.model.to_dict())
        self.tokenizer = tokens.Tokenizer(config.tokenizer or config.model.pretrained)
        if self.tokenizer.vocab_size != self.clip.vocab_size:
            raise ConfigError(
                f'config.tokenizer: found {self.tokenizer.vocab_size} token ids, expected the {self.clip.vocab_size} '
                'of the model; use the tokenizer that the weights were trained with'
            )
        self._check_stages()
        data = config.data.to_dict()
        cache = data.pop('cache')
        source = people.open_source(**data)
        self.splits = people.load(source, self.tokenizer, config.model.context_length, cache)
        if not {'train', 'test'} <= set(self.splits):
            raise ConfigError(f'config.data: found the splits {", ".join(self.splits)}; expected train and test')
        made_of = {'data': source.fingerprint, 'weights': pretrained.fingerprint(self.clip_params)}
        refuse_another_config(workdir, config, made_of=made_of)
        workdir.mkdir(parents=True, exist_ok=True)
        resolved = json.loads(config.to_json()) | {'made_of': made_of}
        report.write_text(workdir / 'config.json', json.dumps(resolved, indent=2) + '\n')
        self.report = report.Report(workdir)
        self.seconds = {'data': time.perf_counter() - clock}

    def train_stage(self, name: str) -> None:
        """Train one stage to its end, from wherever it stands."""
        from lcr2s_jax import checkpoint, evaluate, optim
        from lcr2s_jax import train as training

        config = self.config
        stage = self.stages[name] = self._stage(name, self.splits['train'].num_people, self.params.get('teacher'))
        self.embedders[name] = evaluate.Embedder(stage, self.parallel)
        with checkpoint.Checkpoints(self.workdir / name) as checkpoints:
            try:
                self.params[name], self.steps[name] = training.fit(
                    stage,
                    lambda start: self._batches(name, start),
                    tx=optim.adam(steps=config.train.steps, **config.optim.to_dict()),
                    parallel=self.parallel,
                    checkpoints=checkpoints,
                    report=self.report,
                    validate=(lambda params: self._validate(name, params)) if 'val' in self.splits else None,
                    seed=config.seed,
                    **config.train,
                )
            except training.NonFinite as error:
                raise UserError(self._explain(name, error, checkpoints)) from error
        self.seconds[name] = self.report.seconds[name]

    def evaluate(self) -> dict:
        """Every stage's best parameters on val and, for the first and only time, on test; writes the pictures."""
        from lcr2s_jax import evaluate, pictures

        clock = time.perf_counter()
        results: dict = {}
        for name, stage in self.stages.items():
            results[name] = {'step': self.steps[name]}
            for split in self._evaluated:
                embeddings = self._embed(name, split)
                results[name][split] = evaluate.both_ways(embeddings)
                if stage.enrich:
                    rich = evaluate.with_supports(stage, self.params[name], embeddings, self.config.batch.views)
                    results[name].setdefault('with_supports_oracle', {})[split] = evaluate.both_ways(rich)
        test = self.splits['test']
        shown = pictures.ranked_queries(
            embeddings, test.captions, test.jpegs, count=6, top=10, seed=self.config.seed
        )  # the last stage's, on test
        pictures.contact_sheet(shown, self.workdir / 'sheet.png', f'{name}: test captions and the ten best images')
        pictures.learning_curves(self.workdir / 'metrics.jsonl', self.workdir / 'curves.png')
        results['oracle'], results['chance'] = self._oracle(), self._chance()
        results['seconds'] = {k: round(v, 1) for k, v in self.seconds.items()}
        results['seconds']['evaluate'] = round(time.perf_counter() - clock, 1)
        return results

    def _check_fields(self) -> None:
        """What can be seen from the config alone, before minutes are spent on data or a teacher."""
        config, names = self.config, tuple(self.config.stages)
        for field in ('train.steps', 'train.eval_every', 'train.save_every', 'train.log_every', 'evaluate.batch_size'):
            group, name = field.split('.')
            if config[group][name] < 1:
                raise ConfigError(f'config.{field}: found {config[group][name]}, expected 1 or more')
        if config.seed < 0:
            raise ConfigError(f'config.seed: found {config.seed}, expected 0 or more')
        if config.model.dtype not in ('float32', 'bfloat16'):
            raise ConfigError(f"config.model.dtype: found '{config.model.dtype}', expected 'float32' or 'bfloat16'")
        lonely = 'student' in names and 'teacher' not in names[: names.index('student')]
        if not names or not set(names) <= set(STAGES) or lonely:
            raise ConfigError(f'config.stages: found {names}; expected some of {STAGES}, the student after the teacher')

    def _check_stages(self) -> None:
        """Build every stage in shapes only: a mistake in the last should not cost the training of the first."""
        import jax

        teacher = None
        for name in self.config.stages:
            shapes = jax.eval_shape(self._stage(name, 1, teacher).init, jax.random.key(0))
            teacher = shapes if name == 'teacher' else teacher
            self.stages[name] = self._stage(name, 1, teacher)
        self.stages.clear()

    def _stage(self, name: str, num_people: int, teacher_params):
        from lcr2s_jax import stages

        common = (self.clip, self.clip_params, num_people)
        if name == 'baseline':
            return stages.baseline_stage(*common, **self.config.baseline)
        if name == 'teacher':
            return stages.teacher_stage(*common, **self.config.teacher)
        return stages.student_stage(*common, self.stages['teacher'], teacher_params, **self.config.student)

    def _batches(self, name: str, start: int):
        from data import pipeline
        from lcr2s_jax.arrays import Batch

        config = self.config
        for batch in pipeline.train_batches(
            self.splits['train'],
            **config.batch,
            seed=config.seed + config.reseed[name],
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

        people, size = self.splits[split], self.config.evaluate.batch_size
        return self.embedders[name](
            self.params[name] if params is None else params,
            people,
            gallery=pipeline.gallery_batches(people, self.config.model.image_size, size, **self.host),
            queries=pipeline.query_batches(people, size, **self.host),
        )

    def _validate(self, name: str, params) -> tuple[float, dict]:
        from lcr2s_jax import evaluate, metrics

        found = evaluate.both_ways(self._embed(name, 'val', params))
        logged = {way: {m: found[way][m] for m in metrics.NAMES} for way in found}
        return found['t2i']['R1'], {'val': logged}

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
            rank_QG = score_QG.argsort(axis=1).argsort(axis=1)  # float32 would round its tie-breaking jitter away
            results[split] = {'t2i': metrics.from_scores(rank_QG.__getitem__, query_pid_Q, gallery_pid_G)}
        return results

    def _chance(self) -> dict:
        from lcr2s_jax import metrics

        results = {}
        for split in self._evaluated:
            image, caption = self.splits[split].image_pid, self.splits[split].caption_pid
            results[split] = {'t2i': metrics.chance(caption, image), 'i2t': metrics.chance(image, caption)}
        return results

    def _explain(self, name: str, error, checkpoints) -> str:
        config, saved = self.config, checkpoints.latest()
        pids = next(self._batches(name, error.step - 1)).pid_B
        terms = '  '.join(f'{term} {value:g}' for term, value in error.metrics.items())
        return (
            f'{name}, step {error.step}: found a loss or gradient that is not finite ({terms}) on the identities '
            f'{", ".join(map(str, pids))}. It was not saved; the last checkpoint is '
            f'{"none" if saved is None else f"of step {saved}"}. What to try, in another --workdir: a smaller '
            f'config.optim.learning_rate (now {config.optim.learning_rate:g}), config.optim.clip_norm (now '
            f"{config.optim.clip_norm:g}; 0 is none), config.model.dtype='float32' (now {config.model.dtype})."
        )


if __name__ == '__main__':
    sys.exit(main(sys.argv, train))
