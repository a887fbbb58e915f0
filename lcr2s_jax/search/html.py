"""Answers as one HTML file that needs nothing else: pictures inside, no script, nothing fetched."""

import base64
import html
import pathlib
from collections.abc import Sequence

from lcr2s_jax import files, images
from lcr2s_jax.search.search import Answer, Hit, picture

_HEIGHT = 192  # pixels of a picture on the page
STYLE = """
.answer { font: 15px/1.45 system-ui, sans-serif; }
.answer h2 { font-size: 1.1rem; margin: 2rem 0 .2rem; } .answer p { margin: .2rem 0 .8rem; color: #555; }
.answer ol { display: flex; flex-wrap: wrap; gap: 14px; list-style: none; padding: 0; }
.answer li { width: 128px; font-size: 12px; overflow-wrap: anywhere; }
.answer li div { height: 192px; display: flex; align-items: end; }
.answer img { max-width: 128px; max-height: 192px; }
.answer .passes img, .answer .passes .none { outline: 3px solid #229646; } .answer .below img { opacity: .55; }
.answer .none { width: 96px; height: 120px; background: #eee; color: #777; padding: 6px; }
.answer b { font-size: 14px; }
"""  # all of it below .answer, so that it may stand on another page
_BODY = 'body { font: 15px/1.45 system-ui, sans-serif; color: #1e1e1e; background: #fff; margin: 2rem; }'


def write(path: pathlib.Path, answers: Sequence[Answer], title: str) -> None:
    """Write the page; aside, then renamed.

    Args:
      path: of the file.
      answers: from `search.Search`.
      title: a line above all.
    """
    body = ''.join(section(answer) for answer in answers)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # should a name ever get through as markup
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{_BODY}{STYLE}</style>\n'
        f'<h1>{html.escape(title)}</h1>\n{body}</html>\n'
    )
    files.write(path, page)


def section(answer: Answer) -> str:
    """An answer as HTML, every word of others escaped; STYLE goes with it. Its class is found, absent or open."""
    state = {True: 'found', False: 'absent', None: 'open'}[answer.found]
    notes = ''.join(f'<p>{html.escape(note)}</p>' for note in answer.notes)
    items = ''.join(map(_item, answer.hits))
    return (
        f'<section class="answer {state}"><h2>{html.escape(asked(answer))}</h2>'
        f'<p class="verdict">{html.escape(verdict(answer))}</p>{notes}<ol>{items}</ol></section>\n'
    )


def verdict(answer: Answer) -> str:
    """An answer in a sentence."""
    among = f'among {answer.searched:,} pictures' + ('' if answer.exact else ', by an approximate index')
    if answer.found is None:
        return f'the {len(answer.hits)} nearest {among}'
    bar = f'{answer.threshold:.3f}, where {answer.false_alarms:.1%} of the searches for somebody absent find a stranger'
    if not answer.found:
        return f'no such person {among}: no score reaches {bar}'
    return f'{sum(hit.passes for hit in answer.hits)} of {len(answer.hits)} hits {among} reach {bar}'


def asked(answer: Answer) -> str:
    """What was looked for, in a line."""
    examples = len(answer.query.example_nE)
    return ' + '.join(
        [*answer.query.sentences] + [f'{examples} example picture{"s" * (examples > 1)}'] * bool(examples)
    )


def _item(hit: Hit) -> str:
    state = {True: 'passes', False: 'below', None: ''}[hit.passes]
    chance = '' if hit.probability is None else f'<b>{hit.probability:.0%}</b> '
    more = ''.join(f'<br>{html.escape(f"{name} {value}")}' for name, value in hit.metadata.items() if value is not None)
    return (
        f'<li class="{state}"><div>{_image(hit)}</div>{hit.rank}. {chance}{hit.score:.3f}<br>{html.escape(hit.path)}'
        f'{more}</li>'
    )


def _image(hit: Hit) -> str:
    file = picture(hit.root, hit.path)
    if file is None:
        return '<span class="none">the file is not there any more</span>'
    try:
        shown = images.thumbnail(images.read(file), _HEIGHT)
    except images.PictureError as error:
        return f'<span class="none">{html.escape(str(error))}</span>'
    return f'<img alt="hit {hit.rank}" src="data:image/jpeg;base64,{base64.b64encode(shown).decode()}">'
