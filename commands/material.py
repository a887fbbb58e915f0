"""What rows are trained from: splits, models, the stages that they ask for, and what finished rows left.

Needs neither TensorFlow nor ml_collections.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from flax.traverse_util import flatten_dict

from commands import noise
from commands.rows import Row, merged
from lcr2s_jax.arrays import Embeddings, in_blocks
from lcr2s_jax.evaluation import evaluate, neighbours
from lcr2s_jax.evaluation.gallery_fusion import GalleryFusion
from lcr2s_jax.files import expanded
from lcr2s_jax.method import stages, targets
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.method.fusion_stage import fusion_stage
from lcr2s_jax.training import resident

KNOBS = {'student': ('feature_weight', 'relation_weight'), 'optim': ('learning_rate',)}
"""Numbers that one compiled program takes as arguments: rows that differ in nothing else share it."""
SEEN = 200  # training people whose R@1 tells how much was learnt by heart
_HOW = ('model.kernel', 'model.remat', 'model.scan', 'model.chunks', 'train.save_every', 'train.log_every')
_OF_ROW = ('stage', 'teacher', 'teachers', 'combine', 'noise', 'half', 'left_out', 'keep', 'judges', 'neighbours_by')
_BLOCK = 500  # rows embedded at a time
_NEIGHBOURS = (2, 8)


class Material:
    """Data, models and finished rows.

    Args:
      splits: 'train', 'val' and 'test' as `resident.ResidentSplit`s of NumPy arrays.
      config: nested plain values, the groups of configs/base.py, and `masking` with the tokenizer's two numbers.
      load: config['model'] -> (clip, parameters to start from).
    """

    def __init__(
        self,
        splits: Mapping[str, resident.ResidentSplit],
        config: Mapping,
        rows: Mapping[str, Row],
        out: pathlib.Path,
        load: Callable[[Mapping], tuple],
    ):
        self.config, self.rows, self.out = config, rows, out
        self._load = load
        self._host = dict(splits) | {'seen': splits['train'].people(SEEN)}
        self._resident = {name: jax.device_put(split) for name, split in self._host.items()}
        self._people = int(splits['train'].image_pid_G.max()) + 1
        self._models: dict[str, tuple] = {}
        self._features: dict[tuple, Embeddings] = {}
        out.mkdir(parents=True, exist_ok=True)

    def given(self, row: Row) -> dict:
        """The config with the row's changes."""
        return merged(self.config, row.set)

    def made_with(self, row: Row) -> dict:
        """What a result depends on, field by field: the config as the row has it, the data, and the row's captions."""
        config = self.given(row)
        groups = ['model', 'batch', 'augment', 'masking', 'optim', 'train', 'reseed', 'made_of', row.stage]
        groups += ['teacher'] * (row.stage == 'fusion')
        flat = flatten_dict({group: config[group] for group in groups if group in config}, sep='.')
        told = {field: value for field, value in flat.items() if not field.startswith(_HOW)}
        told |= {field: getattr(row, field) for field in _OF_ROW}
        for name in row.needs:  # made otherwise, it would have taught otherwise
            of = json.dumps(self.made_with(self.rows[name]), sort_keys=True)
            told[f'the row {name} before it'] = hashlib.sha256(of.encode()).hexdigest()[:12]
        return json.loads(json.dumps(told))

    def _path(self, name: str, seed: int) -> pathlib.Path:
        return self.out / f'{name}-{seed}.json'

    def _model(self, row: Row) -> tuple:
        wanted = self.given(row)['model']
        key = json.dumps(wanted, sort_keys=True)
        if key not in self._models:
            clip, params = self._load(wanted)
            encoder = DualEncoder(clip)
            embed = jax.jit(encoder.embed_image), jax.jit(encoder.embed_text)
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
            return fusion_stage(teacher, teacher_params, cache, **config['fusion'])
        teacher = self._stage(self.rows[row.teacher], seed)
        given = config['student'] | ({k: knobs[k] for k in KNOBS['student']} if knobs else {})
        cache = cache if given['cache_teacher'] else None
        return stages.student_stage(*teach, teacher, teacher_params, cache, **given)

    def _taught(self, row: Row, seed: int) -> tuple:
        """Parameters and training features of a row's teacher; of one that is not trained yet their shapes."""
        if all(self._path(name, seed).exists() for name in row.taught_by):
            return self.params(row.teacher, seed), self._joined(row, seed)
        of, split = self.rows[row.teacher], self._host['train']
        clip, encoders, _ = self._model(of)
        params = jax.eval_shape(self._stage(of, seed).init, jax.random.key(0))
        params |= {'clip': jax.eval_shape(lambda: encoders)}
        rows = (len(split.image_pid_G), len(split.tokens_QL))
        shapes = [jax.ShapeDtypeStruct((n, clip.embed_dim * row.beside), jnp.float32) for n in rows]
        return params, Embeddings(*shapes, split.image_pid_G, None, None, split.caption_image_Q)

    def _joined(self, row: Row, seed: int) -> Embeddings:
        """The training features of a row's teacher, or what those of several are made into."""
        key = ('joined', row.name, seed)
        if key not in self._features:
            caches = [self.features(name, seed, 'train') for name in row.taught_by]
            if row.combine in ('mean', 'cross'):
                caches = [targets.mean_features(caches, [self._told(row, name) for name in row.taught_by])]
            joined = targets.mean_relation(caches) if row.combine == 'relation' else caches[0]
            if row.noise:  # a teacher tells of the words that the row is given
                joined = joined._replace(text_QE=joined.text_QE[self._source(row)])
            self._features[key] = joined
        return self._features[key]

    def _told(self, row: Row, teacher: str) -> np.ndarray:
        """bool [G]: the training images that a teacher tells this row of."""
        pid_G = self._host['train'].image_pid_G
        if row.combine == 'mean':
            return np.ones(len(pid_G), bool)
        fold, folds = self.rows[teacher].left_out
        return pid_G % folds == fold

    def params(self, name: str, seed: int) -> dict:
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
        params = {'clip': params['clip']}
        image_GE, text_QE = (
            in_blocks(functools.partial(one, params), rows, _BLOCK)
            for one, rows in zip(embed, (there.image_Ghwc, there.tokens_QL), strict=True)
        )
        places = np.arange(len(host.image_pid_G), dtype=np.int32)
        pid_Q = host.image_pid_G[host.caption_image_Q]
        return Embeddings(image_GE, text_QE, host.image_pid_G, pid_Q, places, host.caption_image_Q)

    def _source(self, row: Row) -> np.ndarray:
        """Whose words each training caption has."""
        count = len(self._host['train'].tokens_QL)
        if isinstance(row.noise, str):
            return noise.from_file(expanded(row.noise), count)
        return noise.shuffled(count, row.noise)

    def _kept_captions(self, row: Row, seed: int) -> np.ndarray:
        """Places of the training captions that the row learns from."""
        split, source_Q = self._host['train'], self._source(row)
        places = np.arange(len(source_Q))
        nth_Q = places - np.searchsorted(split.caption_image_Q, split.caption_image_Q)
        kept = np.ones(len(places), bool) if row.half is None else nth_Q % 2 == row.half
        if row.left_out:
            fold, folds = row.left_out
            kept &= split.image_pid_G[split.caption_image_Q] % folds != fold
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

    def knobs(self, row: Row) -> dict:
        config = self.given(row)
        return {name: np.float32(config[group][name]) for group, names in KNOBS.items() for name in names}

    def with_supports(self, row: Row, stage: stages.Stage, params, e: Embeddings) -> Embeddings:
        """A teacher's oracle, see `evaluate.with_supports`."""
        views = self.given(row)['fusion']['support_views']
        return evaluate.with_supports(stage.fusion, {'fusion': params['fusion']}, e, views)

    def ways(self, row: Row, seed: int, stage: stages.Stage, params, split: str, tested: bool) -> dict[str, Embeddings]:
        """A split embedded alone, with supports (an oracle) and, of a row that is `tested`, with neighbours as them.

        A gallery's neighbours are averaged ('neighbours-k'), and where the row has a fusion also fused ('fused-k');
        'neighbours-k-by' are those that the rows of `neighbours_by` find.
        """
        single = self.embed(row, params, split)
        found = {'single': single}
        if stage.fusion is not None:
            found['supports'] = self.with_supports(row, stage, params, single)
        if tested:
            near = neighbours.nearest(single.image_GE, max(_NEIGHBOURS))
            length = float(np.linalg.norm(single.image_GE, axis=1).mean())
            fuse = stage.fusion and GalleryFusion(stage.fusion, {'fusion': params['fusion']}, length)
            for k in _NEIGHBOURS:
                found[f'neighbours-{k}'] = single._replace(image_GE=neighbours.enriched(single.image_GE, near[:, :k]))
                if fuse:
                    found[f'fused-{k}'] = single._replace(image_GE=fuse(single.image_GE, near[:, :k]))
            if row.neighbours_by:
                others = [self.features(name, seed, split) for name in row.neighbours_by]
                near = neighbours.nearest(targets.mean_relation(others).image_GE, max(_NEIGHBOURS))
                found[f'neighbours-{max(_NEIGHBOURS)}-by'] = single._replace(
                    image_GE=neighbours.enriched(single.image_GE, near)
                )
        return found
