"""Answers as one HTML file that needs nothing else: pictures inside, no script, nothing fetched."""

import base64
import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from lcr2s_jax import files, images
from lcr2s_jax.search import answer_text
from lcr2s_jax.search.answer import Answer, Hit, picture
from lcr2s_jax.search.answer_text import Why

HEIGHT = 256  # pixels of a picture on the page; smaller ones are enlarged
# All of it below .answer, so that it may stand on another page; colours of at least 4.5 : 1 on either ground.
STYLE = """
.answer { --ink: #1b1d21; --soft: #55595f; --line: #d5d9de; --card: #f6f7f9; --good: #15732f;
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); }
.answer h2 { font-size: 1.15rem; line-height: 1.3; margin: 0 0 .8rem; overflow-wrap: anywhere; }
.answer p { margin: .3rem 0; color: var(--soft); max-width: 60rem; } .answer p.verdict { color: var(--ink); }
.answer ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(152px, 1fr)); gap: 14px; list-style: none;
  padding: 0; margin: 0 0 .8rem; }
.answer li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px; margin: 0;
  font-size: 13px; line-height: 1.4; overflow-wrap: anywhere; min-width: 0; }
.answer li.passes { border-color: var(--good); box-shadow: 0 0 0 1px var(--good); }
.answer li div { height: 256px; display: flex; align-items: center; justify-content: center; margin-bottom: 8px; }
.answer img { max-width: 100%; max-height: 256px; border-radius: 4px; }
.answer .none { color: var(--soft); padding: 6px; text-align: center; }
.answer b { font-size: 14px; } .answer small { font-size: 12px; color: var(--soft); }
.answer table { border-collapse: collapse; margin: .8rem 0 0; font-size: 14px; }
.answer th, .answer td { text-align: left; font-weight: normal; padding: 2px 16px 2px 0; border: 0; }
.answer th { color: var(--soft); }
.answer th + th, .answer td + td { text-align: right; font-variant-numeric: tabular-nums; }
"""
_DARK = '.answer { --ink: #e6e8eb; --soft: #a9afb7; --line: #3a4048; --card: #22262b; --good: #5fce7e; }'
_PAGE = """
:root { color-scheme: light dark; } body { background: #fff; margin: 0 auto; padding: 1rem; max-width: 1200px; }
body > p, h1 { font-family: system-ui, sans-serif; color: #1b1d21; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; margin: 0 0 .3rem; } body > p { font-size: 13px; color: #55595f; margin: .2rem 0; }
section { border-top: 1px solid #d5d9de; margin-top: 1.2rem; padding-top: 1.2rem; }
@media (prefers-color-scheme: dark) { body { background: #16181b; } h1 { color: #e6e8eb; } body > p { color: #a9afb7; }
  section { border-color: #3a4048; } DARK }
@media (max-width: 480px) { .answer ol { grid-template-columns: 1fr 1fr; gap: 10px; } .answer li div { height: 220px; }
  .answer img { max-height: 220px; } }
""".replace('DARK', _DARK)


def write(
    path: pathlib.Path,
    answers: Sequence[Answer],
    title: str,
    whys: Sequence[Why] = (),
    trained_on: Mapping[str, Any] | None = None,
) -> None:
    """Write the page, `title` above all; aside, then renamed. For `trained_on` see `answer_text.trained_on`."""
    whys = whys or [()] * len(answers)
    body = ''.join(section(answer, why) for answer, why in zip(answers, whys, strict=True))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # should a name ever get through as markup
    line = answer_text.sentence(answer_text.trained_on(trained_on))
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{STYLE}{_PAGE}</style></head>\n'
        f'<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(line)}</p>\n{body}</body></html>\n'
    )
    files.write(path, page)


def section(answer: Answer, why: Why = ()) -> str:
    """An answer as HTML, every word of others escaped; STYLE goes with it. Its class is found, absent or open."""
    state = {True: 'found', False: 'absent', None: 'open'}[answer.found]
    notes = ''.join(f'<p class="note">{html.escape(answer_text.sentence(note))}</p>' for note in answer.notes)
    items = ''.join(map(_item, answer.hits))
    verdict = html.escape(answer_text.sentence(answer_text.verdict(answer)))
    return (
        f'<section class="answer {state}"><h2>{html.escape(answer_text.asked(answer))}</h2><ol>{items}</ol>'
        f'<p class="verdict">{verdict}</p>{notes}{reasons(why)}</section>\n'
    )


def reasons(why: Why) -> str:
    """What every phrase did, as a table; '' where nothing was found."""
    rows = ''.join(
        f'<tr><td>{html.escape(phrase)}</td><td>{moved[0]:+.3f}</td><td>{sum(moved) / len(moved):+.3f}</td></tr>'
        for phrase, moved in why
        if moved
    )
    head = '<tr><th>without it, the score falls by</th><th>best hit</th><th>all hits</th></tr>'
    return f'<table>{head}{rows}</table>' if rows else ''


def _item(hit: Hit) -> str:
    likely = answer_text.likely(hit)
    lines = [html.escape(hit.path)]
    lines += [f'<small>{html.escape(answer_text.copies(hit))}</small>'] * bool(hit.copies)
    lines += [
        f'<small>{html.escape(name)}</small> {html.escape(value)}' for name, value in answer_text.columns(hit).items()
    ]
    return (
        f'<li class="hit{" passes" if hit.passes else ""}"><div>{_image(hit)}</div>'
        f'<b>{hit.rank}.{f" {html.escape(likely)}" if likely else ""}</b> <small>score</small> {hit.score:.3f}<br>'
        f'{"<br>".join(lines)}</li>'
    )


def _image(hit: Hit) -> str:
    try:
        encoded = images.thumbnail(picture(hit.root, hit.path), HEIGHT)
    except images.PictureError as fault:
        return f'<span class="none">{html.escape(str(fault))}</span>'
    data = base64.b64encode(encoded).decode()
    return f'<img alt="hit {hit.rank}" src="data:image/jpeg;base64,{data}">'
