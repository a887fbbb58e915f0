"""Is a dataset's folder fit to train on? Everything is looked at, nothing is written."""

import collections
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence

from data import misplaced, people, sources
from data.annotations import Annotations, Entry
from data.doctor import checks, supports
from data.doctor.checks import AS_TOLD, Finding, first
from data.pictures import NO_CAPTION
from data.records import TOLERATED
from lcr2s_jax import images
from lcr2s_jax.errors import DataError, RowsError
from lcr2s_jax.progress import QUIET, Progress
from lcr2s_jax.texts import counted
from lcr2s_jax.weights.tokenizer import Tokenizer

_CUHK_PART = {'cam_a', 'cam_b', 'CUHK03'}  # all that some packages of 2025 hold

_BUILT = 1.05  # bytes of a built dataset for one of its images: captions, tokens, headers


@dataclasses.dataclass(frozen=True)
class Examination:
    """What `examine` found; `file` is '' where none was read, counts and views are of `checks` and `supports`."""

    dataset: str
    file: str
    findings: tuple[Finding, ...]
    counts: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    views: Sequence[Mapping[str, float]] = ()

    @property
    def usable(self) -> bool:
        """Whether training would take it."""
        return all(finding.level != 'error' for finding in self.findings)


class Seen:
    """The pictures of all entries, looked at once.

    Attributes:
      faults: entry number -> why it cannot be used.
      digests: entry number -> hash of its bytes, of those that can.
      bytes: of those that can, together.
      turned: entry numbers of those that can and that EXIF wants turned.
    """

    def __init__(self, found: Annotations, max_pixels: int, progress: Progress):
        from data import pictures  # TensorFlow, which takes seconds

        self.entries, self.faults, self.digests, self.turned, self.bytes = found.entries, {}, {}, [], 0
        with progress.counting('images', len(found.entries)) as tell:
            for number, (_, encoded, fault) in enumerate(pictures.read(found.entries, found.images, max_pixels)):
                if fault:
                    self.faults[number] = fault
                else:
                    self.digests[number] = hashlib.sha256(encoded).digest()
                    self.bytes += len(encoded)
                    self.turned += [number] * pictures.turned(encoded)
                tell(1)

    def usable(self, split: str) -> list[Entry]:
        """The entries of a split that a build keeps."""
        return [self.entries[number] for number in self.digests if self.entries[number].split == split]


def examine(
    dataset: str,
    root: str,
    images: str,
    max_pixels: int,
    folder: Mapping,
    *,
    batch: Mapping[str, int],
    tokenizer: str,
    context_length: int,
    room: tuple[str, bool] = ('', False),
    progress: Progress = QUIET,
) -> Examination:
    """Look at a dataset as training would, and further; nothing is raised for what is wrong with it.

    Arguments as of `data.sources.open_source` and `data.plan.Plan`; `room`: cache and in_memory of `data.people.load`.
    """
    try:
        sources.check_name(dataset)
        if dataset == 'demo':
            drawn = Finding('good', 'drawn', 'the demo draws its people itself: there is no folder to check')
            return Examination(dataset, '', (drawn,))
        found, rows = sources.read_annotations(dataset, root, images, folder), ()
    except RowsError as error:
        found, rows = error.rest, (_rows(error),)
        if not (found and found.entries):
            return Examination(dataset, '', rows)
    except DataError as error:
        stop = 'Training stops with the same words; nothing else could be checked.'
        return Examination(dataset, '', (Finding('error', 'annotations', str(error), stop, AS_TOLD),))
    counts = checks.counts(dataset, found.entries)
    seen = Seen(found, max_pixels, progress)
    findings = [
        *rows,
        *checks.packaging(dataset, found),
        *checks.splits(dataset, found, folder.get('seed')),
        *checks.published_counts(dataset, counts),
        *_folders(dataset, found),
        *_unusable(seen),
        *_emptied(found, seen),
        *_turned(seen),
        *_room(seen, *room),
        *_built(sources.annotated(dataset, found, max_pixels), tokenizer, context_length, room[0]),
        *checks.named_twice(found),
        *_duplicates(seen),
        *checks.captions_per_image(dataset, found),
        *checks.blank_captions(found),
        *checks.shared_captions(found),
        *supports.long_captions(found.entries, tokenizer, context_length),
        *checks.single_images(found),
    ]
    train = seen.usable('train')
    findings += supports.batches(train, **batch) if train else ()
    views = supports.by_views(train, batch['views'], batch['captions']) if train else ()
    return Examination(dataset, str(found.path), tuple(findings), counts, views)


