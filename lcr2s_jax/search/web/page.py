"""The page: gradio's boxes and buttons, wired to a `desk.Desk`. Pictures travel inside it; no file is served."""

import functools
import html
import pathlib

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import calibration
from lcr2s_jax.search import html as sheet
from lcr2s_jax.search.web import uploads
from lcr2s_jax.search.web.service import MOST_EXAMPLES, MOST_HITS, MOST_LETTERS, Asked, Desk, Found

_PURPOSE = (
    'For research, and for pictures that their subjects or the law let you search. Not for identifying, following or '
    'judging anybody: a sentence fits everybody dressed so.'
)
_READING = (
    'Ranked by likeness to your words. % estimates how often such a hit is the described person; green frames pass the '
    'false-alarm rate, pale pictures do not. Searches are logged.'
)
_KEPT = 900  # seconds that a file lies in a box; gradio keeps one of the same bytes once, so none can go on its own
_CSS = """
.gradio-container { max-width: 1240px !important; margin: auto; }
.purpose, .purpose p { font-size: 12px !important; color: #555; margin: 0 !important; } .purpose h2 { margin: 0 0 4px; }
.answer h2 { font-size: 1rem; margin: 0 0 8px; }
.answer .verdict { font-size: 15px; padding: 8px 12px; border-radius: 6px; background: #eef1f5; color: #222; }
.answer .verdict::first-letter { text-transform: uppercase; }
.answer.found .verdict { background: #e4f4e7; } .answer.absent .verdict { background: #fdecd8; }
.answer ol { gap: 12px; margin: 14px 0 0; } .answer li { width: 112px; line-height: 1.35; }
.answer li div { height: 156px; } .answer img { height: 150px; max-width: 112px; object-fit: contain; }
.answer table { border: none !important; font-size: 13px; margin-top: 16px; width: auto; }
.answer tr { border: none !important; }
.answer td, .answer th { padding: 1px 16px 1px 0 !important; border: none !important; font-weight: normal; }
.answer th { color: #777; } .answer td + td, .answer th + th { text-align: right; }
"""


def page(desk: Desk, alone: str):
    """The `gradio.Blocks`.

    Args:
      desk: does everything.
      alone: who the user is where nobody has to log in.
    """
    import gradio as gr

    with gr.Blocks(title='Person search', analytics_enabled=False, fill_width=True, delete_cache=(60, _KEPT)) as blocks:
        gr.Markdown(f'## Person search\n{_PURPOSE}\n\n{_READING}', elem_classes='purpose')
        found, marked = gr.State(), gr.State()
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                asked, go = _query_boxes(gr, desk)
            with gr.Column(scale=9, min_width=560):
                shown = gr.HTML(elem_id='answer')
                chosen, judged, erasing = _hit_boxes(gr)
        files, add, told = _upload_boxes(gr, desk)
        _wire(gr, _Hands(gr, desk, alone), (asked, go, shown, found, marked, chosen, judged, erasing, files, add, told))
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
        top = gr.Number(12, label='Hits', minimum=1, maximum=MOST_HITS, precision=0, min_width=90)
        rates = [(f'{rate:.0%}', rate) for rate in calibration.RATES]
        rate = gr.Dropdown(rates, value=0.05, label='False alarms', interactive=True, min_width=90)
    why = gr.Checkbox(label='What did each phrase do?', elem_id='why')
    with gr.Accordion('Only among', open=bool(desk.choices)):
        boxes = [
            gr.Dropdown([(str(value), value) for value in values], multiselect=True, label=column, value=[])
            for column, values in desk.choices.items()
        ]
        where = gr.Textbox(label='Condition', placeholder="camera = 'c1' and time > '2026-05'", max_length=MOST_LETTERS)
    with gr.Accordion(f'Like a picture (at most {MOST_EXAMPLES})', open=False, elem_id='liking'):
        like = gr.File(
            file_count='multiple', file_types=list(uploads.SUFFIXES), show_label=False, height=110, elem_id='like'
        )
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


