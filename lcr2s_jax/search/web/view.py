"""What the page shows, as HTML: the index, an answer with its pictures, a hit opened large. All words are escaped."""

import base64
import csv
import functools
import html
import io
import json
import os
import pathlib
import time
import urllib.parse
from collections.abc import Sequence

from lcr2s_jax import images
from lcr2s_jax.search import answer_text, storage, stores
from lcr2s_jax.search.answer import Answer, Hit, picture
from lcr2s_jax.search.html import reasons
from lcr2s_jax.search.web.values import Index, SearchResult
from lcr2s_jax.texts import counted
from lcr2s_jax.video import crops as cutting
from lcr2s_jax.video.update import COLUMNS

_SMALL, _CROP, _LARGE = 224, 144, 720  # pixels of height of a hit, of a track's crop, of a hit that was opened
_KEPT = 900  # seconds at most that a small picture of an object is shown as it was
_CROPS = 12  # of a track that are shown
_SHOWN = 3  # of the user's columns below a hit; all of them where it is opened
_FORMULA = ('=', '+', '-', '@', '\t', '\r')  # a cell that begins so is a program to a spreadsheet


def title(index: Index, user: str = '') -> str:
    """The head of the page; with the way out for somebody who has logged in."""
    name = html.escape(pathlib.PurePosixPath(index.uri.rstrip('/')).name)
    trained = f', {html.escape(index.trained_on)}' if index.trained_on else ''
    leave = f'<a href="logout">Log out {html.escape(user)}</a>' if user else ''
    return (
        f'<header><h1>Person search</h1><p><b title="{html.escape(index.uri)}">{name}</b> · {index.pictures:,} '
        f'pictures · model {html.escape(index.model)}{trained}</p>{leave}</header>'
    )


def answer(found: SearchResult, index: Index) -> str:
    """What was found: the ranking first, then how sure it is, and what each phrase did."""
    given = found.answer
    notes = ''.join(f'<p>{html.escape(note)}</p>' for note in given.notes)
    items = ''.join(map(_item, given.hits)) or '<li class="nothing">No picture is left to show.</li>'
    verdict = html.escape(answer_text.sentence(answer_text.verdict(given)))
    return (
        f'<section class="answer" aria-live="polite"><h2>{html.escape(answer_text.asked(given))}</h2><ol>{items}</ol>'
        f'<p class="verdict">{verdict}</p>{notes}{reasons(found.why)}'
        f'{_exports(found, index)}</section>'
    )


def error(text: str) -> str:
    return (
        f'<section class="answer"><p class="error" role="alert">{html.escape(answer_text.sentence(text))}</p></section>'
    )


def told(*lines: str) -> str:
    """What was done, a paragraph a line."""
    return f'<section class="answer" role="status">{"".join(f"<p>{html.escape(line)}</p>" for line in lines)}</section>'


def large(found: SearchResult, hit: Hit) -> str:
    """A hit opened: the picture, its track's crops, all that is known of it. Keys: Escape, arrows."""
    image = _image(hit.root, hit.path, _LARGE, f'hit {hit.rank}, large')
    rows = ''.join(f'<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>' for name, value in _facts(hit))
    last = len(found.answer.hits)
    step = ''.join(
        f'<button type="button" data-rank="{rank}" data-step="{key}"{"" if 1 <= rank <= last else " disabled"}>{word}'
        '</button>'
        for key, word, rank in (('left', '‹ Previous', hit.rank - 1), ('right', 'Next ›', hit.rank + 1))
    )
    return (
        f'<div class="large" role="dialog" aria-modal="true" data-rank="{hit.rank}" aria-label="hit {hit.rank}"><nav>'
        f'<button type="button" data-close>Close</button>{step}</nav><div class="inside"><figure>{image}</figure>'
        f'<div><h2>Hit {hit.rank} of {last}</h2><dl>{rows}</dl>{_track(hit)}</div></div></div>'
    )


def export(found: SearchResult, index: Index) -> dict:
    given = found.answer
    return {
        'index': index.uri,
        'model': index.model,
        'trained_on': index.trained_on,
        'version': found.version,
        **answer_text.to_json(given, found.why),
        'examples': len(given.query.example_nE),
    }


def table(given: Answer) -> str:
    """An answer as CSV: a line a hit."""
    names = list(given.hits[0].metadata) if given.hits else []
    own = ('rank', 'root', 'path', 'score', 'probability', 'passes')
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow([_cell(name) for name in (*own, *names)])
    for hit in given.hits:
        lines.writerow([_cell(getattr(hit, name)) for name in own] + [_cell(hit.metadata[name]) for name in names])
    return out.getvalue()


def forget() -> None:
    _thumbnail.cache_clear()


