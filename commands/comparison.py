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

    seed: int
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

    def run(self, name: str, seeds: Sequence[int]) -> None:
        """Train and evaluate a row, after the rows that it needs; only what has not been done."""
        row = self.rows[name]
        todo = [seed for seed in seeds if not self._path(name, seed).exists()]
        if not todo:
            return
        for other in row.needs:
            self.run(other, seeds)
        for group in [todo] if self.together else [[seed] for seed in todo]:
            clock = time.perf_counter()
            members = [self._member(row, seed) for seed in group]
            stage = self._stage(row, members[0].seed)
            if row.stage == 'start':
                for member in members:
                    member.params = stage.init(jax.random.key(member.seed))
            else:
                self._train(row, members)
            seconds = (time.perf_counter() - clock) / len(members)
            for member in members:
                self._finish(row, stage, member, seconds)

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
        return Member(seed, stage.init(jax.random.key(seed)), stage.frozen, plan, (image_G, kept_Q))

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

    def program(self, row: Row, seed: int) -> Callable:
        """The compiled steps between two validations; rows that differ in `_KNOBS` alone have one."""
        config = self.given(row)
        groups = ('model', 'batch', 'augment', 'masking', 'optim', row.stage)
        static = {g: {k: v for k, v in config[g].items() if k not in _KNOBS.get(g, ())} for g in groups}
        if row.stage == 'student':
            static['of'] = [self.rows[row.teacher].stage, config['teacher'], self.rows[row.teacher].set.get('model')]
        key = json.dumps([row.stage, static, config['train']], sort_keys=True)
        if key in self._programs:
            return self._programs[key]
        steps = config['train']['steps']

        def run(state, frozen, split, index, seed_, knobs):
            stage = self._stage(row, seed, knobs)
            tx = optim.adam(steps=steps, **config['optim'] | {'learning_rate': knobs['learning_rate']})
            given = {'augment_with': config['augment'], 'mask_with': config['masking']}
            return resident.run_steps(state, frozen, split, index, seed_, loss=stage.loss, tx=tx, **given)

        if self.together:
            run = jax.vmap(run, in_axes=(0, 0, None, 0, 0, None))
        self._programs[key] = jax.jit(run, donate_argnums=0)
        return self._programs[key]

    def compile(self, names: Sequence[str], seeds: Sequence[int]) -> None:
        """Compile every row's program, all at once: they take longer than the training on a fast device."""
        clock, lowered = time.perf_counter(), {}
        for name in dict.fromkeys(names):
            row = self.rows[name]
            if row.stage == 'start':
                continue
            before = set(self._programs)
            program = self.program(row, seeds[0])
            for key in set(self._programs) - before:
                lowered[key] = program.lower(*self._shapes(row, seeds))
        self.say(f'{len(lowered)} programs traced in {time.perf_counter() - clock:.0f} s')
        with concurrent.futures.ThreadPoolExecutor(max(len(lowered), 1)) as pool:
            compiled = pool.map(lambda traced: traced.compile(), lowered.values())
            self._programs |= dict(zip(lowered, compiled, strict=True))
        self.say(f'{len(lowered)} programs compiled by {time.perf_counter() - clock:.0f} s')

    def _shapes(self, row: Row, seeds: Sequence[int]) -> tuple:
        """Shapes of a program's arguments, also before its teacher is trained."""
        config, stage = self.given(row), self._stage(row, seeds[0])
        tx = optim.adam(steps=config['train']['steps'], **config['optim'])
        one = (
            jax.eval_shape(lambda: resident.initial_state(stage.init(jax.random.key(0)), tx)),
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), stage.frozen),
        )
        batch = config['batch']
        index = jax.ShapeDtypeStruct(
            (config['train']['eval_every'], batch['identities'], batch['views']), jnp.int32
        )  # fmt: skip
        split = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self._resident['train'])
        many = (*one, (index, index), jax.ShapeDtypeStruct((), jnp.int32))
        if self.together:
            many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(seeds), *x.shape), x.dtype), many)
        return many[0], many[1], split, many[2], many[3], jax.eval_shape(lambda: self.knobs(row))

    def knobs(self, row: Row) -> dict:
        """The numbers that a program takes."""
        config = self.given(row)
        return {name: jnp.float32(config[group][name]) for group, names in _KNOBS.items() for name in names}

    def inputs(self, row: Row, members: Sequence[Member]) -> tuple:
        """What a program is first called with, less the batches."""
        config = self.given(row)
        tx = optim.adam(steps=config['train']['steps'], **config['optim'])
        states = [resident.initial_state(jax.tree.map(jnp.array, member.start), tx) for member in members]
        split = self._resident['train']
        if row.noise:
            split = split._replace(tokens_QL=split.tokens_QL[self._source(row)])
        seeds = [jnp.int32(member.seed) for member in members]
        frozen = [jax.tree.map(jnp.asarray, member.frozen) for member in members]
        return self._stacked(states), self._stacked(frozen), split, self._stacked(seeds)

    def _stacked(self, trees: Sequence):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if self.together else trees[0]

    def _train(self, row: Row, members: list[Member]) -> None:
        config = self.given(row)
        steps, every = config['train']['steps'], config['train']['eval_every']
        program, knobs = self.program(row, members[0].seed), self.knobs(row)
        state, frozen, split, seeds = self.inputs(row, members)
        for start in range(0, steps, every):
            stop = min(start + every, steps)
            index = self._stacked([self.index(member, start, stop) for member in members])
            state, told = program(state, frozen, split, index, seeds, knobs)
            loss = np.asarray(told['loss'])
            if not np.isfinite(loss).all():
                raise ConfigError(f'{row.name}: found a loss that is not finite by step {stop}; lower the learning rate')
            for place, member in enumerate(members):
                params = jax.tree.map(lambda x, i=place: x[i], state.params) if self.together else state.params
                self._validate(row, member, params, stop, float(loss.reshape(len(members), -1)[place, -20:].mean()))
            last = [f'{member.history[-1]["R1"]:.1f}' for member in members]
            self.say(f'{row.name}  {stop}/{steps}  loss {loss[..., -20:].mean():.3f}  val R@1 {" ".join(last)}')

    @staticmethod
    def index(member: Member, start: int, stop: int) -> tuple:
        """The batches of steps start .. stop - 1 as places in the whole training split."""
        image, caption = resident.indices(member.plan, start, stop)
        image_G, kept_Q = member.kept
        return jnp.asarray(image_G[image], jnp.int32), jnp.asarray(kept_Q[caption], jnp.int32)

    def _validate(self, row: Row, member: Member, params, step: int, loss: float) -> None:
        """Keep the parameters of the best step by val mAP: with supports where there is a fusion, which teaches."""
        whole = params if 'clip' in params else params | {'clip': member.frozen['clip']}
        e = self.embed(row, whole, 'val')
        stage = self._stage(row, member.seed)
        if stage.fusion is not None and row.stage != 'student':
            e = evaluate.with_supports(stage.fusion, whole, e, self.views(row))
        found = metrics.retrieval(e.text_QE, e.image_GE, e.text_pid_Q, e.image_pid_G, block=2048)
        member.history.append({'step': step, 'loss': loss, 'R1': found['R1'], 'mAP': found['mAP']})
        if found['mAP'] > member.score:
            member.score, member.step = found['mAP'], step
            member.params = jax.tree.map(lambda x: jnp.array(x, copy=True), whole)

    def views(self, row: Row) -> int:
        """K, with which an oracle's supports are drawn."""
        return self.given(row)['fusion']['support_views']

    def _finish(self, row: Row, stage: stages.Stage, member: Member, seconds: float) -> None:
        """Evaluate the best step and write everything; the .json last, which says that all is there."""
        result = {'row': row.name, 'label': row.label, 'seed': member.seed, 'step': member.step, 'seconds': seconds}
        result['history'], queries = member.history, {}
        seen = self.embed(row, member.params, 'seen')
        found = metrics.retrieval(seen.text_QE, seen.image_GE, seen.text_pid_Q, seen.image_pid_G, block=2048)
        result['train'] = {name: found[name] for name in metrics.NAMES}
        for split in ('val', 'test') if row.test else ('val',):
            result[split] = {}
            for way, e in self._ways(row, stage, member.params, split).items():
                score = metrics.cosine(e.text_QE, e.image_GE)
                each_Q5 = metrics.each(score, e.text_pid_Q, e.image_pid_G, block=2048)
                result[split][way] = {n: 100 * float(x) for n, x in zip(metrics.NAMES, each_Q5.mean(0), strict=True)}
                queries[f'{split}/{way}/R1'] = each_Q5[:, 0].astype(bool)
                queries[f'{split}/{way}/mAP'] = each_Q5[:, 3].astype(np.float16)
        path = self._path(row.name, member.seed)
        if any(row.name in other.needs for other in self.rows.values()):
            path.with_suffix('.msgpack').write_bytes(serialization.to_bytes(jax.device_get(member.params)))
        np.savez_compressed(path.with_suffix('.npz'), **queries)
        aside = path.with_suffix('.partial')
        aside.write_text(json.dumps(result) + '\n')
        aside.rename(path)

    def _ways(self, row: Row, stage: stages.Stage, params, split: str) -> dict[str, Embeddings]:
        single = self.embed(row, params, split)
        found = {'single': single}
        if stage.fusion is not None and row.stage != 'student':
            found['supports'] = evaluate.with_supports(stage.fusion, params, single, self.views(row))
        for k in (2, 5):
            found[f'neighbours-{k}'] = single._replace(image_GE=neighbours.enriched(single.image_GE, k))
        return found
