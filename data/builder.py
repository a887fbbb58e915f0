"""The TFDS builder of people: one example an image, written file by file, in one process or by Apache Beam in many."""

import contextlib
import dataclasses
import functools
import io
import itertools
import json
import logging
import os
import pathlib
import pickle
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data import offsets
from data.records import TOLERATED, Record
from data.sources import Part, Source
from lcr2s_jax import files
from lcr2s_jax.errors import ConfigError, DataError
from lcr2s_jax.progress import Shown
from lcr2s_jax.weights.tokenizer import Tokenizer

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # read once, when TensorFlow is imported

import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

_SENT, _TOKENIZER = 'sent', 'tokenizer'  # to workers of Beam: folder of a dataset while it is built, a file in it
_PROCESSES = (  # of this machine, one a core
    '--runner=DirectRunner', '--direct_running_mode=multi_processing', '--direct_num_workers=0',
    '--default_sdk_harness_log_level=ERROR',
)  # fmt: skip
_TOGETHER = 64  # images whose captions are tokenised in one call: a call for each takes longer than all else


class People(tfds.core.ShardBasedBuilder):
    """One example = one image: encoded bytes, captions, their tokens, identity, origin."""

    VERSION = tfds.core.Version(offsets.VERSION)
    RELEASE_NOTES = {offsets.VERSION: 'Several files a split, upright images, their offsets beside them.'}

    def __init__(self, name: str, source: Source, tokenizer: Tokenizer, context_length: int, cache: str):
        """Take the name of the dataset's folder in that of the cache, and what `data.people.load` is given."""
        self._source, self._tokenizer, self._length = source, tokenizer, context_length
        self._at_work, self._seen = source.splits, _Seen(source)
        config = tfds.core.BuilderConfig(name=name)
        super().__init__(config=config, data_dir=cache, file_format='array_record')

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(None, None, 3)),
                    'captions': tfds.features.Sequence(tfds.features.Text()),
                    'tokens': tfds.features.Tensor(shape=(None, self._length), dtype=np.int32),
                    'person': tfds.features.Text(),
                    'file_name': tfds.features.Text(),
                    'file_size': np.int64,  # of the source's file; a turned image is stored as another
                }
            ),
            description='Images of people with captions, for text-to-image re-identification.',
            disable_shuffling=True,  # the source's order, which an oracle of the source may rely on
        )

    def _example_writer(self):
        return _Uncompressed(self.info.file_format)

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return {
            split: [
                self._examples(part, _skipped(split, number)) for number, part in enumerate(self._source.parts(split))
            ]
            for split in self._at_work
        }

    def _examples(self, part: Part, skipped: str) -> Callable[[], Iterator]:
        folder = pathlib.Path(self.data_dir)
        given = part, self._length, os.fspath(folder / skipped), self._seen
        if not self._beam:
            return _Examples(self._tokenizer, *given)
        # a pipeline is sent to every worker whole, and may not grow with the entries of the annotations
        path = folder / _SENT / skipped
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(given))
        path.with_name(_TOKENIZER).write_bytes(pickle.dumps(self._tokenizer))
        return _Sent(os.fspath(path))

    def _download_and_prepare(self, dl_manager, download_config=None):
        infos = []
        self._beam = download_config is not None and download_config.beam_runner is not None
        with contextlib.nullcontext() if self._beam else self._seen.shown():
            for split in self._source.splits:  # each by itself: a Beam pipeline that has run would run again
                self._at_work = (split,)
                super()._download_and_prepare(dl_manager, download_config)
                infos += self.info.splits.values()
        self.info.set_splits(tfds.core.splits.SplitDict(infos))
        self._finish()

    def _finish(self) -> None:
        """Gather what was skipped, and write down where the other images lie."""
        folder, skipped, names = pathlib.Path(self.data_dir), [], {}
        files.remove(folder / _SENT)
        for split, info in self.info.splits.items():
            for path in sorted(folder.glob(_skipped(split, '*'))):
                skipped += json.loads(path.read_text())
                path.unlink()
            for path in folder.glob(f'*-{split}.shard_infos.json'):  # Beam's own
                path.unlink()
            names[split] = [os.path.basename(name) for name in info.filenames]
            if not info.num_examples:
                raise DataError(
                    f"dataset '{self._source.name}': found a split without a single image; expected some in each of "
                    f'{self._source.splits}. Check the annotations below config.data.root.'
                )
        if len(skipped) > TOLERATED * (self._source.total or float('inf')):
            self._seen.stop(self._source.total, skipped)
        tokens = (self._length,), offsets.token_type(self._tokenizer.vocab_size)
        read = functools.partial(parse, length=self._length)
        offsets.write(folder, names, read, tokens, skipped=skipped, images=str(self._source.images or ''))


def parse(record: bytes, length: int) -> offsets.Row:
    """A record, whose captions have `length` tokens."""
    features = tf.train.Example.FromString(record).features.feature
    return offsets.Row(
        record=record,
        image=features['image'].bytes_list.value[0],
        person=features['person'].bytes_list.value[0].decode(),
        file_name=features['file_name'].bytes_list.value[0].decode(),
        file_size=features['file_size'].int64_list.value[0],
        captions=[caption.decode() for caption in features['captions'].bytes_list.value],
        tokens=np.array(features['tokens'].int64_list.value, np.int32).reshape(-1, length),
    )


