"""The page: gradio's boxes and buttons, wired to a `desk.Desk`. Pictures travel inside it; no file is served."""

import functools
import html
import pathlib

from lcr2s_jax.errors import SearchError
from lcr2s_jax.retrieval import calibration, sheet, uploads
from lcr2s_jax.retrieval.desk import MOST_EXAMPLES, MOST_HITS, MOST_LETTERS, Asked, Desk, Found

_PURPOSE = (
    'For research, and for pictures whose subjects have consented or which the law lets you search. Not for '
    'identifying, following or judging anybody: clothes are not identities, and a sentence fits everybody dressed so.'
)
_READING = (
    'Ranked by likeness to your words. The percentage estimates how often a hit with such a score is the described '
    'person; green frames pass the false-alarm rate you chose, pale pictures do not. Every search is logged.'
)
_CSS = """
.gradio-container { max-width: 1180px !important; }
.purpose, .purpose p { font-size: 13px; color: #555; }
.answer h2 { margin-top: 0; }
.answer .verdict { font-size: 15px; padding: 8px 12px; border-radius: 6px; background: #eef1f5; color: #222; }
.answer.found .verdict { background: #e4f4e7; } .answer.absent .verdict { background: #fdecd8; }
.answer table { border-collapse: collapse; font-size: 13px; } .answer td, .answer th { padding: 2px 12px 2px 0; }
.answer td + td, .answer th + th { text-align: right; }
"""


def page(desk: Desk, alone: str):
    """The `gradio.Blocks`.

    Args:
      desk: does everything.
      alone: who the user is where nobody has to log in.
    """
    import gradio as gr

    with gr.Blocks(title='Person search', analytics_enabled=False, delete_cache=(300, 600)) as blocks:
        gr.Markdown(f'## Person search\n{_PURPOSE}\n\n{_READING}', elem_classes='purpose')
        found, marked = gr.State(), gr.State()
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                asked, go = _query_boxes(gr, desk)
            with gr.Column(scale=9, min_width=560):
                shown = gr.HTML(elem_id='answer')
                chosen, judged, erasing = _hit_boxes(gr)
        files, add, told = _upload_boxes(gr, desk)
    _wire(gr, blocks, desk, alone, (asked, go, shown, found, marked, chosen, judged, erasing, files, add, told))
    return blocks


def theme():
    """Fonts that every system has; nothing is fetched."""
    import gradio as gr

    fonts = {'font': ('system-ui', 'sans-serif'), 'font_mono': ('ui-monospace', 'monospace')}
    return gr.themes.Default(**{use: [gr.themes.Font(name) for name in names] for use, names in fonts.items()})


def css() -> str:
    """The page's style."""
    return sheet.STYLE + _CSS


def answer(found: Found) -> str:
    """What was found, as HTML."""
    rows = ''.join(
        f'<tr><td>{html.escape(phrase)}</td><td>{moved[0]:+.3f}</td><td>{sum(moved) / len(moved):+.3f}</td></tr>'
        for phrase, moved in found.why
        if moved
    )
    why = f'<table><tr><th>without it, the score falls by</th><th>best hit</th><th>all hits</th></tr>{rows}</table>'
    return sheet.section(found.answer) + (f'<div class="answer">{why}</div>' if rows else '')


def _query_boxes(gr, desk: Desk):
    text = gr.Textbox(
        label='Description', info='Of one person. Several lines are one person in several words.',
        placeholder='a woman in a red coat with a black backpack', lines=3, max_lines=8, max_length=MOST_LETTERS,
        elem_id='text',
    )  # fmt: skip
    go = gr.Button('Search', variant='primary', elem_id='go')
    with gr.Row():
        top = gr.Slider(1, MOST_HITS, 12, step=1, label='Hits')
        rates = [(f'{rate:.0%} false alarms', rate) for rate in calibration.RATES]
        rate = gr.Dropdown(rates, value=0.05, label='"No such person" at', interactive=True)
    why = gr.Checkbox(label='What did each phrase do?', elem_id='why')
    with gr.Accordion('Only among', open=bool(desk.choices)):
        boxes = [
            gr.Dropdown([(str(value), value) for value in values], multiselect=True, label=column, value=[])
            for column, values in desk.choices.items()
        ]
        where = gr.Textbox(label='Condition', placeholder="camera = 'c1' and time > '2026-05'", max_length=MOST_LETTERS)
    with gr.Accordion(f'Like a picture (at most {MOST_EXAMPLES})', open=False):
        like = gr.File(file_count='multiple', file_types=list(uploads.SUFFIXES), show_label=False, height=110)
    return (text, like, top, rate, why, where, *boxes), go


