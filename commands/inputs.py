"""What a command that needs data starts from: the config checked, model, tokenizer and data opened, devices known."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from commands import limits
from lcr2s_jax.arrays import Batch
from lcr2s_jax.errors import ConfigError, DataError, WeightsError
from lcr2s_jax.evaluation import metrics
from lcr2s_jax.method import sampling
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.training import parallel
from lcr2s_jax.weights import pretrained
from lcr2s_jax.weights.tokenizer import Tokenizer, open_tokenizer

KINDS = {'demo': 'synthetic pedestrians', 'folder': "the trainer's own pictures"}  # all others are photographs


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What embeds: the sizes, the parameters it starts from (None where nobody trains it), the tokenizer."""

    clip: CLIP
    params: Any
    tokenizer: Tokenizer


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that a config names, opened by `open_inputs`."""

    config: ConfigDict
    encoder: Encoder
    parallel: parallel.Parallel
    fingerprint: str  # of the source of the data, whose entries are not held
    splits: dict  # name -> data.people.Split, those that were asked for; val may be missing

    @functools.cached_property
    def made_of(self) -> dict[str, str]:
        """Hashes of the data, of the images that were loaded of each split, and of the starting weights."""
        from data import people

        named = {f'images_{name}': people.digest(split) for name, split in self.splits.items()}
        missing = {} if 'val' in self.splits else {'images_val': 'none'}
        return {
            'data': self.fingerprint,
            **missing,
            **named,
            'weights': parallel.fingerprint(self.encoder.params),  # 600 MB of ViT-B/16: for those who ask
        }

    @property
    def trained_on(self) -> dict:
        """What a model that is trained on this data says of it."""
        dataset, train = self.config.data.dataset, self.splits['train']
        return {
            'dataset': dataset,
            'kind': KINDS.get(dataset, 'photographs'),
            'people': train.num_people,
            'images': len(train.image_pid),
            'captions': len(train.captions),
        }

    def batches(self, seed: int, start: int, how: sampling.Sampling) -> Iterator[Batch]:
        """The training batches from step `start` on, this host's rows."""
        from data import pipeline

        config, sampler = self.config, self.config.batch.to_dict()
        if how.one_to_one:
            sampler = dict(identities=sampler['identities'] * sampler['views'], views=1, captions=1)
        for batch in pipeline.train_batches(
            self.splits['train'],
            **sampler,
            left_out=how.left_out,
            seed=seed + how.order,
            image_size=self.encoder.clip.image_size,
            augment=config.augment.to_dict(),
            masking=config.masking.to_dict(),
            tokenizer=self.encoder.tokenizer,
            start=start,
            **_host(),
        ):
            yield Batch(*(batch[name] for name in ('image', 'tokens', 'pid', 'view', 'caption')))

    def embed(self, embedder, params, split: str):
        """Every image and caption of a split by `lcr2s_jax.evaluation.evaluate.Embedder`."""
        from data import pipeline

        people, size = self.splits[split], self.config.evaluate.batch_size
        return embedder(
            params,
            people,
            gallery=pipeline.gallery_batches(people, self.encoder.clip.image_size, size, **_host()),
            queries=pipeline.query_batches(people, size, **_host()),
        )

    @property
    def evaluated(self) -> list[str]:
        """The splits that have scores, in order."""
        return [split for split in ('val', 'test') if split in self.splits]

    def oracle(self) -> dict:
        """What an observer who sees every attribute exactly would reach; only synthetic pedestrians have one."""
        from data.demo import synthetic

        if self.config.data.dataset != 'demo':
            return {}
        results = {}
        for split in self.evaluated:
            drawn = self.config.data.demo
            score_QG, query_pid_Q, gallery_pid_G = synthetic.oracle_scores(drawn.seed, drawn.people.to_dict(), split)
            rank_QG = score_QG.argsort(axis=1).argsort(axis=1)  # float32 would round its tie-breaking jitter away
            results[split] = {'t2i': metrics.from_scores(rank_QG.__getitem__, query_pid_Q, gallery_pid_G)}
        return results

    def random(self) -> dict:
        results = {}
        for split in self.evaluated:
            image, caption = self.splits[split].image_pid, self.splits[split].caption_pid
            results[split] = {'t2i': metrics.random(caption, image), 'i2t': metrics.random(image, caption)}
        return results


