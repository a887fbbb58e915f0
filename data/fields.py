"""What fields of annotations say, however they are published: sentences, dialogues, a gallery and its queries apart."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lcr2s_jax.errors import BadRow, DataError

USUAL = {  # column of a table -> what published JSON calls it; every field of captions holds a sentence, or several
    'image': ('image', 'file_path', 'img_path', 'image_path'),
    'caption': (
        'caption', 'captions', 'fine-grained_caption', 'fine-grained_description', 'caption1', 'caption2', 'chats',
    ),
    'id': ('id',),
    'split': ('split',),
}  # fmt: skip


def short(value: Any) -> str:
    """As Python writes it, for a message."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + '...'


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any] | BadRow:
    """An object of JSON; a BadRow where a field is given twice, of which Python's reader would drop the first."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    return BadRow(f'found {short(twice)} more than once in {short(keys)}, expected each field once. Remove the others.')


def names(fields: Mapping[str, str], usual: Mapping[str, tuple[str, ...]] = USUAL) -> dict[str, tuple[str, ...]]:
    """Column -> the fields that it is read from: those of config.data.folder.fields, the usual ones where it has ''."""
    given = {column: tuple(filter(None, map(str.strip, named.split(',')))) for column, named in fields.items()}
    return {column: given.get(column) or there for column, there in usual.items()}


def one_caption_each(row: Any, of: Mapping[str, tuple[str, ...]]) -> Iterator[Any]:
    """An object as rows of the table's columns, a row a caption; where it has none, one row for others to tell."""
    if not isinstance(row, dict):
        yield row
        return
    there = {column: [row[key] for key in of[column] if row.get(key) not in (None, '')] for column in of}
    kept = {column: next(iter(there[column]), None) for column in ('image', 'id', 'split') if there[column]}
    try:
        captions = [one for value in there['caption'] for one in said(value)]
    except BadRow as fault:
        yield fault
        return
    # an empty list is an image without a caption, which is skipped like one with blanks; no such field is a mistake
    for caption in captions or [' ' if there['caption'] else None]:
        yield {**kept, 'caption': caption}


def said(value: Any) -> list:
    """The sentences of a field: one, several, a dialogue, or several dialogues. Raises BadRow.

    A dialogue is a list of rounds, each a list of messages {'from': ..., 'value': ...}; it is one sentence, question
    and answer after one another.  [field: ChatPedes, as train/main/train/dataset.py of Flame-Chasers/DiaNA reads it]
    """
    if not isinstance(value, list):
        return [value]
    if not any(isinstance(one, list) for one in value):
        return value  # each is looked at when it becomes an entry
    first = next((one for one in value if one), None)
    dialogues = [value] if isinstance(first, list) and isinstance(first[0], dict) else value
    try:
        return [' '.join(_spoken(message) for turn in dialogue for message in turn) for dialogue in dialogues]
    except TypeError:  # a number where a list belongs
        raise BadRow(
            f'found {short(value)}; expected dialogues: lists of rounds, each a list of messages. Correct it.'
        ) from None


def _spoken(message: Any) -> str:
    text = message.get('value') if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise BadRow(f"found the message {short(message)}, expected an object whose 'value' is a sentence. Correct it.")
    return text.strip()


def gallery_rows(content: Any, where: str) -> list[Any]:
    """ORBench's test part as rows, an image of the gallery each, with texts of its person; a BadRow for a bad one.

    RGB_GALLERY is [[id, path], ...] and TEXT [[id, sentence], ...]; its other kinds of queries are not read. A text
    belongs to a person, not to an image: the n-th of a person is put at the n-th image, beginning again where there
    are more texts. Scores do not depend on it: every text is a query, every image in the gallery, persons are compared.
    [field: ReID5o/datasets/orbench.py of Zplusdragon/ReID5o_ORBench] Raises DataError: no such object.
    """
    parts = {name: content.get(name) if isinstance(content, dict) else None for name in ('RGB_GALLERY', 'TEXT')}
    lost = [name for name, part in parts.items() if not isinstance(part, list) or not part]
    if lost:
        raise DataError(f'{where}: found no list {" and ".join(lost)}; expected both, as in ORBench. Fetch it again.')
    rows: list[Any] = []
    images = collections.defaultdict(list)
    for number, pair in enumerate(parts['RGB_GALLERY']):
        if _is_pair(pair):
            row = {'id': pair[0], 'file_path': pair[1], 'caption': []}
            images[str(pair[0]).strip()].append(row)
            rows.append(row)
        else:
            rows.append(BadRow(f'found {short(pair)} at {number} of RGB_GALLERY, expected [id, path]. Correct it.'))
    count = collections.Counter()
    for number, pair in enumerate(parts['TEXT']):
        of = images.get(str(pair[0]).strip()) if _is_pair(pair) else None
        if of:
            of[count[id(of)] % len(of)]['caption'].append(pair[1])
            count[id(of)] += 1
        else:
            rows.append(
                BadRow(f'found {short(pair)} at {number} of TEXT, expected [id, sentence] of an id in RGB_GALLERY.')
            )
    return rows


def _is_pair(pair: Any) -> bool:
    whole = isinstance(pair, list) and len(pair) == 2
    return whole and isinstance(pair[0], int | str) and isinstance(pair[1], str)
