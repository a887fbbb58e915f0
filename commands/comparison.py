"""Rows by seeds, trained on the device: the whole split lies there, and where it is fast the seeds train side by side.

Needs neither TensorFlow nor ml_collections. Every row and seed leaves <out>/<row>-<seed>.json and .npz (the metrics of
every query) as it ends, and what is there is not done again.
"""

import concurrent.futures
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from commands import noise
from commands.rows import Row, merged
from data.plan import Plan
from lcr2s_jax import files
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import evaluate, metrics, neighbours
from lcr2s_jax.method import stages
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.training import optim, resident

_KNOBS = {'student': ('feature_weight', 'relation_weight'), 'optim': ('learning_rate',)}
"""Numbers that one compiled program takes as arguments: rows that differ in nothing else share it."""
_SEEN = 200  # training people whose R@1 tells how much was learnt by heart
_BLOCK = 500  # rows embedded at a time


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


class Comparison:
    """Trains what rows ask for.

    Args:
      splits: 'train', 'val' and 'test' as `resident.ResidentSplit`s of NumPy arrays.
      config: nested plain values, the groups of configs/base.py, and `masking` with the tokenizer's two numbers.
      rows: by name.
      out: a folder.
      load: config['model'] -> (clip, parameters to start from).
      together: train the seeds of a row side by side (`jax.vmap`): for accelerators.
      say: takes a line.
    """

    def __init__(
        self,
        splits: Mapping[str, resident.ResidentSplit],
        config: Mapping,
        rows: Mapping[str, Row],
        out: pathlib.Path,
        load: Callable[[Mapping], tuple],
        *,
        together: bool = False,
        say: Callable[[str], None] = print,
    ):
        self.splits, self.config, self.rows, self.out, self.say = splits, config, rows, out, say
        self.together = together
        self._load = load
        self._resident = {name: jax.device_put(split) for name, split in splits.items()}
        self._resident['seen'] = jax.device_put(splits['train'].people(_SEEN))
        self._host = dict(splits) | {'seen': splits['train'].people(_SEEN)}
        self._people = int(splits['train'].image_pid_G.max()) + 1
        self._programs: dict[str, Callable] = {}
        self._models: dict[str, tuple] = {}
        self._features: dict[tuple, Embeddings] = {}
        out.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        names: Sequence[str],
        seeds: Sequence[int],
        deadline: float | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Train and evaluate rows, after those that they need; only what has not been done.

        Args:
          names: of the rows.
          seeds: of each.
          deadline: `time.perf_counter` after which no further group is begun.
          after: called after every group.
        """
        failed: set[str] = set()
        for group in self._groups(self._with_needs(names), seeds):
            if deadline is not None and time.perf_counter() > deadline:
                self.say(f'no time left for {", ".join(sorted({row.name for row, _ in group}))}')
                continue
            group = [(row, seed) for row, seed in group if not failed & set(row.needs)]
            try:
                for part in [group] if self.together else [[one] for one in group]:
                    self._run_group(part)
                after()
            except Exception as error:  # one row that fails must not cost the others; it is told and left undone
                self.say(f'{group[0][0].name} failed: {type(error).__name__}: {error}')
                failed |= {row.name for row, _ in group}
        if failed:
            raise ConfigError(f'found {len(failed)} rows that failed, told above: {", ".join(sorted(failed))}')

    def test(self, name: str, seeds: Sequence[int]) -> None:
        """Evaluate a finished row on test, if that was not done."""
        for seed in seeds:
            path = self._path(name, seed)
            if path.exists() and 'test' not in (result := json.loads(path.read_text())):
                row = self.rows[name]
                self._write(row, self._stage(row, seed), self.params(name, seed), result, ('test',))

    def _with_needs(self, names: Sequence[str]) -> list[str]:
        """The rows and what they need, needs first, in the order asked for."""
        found: dict[str, None] = {}
        for name in names:
            found |= dict.fromkeys(self._with_needs(self.rows[name].needs)) | {name: None}
        return list(found)

    def _groups(self, names: Sequence[str], seeds: Sequence[int]) -> list[list[tuple[Row, int]]]:
        """What is trained at a time: rows of one program whose needs come earlier; less what is done."""
        waves: dict[str, int] = {}
        groups: dict[tuple, list] = {}
        for name in names:
            row = self.rows[name]
            waves[name] = 1 + max((waves[other] for other in row.needs), default=-1)
            todo = [(row, seed) for seed in seeds if not self._path(name, seed).exists()]
            if todo:
                groups.setdefault((waves[name], self._signature(row)), []).extend(todo)
        order = {name: place for place, name in enumerate(names)}
        return [groups[key] for key in sorted(groups, key=lambda key: (key[0], order[groups[key][0][0].name]))]

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
            result |= {'row': row.name, 'label': row.label, 'history': member.history}
            seen = self.embed(row, member.params, 'seen')
            found = metrics.retrieval(seen.text_QE, seen.image_GE, seen.text_pid_Q, seen.image_pid_G, block=2048)
            result['train'] = {name: found[name] for name in metrics.NAMES}
            path = self._path(row.name, member.seed).with_suffix('.msgpack')
            path.write_bytes(serialization.to_bytes(jax.device_get(member.params)))
            self._write(row, member.stage, member.params, result, ('val', 'test') if row.test else ('val',))

    def given(self, row: Row) -> dict:
        """The config with the row's changes."""
        return merged(self.config, row.set)

    def _path(self, name: str, seed: int) -> pathlib.Path:
        return self.out / f'{name}-{seed}.json'

    def _model(self, row: Row) -> tuple:
        wanted = self.given(row)['model']
        key = json.dumps(wanted, sort_keys=True)
        if key not in self._models:
            clip, params = self._load(wanted)
            encoder = DualEncoder(clip)
            embed = jax.jit(
                lambda params, image, tokens: (
                    resident.embed_rows(encoder.embed_image, params, image, _BLOCK),
                    resident.embed_rows(encoder.embed_text, params, tokens, _BLOCK),
                )
            )
            self._models[key] = clip, params, embed
        return self._models[key]

    def _stage(self, row: Row, seed: int, knobs: Mapping | None = None) -> stages.Stage:
        """What a row trains; `knobs` may be traced numbers in place of the config's."""
        config = self.given(row)
        clip, params, _ = self._model(row)
        if row.stage in ('start', 'baseline'):
            return stages.baseline_stage(clip, params, self._people, **config['baseline'])
        teach = (clip, params, self._people)
        if row.stage == 'teacher':
            return stages.teacher_stage(*teach, **config['teacher'])
        teacher_params, cache = self._taught(row, seed)
        if row.stage == 'fusion':
            teacher = stages.teacher_stage(*teach, **config['teacher'])
            return stages.fusion_stage(teacher, teacher_params, cache, **config['fusion'])
        teacher = self._stage(self.rows[row.teacher], seed)
        given = config['student'] | ({k: knobs[k] for k in _KNOBS['student']} if knobs else {})
        return stages.student_stage(*teach, teacher, teacher_params, cache, **given)

    def _taught(self, row: Row, seed: int) -> tuple:
        """Parameters and training features of a row's teacher; of one that is not trained yet their shapes."""
        if self._path(row.teacher, seed).exists():
            return self.params(row.teacher, seed), self.features(row.teacher, seed, 'train')
        of, split = self.rows[row.teacher], self._host['train']
        clip, encoders, _ = self._model(of)
        params = jax.eval_shape(self._stage(of, seed).init, jax.random.key(0))
        params |= {'clip': jax.eval_shape(lambda: encoders)}
        rows = (len(split.image_pid_G), len(split.tokens_QL))
        shapes = [jax.ShapeDtypeStruct((n, clip.embed_dim), jnp.float32) for n in rows]
        return params, Embeddings(*shapes, split.image_pid_G, None, None, split.caption_image_Q)

    def params(self, name: str, seed: int) -> dict:
        """The best parameters of a finished row."""
        path = self._path(name, seed).with_suffix('.msgpack')
        return serialization.msgpack_restore(path.read_bytes())

    def features(self, name: str, seed: int, split: str) -> Embeddings:
        """A finished row's single views of a split."""
        if (name, seed, split) not in self._features:
            self._features[name, seed, split] = self.embed(self.rows[name], self.params(name, seed), split)
        return self._features[name, seed, split]

    def embed(self, row: Row, params, split: str) -> Embeddings:
        """Every image and caption of a split ('seen': of the first training people)."""
        there, host = self._resident[split], self._host[split]
        _, _, embed = self._model(row)
        image_GE, text_QE = map(np.asarray, embed({'clip': params['clip']}, there.image_Ghwc, there.tokens_QL))
        places = np.arange(len(host.image_pid_G), dtype=np.int32)
        pid_Q = host.image_pid_G[host.caption_image_Q]
        return Embeddings(image_GE, text_QE, host.image_pid_G, pid_Q, places, host.caption_image_Q)

    def _member(self, row: Row, seed: int) -> Member:
        config = self.given(row)
        stage = self._stage(row, seed)
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
        return Member(row, seed, stage, stage.init(jax.random.key(seed)), stage.frozen, plan, (image_G, kept_Q))

    def _source(self, row: Row) -> np.ndarray:
        """Whose words each training caption has."""
        return noise.shuffled(len(self._host['train'].tokens_QL), row.noise)

    def _kept_captions(self, row: Row, seed: int) -> np.ndarray:
        """Places of the training captions that the row learns from."""
        split, source_Q = self._host['train'], self._source(row)
        places = np.arange(len(source_Q))
        nth_Q = places - np.searchsorted(split.caption_image_Q, split.caption_image_Q)
        kept = np.ones(len(places), bool) if row.half is None else nth_Q % 2 == row.half
        if row.keep == 'true':
            kept &= split.image_pid_G[split.caption_image_Q[source_Q]] == split.image_pid_G[split.caption_image_Q]
        elif row.keep:
            score_Q = self._judged(row, seed, source_Q, nth_Q)
            kept &= score_Q > noise.two_groups(score_Q)
        return places[kept]

    def _judged(self, row: Row, seed: int, source_Q: np.ndarray, nth_Q: np.ndarray) -> np.ndarray:
        """How well every caption fits, by the judge that was not trained on it or by the only one."""
        split, found = self._host['train'], []
        for judge in row.judges:
            e = self.features(judge, seed, 'train')
            given = (e.image_GE, e.text_QE[source_Q])
            if row.keep == 'pair':
                found.append(noise.pair_scores(*given, split.caption_image_Q))
            else:
                found.append(noise.consensus_scores(*given, split.image_pid_G, split.caption_image_Q))
        if len(found) == 1:
            return found[0]
        standard = [(x - x.mean()) / x.std() for x in found]
        unseen_of = {self.rows[judge].half: score for judge, score in zip(row.judges, standard, strict=True)}
        return np.where(nth_Q % 2 == 0, unseen_of[1], unseen_of[0])

    def _signature(self, row: Row) -> str:
        """What of a row is in its program; rows that are alike in it train side by side."""
        config = self.given(row)
        groups = ('model', 'batch', 'augment', 'masking', 'optim', 'train', row.stage)
        static = {g: {k: v for k, v in config.get(g, {}).items() if k not in _KNOBS.get(g, ())} for g in groups}
        if row.stage == 'student':
            del static['student']['from_teacher']  # where it starts
            of = self.rows[row.teacher]
            fusion = of.stage in ('teacher', 'fusion') and self.given(of)['teacher']
            static['of'] = [fusion, self.given(of)['model']]
        if row.stage == 'fusion':
            static['teacher'] = config['teacher']
        return json.dumps([row.stage, static], sort_keys=True)

    def _program(self, row: Row, seed: int, count: int) -> Callable:
        """The compiled steps between two validations of so many members."""
        key = (self._signature(row), count)
        if key not in self._programs:
            config = self.given(row)
            steps = config['train']['steps']

            def run(state, frozen, split, index, seed_, knobs):
                stage = self._stage(row, seed, knobs)
                tx = optim.adam(steps=steps, **config['optim'] | {'learning_rate': knobs['learning_rate']})
                given = {'augment_with': config['augment'], 'mask_with': config['masking']}
                return resident.run_steps(state, frozen, split, index, seed_, loss=stage.loss, tx=tx, **given)

            if self.together:  # the pixels are shared, the captions may be a row's own
                shared = resident.ResidentSplit(None, 0, None, None)
                run = jax.vmap(run, in_axes=(0, 0, shared, 0, 0, 0))
            self._programs[key] = jax.jit(run, donate_argnums=0)
        return self._programs[key]

    def compile(self, names: Sequence[str], seeds: Sequence[int]) -> None:
        """Compile every program, all at once: they take longer than the training on a fast device."""
        clock, lowered = time.perf_counter(), {}
        for group in self._groups(self._with_needs(names), seeds):
            row, seed = group[0]
            if row.stage != 'start':
                count = len(group) if self.together else 1
                program = self._program(row, seed, count)
                lowered[self._signature(row), count] = program.lower(*self._shapes(row, seed, count))
        self.say(f'{len(lowered)} programs traced in {time.perf_counter() - clock:.0f} s')
        with concurrent.futures.ThreadPoolExecutor(max(len(lowered), 1)) as pool:
            compiled = pool.map(lambda traced: traced.compile(), lowered.values())
            self._programs |= dict(zip(lowered, compiled, strict=True))
        self.say(f'{len(lowered)} programs compiled by {time.perf_counter() - clock:.0f} s')

    def _shapes(self, row: Row, seed: int, count: int) -> tuple:
        """Shapes of a program's arguments, also before its teacher is trained."""
        config, stage = self.given(row), self._stage(row, seed)
        tx = optim.adam(steps=config['train']['steps'], **config['optim'])
        batch, every = config['batch'], config['train']['eval_every']
        index = jax.ShapeDtypeStruct((every, batch['identities'], batch['views']), jnp.int32)
        split, knobs = self._resident['train'], jax.eval_shape(lambda: self.knobs(row))
        one = (
            jax.eval_shape(lambda: resident.initial_state(stage.init(jax.random.key(0)), tx)), stage.frozen,
            (index, index), jax.ShapeDtypeStruct((), jnp.int32), knobs, split.tokens_QL,
        )  # fmt: skip
        lead = (count,) if self.together else ()
        state, frozen, index, seed_, knobs, tokens = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), one
        )
        shared = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), split)
        return state, frozen, shared._replace(tokens_QL=tokens), index, seed_, knobs

    def knobs(self, row: Row) -> dict:
        """The numbers that a program takes."""
        config = self.given(row)
        return {name: jnp.float32(config[group][name]) for group, names in _KNOBS.items() for name in names}

    def _stacked(self, trees: Sequence):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if self.together else trees[0]

    def _inputs(self, members: Sequence[Member]) -> tuple:
        """State, frozen, split, seeds and knobs of members that train side by side."""
        config = self.given(members[0].row)
        tx = optim.adam(steps=config['train']['steps'], **config['optim'])
        start = jax.jit(lambda params: resident.initial_state(params, tx))
        split, tokens = self._resident['train'], {}
        for member in members:
            if member.row.noise not in tokens:
                tokens[member.row.noise] = split.tokens_QL[self._source(member.row)]
        return (
            self._stacked([start(jax.tree.map(jnp.array, member.start)) for member in members]),
            self._stacked([jax.tree.map(jnp.asarray, member.frozen) for member in members]),
            split._replace(tokens_QL=self._stacked([tokens[member.row.noise] for member in members])),
            self._stacked([jnp.int32(member.seed) for member in members]),
            self._stacked([self.knobs(member.row) for member in members]),
        )

    def _train(self, members: list[Member]) -> None:
        row = members[0].row
        steps, every = self.given(row)['train']['steps'], self.given(row)['train']['eval_every']
        if steps % every:
            raise ConfigError(f'{row.name}: found {steps} steps, expected a multiple of eval_every, {every}')
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
            for place, member in enumerate(members):
                params = jax.tree.map(lambda x, i=place: x[i], state.params) if self.together else state.params
                self._validate(member, params, start + every, float(loss[place]))
            last = ' '.join(f'{member.row.name} {member.history[-1]["R1"]:.1f}' for member in members)
            self.say(f'{start + every}/{steps}  {rate:.0f} steps/s of {len(members)}  val R@1 {last}')

    @staticmethod
    def index(member: Member, start: int, stop: int) -> tuple:
        """The batches of steps start .. stop - 1 as places in the whole training split."""
        image, caption = resident.indices(member.plan, start, stop)
        image_G, kept_Q = member.kept
        return jnp.asarray(image_G[image], jnp.int32), jnp.asarray(kept_Q[caption], jnp.int32)

    def _validate(self, member: Member, params, step: int, loss: float) -> None:
        """Keep the parameters of the best step by val mAP: with supports where there is a fusion, which teaches."""
        whole = params if 'clip' in params else params | {'clip': member.frozen['clip']}
        e = self.embed(member.row, whole, 'val')
        if member.stage.fusion is not None:
            e = evaluate.with_supports(member.stage.fusion, whole, e, self.views(member.row))
        found = metrics.retrieval(e.text_QE, e.image_GE, e.text_pid_Q, e.image_pid_G, block=2048)
        member.history.append({'step': step, 'loss': loss, 'R1': found['R1'], 'mAP': found['mAP']})
        if found['mAP'] > member.score:
            member.score, member.step = found['mAP'], step
            member.params = jax.tree.map(lambda x: jnp.array(x, copy=True), whole)

    def views(self, row: Row) -> int:
        """K, with which an oracle's supports are drawn."""
        return self.given(row)['fusion']['support_views']

    def _write(self, row: Row, stage, params, result: dict, splits: Sequence[str]) -> None:
        """Evaluate on splits and write everything; the .json last, which says that all is there."""
        path = self._path(row.name, result['seed'])
        queries = {}
        if path.with_suffix('.npz').exists():
            with np.load(path.with_suffix('.npz')) as before:
                queries = dict(before)
        for split in splits:
            result[split] = {}
            for way, e in self._ways(row, stage, params, split).items():
                score = metrics.cosine(e.text_QE, e.image_GE)
                each_Q5 = metrics.each(score, e.text_pid_Q, e.image_pid_G, block=2048)
                result[split][way] = {n: 100 * float(x) for n, x in zip(metrics.NAMES, each_Q5.mean(0), strict=True)}
                queries[f'{split}/{way}/R1'] = each_Q5[:, 0].astype(bool)
                queries[f'{split}/{way}/mAP'] = each_Q5[:, 3].astype(np.float16)
        np.savez_compressed(path.with_suffix('.npz'), **queries)
        files.write(path, json.dumps(result) + '\n')

    def _ways(self, row: Row, stage: stages.Stage, params, split: str) -> dict[str, Embeddings]:
        single = self.embed(row, params, split)
        found = {'single': single}
        if stage.fusion is not None:
            found['supports'] = evaluate.with_supports(stage.fusion, params, single, self.views(row))
        for k in (2, 5):
            found[f'neighbours-{k}'] = single._replace(image_GE=neighbours.enriched(single.image_GE, k))
        return found