def _exports(found: SearchResult, index: Index) -> str:
    if not found.answer.hits:
        return ''
    both = (
        ('CSV', 'text/csv', 'csv', table(found.answer)),
        ('JSON', 'application/json', 'json', json.dumps(export(found, index), indent=2, default=str)),
    )
    links = ' '.join(
        f'<a download="answer.{suffix}" href="data:{kind};charset=utf-8,{urllib.parse.quote(text)}">{name}</a>'
        for name, kind, suffix, text in both
    )
    return f'<p class="exports">Save this answer: {links}</p>'


def _cell(value) -> str:
    text = '' if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _number(text) else text


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _item(hit: Hit) -> str:
    chance = html.escape(answer_text.likely(hit))
    facts = [value if name == 'seen' else f'{name} {value}' for name, value in _known(hit)[:_SHOWN]]
    facts += [answer_text.copies(hit)] * bool(hit.copies)
    more = ''.join(f'<br>{html.escape(fact)}' for fact in facts)
    name = html.escape(pathlib.PurePosixPath(hit.path).name)
    image = _image(hit.root, hit.path, _SMALL, f'hit {hit.rank}')
    return (
        f'<li{" class=passes" * bool(hit.passes)}><button type="button" data-rank="{hit.rank}" '
        f'aria-label="open hit {hit.rank} large">{image}</button><div><b>{hit.rank}. {chance}</b> '
        f'<span>{hit.score:.3f}</span>{more}<br><span title="{html.escape(hit.path)}">{name}</span></div></li>'
    )


def _facts(hit: Hit) -> list[tuple[str, str]]:
    """(name, value) of all that is known of a hit."""
    own = [('probability', likely)] if (likely := answer_text.likely(hit)) else []
    also = [('also', f'{place.root}/{place.path}') for place in hit.copies]
    return [*own, ('score', f'{hit.score:.3f}'), *_known(hit), ('file', hit.path), ('folder', hit.root), *also]


def _known(hit: Hit) -> list[tuple[str, str]]:
    """The user's columns; of a video's track what somebody wants to know: which video, and when."""
    given = {name: value for name, value in hit.metadata.items() if value is not None}
    if not _is_track(hit) or not COLUMNS.keys() <= given.keys():
        return [(name, str(value)) for name, value in given.items() if name not in COLUMNS or not _is_track(hit)]
    span = f'at {answer_text.clock(given["time"])}'
    if answer_text.clock(given['begins']) != answer_text.clock(given['ends']):
        span += f' ({answer_text.clock(given["begins"])} to {answer_text.clock(given["ends"])})'
    seen = [('video', str(given['video'])), ('seen', span), ('pictures', str(given['crops']))]
    return seen + [(name, str(value)) for name, value in given.items() if name not in COLUMNS]


def _is_track(hit: Hit) -> bool:
    return pathlib.PurePath(hit.root).name == storage.TRACKS


def _track(hit: Hit) -> str:
    """The crops of a track, with the time of each."""
    if not _is_track(hit):
        return ''
    name, _, file = hit.path.partition('/')
    cut = cutting.read(pathlib.Path(hit.root) / name) or {'tracks': []}
    crops = next((one['crops'] for one in cut['tracks'] if any(crop['file'] == file for crop in one['crops'])), [])
    count = min(len(crops), _CROPS)
    some = [crops[round(place * (len(crops) - 1) / max(count - 1, 1))] for place in range(count)]
    pictures = [_image(hit.root, f'{name}/{crop["file"]}', _CROP, 'crop') for crop in some]
    times = [answer_text.clock(crop['time']) for crop in some]
    items = ''.join(f'<li>{one}<span>{time}</span></li>' for one, time in zip(pictures, times, strict=True))
    how_many = counted(len(crops), 'picture')
    how_many = f'{count} of ' * (count < len(crops)) + how_many
    return f'<h3>The track: {how_many}</h3><ul>{items}</ul>' if items else ''


def _image(root: str, path: str, height: int, alt: str) -> str:
    try:
        content = _thumbnail(root, path, _stamp(root, path), height)
    except (OSError, images.PictureError):
        return '<span class="none">the file is not there any more</span>'
    return f'<img alt="{alt}" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'


@functools.lru_cache(maxsize=1000)  # about 10 kB each
def _thumbnail(root: str, path: str, stamp: tuple, height: int) -> bytes:
    return images.thumbnail(picture(root, path), height)


def _stamp(root: str, path: str) -> tuple:
    """Another one for a changed file; an object is asked for again after a while: each time would take seconds."""
    if stores.is_remote(root):
        return (time.monotonic() // _KEPT,)
    file = os.path.realpath(os.path.join(root, path))  # a link that came later leads elsewhere
    facts = os.stat(file)
    return file, facts.st_mtime_ns, facts.st_size


def ranks(hits: Sequence[Hit]) -> list[tuple[str, int]]:
    """(label, rank) of hits, to choose some."""
    chances = [f' · {likely}' if (likely := answer_text.likely(hit)) else '' for hit in hits]
    return [(f'{hit.rank}{chance}', hit.rank) for hit, chance in zip(hits, chances, strict=True)]