def _rows(error: RowsError) -> Finding:
    """Entries that say nothing that can be used; all else is checked without them."""
    if len(error.faults) == 1:
        what, examples = str(error), ()
    else:
        what = f'{error.where}: found {counted(len(error.faults), "entry", "entries")} that cannot be used'
        examples = first(error.faults)
    follows = 'Training stops at them. All that is said below is of the others.'
    return Finding('error', 'annotations', what, follows, 'Correct them or remove them.', examples)


def _folders(dataset: str, found: Annotations) -> Iterator[Finding]:
    """Folders of images that the annotations use and that are not there."""
    used = collections.defaultdict(list)
    for entry in found.entries:
        used[entry.file_name.partition('/')[0] if '/' in entry.file_name else '.'].append(entry)
    absent = [name for name in sorted(used) if not os.path.isdir(found.images / name)]
    if not absent:
        return
    there = sorted(set(used) - set(absent))
    try:
        here = sorted(path.name for path in found.images.iterdir() if os.path.isdir(path))
    except (FileNotFoundError, NotADirectoryError):
        what, do = f'found no folder {found.images}', f'Put the images into {found.images}.'
    except OSError as error:
        what, do = f'found {found.images}, which cannot be read ({error.strerror})', 'Make it readable.'
    else:
        only = f', only {", ".join(there)} of the folders named' if there else ''
        what = f'found no {", ".join(absent)} in {found.images}{only}'
        do = f'Name the folders as the annotations do; there are {", ".join(first(here)) or "none"}.'
        if found.images.name in absent:
            do = f'Take {found.images.name}/ off the names in the annotations: they are seen from {found.images}.'
    do = misplaced.images(found.images, absent) or do
    if dataset == 'cuhk_pedes' and there and set(there) <= _CUHK_PART:
        what, do = f'{what}, as in packages of 2025', 'Ask the authors for the complete package (docs/data.md).'
    lost = collections.Counter(entry.split for name in absent for entry in used[name])
    share = lost.total() / len(found.entries)
    stops = share > TOLERATED
    yield Finding(
        'error' if stops else 'warning', 'image-folders',
        f'{what}: {counted(lost.total(), "image")} of {len(found.entries):,} missing '
        f'({", ".join(f"{number:,} in {split}" for split, number in lost.items())})',
        f'Training stops: it skips {TOLERATED:.0%} of the images at most, not {share:.0%}.' if stops else
        f'They are skipped: {share:.2%} of the images, below {TOLERATED:.0%}.', do,
    )  # fmt: skip


def _unusable(seen: Seen) -> Iterator[Finding]:
    """Images that a build would skip, or stop at."""
    number, total = len(seen.faults), len(seen.entries)
    if not number:
        yield Finding('good', 'unusable-images', f'all {counted(total, "image")} can be read')
        return
    stops = number > TOLERATED * total
    missing = sum(fault.startswith(images.MISSING) for fault in seen.faults.values())
    near = sum(fault.startswith(f'{images.MISSING},') for fault in seen.faults.values())
    yield Finding(
        'error' if stops else 'warning', 'unusable-images',
        f'found {number:,} of {counted(total, "image")} that cannot be used ({number / total:.2%}): {missing:,} missing'
        f', {number - missing:,} otherwise',
        f'Training stops: more than {TOLERATED:.0%} is taken for a damaged copy.' if stops else
        f'Training skips them and names them: up to {TOLERATED:.0%} is tolerated.',
        f'Write the names of {counted(near, "file")} in one way, in the annotations or on the disk.' if near else
        'Give them captions, or leave them out of the annotations.' if set(seen.faults.values()) == {NO_CAPTION} else
        'Copy or unpack the images again.' if stops else 'Copy these images again, for scores on the whole test split.',
        first(f'{seen.entries[n].file_name}: {fault} ({seen.entries[n].split})' for n, fault in seen.faults.items()),
    )  # fmt: skip