def _hit_boxes(gr):
    chosen = gr.CheckboxGroup([], label='Choose hits', visible=False, elem_id='chosen')
    with gr.Row(visible=False) as judging:
        right = gr.Button('Right person', size='sm', elem_id='right')
        wrong = gr.Button('Wrong person', size='sm', elem_id='wrong')
        mark = gr.Button('Delete ...', size='sm', variant='stop', elem_id='mark')
    with gr.Group(visible=False) as confirming:
        warning = gr.Markdown(elem_id='warning', container=True)
        with gr.Row():
            typed = gr.Textbox(show_label=False, placeholder='how many?', container=False, elem_id='typed')
            erase = gr.Button('Erase for good', variant='stop', size='sm', elem_id='erase')
            keep = gr.Button('Keep them', size='sm', elem_id='keep')
    told = gr.Markdown(elem_id='told')
    return chosen, (judging, right, wrong, told), (mark, confirming, warning, typed, erase, keep)


def _upload_boxes(gr, desk: Desk):
    bytes_, pixels, count = desk.limits
    with gr.Accordion('Add pictures to the index', open=False, elem_id='adding'):
        label = f'At most {count} at once, of {bytes_ >> 20} MB and {pixels:,} pixels each; kept as PNG, names dropped'
        files = gr.File(file_count='multiple', file_types=list(uploads.SUFFIXES), label=label, height=110,
                        elem_id='files')  # fmt: skip
        add = gr.Button('Add', elem_id='add')
        told = gr.Markdown(elem_id='added')
    return files, add, told


def _wire(gr, blocks, desk: Desk, alone: str, boxes) -> None:
    asked, go, shown, found, marked, chosen, judged, erasing, files, add, added = boxes
    (judging, right, wrong, told), (mark, confirming, warning, typed, erase, keep) = judged, erasing
    columns = list(desk.choices)
    # private: by the page alone, not by gradio's API
    on = functools.partial(dict, api_visibility='private', show_progress='minimal')

    def who(request) -> str:
        return request.username or alone

    def search(text, like, top, rate, why, where, *values, request: gr.Request):
        chosen_values = dict(zip(columns, values, strict=True))
        with _explained(gr):
            now = desk.find(
                who(request), Asked(text or '', _taken(like), where or '', chosen_values, int(top), rate, why)
            )
        ranks = [
            (f'{hit.rank}' + (f' · {hit.probability:.0%}' if hit.probability is not None else ''), hit.rank)
            for hit in now.answer.hits
        ]
        visible = gr.update(visible=bool(ranks))
        return now, answer(now), gr.update(choices=ranks, value=[], visible=bool(ranks)), visible, *nothing()

    def nothing():
        """No picture is marked, nothing is told."""
        return None, gr.update(visible=False), '', ''

    def judge(verdict: bool, now, ranks, request: gr.Request):
        with _explained(gr):
            count = desk.judge(who(request), now, ranks, verdict)
        return f'Thank you. {count} marked as {"right" if verdict else "wrong"} and kept.'

    def first(now, ranks):
        with _explained(gr):
            files = desk.mark(now, ranks)
        count = len(files.files)
        names = ', '.join(pathlib.PurePosixPath(path).name for _, path in files.files)
        words = (
            f'**{count} picture{"s" * (count > 1)} will be erased from the index: all that is kept of them, for '
            f'good**, and uploaded files too. Other files on the disk stay. Type {count} to confirm.'
        )
        return files, gr.update(visible=True), f'{words}\n\n`{names.replace("`", "")}`', ''

    def second(files, typed, request: gr.Request):
        with _explained(gr):
            count = desk.erase(who(request), files, typed)
        said = f'{count} picture{"s" * (count != 1)} erased. Search again to see what is left.'
        return *nothing()[:3], said, None, '', gr.update(choices=[], value=[], visible=False), gr.update(visible=False)

    def take(names, request: gr.Request):
        with _explained(gr):
            count, refused = desk.add(who(request), _taken(names))
        said = [f'**{count} added.**' + ' They can be found at once.' * bool(count), *map(_plain, refused)]
        return '\n\n'.join(said), None

    gone = [marked, confirming, typed, told]
    results = [found, shown, chosen, judging, *gone]
    for event in (go.click, asked[0].submit):
        event(search, list(asked), results, **on())
    right.click(functools.partial(judge, True), [found, chosen], told, **on())
    wrong.click(functools.partial(judge, False), [found, chosen], told, **on())
    mark.click(first, [found, chosen], [marked, confirming, warning, typed], **on())
    keep.click(nothing, None, gone, **on())
    erase.click(second, [marked, typed], [*gone, found, shown, chosen, judging], **on())
    add.click(take, files, [added, files], **on())


class _explained:
    """What a user did wrong, as gradio shows it."""

    def __init__(self, gr):
        self._gr = gr

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, SearchError):
            raise self._gr.Error(html.escape(str(error)), duration=None, print_exception=False) from None


def _taken(paths) -> list[tuple[str, bytes]]:
    """(name, bytes) of files that were uploaded, which are gone then."""
    taken = []
    for path in map(pathlib.Path, paths or []):
        taken.append((path.name, path.read_bytes()))
        path.unlink()
    return taken


def _plain(text: str) -> str:
    """Markdown that says no more than `text`."""
    return f'<span>{html.escape(text)}</span>'
