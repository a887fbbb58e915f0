"""What can be said of annotations without opening an image: checks of the doctor, each from entries to findings."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from data import annotations, table
from data.annotations import LAYOUTS, SPLITS, Annotations, Entry
from lcr2s_jax.texts import counted

LEVELS = ('error', 'warning', 'note', 'good')
AS_TOLD = 'Change what the message names, then run the doctor again.'
_NAMED = 10  # examples of a finding
_COUNTED = ('identities', 'images', 'captions')


@dataclasses.dataclass(frozen=True)
class Finding:
    # 'error' (training refuses the data), 'warning' (it trains, and scores may mean something else), 'note' or 'good'
    level: str
    code: str  # a name that stays
    found: str
    follows: str = ''
    do: str = ''
    examples: tuple[str, ...] = ()


def first(examples: Iterable[str]) -> tuple[str, ...]:
    return tuple(example for example, _ in zip(examples, range(_NAMED), strict=False))


def people_of(entries: Iterable[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """(split, identity) -> its entries."""
    found = collections.defaultdict(list)
    for entry in entries:
        found[entry.split, entry.person].append(entry)
    return found


def counts(dataset: str, entries: Sequence[Entry]) -> dict[str, dict]:
    """Identities, images and captions of each split, beside what was published (None where nothing was)."""
    published = LAYOUTS[dataset].published if dataset in LAYOUTS else {}
    found = {}
    for split in (s for s in SPLITS if s in published or any(entry.split == s for entry in entries)):
        here = [entry for entry in entries if entry.split == split]
        numbers = len({entry.person for entry in here}), len(here), sum(len(entry.captions) for entry in here)
        of_old = dict(zip(_COUNTED, published[split], strict=True)) if split in published else None
        found[split] = dict(zip(_COUNTED, numbers, strict=True)) | {'published': of_old}
    return found


def published_counts(dataset: str, found: Mapping[str, Mapping]) -> Iterator[Finding]:
    """Are these the numbers that everybody's scores are of?"""
    if dataset not in LAYOUTS or not LAYOUTS[dataset].published:
        return
    title = LAYOUTS[dataset].title
    other = []
    for split, have in found.items():
        published = have['published'] or dict.fromkeys(have, 0)
        if any(have[name] != published[name] for name in _COUNTED):
            now, then = (' / '.join(f'{numbers[name]:,}' for name in _COUNTED) for numbers in (have, published))
            other.append(f'{split}: {now} {" / ".join(_COUNTED)}, published {then}')
    if not other:
        yield Finding('good', 'counts', f'identities, images and captions are as many as {title} was published with')
        return
    yield Finding(
        'warning', 'counts', f'found other numbers than {title} was published with',
        "Scores on these images compare with nobody else's.",
        'Fetch the original annotation file again; on a part that you chose yourself, report its size beside scores.',
        tuple(other),
    )  # fmt: skip


def packaging(dataset: str, found: Annotations) -> Iterator[Finding]:
    """The annotation file's other names."""
    usual, *others = LAYOUTS[dataset].files if dataset in LAYOUTS else (found.path.name,)
    beside = [name for name in others if name != found.path.name and (found.path.parent / name).is_file()]
    if found.path.name != usual:
        yield Finding(
            'note', 'file-name', f'found {found.path.name}, another name of {usual}', 'It is read alike.', 'Nothing.'
        )
    elif beside:
        yield Finding(
            'note', 'file-name', f'found {usual} and {" and ".join(beside)}', f'{usual} is read, the other is not.',
            'Remove the one that is not meant.',
        )  # fmt: skip


def splits(dataset: str, found: Annotations, seed: int | None) -> Iterator[Finding]:
    """Which splits there are, where they come from, and whether they are apart."""
    missing = [split for split in ('train', 'test') if split not in found.splits]
    if missing:
        yield Finding(
            'error', 'missing-splits', f'found no entry of the split {" or ".join(missing)}',
            'Training stops: it needs train to learn from and test to report.',
            'Name the splits train, val and test in the annotations; data.folder.test > 0 where they are dealt.',
        )  # fmt: skip
    if 'val' not in found.splits:
        yield Finding(
            'note', 'no-val', 'found no split val', 'No step can be selected: the last step is taken.',
            f'Nothing; {LAYOUTS[dataset].title} is published so.'
            if dataset in LAYOUTS and 'val' not in LAYOUTS[dataset].published
            else 'Give some identities to val.',
        )  # fmt: skip
    if dataset == 'folder':
        yield _where_from(found, seed)
    if found.counted_anew:
        yield Finding(
            'note', 'ids-per-split', f'found the ids of {" and ".join(found.counted_anew)} among those of train',
            'They are taken for other people, as each split of a published file may count its own.',
            'Nothing, with the original file; if they are the same people, give each to one split.',
        )  # fmt: skip
    shared = annotations.shared_people(found.entries)
    if shared:
        yield Finding(
            'error', 'shared-identities',
            f'found {counted(len(shared), "identity", "identities")} in more than one split',
            'Training stops: scores would measure memory.', 'Give each identity to one split in the annotations.',
            first(f'{person} in {" and ".join(places)}' for person, places in shared.items()),
        )  # fmt: skip
    else:
        yield Finding('good', 'shared-identities', 'no identity is in two splits')