def _emptied(found: Annotations, seen: Seen) -> Iterator[Finding]:
    for split in found.splits:
        if not seen.usable(split):
            yield Finding(
                'error', 'empty-split', f'found no usable image in the split {split}',
                'Training stops: a split without images can be neither learnt from nor scored.',
                f'Mend the images of {split}, or remove its entries.',
            )  # fmt: skip


def _turned(seen: Seen) -> Iterator[Finding]:
    if seen.turned:
        yield Finding(
            'note', 'turned-images', f'found {counted(len(seen.turned), "image")} that EXIF wants turned or mirrored',
            'Training, evaluation and an index turn them. Other programs may read them as they lie in the file.',
            'Where that matters turn the pixels themselves, as ImageMagick does: mogrify -auto-orient.',
            first(f'{seen.entries[n].file_name} ({seen.entries[n].split})' for n in seen.turned),
        )  # fmt: skip


def _room(seen: Seen, cache: str, in_memory: bool) -> Iterator[Finding]:
    """Where encoded images are to lie."""
    have = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if in_memory and seen.bytes > have / 2:
        yield Finding(
            'warning', 'memory', f'found {seen.bytes / 2**30:.1f} GiB of images, and {have / 2**30:.1f} GiB of memory',
            'With config.data.in_memory a run keeps all encoded images in memory.', 'config.data.in_memory=False.',
        )  # fmt: skip
    try:
        where = sources.tfds_folder(cache).absolute()
    except DataError as error:
        yield Finding('error', 'disk', str(error), 'Training stops with the same words.', AS_TOLD)
        return
    free = shutil.disk_usage(next(path for path in (where, *where.parents) if path.exists())).free
    if seen.bytes * _BUILT > free:
        yield Finding(
            'warning', 'disk',
            f'found {seen.bytes / 2**30:.1f} GiB of images, and {free / 2**30:.1f} GiB free in {where}',
            'A build stops when the disk is full, and leaves nothing; a dataset that is built already needs no more.',
            'Make room there, or change config.data.cache.',
        )  # fmt: skip


def _built(source: sources.Source, tokenizer: str, context_length: int, cache: str) -> Iterator[Finding]:
    """Of a dataset of these annotations that was built before: training reads that, and no image of the folder."""
    try:
        given = source, Tokenizer(tokenizer), context_length, cache
        there = people.place(*given).is_dir()
    except DataError:  # told by another finding
        return
    try:
        if there:
            people.load(*given)
    except DataError as error:
        yield Finding('error', 'built', str(error), 'Training stops with the same words.', AS_TOLD)


def _duplicates(seen: Seen) -> Iterator[Finding]:
    """Files with the same bytes under several names, by what follows from them."""
    same = collections.defaultdict(dict)
    for number, digest in seen.digests.items():
        same[digest].setdefault(seen.entries[number].file_name, seen.entries[number])
    kinds = collections.defaultdict(list)
    for copies in (list(files.values()) for files in same.values() if len(files) > 1):
        crosses = [len({getattr(entry, name) for entry in copies}) > 1 for name in ('split', 'person')]
        kinds['splits' if crosses[0] else 'identities' if crosses[1] else 'identity'].append(copies)
    if not kinds:
        yield Finding('good', 'duplicates', 'no two images are the same file')
    for kind, (level, where, follows, do) in _COPIES.items():
        if kind in kinds:
            yield Finding(
                level, f'duplicates-{kind}',
                f'found {counted(sum(map(len, kinds[kind])), "image")} of only {counted(len(kinds[kind]), "picture")}, '
                f'{where}', follows, do,
                first(
                    ' = '.join(f'{entry.file_name} ({entry.split}, id {entry.person})' for entry in copies)
                    for copies in kinds[kind]
                ),
            )  # fmt: skip


_COPIES = {  # kind of duplicates: level, where, what follows, what to do
    'splits': (
        'warning', 'the same in different splits', 'A score on them measures memory.',
        'Remove one of each from the annotations; report it beside scores on published splits.',
    ),
    'identities': (
        'warning', 'the same with different ids', 'One of the ids is wrong: training and scores learn and count noise.',
        'Find out which id is right; published annotations are used as they are.',
    ),
    'identity': (
        'note', 'the same with one id', 'A picture can be put into its own support set, where it adds nothing.',
        'Keep one of each in your own data; published annotations are used as they are.',
    ),
}  # fmt: skip
