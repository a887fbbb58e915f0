"""Datasets of people through TFDS: built once, one example an image, then reused.

A source says where records come from (sources.py); everything behind it is the same for every dataset.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import rich.console
import rich.progress
from absl import logging

from data.records import TOLERATED, Record
from data.sources import Source
from lcr2s_jax.errors import DataError, printable
from lcr2s_jax.files import alone
from lcr2s_jax.weights.tokenizer import Tokenizer

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # read once, when TensorFlow is imported

import tensorflow_datasets as tfds  # noqa: E402

_READ = 1024  # examples read at once


@dataclasses.dataclass(frozen=True)
class Split:
    """One split in memory; images stay encoded.

    Attributes:
      name: 'train', 'val' or 'test'.
      jpegs: encoded images, the source's bytes in its order, but for those that `pictures.as_shown` turns upright.
      file_names: where each image comes from.
      image_pid: int32 [images], 0 .. num_people - 1 in order of first appearance.
      captions: sentences, image by image.
      tokens: int32 [captions, L].
      caption_image: int32 [captions], the image that each describes.
    """

    name: str
    jpegs: list[bytes]
    file_names: list[str]
    image_pid: np.ndarray
    captions: list[str]
    tokens: np.ndarray
    caption_image: np.ndarray

    @property
    def caption_pid(self) -> np.ndarray:
        """int32 [captions]."""
        return self.image_pid[self.caption_image]

    @property
    def num_people(self) -> int:
        """Identities of this split."""
        return int(self.image_pid.max()) + 1


class People(tfds.core.GeneratorBasedBuilder):
    """One example = one image: encoded bytes, captions, their tokens, identity, origin."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'One example an image.'}

    def __init__(self, source: Source, tokenizer: Tokenizer, context_length: int, cache: str):
        """Name the folder after all that its examples depend on: a change is built anew."""
        self._source, self._tokenizer, self._length = source, tokenizer, context_length
        key = f'{source.fingerprint} {tokenizer.fingerprint} {context_length}'
        name = f'{source.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}'
        config = tfds.core.BuilderConfig(name=name)
        super().__init__(config=config, data_dir=os.path.expanduser(cache) or None, file_format='array_record')

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(None, None, 3)),
                    'captions': tfds.features.Sequence(tfds.features.Text()),
                    'tokens': tfds.features.Tensor(shape=(None, self._length), dtype=np.int32),
                    'pid': np.int64,
                    'person': tfds.features.Text(),
                    'image_id': np.int64,
                    'file_name': tfds.features.Text(),
                }
            ),
            description='Images of people with captions, for text-to-image re-identification.',
            metadata=tfds.core.MetadataDict(
                skipped=[],  # [file name, reason] of every unusable image
                images=str(self._source.images or ''),  # the folder of those that were built
            ),
            disable_shuffling=True,  # the source's order, which an oracle of the source may rely on
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        by_split = _by_split(_with_progress(self._source, self.info.metadata['skipped']))
        return {split: self._generate_examples(by_split(split)) for split in self._source.splits}

    def _generate_examples(self, records: Iterator[Record]):
        pid_of: dict[str, int] = {}
        for number, record in enumerate(records):
            yield (
                number,
                {
                    'image': record.jpeg,
                    'captions': list(record.captions),
                    'tokens': self._tokenizer.encode(record.captions, self._length),
                    'pid': pid_of.setdefault(record.person, len(pid_of)),
                    'person': record.person,
                    'image_id': number,
                    'file_name': record.file_name,
                },
            )
        if not pid_of:
            raise DataError(
                f"dataset '{self._source.name}': found a split without a single image; expected "
                f'some in each of {self._source.splits}. Check the annotations below '
                'config.data.root.'
            )


def _by_split(everything: Iterator[Record]) -> Callable[[str], Iterator[Record]]:
    """Split after split in a single pass; records that come too early wait in memory."""
    waiting = collections.defaultdict(collections.deque)

    def of(split: str) -> Iterator[Record]:
        while True:
            while waiting[split]:
                yield waiting[split].popleft()
            record = next(everything, None)
            if record is None:
                return
            waiting[record.split].append(record)

    return of


def _with_progress(source: Source, skipped: list) -> Iterator[Record]:
    """The source's usable images, while a bar moves; the others go to `skipped`, and too many of them stop it."""
    console = rich.console.Console(file=sys.__stderr__)  # stdout is for results, JSON among them
    length = (rich.progress.BarColumn(), rich.progress.TimeRemainingColumn()) if source.total else ()
    columns = rich.progress.SpinnerColumn(), *length, '{task.completed:,} images'
    shown = dict(console=console, transient=True, disable=not console.is_terminal)
    with rich.progress.Progress(*columns, **shown) as bar:
        task = bar.add_task('', total=source.total)
        for count, record in enumerate(source.records(), 1):
            bar.advance(task)
            if isinstance(record, Record):
                yield record
                continue
            skipped.append([record.file_name, record.reason])
            if len(skipped) > TOLERATED * (source.total or float('inf')):
                _stop(source, count, skipped)


def _stop(source: Source, count: int, skipped: list) -> None:
    first = '\n'.join(f'  {name}: {reason}' for name, reason in skipped[:10])
    raise DataError(
        f"dataset '{source.name}': found {len(skipped)} unusable among the first {count:,} of {source.total:,} images, "
        f'expected {TOLERATED:.0%} at most; the first:\n{first}\nNothing was built. See all of them with: '
        'python main.py doctor --config=...'
    )


