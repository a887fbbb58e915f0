"""The annotation files of published datasets: from a folder to a list of entries.

Nothing is opened here but the annotation file itself; images.py looks at the pictures.
"""

import dataclasses
import hashlib
import json
import pathlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data import fields, misplaced
from data.fields import short
from lcr2s_jax import texts
from lcr2s_jax.errors import BadRow, DataError, RowsError, each
from lcr2s_jax.files import read_bytes
from lcr2s_jax.texts import storable

MOST = 1 << 30  # bytes of an annotation file
SPLITS = ('train', 'val', 'test')


@dataclasses.dataclass(frozen=True)
class Entry:
    where: str  # of the file, such as 'entry 17' or 'row 4'
    split: str
    person: str
    file_name: str  # below the folder of images, with forward slashes, never leaving it
    captions: tuple[str, ...]  # sentences, blank ones left out; an image without any cannot be used
    blank: int = 0
    gallery: bool = False  # whether it can be used without any, as one more image to search among


@dataclasses.dataclass(frozen=True)
class Annotations:
    path: pathlib.Path
    images: pathlib.Path  # the folder that file names are relative to
    entries: tuple[Entry, ...]  # split after split, in the file's order within each
    # 'file' where it says the splits itself; of a table without any, 'beside' (a splits file lies there) or 'seed'
    # (dealt just now, written down nowhere)
    splits_from: str = 'file'
    # splits whose ids begin again; there an entry's person is 'test 7' where the file says 7
    counted_anew: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        found = {entry.split for entry in self.entries}
        return tuple(split for split in SPLITS if split in found)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for entry in self.entries:
            said = entry.split, entry.person, entry.file_name, entry.captions  # neither where nor how many blanks
            digest.update(repr(said).encode())
        return digest.hexdigest()


class Layout(NamedTuple):
    """How a dataset is published [field]."""

    title: str
    files: tuple[str, ...]  # names of the annotation file, the usual one first
    image_key: str
    captions: int  # sentences that an image usually has
    published: Mapping[str, tuple[int, int, int]]  # (identities, images, captions) by split
    splitless: tuple[str, ...] = ()  # files of known packages that name no split, so that they cannot be used
    test_file: str = ''  # where the file above is of train alone, that of test, beside it
    # the field of captions: a list of sentences; of a dataset in two files what `fields.said` reads
    caption_key: str = 'captions'
    images: tuple[str, ...] = ('imgs',)  # folders of images, beside the annotation file; the first that is there
    # the file of test lists a gallery and its queries (`fields.gallery_rows`), and a person is named by the folder of
    # its images, as the ids of each file begin anew
    queries_apart: bool = False


LAYOUTS: Mapping[str, Layout] = {
    'cuhk_pedes': Layout(
        'CUHK-PEDES', ('reid_raw.json',), 'file_path', 2,
        {'train': (11003, 34054, 68126), 'val': (1000, 3078, 6158), 'test': (1000, 3074, 6156)},
        splitless=('caption_all.json',),
    ),
    'icfg_pedes': Layout(
        'ICFG-PEDES', ('ICFG-PEDES.json', 'ICFG_PEDES.json'), 'file_path', 1,
        {'train': (3102, 34674, 34674), 'test': (1000, 19848, 19848)},
    ),
    'rstpreid': Layout(
        'RSTPReid', ('data_captions.json',), 'img_path', 2,
        {'train': (3701, 18505, 37010), 'val': (200, 1000, 2000), 'test': (200, 1000, 2000)},
    ),
    # of these two no counts by split were found published
    'orbench': Layout(
        'ORBench', ('train_annos.json',), 'file_path', 1, {}, test_file='test_gallery_and_queries.json',
        caption_key='caption', images=('',), queries_apart=True,
    ),
    'chatpedes': Layout(
        'ChatPedes', ('train_reid.json',), 'file_path', 1, {}, test_file='test_reid.json',
        caption_key='chats', images=('imgs', 'imgs00'),
    ),
}  # fmt: skip


