"""People's own data: a table of (image, caption, id[, split]) in CSV, JSONL or JSON, and splits where it has none.

A JSON list as newer datasets publish it is such a table too: UFine6926, Interactive-PEDES, caption_all.json.
"""

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from data import misplaced
from data.annotations import MOST, SPLITS, Annotations, Entry, by_split, make_entry
from data.fields import USUAL, one_caption_each, short, unique
from data.fields import names as names_of
from lcr2s_jax import texts
from lcr2s_jax.errors import BadRow, DataError, RowsError, each
from lcr2s_jax.files import read_bytes, write
from lcr2s_jax.texts import storable

_KINDS = ('.csv', '.jsonl', '.json')
_OTHERS = ('.tsv', '.txt', '.xlsx', '.xls', '.ods')  # of tables that are to be saved as CSV first
_COLUMNS = ('image', 'caption', 'id')
_OWN = {column: (column,) for column in USUAL}  # the columns of CSV, where the config names no others


def read(path: pathlib.Path, *, seed: int, val: float, test: float, fields: Mapping[str, str]) -> Annotations:
    """The entries of a table; rows of one image are its captions.

    Without a column `split`, identities are dealt to splits: by `<table>.splits.csv` where that lies beside the table,
    else by `seed`. `write_splits` keeps what was dealt.

    Args:
      path: .csv with a header, .jsonl with an object a line, or .json, a list of objects; images are relative to its
        folder. JSON may have several captions an image, and the names that published datasets give their fields.
      val, test: shares of the identities, at least one identity each where above 0.
      fields: column (image, caption, id, split) -> the field that it is read from, several captions with commas
        between; '' for the usual names.

    Raises DataError: it cannot be read at all. RowsError: rows that cannot be used.
    """
    rows = list(_rows(path, fields))
    if not rows:
        raise DataError(f'{path}: found no rows, expected a header and one row or more. Fill it.')
    with_split = any(isinstance(row, dict) and row.get('split') not in (None, '') for _, row in rows)
    if fields['split'] and not with_split:
        raise DataError(
            f"{path}: found no '{fields['split']}' in any row, expected the split. Change "
            'config.data.folder.fields.split.'
        )
    rows, faults = each(rows, lambda where, row: (where, _checked(row, with_split)))
    split_of, origin = {}, 'file'
    try:
        if rows and not with_split:
            people = {str(row['id']).strip() for _, row in rows}
            origin = 'beside' if splits_path(path).is_file() else 'seed'
            split_of = _kept(path, people) if origin == 'beside' else _deal(path, people, seed, val, test)
    except RowsError as error:
        faults, split_of = [*faults, *error.faults], error.rest
    except DataError:
        if faults:  # too few people may be left without these rows
            raise RowsError(path, faults) from None
        raise
    merged: dict[str, Entry] = {}
    known = [(where, row) for where, row in rows if with_split or str(row['id']).strip() in split_of]
    faults += each(known, lambda where, row: _merge(merged, where, row, split_of))[1]
    found = Annotations(path, path.parent, by_split(merged.values()), origin)
    if faults:
        raise RowsError(path, faults, found)
    return found


def _merge(merged: dict[str, Entry], where: str, row: Mapping, split_of: Mapping[str, str]) -> None:
    split = split_of[str(row['id']).strip()] if split_of else row['split']
    entry = make_entry(where, split, row['id'], row['image'], [row['caption']])
    first = merged.setdefault(entry.file_name, entry)
    if first is entry:
        return
    for name, there, here in (('id', first.person, entry.person), ('split', first.split, entry.split)):
        if there != here:
            raise BadRow(
                f"found {name} '{here}' for the image '{entry.file_name}', which has '{there}' in {first.where}; "
                'expected the same. Correct one of the two.'
            )
    captions, blank = (*first.captions, *entry.captions), first.blank + entry.blank
    merged[entry.file_name] = dataclasses.replace(first, captions=captions, blank=blank)


def splits_path(path: pathlib.Path) -> pathlib.Path:
    """Where the splits of a table without any are kept: people.csv -> people.splits.csv."""
    return path.with_name(f'{path.stem}.splits.csv')