def open_inputs(
    config: ConfigDict,
    reads: Sequence[str],
    *,
    encoder: Callable[[ConfigDict], Encoder] | None = None,
    check: Callable[[Encoder], None] = lambda encoder: None,
    check_source: Callable[[Any], None] = lambda source: None,
) -> Inputs:
    """Open and check all that a config names; nothing is written but a dataset that was not built before.

    Args:
      reads: splits; those that the source does not have are an error, val aside.
      encoder: opens the model; by default the starting weights that the config names.
      check: what can be seen from the model, before minutes are spent on data.
      check_source: what can be seen from the source, before its dataset is built.
    """
    with parallel.agreed('opening what the config names'):
        limits.check(config.to_dict())
        devices = parallel.Parallel(**config.parallel)
        _check_shares(config, devices, 'train' in reads)
        opened = (encoder or starting_encoder)(config)
        check(opened)
        if parallel.is_primary():  # it builds the dataset; where no disk is shared each builds its own
            source, splits = _load(config, opened, reads, check_source)
    with parallel.agreed('reading the dataset'):
        if not parallel.is_primary():
            source, splits = _load(config, opened, reads, check_source)
    inputs = Inputs(config, opened, devices, source.fingerprint, splits)
    if jax.process_count() > 1:
        parallel.same_everywhere(inputs.made_of)
    needed = [split for split in reads if split != 'val']
    if not set(needed) <= set(splits):
        raise ConfigError(f'config.data: found the splits {", ".join(source.splits)}; expected {" and ".join(needed)}')
    return inputs


def starting_encoder(config: ConfigDict) -> Encoder:
    try:  # what these say is of arguments; here they are fields
        clip, params = pretrained.load(**config.model)
    except WeightsError as error:
        raise WeightsError(f'config.model.pretrained: {error}') from None
    except ConfigError as error:
        raise ConfigError(f'config.model.{error}') from None
    try:
        tokenizer = open_tokenizer(config.tokenizer or config.model.pretrained, clip.vocab_size)
    except DataError as error:
        raise DataError(f'config.tokenizer: {error}') from None
    except ConfigError as error:
        raise ConfigError(f'config.{error}') from None
    return Encoder(clip, params, tokenizer)


def dataset_of(config: ConfigDict, encoder: Encoder) -> tuple:
    """What says which dataset a config means: the first arguments of `data.people.load` and `data.people.build`."""
    from data import sources

    data = config.data.to_dict()
    cache, _ = data.pop('cache'), data.pop('in_memory')
    return sources.open_source(**data), encoder.tokenizer, encoder.clip.context_length, cache


def _load(config: ConfigDict, encoder: Encoder, reads: Sequence[str], check: Callable[[Any], None]):
    """Source and splits, built first where they were not."""
    from data import people

    source, *more = dataset_of(config, encoder)
    check(source)
    return source, people.load(source, *more, reads, in_memory=config.data.in_memory)


def _host() -> dict:
    return dict(process_index=jax.process_index(), process_count=jax.process_count())


def _check_shares(config: ConfigDict, devices: parallel.Parallel, trains: bool) -> None:
    """Rows that the devices cannot share evenly would be noticed at the first validation, or never."""
    batch, chunks = config.batch, config.model.chunks
    devices.check_rows(config.evaluate.batch_size, 'config.evaluate.batch_size')
    if trains:
        devices.check_rows(batch.identities, 'config.batch.identities')
        rows, count = batch.identities * batch.views, len(devices.devices)
        if chunks < 1 or rows % (chunks * count):
            raise ConfigError(
                f'config.model.chunks: found {chunks}, expected a divisor of the {rows // count} rows of a device'
            )
