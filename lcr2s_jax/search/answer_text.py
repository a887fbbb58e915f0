"""Answers in words: the one place that says them, for terminal, JSON, report and page."""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import rich.table
import rich.text

from lcr2s_jax.errors import printable
from lcr2s_jax.search.answer import Answer, Hit
from lcr2s_jax.texts import counted

_SHOWN = 4  # of a hit's columns on the terminal
# of a track of a video: what is shown instead, or nothing
_OF_TRACKS = ('video', 'track', 'time', 'begins', 'ends', 'box', 'detected', 'crops', 'pooling')

_SAVED = ('found', 'threshold', 'false_alarms', 'detection', 'searched', 'tracks', 'exact', 'notes')  # as they are

Why = Sequence[tuple[str, Sequence[float]]]  # of `search.Search.why`


def asked(answer: Answer) -> str:
    examples = len(answer.query.example_nE)
    return ' + '.join([*answer.query.sentences, *[counted(examples, 'example picture')] * bool(examples)])


def searched(answer: Answer) -> str:
    """What was looked through: '12 pictures', '17 tracks of 72 pictures'."""
    single = answer.searched - answer.crops
    tracks = f'{counted(answer.tracks, "track")} of {counted(answer.crops, "picture")}'
    parts = [counted(single, 'picture')] * bool(single or not answer.tracks) + [tracks] * bool(answer.tracks)
    return ' and '.join(parts) + ('' if answer.exact else ', by an approximate index')


def verdict(answer: Answer) -> str:
    """How sure an answer is, in one calm sentence with its rate."""
    if not answer.searched:
        return 'nothing was searched: no picture meets the condition, or the index is empty'
    if not answer.hits:
        return f'nothing was found among {searched(answer)}'
    same = [str(hit.rank) for hit in answer.hits if hit.same]
    first = f'hit {" and ".join(same)} is the example itself, the same picture; ' if same else ''
    told = [hit for hit in answer.hits if hit.passes is not None]
    others = 'others' if same else 'hits'
    if not told:
        return f'{first}ranked by likeness alone, among {searched(answer)}'
    rate = f'{_percent(answer.false_alarms)} of the searches for somebody who is absent reach {answer.threshold:.3f}'
    there = '' if answer.detection is None else f', {_percent(answer.detection)} of those for somebody who is there'
    if answer.found:
        passing = [str(hit.rank) for hit in told if hit.passes]
        which = f'hit {passing[0]} reaches' if len(passing) == 1 else f'{len(passing)} {others} reach'
        return f'{first}{which} the score of {answer.threshold:.3f}: {rate}{there}'
    if answer.found is False:
        nobody = 'no other picture of this person' if same else 'no such person'
        return f'{first}{nobody} among {searched(answer)}: no score reaches {answer.threshold:.3f}; {rate}{there}'
    return f'{first}none of {"the others" if same else "these"} is certain, among {searched(answer)}: {rate}{there}'


def likely(hit: Hit) -> str:
    """The probability of a hit: '46 %', 'the same picture', or '' where nothing is known."""
    return 'the same picture' if hit.same else '' if hit.probability is None else _percent(hit.probability)


def copies(hit: Hit) -> str:
    """'and 12 more places', or ''."""
    return f'and {counted(len(hit.copies), "more place")}' if hit.copies else ''


def columns(hit: Hit) -> dict[str, str]:
    """What is known of a hit beside its score, by name; of a track of a video, when and where it is."""
    known = {name: value for name, value in hit.metadata.items() if value is not None}
    if not {'video', 'track', 'time', 'crops'} <= known.keys():
        return {name: str(value) for name, value in known.items()}
    told = {'video': str(known['video']), 'time': clock(known['time'])}
    if {'begins', 'ends'} <= known.keys():
        told['seen'] = f'{clock(known["begins"])} to {clock(known["ends"])}'
    told |= {'track': str(known['track']), 'pictures': str(known['crops'])}
    return told | {name: str(value) for name, value in known.items() if name not in _OF_TRACKS}