def _wire(gr, hands: '_Hands', boxes) -> None:
    asked, go, shown, found, marked, chosen, judged, erasing, files, add, added = boxes
    (judging, right, wrong, told), (mark, confirming, warning, typed, erase, keep) = judged, erasing
    step = [marked, confirming, typed, told]
    results = [*step, found, shown, chosen, judging]

    def on(event, method, inputs, outputs):
        def call(request: gr.Request, *values):
            try:
                return method(request.username or hands.alone, *values)
            except SearchError as error:
                raise gr.Error(_literal(str(error)), duration=None, print_exception=False) from None

        # private: for the page alone, not for gradio's API
        event(call, inputs, outputs, api_visibility='private', show_progress='minimal')

    on(go.click, hands.search, list(asked), results)
    on(right.click, functools.partial(hands.judge, True), [found, chosen], told)
    on(wrong.click, functools.partial(hands.judge, False), [found, chosen], told)
    on(mark.click, hands.mark, [found, chosen], [marked, confirming, warning, typed])
    on(keep.click, lambda user: hands.unmarked(), None, step)
    on(erase.click, hands.erase, [marked, typed], results)
    on(add.click, hands.add, [files], [added, files])


class _Hands:
    """What happens at a click: (user, values of boxes) -> values of boxes."""

    def __init__(self, gr, desk: Desk, alone: str):
        self._update, self._desk, self.alone = gr.update, desk, alone

    def unmarked(self, told: str = '') -> tuple:
        """No picture is marked; the group that confirms is closed."""
        return None, self._update(visible=False), '', told

    def search(self, user: str, text, like, top, rate, why, where, *values) -> tuple:
        chosen = dict(zip(self._desk.choices, values, strict=True))
        found = self._desk.find(user, Asked(text or '', _read(like), where or '', chosen, int(top or 1), rate, why))
        return *self.unmarked(), found, answer(found), *self._choose(found.answer.hits)

    def judge(self, right: bool, user: str, found, ranks) -> str:
        count = self._desk.judge(user, found, ranks, right)
        return f'Thank you. {count} marked as {"right" if right else "wrong"}, and kept.'

    def mark(self, user: str, found, ranks) -> tuple:
        marked = self._desk.mark(found, ranks)
        count = len(marked.files)
        names = ', '.join(pathlib.PurePosixPath(path).name for _, path in marked.files)
        words = (
            f'**{count} picture{"s" * (count > 1)} will be erased from the index, for good**, and uploaded files with '
            f'it. Other files on the disk stay. Type {count} to confirm.'
        )
        return marked, self._update(visible=True), f'{words}\n\n{_plain(names)}', ''

    def erase(self, user: str, marked, typed) -> tuple:
        count = self._desk.erase(user, marked, typed or '')
        told = f'{count} picture{"s" * (count != 1)} erased. Search again to see what is left.'
        return *self.unmarked(told), None, '', *self._choose([])

    def add(self, user: str, files) -> tuple:
        count, refused = self._desk.add(user, _read(files))
        told = [f'**{count} added.**' + ' They can be found at once.' * bool(count), *map(_plain, refused)]
        return '\n\n'.join(told), None

    def _choose(self, hits) -> tuple:
        names = [
            (f'{hit.rank}' if hit.probability is None else f'{hit.rank} · {hit.probability:.0%}', hit.rank)
            for hit in hits
        ]
        shown = bool(names)
        return self._update(choices=names, value=[], visible=shown), self._update(visible=shown)


def _read(paths) -> list[tuple[str, bytes]]:
    """(name, bytes) of files that are in a box. Raises SearchError where one was there for too long."""
    try:
        return [(path.name, path.read_bytes()) for path in map(pathlib.Path, paths or [])]
    except FileNotFoundError as error:
        raise SearchError(f'{pathlib.Path(error.filename).name}: is not kept so long; choose it again') from None


def _plain(text: str) -> str:
    """Markdown that says no more than `text`."""
    return f'<span>{_literal(text)}</span>'


def _literal(text: str) -> str:
    """Text whose every sign stands for itself, in Markdown as in HTML: a name such as [x](http://y) is no link."""
    return ''.join(sign if sign.isalnum() or sign == ' ' else f'&#{ord(sign)};' for sign in text)
