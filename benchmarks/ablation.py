"""Does the method work here, and by how much:  python -m benchmarks.ablation [--rows ...] [--seeds 0 1 2]

Trains every row of benchmarks/rows.py from the demo CLIP on the same people, for the same steps, and selects each one's
step on val. They are trained one after the other and kept in --out; the same command goes on where it stood. With more
than one seed the rows that are claims are evaluated on test, once; all others are read on val alone. Needs neither
TensorFlow nor ml_collections, but arrays that `python -m benchmarks.prepared` wrote; where it can it makes them itself.
`python -m benchmarks.verdict` makes tables, intervals and plots of what lies in --out.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks import common, prepared
from benchmarks.rows import ROWS, Row
from lcr2s_jax import files
from lcr2s_jax.evaluation import evaluate, metrics
from lcr2s_jax.method import stages
from lcr2s_jax.training import optim, train
from lcr2s_jax.training.checkpoint import Checkpoints
from lcr2s_jax.training.parallel import Parallel
from lcr2s_jax.weights import pretrained


class Log:
    """What `train.fit` tells, on the terminal; counts the seconds of training apart from those of validation."""

    def __init__(self, name: str, steps: int):
        self._name, self._steps, self.seconds, self.resumed = name, steps, 0.0, False

    def start(self, stage: str, first: int, steps: int) -> None:
        """A training begins or goes on."""
        self.resumed = first > 0

    def log(self, stage: str, step: int, values: dict, seconds: float) -> None:
        """Scalars of training, or of validation."""
        if 'val' in values:
            told = '  '.join(f'{k} {v:.1f}' for k, v in values['val'].items())
        else:
            self.seconds += seconds
            told = f'loss {values["loss"]:.2f}  {values["pairs_per_s"]:.0f} pairs/s'
        print(f'{self._name} {step}/{self._steps}  {told}', flush=True)

    def stop(self) -> None:
        """The end."""


class Ablation:
    """Every row's training and evaluation, on the same arrays.

    Args:
      arrays: folder of `benchmarks.prepared`.
      out: a folder a row and seed.
      steps: of every training.
      people: how many of the training people are there; 0 for all.
      chosen_by: the metric on val by which a step is chosen.
      test: names of the rows that are evaluated on test.
    """

    def __init__(
        self,
        arrays: pathlib.Path,
        out: pathlib.Path,
        steps: int,
        people: int = 0,
        chosen_by: str = 'R1',
        test: Sequence[str] = (),
    ):
        self.splits, self.settings = prepared.read(arrays)
        if people:
            self.splits['train'] = self.splits['train'].only(
                np.arange(self.splits['train'].image_pid.max() + 1) < people
            )
        self.out, self.steps, self.chosen_by, self.test = out, steps, chosen_by, test
        self.parallel = Parallel('jit', 0, fsdp=False)
        self.clip, self.clip_params = pretrained.load(**self.settings['config']['model'])
        self.people = int(self.splits['train'].image_pid.max()) + 1
        self.embedder = evaluate.Embedder(self.stage(ROWS['sdm']).encoder, self.parallel)  # one program serves all rows

    def folder(self, name: str, seed: int) -> pathlib.Path:
        """Where a row's checkpoints and results are."""
        return self.out / f'{name}-{seed}'

    def run(self, name: str, seed: int) -> None:
        """Train a row, after the teacher that it needs, and evaluate it; only what has not been done."""
        row, folder = ROWS[name], self.folder(name, seed)
        path = folder / 'result.json'
        splits = ('val', 'test') if name in self.test else ('val',)
        result = json.loads(path.read_text()) if path.exists() else {}
        if set(splits) <= set(result):
            return
        for teacher in row.teachers:
            self.run(teacher, seed)
        stage = self.stage(row, *(self.taught(row, seed) if row.teachers else ()))
        log = Log(f'{name}-{seed}', self.steps)
        if row.stage == 'none':
            params, step = stage.init(jax.random.key(seed)), 0
        else:
            params, step = self.fit(row, stage, folder, seed, log)  # only opened, if test was not asked for before
        found = {
            'step': step,
            'seconds': log.seconds,  # of training; of a resumed one those since then
            'resumed': log.resumed,
            'parameters': sum(x.size for x in jax.tree.leaves(params['clip'])),
            'digest': pretrained.fingerprint(params),
        }
        result = found | result
        for split in splits:
            result[split] = result.get(split) or self.evaluate(row, stage, params, split, folder)
        folder.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(result, indent=2) + '\n')

    def fit(self, row: Row, stage, folder: pathlib.Path, seed: int, log: Log):
        """The best parameters on val, and their step."""
        settings, config = self.settings, self.settings['config']
        batch_seed = seed + config['reseed'][row.stage]
        train_split = self.splits['train']
        if row.half is not None:
            train_split = train_split.only(np.arange(self.people) % 2 == row.half)

        def validate(params):
            embeddings = self.embed(params, 'val')
            if row.selected_by == 'supports':
                embeddings = evaluate.with_supports(stage.fusion, params, embeddings, self.views(row))
            found = evaluate.retrieval_metrics(embeddings)['t2i']
            return found[self.chosen_by], {'val': {name: found[name] for name in ('R1', 'R5', 'mAP')}}

        with Checkpoints(folder / 'checkpoints') as checkpoints:
            return train.fit(
                stage,
                lambda start: prepared.batches(
                    train_split, settings, **config['batch'] | row.batch, seed=batch_seed, start=start
                ),
                tx=optim.adam(steps=self.steps, **config['optim']),
                parallel=self.parallel,
                checkpoints=checkpoints,
                report=log,
                validate=validate,
                seed=seed,
                **config['train'] | {'steps': self.steps},
            )

    def stage(self, row: Row, teacher=None, params=None, cache=None) -> stages.Stage:
        """What a row trains."""
        kind = 'baseline' if row.stage == 'none' else row.stage
        given = self.settings['config'][kind] | row.changes
        common_ = (self.clip, self.clip_params, self.people)
        if kind == 'student':
            return stages.student_stage(*common_, teacher, params, cache, **given)
        return (stages.teacher_stage if kind == 'teacher' else stages.baseline_stage)(*common_, **given)

    def taught(self, row: Row, seed: int):
        """Stage, parameters and cached features of a row's teacher, or of the first of two.

        Of two, either gives the features of the half of the people that it was not trained on.
        """
        stage, params, cache = self._teacher(row, row.teachers[0], seed)
        if len(row.teachers) > 1:
            _, _, other = self._teacher(row, row.teachers[1], seed)
            pids = self.splits['train'].image_pid, self.splits['train'].caption_pid
            seen_G1, seen_Q1 = (pid[:, None] % 2 == ROWS[row.teachers[0]].half for pid in pids)
            cache = cache._replace(
                image_GE=np.where(seen_G1, other.image_GE, cache.image_GE),
                text_QE=np.where(seen_Q1, other.text_QE, cache.text_QE),
            )
        return stage, params, cache

    def _teacher(self, row: Row, name: str, seed: int):
        known = ROWS[name]
        stage, params = self.stage(known), self.restored(known, name, seed)
        given = self.settings['config']['student'] | row.changes
        if not given['cache_teacher']:
            return stage, params, None
        cache = self.embed(params, 'train')
        if not given['redraw_supports']:
            cache = evaluate.with_supports(stage.fusion, params, cache, self.views(known), seed)
        return stage, params, cache

    def restored(self, row: Row, name: str, seed: int):
        """The best parameters of a row that was trained; of a student's the encoders alone."""
        stage = self.stage(row) if row.stage != 'student' else self.stage(ROWS['sdm'])
        with Checkpoints(self.folder(name, seed) / 'checkpoints') as checkpoints:
            return checkpoints.restore_params(self.parallel.put_state(stage.init(jax.random.key(0))))

    def views(self, row: Row) -> int:
        """K, with which supports are drawn."""
        return (self.settings['config']['batch'] | row.batch)['views']

    def embed(self, params, split: str):
        """Every image and caption of a split."""
        arrays, size = self.splits[split], self.settings['config']['evaluate']['batch_size']
        return self.embedder(params, arrays, prepared.gallery(arrays, size), prepared.queries(arrays, size))

    def evaluate(self, row: Row, stage, params, split: str, folder: pathlib.Path) -> dict:
        """Metrics of the split, single view and with supports; those of every query go to <split>.npz."""
        embeddings = {'single': self.embed(params, split)}
        if stage.fusion:
            embeddings['supports'] = evaluate.with_supports(stage.fusion, params, embeddings['single'], self.views(row))
        folder.mkdir(parents=True, exist_ok=True)
        queries = {
            name: metrics.each(metrics.cosine(e.text_QE, e.image_GE), e.text_pid_Q, e.image_pid_G)
            for name, e in embeddings.items()
        }
        np.savez(folder / f'{split}.npz', **queries)
        return {name: evaluate.retrieval_metrics(e) for name, e in embeddings.items()}