@contextlib.contextmanager
def _quiet():
    """TFDS reports every step to the terminal; a user needs only what `_build` says."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)


def load(
    source: Source, tokenizer: Tokenizer, context_length: int, cache: str = '', only: Sequence[str] = ()
) -> dict[str, Split]:
    """The splits of a source, built first if this very dataset was not built before.

    Args:
      source: from `data.sources.open_source`.
      tokenizer: makes the tokens that are stored.
      context_length: L, tokens of a caption.
      cache: folder of built datasets; '' for TFDS's own (TFDS_DATA_DIR or ~/tensorflow_datasets).
      only: read those of these splits that there are; () for all.

    Raises:
      DataError: the source's own mistakes, a split without images, or a folder that cannot be written.
    """
    tfds.disable_progress_bar()
    make = functools.partial(People, source, tokenizer, context_length, cache)
    with _quiet():
        try:
            builder = make()
            if not builder.is_prepared():
                builder = _build(make, source.name)
        except (OSError, RuntimeError) as error:  # RuntimeError: of what writes the records, on a full disk
            where = f"'{cache}'" if cache else "'' (TFDS's own folder)"
            raise DataError(
                f"config.data.cache: found {where}, where the dataset '{source.name}' cannot be built ({error}); "
                'expected a folder that can be written, with room for all images. Nothing was built. Make room there, '
                'or change config.data.cache.'
            ) from error
    _tell_skipped(source, builder)
    splits = {split: _read(builder, split) for split in source.splits if not only or split in only}
    _refuse_another_copy(source, builder, splits)
    return {name: dataclasses.replace(split, jpegs=_as_shown(split.jpegs)) for name, split in splits.items()}


def _as_shown(jpegs: list[bytes]) -> list[bytes]:
    from data import pictures  # TensorFlow

    return [pictures.as_shown(jpeg) for jpeg in jpegs]


def digest(split: Split) -> str:
    """How many images were loaded and a hash of which, of whom; the source does not know which will be skipped."""
    lines = '\n'.join(f'{pid} {name}' for pid, name in zip(split.image_pid, split.file_names, strict=True))
    return f'{len(split.file_names)} images, {hashlib.sha256(lines.encode()).hexdigest()[:32]}'


def _build(make: Callable[[], People], name: str) -> People:
    """Build a dataset, unless another process does it meanwhile; what killed builds of it left behind is removed."""
    say = functools.partial(print, file=sys.__stderr__, flush=True)
    builder = make()
    with contextlib.ExitStack() as stack:
        if '://' not in str(builder.data_path):  # a bucket carries no locks
            folder = pathlib.Path(builder.data_path).parent
            waiting = functools.partial(say, f"Dataset '{name}': waiting for another process that builds it")
            if stack.enter_context(alone(folder.with_name(f'.{folder.name}.lock'), waiting)):
                builder = make()
                for leftover in folder.glob('incomplete.*'):  # nobody else is at work here
                    shutil.rmtree(leftover)
        if not builder.is_prepared():
            clock = time.perf_counter()
            say(f"Building dataset '{name}' (once; the next run finds it built)")
            builder.download_and_prepare()
            images = sum(split.num_examples for split in builder.info.splits.values())
            say(f"Built dataset '{name}': {images:,} images in {time.perf_counter() - clock:.0f} s")
    return builder


def _tell_skipped(source: Source, builder: People) -> None:
    skipped = builder.info.metadata['skipped']
    if skipped:
        named = printable(', '.join(f'{name} ({reason})' for name, reason in skipped[:10]))
        print(
            f"Dataset '{source.name}' is used without {len(skipped)} of its images, all named in "
            f'{pathlib.Path(builder.data_dir) / "metadata.json"}: {named}{", ..." if len(skipped) > 10 else ""}',
            file=sys.stderr,
        )


def _refuse_another_copy(source: Source, builder: People, splits: Mapping[str, Split]) -> None:
    """Images of the same names in another folder may be others, blurred ones say: their sizes tell."""
    built_from = builder.info.metadata.get('images')
    if source.images is None or built_from in (None, str(source.images)):
        return
    built = (pair for split in splits.values() for pair in zip(split.file_names, split.jpegs, strict=True))
    files = [(source.images / name, len(jpeg)) for name, jpeg in built]
    # those that are not there need not be: what was built is all that is read
    differ = [path for path, size in files if os.path.isfile(path) and os.path.getsize(path) != size]
    if differ:
        raise DataError(
            f'config.data.root: found {len(differ)} images of another size than those that were built, expected the '
            f"same; the first is {differ[0]}. '{source.name}' was built in {builder.data_dir} from the images below "
            f'{built_from}: choose another config.data.cache for these, or delete that folder to build it anew.'
        )


def _read(builder: People, split: str) -> Split:
    examples = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
    columns = collections.defaultdict(list)
    for start in range(0, len(examples), _READ):
        for example in examples.__getitems__(range(start, min(start + _READ, len(examples)))):
            for name, value in example.items():
                columns[name].append(value)
    counts = [len(captions) for captions in columns['captions']]
    return Split(
        name=split,
        jpegs=columns['image'],
        file_names=[name.decode() for name in columns['file_name']],
        image_pid=np.array(columns['pid'], np.int32),
        captions=[caption.decode() for captions in columns['captions'] for caption in captions],
        tokens=np.concatenate(columns['tokens']),
        caption_image=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
    )
