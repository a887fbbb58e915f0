"""What every command starts from: the config checked, model, tokenizer and data opened, the devices known."""

import functools

from ml_collections import ConfigDict

from lcr2s_jax.errors import ConfigError


class Inputs:
    """Opens and checks everything that a config names; nothing is written but a dataset that was not built before.

    Args:
      config: of any file in configs/.
      weights: file, folder or hub name to load instead of config.model.pretrained.

    Attributes:
      clip, clip_params: the model and its starting weights.
      tokenizer: made for that model.
      source: where the data come from.
      splits: name -> data.people.Split, those of `reads` that the source has; val may be missing.
      parallel: the devices.

    Raises:
      UserError, DataError: what was found, what was expected, what to change.
    """

    reads: tuple[str, ...] = ('val', 'test')

    def __init__(self, config: ConfigDict, weights: str = ''):
        import jax

        from lcr2s_jax.training import parallel

        self.config = config
        self._host = dict(process_index=jax.process_index(), process_count=jax.process_count())
        with parallel.agreed('opening what the config names'):
            self._open(weights)
            if parallel.first():  # it builds the dataset; where no disk is shared each builds its own
                self._load()
        with parallel.agreed('reading the dataset'):
            if not parallel.first():
                self._load()
        if jax.process_count() > 1:
            parallel.same_everywhere(self.made_of)
        needed = [split for split in self.reads if split != 'val']
        if not set(needed) <= set(self.splits):
            found = ', '.join(self.source.splits)
            raise ConfigError(f'config.data: found the splits {found}; expected {" and ".join(needed)}')

    def _open(self, weights: str) -> None:
        """All but the data."""
        from lcr2s_jax.training import parallel
        from lcr2s_jax.weights import pretrained
        from lcr2s_jax.weights import tokenizer as tokens

        config = self.config
        self._check_fields()
        self.parallel = parallel.Parallel(**config.parallel)
        self._check_shares()
        start = weights or config.model.pretrained
        self.clip, self.clip_params = pretrained.load(**config.model.to_dict() | {'pretrained': start})
        self.tokenizer = tokens.Tokenizer(config.tokenizer or start)
        if self.tokenizer.vocab_size != self.clip.vocab_size:
            raise ConfigError(
                f'config.tokenizer: found {self.tokenizer.vocab_size} token ids, expected the {self.clip.vocab_size} '
                'of the model; use the tokenizer that the weights were trained with'
            )
        self.check_models()

    def _load(self) -> None:
        """The data, built first where they were not."""
        from data import people, sources

        data = self.config.data.to_dict()
        cache = data.pop('cache')
        self.source = sources.open_source(**data)
        length = self.config.model.context_length
        self.splits = people.load(self.source, self.tokenizer, length, cache, self.reads)

    @functools.cached_property
    def made_of(self) -> dict[str, str]:
        """Hashes of the data, of the images that were loaded of each split, and of the starting weights."""
        from data import people
        from lcr2s_jax.weights import pretrained

        loaded = {name: people.digest(self.splits[name]) if name in self.splits else 'none' for name in self.reads}
        return {
            'data': self.source.fingerprint,
            **{f'images_{name}': found for name, found in loaded.items()},
            'weights': pretrained.fingerprint(self.clip_params),  # 600 MB of ViT-B/16: for those who ask
        }

    def check_models(self) -> None:
        """What can be seen from config and weights, before minutes are spent on data."""

    def batches(self, seed: int, start: int):
        """The training batches from step `start` on, this host's rows."""
        from data import pipeline
        from lcr2s_jax.arrays import Batch

        config = self.config
        for batch in pipeline.train_batches(
            self.splits['train'],
            **config.batch,
            seed=seed,
            image_size=config.model.image_size,
            augment=config.augment.to_dict(),
            masking=config.masking.to_dict(),
            tokenizer=self.tokenizer,
            start=start,
            **self._host,
        ):
            yield Batch(*(batch[name] for name in ('image', 'tokens', 'pid', 'view', 'caption')))

    def embed(self, embedder, params, split: str):
        """Every image and caption of a split by `lcr2s_jax.evaluation.evaluate.Embedder`."""
        from data import pipeline

        people, size = self.splits[split], self.config.evaluate.batch_size
        return embedder(
            params,
            people,
            gallery=pipeline.gallery_batches(people, self.config.model.image_size, size, **self._host),
            queries=pipeline.query_batches(people, size, **self._host),
        )

    @property
    def evaluated(self) -> list[str]:
        """The splits that have scores, in order."""
        return [split for split in ('val', 'test') if split in self.splits]

    def oracle(self) -> dict:
        """What an observer who sees every attribute exactly would reach; only drawn people have one."""
        from data.demo import synthetic as demo
        from lcr2s_jax.evaluation import metrics

        if self.config.data.dataset != 'demo':
            return {}
        results = {}
        for split in self.evaluated:
            drawn = self.config.data.demo
            score_QG, query_pid_Q, gallery_pid_G = demo.oracle_scores(drawn.seed, drawn.people.to_dict(), split)
            rank_QG = score_QG.argsort(axis=1).argsort(axis=1)  # float32 would round its tie-breaking jitter away
            results[split] = {'t2i': metrics.from_scores(rank_QG.__getitem__, query_pid_Q, gallery_pid_G)}
        return results

    def chance(self) -> dict:
        """What a random ranking reaches."""
        from lcr2s_jax.evaluation import metrics

        results = {}
        for split in self.evaluated:
            image, caption = self.splits[split].image_pid, self.splits[split].caption_pid
            results[split] = {'t2i': metrics.chance(caption, image), 'i2t': metrics.chance(image, caption)}
        return results

    def _check_shares(self) -> None:
        """Rows that the devices cannot share evenly would be noticed at the first validation, or never."""
        batch, chunks = self.config.batch, self.config.model.chunks
        self.parallel.check_rows(self.config.evaluate.batch_size, 'config.evaluate.batch_size')
        if 'train' in self.reads:
            self.parallel.check_rows(batch.identities, 'config.batch.identities')
            rows, devices = batch.identities * batch.views, len(self.parallel.devices)
            if chunks < 1 or rows % (chunks * devices):
                raise ConfigError(
                    f'config.model.chunks: found {chunks}, expected a divisor of the {rows // devices} rows of a device'
                )

    def _check_fields(self) -> None:
        config = self.config
        for field in ('train.steps', 'train.eval_every', 'train.save_every', 'train.log_every', 'evaluate.batch_size'):
            group, name = field.split('.')
            if config[group][name] < 1:
                raise ConfigError(f'config.{field}: found {config[group][name]}, expected 1 or more')
        if config.seed < 0:
            raise ConfigError(f'config.seed: found {config.seed}, expected 0 or more')
        if config.model.dtype not in ('float32', 'bfloat16'):
            raise ConfigError(f"config.model.dtype: found '{config.model.dtype}', expected 'float32' or 'bfloat16'")