def refuse_another_size(path: pathlib.Path, size: dict) -> None:
    """End where the folder has rows of other steps or people: one table compares what is equal."""
    before = size | {'chosen_by': 'R1'} | json.loads(path.read_text()) if path.exists() else size
    if found := [f'{name} {before[name]} there, {size[name]} now' for name in size if before[name] != size[name]]:
        raise SystemExit(f'{path.parent}: found rows of another size ({"; ".join(found)}); choose another --out')


def main() -> None:
    """Train and evaluate what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', nargs='+', default=[name for name in ROWS if ROWS[name].claim], choices=list(ROWS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--people', type=int, default=0, help='train on the first so many alone; 0 for all')
    parser.add_argument('--chosen-by', choices=('R1', 'mAP'), default='R1', help="on val, each training's step")
    parser.add_argument('--test', action='store_true', help='evaluate all of these rows on test')
    parser.add_argument('--arrays', type=pathlib.Path, default=pathlib.Path('runs/prepared'))
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/ablation'))
    args = parser.parse_args()
    if not (args.arrays / 'settings.json').exists():
        prepared.write(args.arrays, prepared.config())
    args.out.mkdir(parents=True, exist_ok=True)
    test = args.rows if args.test else [name for name in args.rows if ROWS[name].claim and len(args.seeds) > 1]
    jax.config.update('jax_compilation_cache_dir', str((args.out / 'programs').absolute()))
    ablation = Ablation(args.arrays, args.out, args.steps, args.people, args.chosen_by, test)
    size = {'steps': args.steps, 'people': ablation.people, 'chosen_by': args.chosen_by}
    about = args.out / 'machine.json'
    refuse_another_size(about, size)
    command = ' '.join(['python', *sys.orig_argv[1:]])
    commands = (json.loads(about.read_text()) if about.exists() else {}).get('commands', [])
    commands += [command] * (command not in commands)
    files.write(about, json.dumps({'commands': commands, 'machine': common.machine(), **size}) + '\n')
    clock = time.perf_counter()
    for seed in args.seeds:  # seed by seed: whenever it is stopped, there is a table
        for name in args.rows:
            ablation.run(name, seed)
    print(f'{len(args.rows)} rows, {len(args.seeds)} seeds: {time.perf_counter() - clock:.0f} s')


if __name__ == '__main__':
    main()
