"""Rows by seeds, trained on the device: the whole split lies there, and where it is fast the seeds train side by side.

Needs neither TensorFlow nor ml_collections. Every row and seed leaves <out>/<row>-<seed>.json and .npz (the metrics of
every query) as it ends, and what is there is not done again.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import serialization

from commands.programs import Programs
from commands.rows import Row
from data.plan import Plan
from lcr2s_jax import files
from lcr2s_jax.errors import FULL, ConfigError, UserError
from lcr2s_jax.evaluation import compare as tables
from lcr2s_jax.evaluation import metrics
from lcr2s_jax.method import stages
from lcr2s_jax.texts import counted
from lcr2s_jax.training import optim, resident


@dataclasses.dataclass
class Member:
    """One seed of a row: where it starts, what it is taught, and what is left of it."""

    row: Row
    seed: int
    stage: stages.Stage
    start: dict
    frozen: dict | None
    plan: Plan
    kept: tuple[np.ndarray, np.ndarray]
    params: dict | None = None
    step: int = 0
    score: float = -1.0
    history: list = dataclasses.field(default_factory=list)


class Comparison(Programs):
    """Trains what rows ask for; arguments as of `Programs`."""

    def run(
        self,
        names: Sequence[str],
        seeds: Sequence[int],
        deadline: float | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Train and evaluate rows, after those that they need; only what has not been done.

        Nothing is begun after `deadline`, of `time.perf_counter`; `after` is called after each training.
        """
        names = self._with_needs(names)
        self._refuse_others(names, seeds)
        groups = self._groups(names, seeds)
        for part in groups if self.together else [[one] for group in groups for one in group]:
            part = [(row, seed) for row, seed in part if all(self._path(n, seed).exists() for n in row.needs)]
            if not part or (deadline is not None and time.perf_counter() > deadline):
                continue
            try:
                self._run_group(part)
                after()
            except Exception as error:  # one row that fails must not cost the others; it is told and left undone
                if getattr(error, 'errno', None) in FULL:  # the others would be trained and could not be kept either
                    raise
                self.say(f'{part[0][0].name} failed: {type(error).__name__}: {error}')
        undone = {name for name in names if not all(self._path(name, seed).exists() for seed in seeds)}
        if undone:
            raise ConfigError(
                f'found {counted(len(undone), "row")} left undone: {", ".join(sorted(undone))}; expected all. The '
                'time was over, or what stopped them is told above: correct it and type the same again, which goes on '
                'with these'
            )

    def _refuse_others(self, names: Sequence[str], seeds: Sequence[int]) -> None:
        """Raise ConfigError where a result that lies there is of another config, of other data, or of another row."""
        for name in names:
            now = self.made_with(self.rows[name])
            for path in (path for seed in seeds if (path := self._path(name, seed)).exists()):
                then = tables.read_result(path).get('made_with', {})
                differ = [field for field in now if field in then and then[field] != now[field]]
                if differ:
                    told = '; '.join(f'{field}: {then[field]} there, {now[field]} now' for field in differ[:5])
                    raise ConfigError(
                        f'{path}: found a result that was made otherwise ({told}), expected one of this config and '
                        'row. Choose another --out, or delete it, which makes it again'
                    )

    def check(self, names: Sequence[str], seeds: Sequence[int]) -> None:
        """Build what is to be trained in shapes only: a mistake in the last row should not cost those before it.

        Raises UserError.
        """
        todo = [one for group in self._groups(self._with_needs(names), seeds) for one in group]
        for row in {row.name: row for row, _ in todo}.values():
            seed = next(seed for other, seed in todo if other is row)
            try:
                self._periods(row)
                self._stage(row, seed)
                if row.stage != 'start' and not row.judges:
                    self._planned(row, seed)
            except UserError as error:
                raise type(error)(f'row {row.name}: {error}') from None

    def _periods(self, row: Row) -> tuple[int, int]:
        """The steps of a row, and those between two validations."""
        steps, every = (self.given(row)['train'][name] for name in ('steps', 'eval_every'))
        if steps % every:
            raise ConfigError(f'config.train.steps: found {steps}, expected a multiple of eval_every, {every}')
        return steps, every

    def prepare(self, names: Sequence[str], seeds: Sequence[int]) -> None:
        """Begin to compile what `run` will need."""
        self.compile(self._groups(self._with_needs(names), seeds))

    def test(self, name: str, seeds: Sequence[int]) -> None:
        """Evaluate a finished row on test, if that was not done."""
        for seed in seeds:
            path = self._path(name, seed)
            if path.exists() and 'test' not in (result := tables.read_result(path)):
                row = self.rows[name]
                self._write(row, self._stage(row, seed), self.params(name, seed), result, ('val', 'test'), True)

    def _with_needs(self, names: Sequence[str]) -> list[str]:
        """The rows and what they need, needs first, in the order asked for."""
        found: dict[str, None] = {}
        for name in names:
            found |= dict.fromkeys(self._with_needs(self.rows[name].needs)) | {name: None}
        return list(found)

    def _groups(self, names: Sequence[str], seeds: Sequence[int]) -> list[list[tuple[Row, int]]]:
        """What is trained at a time: rows of one program whose needs come earlier; less what is done."""
        depth: dict[str, int] = {}
        groups: dict[tuple, list] = {}
        for name in names:
            row = self.rows[name]
            depth[name] = 1 + max((depth[other] for other in row.needs), default=-1)
            todo = [(row, seed) for seed in seeds if not self._path(name, seed).exists()]
            if todo:
                groups.setdefault((depth[name], self._signature(row)), []).extend(todo)
        waiting, ready = list(groups.values()), []
        while waiting:  # in the order asked for, as far as what they need allows
            missing = {row.name for group in waiting for row, _ in group}
            ready.append(next(g for g in waiting if not missing & {need for row, _ in g for need in row.needs}))
            waiting.remove(ready[-1])
        return ready

    def _run_group(self, group: Sequence[tuple[Row, int]]) -> None:
        clock = time.perf_counter()
        members = [self._member(row, seed) for row, seed in group]
        if group[0][0].stage == 'start':
            for member in members:
                member.params = member.start
        else:
            self._train(members)
        seconds = (time.perf_counter() - clock) / len(members)
        for member in members:
            row, result = member.row, {'seed': member.seed, 'step': member.step, 'seconds': seconds}
            result |= {
                'made_with': self.made_with(row),
                'row': row.name,
                'label': row.label,
                'side_by_side': len(members),
                'history': member.history,
            }
            seen = self.embed(row, member.params, 'seen')
            found = metrics.retrieval(seen.text_QE, seen.image_GE, seen.text_pid_Q, seen.image_pid_G, block=2048)
            result['train'] = {name: found[name] for name in metrics.NAMES}
            path = self._path(row.name, member.seed).with_suffix('.msgpack')
            files.write(path, serialization.to_bytes(jax.device_get(member.params)))
            splits = ('val', 'test') if row.test else ('val',)
            self._write(row, member.stage, member.params, result, splits, row.test)

    def _member(self, row: Row, seed: int) -> Member:
        stage, (plan, kept) = self._stage(row, seed), self._planned(row, seed)
        return Member(row, seed, stage, stage.init(jax.random.key(seed)), stage.frozen, plan, kept)

    def _planned(self, row: Row, seed: int) -> tuple[Plan, tuple[np.ndarray, np.ndarray]]:
        """The batches of a row, and the places of the images and captions that it learns from."""
        config = self.given(row)
        batch_seed = seed + config['reseed'].get(row.stage, 0)
        split, kept_Q = self._host['train'], self._kept_captions(row, seed)
        image_G = np.unique(split.caption_image_Q[kept_Q])
        place_G = np.zeros(len(split.image_pid_G), np.int64)
        place_G[image_G] = np.arange(len(image_G))
        plan = Plan(
            np.unique(split.image_pid_G[image_G], return_inverse=True)[1],
            place_G[split.caption_image_Q[kept_Q]],
            seed=batch_seed,
            **config['batch'],
        )
        return plan, (image_G, kept_Q)

    def _stacked(self, trees: Sequence):
        """Trees with a leading axis of members; by NumPy, since JAX would compile a program for every shape."""
        trees = jax.device_get(list(trees))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *trees) if self.together else trees[0]

    def _inputs(self, members: Sequence[Member]) -> tuple:
        """State, frozen, split, seeds and knobs of members that train side by side."""
        config = self.given(members[0].row)
        tx = optim.adam(steps=config['train']['steps'], **config['optim'])
        start = jax.jit(lambda params: resident.initial_state(params, tx))
        split, tokens = self._resident['train'], {}
        for member in members:
            if member.row.noise not in tokens:
                tokens[member.row.noise] = self._host['train'].tokens_QL[self._source(member.row)]
        return (
            self._stacked([start(member.start) for member in members]),
            self._stacked([member.frozen for member in members]),
            split._replace(tokens_QL=self._stacked([tokens[member.row.noise] for member in members])),
            self._stacked([np.int32(member.seed) for member in members]),
            self._stacked([self.knobs(member.row) for member in members]),
        )

    def _train(self, members: list[Member]) -> None:
        row = members[0].row
        steps, every = self._periods(row)
        program = self._program(row, members[0].seed, len(members))
        state, frozen, split, seeds, knobs = self._inputs(members)
        for start in range(0, steps, every):
            index = self._stacked([self.index(member, start, start + every) for member in members])
            clock = time.perf_counter()
            state, told = program(state, frozen, split, index, seeds, knobs)
            loss = np.asarray(told['loss']).reshape(len(members), -1)[:, -20:].mean(axis=1)
            rate = every / (time.perf_counter() - clock)
            if not np.isfinite(loss).all():
                raise ConfigError(f'{row.name}: found a loss that is not finite by step {start + every}')
            stacked = jax.device_get(state.params)
            for place, member in enumerate(members):
                params = jax.tree.map(lambda x, i=place: x[i], stacked) if self.together else stacked
                self._validate(member, params, start + every, float(loss[place]), rate)
            last = ' '.join(f'{member.row.name} {member.history[-1]["R1"]:.1f}' for member in members)
            self.say(f'{start + every}/{steps}  {rate:.0f} steps/s of {len(members)}  val R@1 {last}')

    @staticmethod
    def index(member: Member, start: int, stop: int) -> tuple:
        """The batches of steps start .. stop - 1 as places in the whole training split."""
        image, caption = resident.indices(member.plan, start, stop)
        image_G, kept_Q = member.kept
        return image_G[image].astype(np.int32), kept_Q[caption].astype(np.int32)

    def _validate(self, member: Member, params, step: int, loss: float, rate: float) -> None:
        """Keep the parameters of the best step by val mAP: with supports where there is a fusion, which teaches."""
        whole = params if 'clip' in params else params | {'clip': member.frozen['clip']}
        e = self.embed(member.row, whole, 'val')
        if member.stage.fusion is not None:
            e = self.with_supports(member.row, member.stage, whole, e)
        found = metrics.retrieval(e.text_QE, e.image_GE, e.text_pid_Q, e.image_pid_G, block=2048)
        told = {'step': step, 'loss': loss, 'R1': found['R1'], 'mAP': found['mAP']}
        member.history.append(told | {'steps_per_s': rate})
        if found['mAP'] > member.score:
            member.score, member.step = found['mAP'], step
            member.params = jax.tree.map(np.array, whole)  # copies: the next steps take the state's memory

    def _write(self, row: Row, stage, params, result: dict, splits: Sequence[str], tested: bool) -> None:
        """Evaluate on splits and write everything; the .json last, which says that all is there."""
        path = self._path(row.name, result['seed'])
        queries = {}
        if path.with_suffix('.npz').exists():
            queries = files.read_arrays(path.with_suffix('.npz'), ConfigError, 'delete it and type the same again')
        for split in splits:
            result[split] = {}
            for way, e in self.ways(row, result['seed'], stage, params, split, tested).items():
                score = metrics.cosine(e.text_QE, e.image_GE)
                each_Q5 = metrics.each(score, e.text_pid_Q, e.image_pid_G, block=2048)
                result[split][way] = {n: 100 * float(x) for n, x in zip(metrics.NAMES, each_Q5.mean(0), strict=True)}
                queries[f'{split}/{way}/R1'] = each_Q5[:, 0].astype(bool)
                queries[f'{split}/{way}/mAP'] = each_Q5[:, 3].astype(np.float16)
        with files.aside(path.with_suffix('.npz')) as partial, partial.open('wb') as file:
            np.savez_compressed(file, **queries)
        files.write(path, json.dumps(result) + '\n')