def write_splits(annotations: Annotations) -> None:
    """Write down which identity is in which split, so that another seed or a longer table moves nobody unseen."""
    path = splits_path(annotations.path)
    split_of = {entry.person: entry.split for entry in annotations.entries}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(('id', 'split'))
    writer.writerows(sorted(split_of.items()))
    try:
        write(path, text.getvalue(), shared=True)  # another run may be writing the same
    except OSError as error:
        raise DataError(
            f'{path}: cannot be written ({error.strerror}); the splits that were made for {annotations.path.name} must '
            'be kept. Give the table a column split, or make its folder writable.'
        ) from None


def _rows(path: pathlib.Path, fields: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """(where, row), a row a caption; in the place of a row that cannot be read, a BadRow."""
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise DataError(
            f"{path}: found '{path.suffix}', expected .csv, .jsonl or .json. Change config.data.folder.table."
        )
    try:
        text = texts.decode(read_bytes(path, MOST), path)
    except OSError as error:
        raise DataError(
            f'{path}: cannot be read ({error.strerror}); expected a table in UTF-8{_beside(path, error)}. Change '
            'config.data.root or config.data.folder.table.'
        ) from None
    of = names_of(fields, _OWN if kind == '.csv' else USUAL)
    rows = _csv(text, path, of) if kind == '.csv' else {'.jsonl': _jsonl, '.json': _json}[kind](text, path)
    for where, row in rows:
        yield from ((where, one) for one in one_caption_each(row, of))


def _checked(row: Any, with_split: bool) -> Mapping:
    if isinstance(row, BadRow):
        raise row
    missing = [name for name in _COLUMNS if not isinstance(row, dict) or row.get(name) in (None, '')]
    if missing:
        raise BadRow(
            f'found no {", ".join(missing)} in {short(row)}; expected {", ".join(_COLUMNS)} and perhaps split. Name '
            'the columns so or in config.data.folder.fields, fill in what is empty, or remove the row.'
        )
    if not isinstance(row['caption'], str):
        raise BadRow(f'found {short(row)}; expected sentences as captions. Correct them.')
    if not isinstance(row['image'], str) or not isinstance(row['id'], str | int) or isinstance(row['id'], bool):
        raise BadRow(f'found {short(row)}; expected image as text, id as text or a number. Correct it.')
    if not storable(str(row['id'])):
        raise BadRow(f'found characters that no file can hold in {short(row)}. Correct it.')
    if with_split and row.get('split') in (None, ''):
        raise BadRow('found no split, but other rows have one; give all rows a split, or none.')
    return row


def _beside(path: pathlib.Path, error: OSError) -> str:
    """What is in the folder of a table that is not there."""
    if not isinstance(error, FileNotFoundError):
        return ''
    if near := texts.near(path) or misplaced.annotations(path.parent, [path.name], {}):
        return near
    there = sorted(one.name for one in path.parent.glob('*') if one.suffix.lower() in (*_KINDS, *_OTHERS))
    return f'; there is {", ".join(there[:3])}' if there else ''


def _csv(
    text: str, path: pathlib.Path, of: Mapping[str, Sequence[str]], needed: Sequence[str] = _COLUMNS
) -> Iterator[tuple[str, Any]]:
    # strict, or a quotation mark that is never closed swallows the rest of the table
    reader = csv.DictReader(io.StringIO(text, newline=''), skipinitialspace=True, strict=True)
    try:
        reader.fieldnames = _header(list(reader.fieldnames or ()), of, needed) if text else []
    except BadRow as fault:
        raise DataError(f'{path}, row 1: {fault}') from None
    except csv.Error as error:
        other = texts.separator(text.partition('\n')[0])
        change = f'; expected commas between the cells, not {other}: save it so' if other else ''
        raise DataError(f'{path}, row 1: found no CSV ({error}){change}') from None
    try:
        for row in reader:
            bad = None in row and BadRow(
                f'found {len(row[None])} cells more than the header has. Put a text with commas into quotation marks.'
            )
            yield f'row {reader.line_num}', bad or row  # as an editor counts: the header is row 1
    except csv.Error as error:
        yield (
            f'row {reader.line_num + 1}',
            BadRow(
                f'found no CSV ({error}), and nothing after it is read. Is a quotation mark left open, or one in a '
                'text not doubled?'
            ),
        )


def _header(names: list[str], of: Mapping[str, Sequence[str]], needed: Sequence[str]) -> list[str]:
    """The names of a CSV file's columns. Raises BadRow."""
    read = _names(names, [name for several in of.values() for name in several])
    if not read:
        raise BadRow('found a blank line, expected the names of the columns. Remove it.')
    wanted = [name for column in needed for name in of[column]]
    missing = [name for name in wanted if name not in read]
    if missing:
        other = texts.separator(names)
        raise BadRow(
            f'found no {", ".join(missing)} in {short(names)}; expected the columns {", ".join(wanted)}'
            + (
                f' with commas between the cells, not {other}: save it so'
                if other
                else '. Name them so, or by config.data.folder.fields'
            )
        )
    return read


def _jsonl(text: str, path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split('\n'), 1):  # splitlines would also split at characters JSON may hold
        if line.strip():
            try:
                row = json.loads(line, object_pairs_hook=_object)
            except (ValueError, RecursionError) as error:
                row = BadRow(f'found no JSON ({error}). Correct it.')
            yield f'row {number}', row


def _json(text: str, path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DataError(f'{path}: found no JSON ({error}). Correct it.') from None
    if not isinstance(rows, list):
        raise DataError(f'{path}: found {type(rows).__name__}, expected a list of objects, one an image. Correct it.')
    yield from ((f'entry {number}', row) for number, row in enumerate(rows))


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any] | BadRow:
    try:
        return unique(list(zip(_names([name for name, _ in pairs]), (value for _, value in pairs), strict=True)))
    except BadRow as fault:
        return fault


def _names(names: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """Names of columns; ours are known whatever their case and the blanks around them, but once each, as `more`."""
    ours = (*_COLUMNS, 'split')
    read = [name.strip().casefold() if name.strip().casefold() in ours else name for name in names]
    twice = [name for name in dict.fromkeys((*ours, *more)) if read.count(name) > 1]
    if twice:
        raise BadRow(
            f'found {", ".join(twice)} more than once in {short(list(names))}, expected each column once. Remove or '
            'rename the others; a second caption of an image is a row of its own.'
        )
    return read


def _kept(path: pathlib.Path, people: Set[str]) -> dict[str, str]:
    """Identity -> split, from the file beside the table; it may name people that the table has no more."""
    kept = splits_path(path)
    split_of: dict[str, str] = {}
    try:
        rows = list(_csv(texts.decode(read_bytes(kept), kept), kept, _OWN, ('id', 'split')))
    except OSError as error:
        raise DataError(f'{kept}: cannot be read ({error}); expected the columns id and split, in UTF-8.') from None

    def take(where: str, row: Any) -> None:
        if isinstance(row, BadRow):
            raise row
        person, split = (row['id'] or '').strip(), row['split']
        if not person or split not in SPLITS or split_of.setdefault(person, split) != split:
            raise BadRow(
                f"found id '{person}' with split '{split}'; expected every id once, with one of {', '.join(SPLITS)}. "
                'Correct it, or delete the file to deal all identities to splits again.'
            )

    faults = [f'{kept.name}, {fault}' for fault in each(rows, take)[1]]
    if new := sorted(people - set(split_of)):
        faults.append(
            f'{kept.name}: found no split of {texts.counted(len(new), "identity", "identities")} ({", ".join(new[:10])}'
            f'{", ..." * (len(new) > 10)}), expected all. Add them to it, or delete it to deal all again.'
        )
    if faults:
        raise RowsError(path, faults, split_of)
    return split_of


def _deal(path: pathlib.Path, people: Set[str], seed: int, val: float, test: float) -> dict[str, str]:
    """Identity -> split, by seed."""
    if not (0 <= val and 0 <= test and val + test < 1):
        raise DataError(
            f'config.data.folder: found val={val}, test={test}; expected shares of 0 or more, below 1 together'
        )
    # by a hash rather than a shuffle: an identity's place does not depend on who else is in the table
    order = sorted(people, key=lambda person: hashlib.sha256(f'{seed} {person}'.encode()).digest())
    sizes = {name: max(1, round(share * len(order))) if share else 0 for name, share in (('test', test), ('val', val))}
    if sum(sizes.values()) >= len(order):
        raise DataError(
            f'{path}: found {texts.counted(len(order), "identity", "identities")}, too few to deal to '
            f'{" and ".join(SPLITS)}; expected 3 or more'
        )
    names = ['test'] * sizes['test'] + ['val'] * sizes['val']
    return dict.fromkeys(order, 'train') | dict(zip(order, names, strict=False))