def clock(seconds: float) -> str:
    """A place in a video as h:mm:ss."""
    whole = round(seconds)
    return f'{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}'


def trained_on(known: Mapping[str, Any] | None) -> str:
    """What a model was trained on, in a line; of 'dataset', 'kind', 'people' and 'images' each may be missing."""
    known = known or {}
    kind, name = known.get('kind'), known.get('dataset') or 'a dataset of its owner'
    if kind not in ('synthetic pedestrians', 'photographs'):
        return 'model: what it was trained on is not known'
    pictures = 'drawing' if kind == 'synthetic pedestrians' else 'photograph'
    size = counted(known['images'], pictures) if known.get('images') else f'{pictures}s'
    size += f' of {counted(known["people"], "person", "people")}' if known.get('people') else ' of people'
    if kind == 'photographs':
        return f'model: trained on {name}, {size}'
    return f'model: trained on {kind} ({size}) and on no photographs: what it says of photographs means little'


def to_json(answer: Answer, why: Why = (), examples: Sequence[str] = ()) -> dict:
    """An answer as JSON; `why` of `search.Search.why`, `examples` the files of the example pictures."""
    left_out = ('row', 'copies')
    return {
        'sentences': answer.query.sentences,
        'examples': list(examples),
        'hits': [
            {name: value for name, value in hit._asdict().items() if name not in left_out}
            | {'copies': [place._asdict() for place in hit.copies]}
            for hit in answer.hits
        ],
        'verdict': verdict(answer),
        **{name: getattr(answer, name) for name in _SAVED},
        'why': [{'phrase': phrase, 'moved': list(moved)} for phrase, moved in why],
    }


def show(console: rich.console.Console, answer: Answer, why: Why = ()) -> None:
    """Print an answer: the ranking first, then how sure it is, notes, and what every phrase did."""
    console.print(rich.text.Text(printable(asked(answer)), 'bold'))
    if answer.hits:
        console.print(_table(answer))
    for line in (verdict(answer), *(f'note: {note}' for note in answer.notes)):
        console.print(rich.text.Text(printable(sentence(line))))
    for line in reasons(answer, why):
        console.print(rich.text.Text(f'  {printable(line)}'))
    console.print()


def reasons(answer: Answer, why: Why) -> list[str]:
    """What every phrase did, a line each."""
    if not answer.hits:
        return []
    return [
        f"'{phrase}' moved {moved[0]:+.3f} the best hit, {sum(moved) / len(moved):+.3f} all {len(moved)} on average"
        for phrase, moved in why
    ]


def sentence(line: str) -> str:
    """A line with a capital and a full stop, for where it stands alone."""
    return line[:1].upper() + line[1:] + ('' if line.endswith(('.', '!', '?', '"')) else '.')


def _table(answer: Answer) -> rich.table.Table:
    told = [columns(hit) for hit in answer.hits]
    named = list(dict.fromkeys(name for one in told for name in one))[:_SHOWN]
    table = rich.table.Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style='bold')
    probable = [likely(hit) for hit in answer.hits]
    for name in ('', *['probability'] * any(probable), 'score', 'path', *named):
        table.add_column(printable(name), justify='left' if name in ('path', *named) else 'right', overflow='fold')
    for hit, chance, facts in zip(answer.hits, probable, told, strict=True):
        path = f'{hit.path}  {copies(hit)}'.rstrip()
        cells = [str(hit.rank), *[chance] * any(probable), f'{hit.score:.3f}', path]
        table.add_row(*(rich.text.Text(printable(cell)) for cell in (*cells, *(facts.get(name, '') for name in named))))
    return table


def _percent(share: float) -> str:
    """'5 %', '0.4 %', '<0.1 %'."""
    if 0 < share < 0.001:
        return '<0.1 %'
    return f'{share:.1%}'.replace('.0%', '%').replace('%', ' %') if share < 0.1 else f'{share:.0%}'.replace('%', ' %')