def read(dataset: str, root: pathlib.Path) -> Annotations:
    """The entries of a published dataset, a key of `LAYOUTS`; `root` holds its annotation file and images, or is above.

    Raises DataError: no such file there. RowsError: entries that are not what the dataset's entries are.
    """
    layout = LAYOUTS[dataset]
    path = find(layout, root)
    entries, faults = each(_located(path, layout), lambda where, row: _entry(where, row, layout))
    anew = _counted_anew(entries, layout)
    entries = [
        dataclasses.replace(entry, person=f'{entry.split} {entry.person}') if entry.split in anew else entry
        for entry in entries
    ]
    folders = [path.parent / name for name in layout.images]
    images = next((folder for folder in folders if folder.is_dir()), folders[0])
    found = Annotations(path, images, by_split(entries), counted_anew=anew)
    if faults:
        raise RowsError(path.parent if layout.test_file else path, faults, found)
    return found


def _located(path: pathlib.Path, layout: Layout) -> Iterator[tuple[str, Any]]:
    """(where, row) of a file, or of those of train and test."""
    if not layout.test_file:
        yield from ((f'entry {number}', row) for number, row in enumerate(_rows(path)))
        return
    files = {'train': path, 'test': path.with_name(layout.test_file)}
    if not files['test'].is_file():
        raise DataError(
            f'{path.parent}: found {path.name} without {layout.test_file}, expected both files of {layout.title} '
            'in one folder. Put it there.'
        )
    for split, file in files.items():
        apart = split == 'test' and layout.queries_apart
        rows = fields.gallery_rows(_content(file), str(file)) if apart else _rows(file)
        for number, row in enumerate(rows):
            yield f'{file.name}, entry {number}', row | {'split': split} if isinstance(row, dict) else row


def _counted_anew(entries: Sequence[Entry], layout: Layout) -> tuple[str, ...]:
    """Splits whose every id is an id of train as well, because each split counts its own.

    Not where images of the same people were dealt to splits: then ids have gaps, or there are as many as in train, and
    the numbers of identities are not the published ones.
    """
    people = {split: {entry.person for entry in entries if entry.split == split} for split in SPLITS}
    as_published = {split for split in layout.published if len(people[split]) == layout.published[split][0]}
    train = sorted(people['train'], key=lambda person: (len(person), person))  # 2 before 10
    return tuple(
        split
        for split in ('val', 'test')
        if people[split] and people[split] < people['train']
        if people[split] == set(train[: len(people[split])]) or {'train', split} <= as_published
    )


def find(layout: Layout, root: pathlib.Path) -> pathlib.Path:
    """The annotation file below `root`. Raises DataError, naming what is there instead."""
    places = (root, root / layout.title, root / layout.title.replace('-', '_'))
    for path in (place / file for place in places for file in layout.files):
        if path.is_file():
            return path
    for path in (place / file for place in places for file in layout.splitless):
        if path.is_file():
            raise DataError(
                f'{path.parent}: found {path.name}, which says of no image to which split it belongs; expected '
                f'{layout.files[0]} of the original {layout.title}. Ask the authors of {layout.title} for the '
                'complete package (docs/data.md); scores on splits of your own compare with nobody.'
            )
    others = {name: one.files for name, one in LAYOUTS.items() if one is not layout}
    hint = misplaced.annotations(root, layout.files, others)
    if not root.is_dir():
        found = 'found no such folder'
    else:
        there = [path for place in places if place.is_dir() for path in place.iterdir()]
        there.sort(key=lambda path: (path.suffix.lower() != '.json', path))  # one of another name comes first
        found = f'found {", ".join(str(path.relative_to(root)) for path in there[:10]) or "nothing"}'
    raise DataError(
        f'{root}: {found}; expected {" or ".join(layout.files)} beside imgs/, here or in {layout.title}/. Set '
        f'config.data.root to the folder of {layout.title}; docs/data.md says where it comes from{hint}.'
    )


