"""Where the records of each dataset come from, by name; builders and everything behind them do not know."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from data import annotations, misplaced, table
from data.annotations import LAYOUTS, Annotations, Entry
from data.records import Record, Skipped
from lcr2s_jax.errors import DataError, RowsError, meant
from lcr2s_jax.files import expanded
from lcr2s_jax.texts import counted

DATASETS = ('demo', *LAYOUTS, 'folder')
_IMAGES, _FILES = 8192, 256  # of a record file, at least; of a split, at most, where it may have that many images

# The images of one record file, usable or not: every call is a new pass. It can be pickled, so that workers call it.
Part = Callable[[], Iterator[Record | Skipped]]


@dataclasses.dataclass(frozen=True)
class Source:
    name: str
    fingerprint: str  # another whenever the records may be others
    splits: tuple[str, ...]
    parts: Callable[[str], Sequence[Part]]  # the record files of a split, in order
    total: int | None = None  # images of all splits, where that is known beforehand
    images: pathlib.Path | None = None  # the folder that file names are below, where there is one


def open_source(dataset: str, root: str, images: str, max_pixels: int, folder: Mapping, demo: Mapping) -> Source:
    """The source of a dataset by name, one of `DATASETS`.

    Args:
      root: the dataset's folder, or the one above it; '' for TFDS's folder of manual downloads. The demo has none.
      images: the folder of the images, as it is or below `root`; '' for where the dataset has it.
      max_pixels: images with more are skipped.
      folder, demo: arguments of `data.table.read` and `data.demo.synthetic.records`, each for its dataset.

    Raises DataError: an unknown dataset, no such folder, or annotations that cannot be used.
    """
    check_name(dataset)
    if dataset == 'demo':
        return _drawn(**demo | {'people': {split: number for split, number in demo['people'].items() if number}})
    found = read_annotations(dataset, root, images, folder)
    shared = annotations.shared_people(found.entries)
    if shared:
        person, splits = next(iter(shared.items()))
        raise DataError(
            f'{found.path}: found {counted(len(shared), "identity", "identities")} in more than one split, '
            f'such as {person} in {" and ".join(splits)}; expected each in one, or scores would measure memory. '
            'Correct the file.'
        )
    if found.splits_from == 'seed':
        table.write_splits(found)
    return annotated(dataset, found, max_pixels)


def check_name(dataset: str) -> None:
    """Raise DataError unless `dataset` is one of `DATASETS`."""
    if dataset not in DATASETS:
        raise DataError(
            f"config.data.dataset: found '{dataset}', expected one of {', '.join(DATASETS)}{meant(dataset, DATASETS)}"
        )


def read_annotations(dataset: str, root: str, images: str, folder: Mapping) -> Annotations:
    """What the annotation file of a dataset with real images says; arguments and errors as of `open_source`."""
    try:
        return _read_annotations(dataset, root, images, folder)
    except OSError as error:  # it may not be looked at
        raise DataError(
            f"config.data.root: found '{root}', which cannot be read ({error}); expected the folder of the dataset "
            f"'{dataset}'. Make it readable, or change config.data.root."
        ) from None


def _read_annotations(dataset: str, root: str, images: str, folder: Mapping) -> Annotations:
    where = expanded(root) if root else tfds_folder() / 'downloads/manual'
    if not where.is_dir():
        default = '' if root else " (config.data.root is '', so TFDS's folder of manual downloads)"
        raise DataError(
            f"config.data.root: found no folder '{where}'{default}, looking from {pathlib.Path.cwd()}; expected the "
            f"folder of the dataset '{dataset}'{misplaced.root(where)}. Change config.data.root."
        )
    elsewhere = {'images': where / expanded(images)} if images else {}
    if elsewhere and not elsewhere['images'].is_dir():
        raise DataError(
            f"config.data.images: found no folder '{elsewhere['images']}'; expected that of the images, as it is or "
            f"below {where}; '' for where '{dataset}' has it. Change config.data.images."
        )
    try:
        if dataset != 'folder':
            found = annotations.read(dataset, where)
        else:
            options = dict(folder)
            found = table.read(where / options.pop('table'), **options)
    except RowsError as error:
        error.rest = error.rest and dataclasses.replace(error.rest, **elsewhere)
        raise
    return dataclasses.replace(found, **elsewhere)


def tfds_folder(cache: str = '') -> pathlib.Path:
    """Where TFDS keeps what it builds, and what it downloads; `cache` where it is given. Raises DataError: a bucket."""
    if '://' in cache:
        raise DataError(
            f"config.data.cache: found '{cache}', expected a folder of a disk, or of a bucket that is mounted: images "
            'are read from it one by one. Change config.data.cache.'
        )
    return expanded(cache or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def annotated(dataset: str, found: Annotations, max_pixels: int) -> Source:
    def parts(split: str) -> list[Part]:
        entries = [entry for entry in found.entries if entry.split == split]
        size = max(_IMAGES, -(-len(entries) // _FILES))
        return [
            functools.partial(_read, entries[start : start + size], found.images, max_pixels)
            for start in range(0, len(entries), size)
        ]

    fingerprint = f'{found.fingerprint} {max_pixels}'
    return Source(dataset, fingerprint, found.splits, parts, len(found.entries), found.images.resolve())


def _read(entries: Sequence[Entry], folder: pathlib.Path, max_pixels: int) -> Iterator[Record | Skipped]:
    from data import pictures  # TensorFlow

    for entry, encoded, fault in pictures.read(entries, folder, max_pixels):
        if fault:
            yield Skipped(entry.file_name, fault)
        else:
            yield Record(entry.split, entry.person, entry.file_name, encoded, entry.captions)


def _drawn(seed: int, people: Mapping[str, int], cameras: bool) -> Source:
    from data.demo import synthetic as demo

    return Source(
        name='demo',
        fingerprint=f'demo {demo.VERSION} {seed} {people} {cameras}',
        splits=tuple(people),
        parts=functools.partial(demo.parts, seed, people, cameras),
    )