class _Uncompressed(tfds.core.writer.ExampleWriter):
    """Writes array_record files whose records lie in them as they are: pictures are compressed already."""

    def write(self, path, examples):
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(os.fspath(path), offsets.LAYOUT)
        try:
            for _, example in examples:
                # protobuf orders fields otherwise in every process
                writer.write(tf.train.Example.FromString(example).SerializeToString(deterministic=True))
        finally:
            writer.close()


class _Image:
    """Encoded bytes that are read once: TFDS keeps the examples of a whole file until it has counted them."""

    def __init__(self, encoded: bytes):
        self._encoded = encoded

    def read(self) -> bytes:
        encoded, self._encoded = self._encoded, b''
        return encoded


class _Seen:
    """The images that a build has met so far, and those that it cannot use. Another process begins with none."""

    def __init__(self, source: Source):
        self._name, self._total = source.name, source.total
        self._count, self._skipped = 0, []
        self._tell: Callable[[float], None] | None = None

    def __getstate__(self):
        return self.__dict__ | {'_tell': None}

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Tell meanwhile how far it is."""
        with Shown().counting('images', self._total) as self._tell:
            yield

    def skip(self, name: str, reason: str) -> None:
        """Count an image that cannot be used. Raises DataError where there are too many."""
        self._skipped.append([name, reason])
        if len(self._skipped) > TOLERATED * (self._total or float('inf')):
            self.stop(self._count, self._skipped)

    def one(self) -> None:
        self._count += 1
        if self._tell:
            self._tell(1)

    def stop(self, count: int, skipped: list) -> None:
        """Raise DataError, naming the first."""
        first = '\n'.join(f'  {name}: {reason}' for name, reason in skipped[:10])
        raise DataError(
            f"dataset '{self._name}': found {len(skipped)} unusable among the first {count:,} of {self._total:,} "
            f'images, expected {TOLERATED:.0%} at most; the first:\n{first}\nNothing was built. See all of them with: '
            'python main.py doctor --config=...'
        )


def _skipped(split: str, number) -> str:
    """The file in which the writer of a record file leaves what it skipped."""
    return f'{split}.skipped.{number if number == "*" else f"{number:05d}"}'


@dataclasses.dataclass(frozen=True)
class _Examples:
    """What TFDS calls for the examples of one record file, here or in a worker of Beam."""

    tokenizer: Tokenizer
    part: Part
    length: int
    skipped: str
    seen: _Seen

    def __call__(self) -> Iterator[tuple[int, dict]]:
        from data import pictures

        skipped, records, number = [], self.part(), 0
        while some := list(itertools.islice(records, _TOGETHER)):
            usable = [record for record in some if isinstance(record, Record)]
            tokens = self.tokenizer.encode([text for record in usable for text in record.captions], self.length)
            ends = np.cumsum([len(record.captions) for record in usable], dtype=int)
            for record, its_tokens in zip(usable, np.split(tokens, ends)[: len(usable)], strict=True):
                example = {
                    'image': _Image(pictures.as_shown(record.jpeg)),
                    'captions': list(record.captions),
                    'tokens': its_tokens,
                    'person': record.person,
                    'file_name': record.file_name,
                    'file_size': len(record.jpeg),
                }
                yield number, example
                number += 1
            for record in some:
                self.seen.one()
                if not isinstance(record, Record):
                    skipped.append([record.file_name, record.reason])
                    self.seen.skip(*skipped[-1])
        if skipped:
            pathlib.Path(self.skipped).write_text(json.dumps(skipped))


@dataclasses.dataclass(frozen=True)
class _Sent:
    """The same in a worker of Beam, which reads what it needs from the folder of the dataset."""

    path: str

    def __call__(self) -> Iterator[tuple[int, dict]]:
        path = pathlib.Path(self.path)
        tokenizer = pickle.loads(path.with_name(_TOKENIZER).read_bytes())  # this very build wrote it
        yield from _Examples(tokenizer, *pickle.loads(path.read_bytes()))()


def beam_config(options: Sequence[str]) -> tfds.download.DownloadConfig:
    """How a build runs on Apache Beam; several processes of this machine where no runner is named.

    Raises ConfigError: Beam is not installed, or does not know an option.
    """
    try:
        from apache_beam.options import pipeline_options
        from apache_beam.runners.runner import create_runner
    except ImportError:
        raise ConfigError(
            '--beam: found no apache-beam; expected it to be installed. As it wants other versions of protobuf and '
            'pyarrow, in an environment of its own: pip install -r requirements-beam.txt'
        ) from None
    flags = list(options)
    if not any(flag.startswith('--runner') for flag in flags):
        flags = [*_PROCESSES, *flags]
    logging.getLogger('apache_beam').setLevel(logging.CRITICAL)  # it tells every failure twice, with tracebacks
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = pipeline_options.PipelineOptions(flags)
            parsed.get_all_options()
        runner = create_runner(parsed.view_as(pipeline_options.StandardOptions).runner)
    except (SystemExit, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else said.getvalue().strip().rpartition('error: ')[2]
        raise ConfigError(f'--beam-options: found {" ".join(options)}; {why}') from None
    return tfds.download.DownloadConfig(beam_runner=runner, beam_options=parsed)