def _content(path: pathlib.Path) -> Any:
    try:
        found = json.loads(texts.decode(read_bytes(path, MOST), path), object_pairs_hook=fields.unique)
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror}). Make it readable.') from None
    except (ValueError, RecursionError) as error:
        lines = str(error).startswith('Extra data')
        change = 'It has an entry a line: join them to one list.' if lines else 'Fetch the file again.'
        raise DataError(f'{path}: found no JSON ({error}); expected a list of entries. {change}') from None
    if isinstance(found, BadRow):
        raise DataError(f'{path}: {found}')
    return found


def _rows(path: pathlib.Path) -> Sequence[Any]:
    rows = _content(path)
    if not isinstance(rows, list) or not rows:
        what = f'an object of {", ".join(map(str, list(rows)[:5]))}' if isinstance(rows, dict) else type(rows).__name__
        what = 'an empty list' if rows == [] else what
        lists = [key for key, value in rows.items() if isinstance(value, list)] if isinstance(rows, dict) else []
        change = f'Write what is in {", ".join(lists[:5])} as one list.' if lists else 'Fetch the file again.'
        raise DataError(f'{path}: found {what}, expected a list of entries. {change}')
    return rows


def _entry(where: str, row: Any, layout: Layout) -> Entry:
    if isinstance(row, BadRow):
        raise row
    texts = (list, str) if layout.test_file else list
    kinds = {'split': str, layout.caption_key: texts, layout.image_key: str, 'id': (int, str)}
    wrong = [key for key, kind in kinds.items() if not isinstance(row, dict) or not isinstance(row.get(key), kind)]
    if wrong:
        raise BadRow(
            f'found {short(row)}; expected the fields {", ".join(kinds)}, but {", ".join(wrong)} is missing or of '
            f'another type. Is this the annotation file of {layout.title}?'
        )
    captions = row[layout.caption_key]
    if layout.test_file:
        captions = fields.said(captions)
    entry = make_entry(where, row['split'], row['id'], row[layout.image_key], captions)
    if not layout.queries_apart:
        return entry
    folder = posixpath.dirname(entry.file_name)
    person = posixpath.basename(folder) if '/' in folder else entry.person
    return dataclasses.replace(entry, person=person, gallery=entry.split == 'test')


def make_entry(where: str, split: str, person: int | str, file_name: str, captions: Sequence) -> Entry:
    """An entry whose every part was looked at. Raises BadRow."""
    fault = None
    clean = posixpath.normpath(file_name.replace('\\', '/'))
    if split not in SPLITS:
        fault = f"found split '{split}', expected one of {', '.join(SPLITS)}"
    elif isinstance(person, bool):  # a whole number to Python
        fault = f'found id {person}, expected the name or number of a person'
    elif not str(person).strip():
        fault = 'found an empty id, expected the name or number of a person'
    elif clean in ('.', '..') or clean.startswith(('/', '../')) or pathlib.PureWindowsPath(clean).drive:
        fault = f"found the image '{file_name}', which leaves the folder of images; expected a path below it"
    elif not all(isinstance(caption, str) for caption in captions):
        fault = f'found the captions {short(list(captions))}, expected sentences'
    elif not storable(clean, str(person), *captions):
        fault = f'found characters that no file can hold in {short([clean, person, *captions])}, expected text'
    if fault:
        raise BadRow(f'{fault}. Correct it or remove it.')
    kept = tuple(text for text in captions if text.strip())
    return Entry(where, split, str(person).strip(), clean, kept, len(captions) - len(kept))


def shared_people(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Identities that are in more than one split, and in which: empty where all is well."""
    splits: dict[str, set[str]] = {}
    for entry in entries:
        splits.setdefault(entry.person, set()).add(entry.split)
    return {person: sorted(found, key=SPLITS.index) for person, found in splits.items() if len(found) > 1}


def by_split(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Train, then val, then test; the order within a split stays."""
    return tuple(sorted(entries, key=lambda entry: SPLITS.index(entry.split)))