def _where_from(found: Annotations, seed: int | None) -> Finding:
    kept = table.splits_path(found.path).name
    if found.splits_from == 'file':
        return Finding('good', 'splits', f'the column split of {found.path.name} says which row is in which split')
    if found.splits_from == 'beside':
        return Finding('good', 'splits', f'{kept} says which identity is in which split')
    if os.path.lexists(found.path.with_name(kept)) or not os.access(found.path.parent, os.W_OK):
        return Finding(
            'error', 'splits', f'found no splits in {found.path.name}, and no {kept} can be written beside it',
            'Training stops: which identity is dealt to which split must be kept.',
            f'Give the table a column split, or make {found.path.parent} writable, with nothing by that name in it.',
        )  # fmt: skip
    return Finding(
        'note', 'splits', f'found no splits in {found.path.name}, and no {kept} beside it',
        f'Training would deal the identities by config.data.folder.seed = {seed}, as counted here, and write {kept}; '
        'the doctor writes nothing.',
        'Nothing; or a column split, if you have splits already.',
    )  # fmt: skip


def named_twice(found: Annotations) -> Iterator[Finding]:
    of_name = collections.defaultdict(list)
    for entry in found.entries:
        of_name[entry.file_name].append(entry)
    twice = {name: entries for name, entries in of_name.items() if len(entries) > 1}
    if twice:
        differ = sum(len({(entry.person, entry.split) for entry in entries}) > 1 for entries in twice.values())
        yield Finding(
            'warning', 'named-twice',
            f'found {counted(len(twice), "image")} named by two entries or more, {differ:,} of them with different ids '
            'or splits',
            'Each entry counts as an image of its own: one can be its own support, and a test image counts twice.',
            'Merge the captions into one entry; where ids or splits differ, find out which is right.',
            first(f'{name}: {", ".join(entry.where for entry in entries)}' for name, entries in twice.items()),
        )  # fmt: skip


def captions_per_image(dataset: str, found: Annotations) -> Iterator[Finding]:
    numbers = collections.Counter(len(entry.captions) for entry in found.entries)
    usual = LAYOUTS[dataset].captions if dataset in LAYOUTS else numbers.most_common(1)[0][0]
    fewer, more = (sum(numbers[n] for n in numbers if sign * n > sign * usual) for sign in (-1, 1))
    if fewer or more:
        yield Finding(
            'note', 'captions-per-image',
            f'found {counted(fewer, "image")} with fewer and {counted(more, "image")} with more than the usual '
            f'{counted(usual, "caption")}',
            'In training a view draws one of its captions; in val and test every caption is a query of equal weight.',
            'Nothing, unless captions were lost.',
            first(
                f'{entry.file_name}: {len(entry.captions)} ({entry.split})'
                for entry in found.entries
                if len(entry.captions) != usual
            ),
        )  # fmt: skip


def blank_captions(found: Annotations) -> Iterator[Finding]:
    """Captions that say nothing."""
    blank = [entry for entry in found.entries if entry.blank]
    if blank:
        yield Finding(
            'note', 'blank-captions', f'found {counted(sum(e.blank for e in blank), "caption")} of nothing but blanks',
            'They are left out; an image without any other is skipped.', 'Write them, or remove them.',
            first(f'{entry.file_name}: {entry.blank} ({entry.where})' for entry in blank),
        )  # fmt: skip


def single_images(found: Annotations) -> Iterator[Finding]:
    single = [entries[0] for entries in people_of(found.entries).values() if len(entries) == 1]
    if single:
        by_split = collections.Counter(entry.split for entry in single)
        yield Finding(
            'note', 'single-images',
            f'found {counted(len(single), "identity", "identities")} with a single image ('
            + ', '.join(f'{number:,} in {split}' for split, number in by_split.items()) + ')',
            'In training such an identity has no support; the rest of its K rows are repeats, which support nobody.',
            'Nothing, if they are few; else more images of these identities.',
            first(f'{entry.person} in {entry.split}: {entry.file_name}' for entry in single),
        )  # fmt: skip


def shared_captions(found: Annotations) -> Iterator[Finding]:
    """Captions that different identities share, whatever their case and blanks."""
    entries_of = collections.defaultdict(list)
    for entry in found.entries:
        for caption in entry.captions:
            entries_of[' '.join(caption.casefold().split())].append(entry)
    shared = {text: e for text, e in entries_of.items() if len({entry.person for entry in e}) > 1}
    if not shared:
        yield Finding('good', 'shared-captions', 'no caption is shared by identities')
        return
    number = sum(map(len, shared.values()))
    share = number / sum(len(entry.captions) for entry in found.entries)
    tested = sum(entry.split == 'test' for entries in shared.values() for entry in entries)
    yield Finding(
        'warning' if share > 0.01 else 'note', 'shared-captions',
        f'found {counted(number, "caption")} ({share:.1%}), {tested:,} of them in test, '
        'that different identities share',
        'Each is true of several people and counts for one: such a query is partly luck, such a row partly wrong.',
        'In your own data write what tells the people apart; published captions are used as they are.',
        first(
            f'{annotations.short(text)} of {", ".join(dict.fromkeys(entry.person for entry in entries))}'
            for text, entries in shared.items()
        ),
    )  # fmt: skip
