"""The page: gradio's boxes and buttons, wired to a `service.Service`. Pictures travel inside it; no file is served."""

import functools
import pathlib
import sys
import traceback
import types

from lcr2s_jax import images
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import calibration
from lcr2s_jax.search.web import filters, style, view
from lcr2s_jax.search.web.service import MOST_EXAMPLES, MOST_HITS, MOST_LETTERS, Service
from lcr2s_jax.search.web.values import SearchRequest

_PROJECT = pathlib.Path(images.__file__).parent
_PURPOSE = (
    'For research, and for pictures that their subjects or the law let you search. Not for identifying, following or '
    'judging anybody: a sentence fits everybody dressed so. Searches are logged.'
)
_READING = (
    'Pictures are ranked by likeness to your words. % estimates how often such a hit is the described person; a green '
    'frame passes the false-alarm rate.'
)
_KEPT = 900  # seconds that a file lies in a box; gradio keeps one of the same bytes once, so none can go on its own


def page(service: Service, alone: str):
    """The `gradio.Blocks`; `alone` is the user where nobody has to log in."""
    import gradio as gr

    with gr.Blocks(title='Person search', analytics_enabled=False, fill_width=True, delete_cache=(60, _KEPT)) as blocks:
        hands = _Hands(gr, service, alone)
        title = gr.HTML(view.title(service.index), elem_id='title', apply_default_css=False, js_on_load=None)
        found, marked = gr.State(), gr.State()
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                asked, go = _query_boxes(gr, service)
            with gr.Column(scale=9, min_width=320):
                shown = gr.HTML('', elem_id='answer', apply_default_css=False, js_on_load=style.OPEN)
                chosen, judged, erasing = _hit_boxes(gr)
        files, add, told = _upload_boxes(gr, service)
        large = gr.HTML('', elem_id='large', apply_default_css=False, js_on_load=style.LARGE)
        gr.Markdown(f'{_READING}\n\n{_PURPOSE}', elem_classes='purpose')
        _wire(gr, hands, (asked, go, shown, found, marked, chosen, judged, erasing, files, add, told))
        _wire_large(gr, hands, found, shown, large)

        def head(request: gr.Request):
            return view.title(service.index, request.username or '')

        blocks.load(head, None, title, api_visibility='private', show_progress='hidden')
    return blocks


def waiting(blocks, user: str) -> int:
    queue = blocks._queue  # gradio tells of it by its length alone
    waiting_ = [event for one in queue.event_queue_per_concurrency_id.values() for event in one.queue]
    running = [event for job in queue.active_jobs if job for event in job]
    return sum((event.username or '') == user for event in (*waiting_, *running))


def fits(blocks, call: dict) -> bool:
    """Whether a call names a function of the page and brings values."""
    function = call.get('fn_index')
    return isinstance(function, int) and function in blocks.fns and isinstance(call.get('data'), list)


def quiet() -> None:
    """Have gradio print no traceback of a call that fits no box: it would hold all that was sent, each time.

    One that goes through this project is of a mistake of ours, and printed.
    """
    from gradio import queueing

    def told() -> None:
        frames = traceback.extract_tb(sys.exc_info()[2])
        if any(_PROJECT in pathlib.Path(frame.filename).parents for frame in frames):
            traceback.print_exc()

    queueing.traceback = types.SimpleNamespace(print_exc=told)


def forget(blocks, tab: str) -> None:
    for kept in (
        blocks.state_holder.session_data, blocks.state_holder.time_last_used,
        blocks._queue.pending_messages_per_session, blocks._queue.pending_event_ids_session,
    ):  # fmt: skip
        kept.pop(tab, None)


def _query_boxes(gr, service: Service):
    text = gr.Textbox(
        label='Description of one person', placeholder='a woman in a red coat with a black backpack', lines=2,
        max_lines=8, max_length=MOST_LETTERS, elem_id='text',
    )  # fmt: skip
    go = gr.Button('Search', variant='primary', elem_id='go')
    with gr.Accordion('Filters', open=False, elem_id='filters'):
        boxes = [
            gr.Dropdown([(str(value), value) for value in values], multiselect=True, label=column, value=[])
            for column, values in service.filters.choices.items()
        ]
        ranges = [box for column, range_ in service.filters.ranges.items() for box in _range_boxes(gr, column, range_)]
        with gr.Accordion('Condition in SQL, for experts', open=False, elem_id='sql'):
            columns = ', '.join(service.search.gallery.columns) or 'none came with --metadata'
            where = gr.Textbox(
                label='Condition', info=f'Columns: path, added, {columns}', placeholder="camera = 'c1'",
                max_length=MOST_LETTERS, elem_id='where',
            )  # fmt: skip
    with gr.Accordion(f'Like a picture (at most {MOST_EXAMPLES})', open=False, elem_id='liking'):
        like = gr.File(
            file_count='multiple', file_types=list(images.SUFFIXES), show_label=False, height=130, elem_id='like'
        )
    with gr.Accordion('Options', open=False, elem_id='options'):
        with gr.Row():
            top = gr.Number(12, label='Hits', minimum=1, maximum=MOST_HITS, precision=0, min_width=90)
            rates = [(f'{rate:.0%}', rate) for rate in calibration.RATES]
            rate = gr.Dropdown(rates, value=0.05, label='False alarms', interactive=True, min_width=90)
        why = gr.Checkbox(label='What did each phrase do?', elem_id='why')
        verify = gr.Checkbox(label="Say 'no such person' where no hit is certain", elem_id='verify')
        gr.Markdown('Enter searches. Shift+Enter begins another sentence about the same person.')
    return (text, like, top, rate, why, where, *boxes, *ranges, verify), go


def _range_boxes(gr, column: str, range_: filters.Range):
    low, high = (filters.shown(range_.kind, bound) for bound in (range_.low, range_.high))
    with gr.Row():
        return (
            gr.Textbox(label=f'{column} from', placeholder=low, max_lines=1, max_length=100, min_width=120),
            gr.Textbox(label=f'{column} to', placeholder=high, max_lines=1, max_length=100, min_width=120),
        )


def _hit_boxes(gr):
    with gr.Accordion('Judge or delete hits', open=False, visible=False, elem_id='judging') as judging:
        chosen = gr.CheckboxGroup([], label='Choose hits by their number', elem_id='chosen')
        with gr.Row():
            right = gr.Button('Right person', size='sm', elem_id='right')
            wrong = gr.Button('Wrong person', size='sm', elem_id='wrong')
            mark = gr.Button('Delete ...', size='sm', variant='stop', elem_id='mark')
        with gr.Group(visible=False) as confirming:
            warning = gr.Markdown(elem_id='warning', container=True)
            with gr.Row():
                typed = gr.Textbox(show_label=False, placeholder='how many?', container=False, elem_id='typed')
                erase = gr.Button('Erase for good', variant='stop', size='sm', elem_id='erase')
                keep = gr.Button('Keep them', size='sm', elem_id='keep')
    told = gr.HTML('', elem_id='told', apply_default_css=False, js_on_load=None)
    return chosen, (judging, right, wrong, told), (mark, confirming, warning, typed, erase, keep)


def _upload_boxes(gr, service: Service):
    limits = service.limits
    with gr.Accordion('Add pictures to the index', open=False, elem_id='adding'):
        label = (
            f'At most {limits.count} at once, of {limits.bytes >> 20} MB each and {limits.together / 1e6:.0f} million '
            'pixels together; kept as PNG, names dropped'
        )
        files = gr.File(file_count='multiple', file_types=list(images.SUFFIXES), label=label, height=130,
                        elem_id='files')  # fmt: skip
        add = gr.Button('Add', elem_id='add')
        told = gr.HTML('', elem_id='added', apply_default_css=False, js_on_load=None)
    return files, add, told


def _wire(gr, hands: '_Hands', boxes) -> None:
    asked, go, shown, found, marked, chosen, judged, erasing, files, add, added = boxes
    (judging, right, wrong, told), (mark, confirming, warning, typed, erase, keep) = judged, erasing
    step = [marked, confirming, typed, told]
    results = [*step, found, shown, chosen, judging]

    def on(event, method, inputs, outputs, limit=1):
        def call(request: gr.Request, *values):
            return method(request.username or hands.alone, *values)

        # private: for the page alone, not for gradio's API
        event(
            call, inputs, outputs, api_visibility='private', show_progress='minimal', concurrency_limit=limit,
            concurrency_id=f'of {limit}' if limit > 1 else None,
        )  # fmt: skip

    on(go.click, hands.search, list(asked), results, limit=4)
    on(right.click, functools.partial(hands.judge, True), [found, chosen], told)
    on(wrong.click, functools.partial(hands.judge, False), [found, chosen], told)
    on(mark.click, hands.mark, [found, chosen], [*step, warning])
    on(keep.click, lambda user: hands.unmarked(), None, step)
    on(erase.click, hands.erase, [marked, typed], results)
    on(add.click, hands.add, [files], [added, files])


def _wire_large(gr, hands: '_Hands', found, shown, large) -> None:
    def call(event: gr.EventData, result):
        return hands.large(result, event._data)

    for box in (shown, large):
        box.click(call, found, large, api_visibility='private', show_progress='hidden', concurrency_limit=2,
                  concurrency_id='large')  # fmt: skip


class _Hands:
    """What happens at a click: (user, values of boxes) -> values of boxes. A mistake is told in the page itself."""

    def __init__(self, gr, service: Service, alone: str):
        self._update, self._service, self.alone = gr.update, service, alone

    def unmarked(self, told: str = '') -> tuple:
        """No picture is marked; the group that confirms is closed."""
        return None, self._update(visible=False), '', told

    def search(self, user: str, text, like, top, rate, why, where, *values) -> tuple:
        *values, verify = values
        few, many = self._service.filters
        chosen = {column: value or [] for column, value in zip(few, values[: len(few)], strict=True)}
        bounds = [_typed(value) for value in values[len(few) :]]
        ranges = dict(zip(many, zip(bounds[::2], bounds[1::2], strict=True), strict=True))
        try:
            how = dict(top=int(top or 1), why=bool(why), verify=bool(verify))
            how |= {'false_alarms': rate} if rate else {}
            asked = SearchRequest(text or '', _read(like), where or '', chosen, ranges, **how)
            found = self._service.find(user, asked)
        except SearchError as error:
            return *self.unmarked(), None, view.error(str(error)), *self._choose([])
        return *self.unmarked(), found, view.answer(found, self._service.index), *self._choose(found.answer.hits)

    def large(self, found, data) -> str:
        rank = data.get('rank') if isinstance(data, dict) else None
        hits = [hit for hit in found.answer.hits if hit.rank == rank] if found else []
        return view.large(found, hits[0]) if hits else ''

    def judge(self, right: bool, user: str, found, ranks) -> str:
        try:
            count = self._service.judge(user, found, ranks, right)
        except SearchError as error:
            return view.error(str(error))
        return view.told(f'Thank you. {count} marked as {"right" if right else "wrong"}, and kept.')

    def mark(self, user: str, found, ranks) -> tuple:
        try:
            marked = self._service.mark(found, ranks)
        except SearchError as error:
            return *self.unmarked(view.error(str(error))), ''
        count = len(marked)
        names = ', '.join(pathlib.PurePosixPath(path).name for _, path in marked)
        words = (
            f'**{count} picture{"s" * (count > 1)} will be erased from the index, for good**, and uploaded files with '
            f'it. Other files on the disk stay. Type {count} to confirm.'
        )
        return marked, self._update(visible=True), '', '', f'{words}\n\n{_plain(names)}'

    def erase(self, user: str, marked, typed) -> tuple:
        try:
            count = self._service.erase(user, marked, typed or '')
        except SearchError as error:
            stays = self._update()
            return stays, stays, stays, view.error(str(error)), stays, stays, stays, stays
        view.forget()
        told = f'{count} picture{"s" * (count != 1)} erased. Search again to see what is left.'
        return *self.unmarked(view.told(told)), None, '', *self._choose([])

    def add(self, user: str, files) -> tuple:
        try:
            count, refused = self._service.add(user, _read(files))
        except SearchError as error:
            return view.error(str(error)), self._update()
        told = [f'{count} added.' + ' They can be found at once.' * bool(count), *refused]
        return view.told(*told), None

    def _choose(self, hits) -> tuple:
        return self._update(choices=view.ranks(hits), value=[]), self._update(visible=bool(hits))


def _typed(value) -> str:
    # a client that is not the page sends an empty list for any box without a value
    return '' if value in (None, '[]') else str(value).strip()


def _read(paths) -> list[tuple[str, bytes]]:
    """(name, bytes) of files that are in a box. Raises SearchError where one was there for too long."""
    try:
        return [(path.name, path.read_bytes()) for path in map(pathlib.Path, paths or [])]
    except FileNotFoundError as error:
        raise SearchError(f'{pathlib.Path(error.filename).name}: is not kept so long; choose it again') from None


def _plain(text: str) -> str:
    """Markdown that says no more than `text`: a name such as [x](http://y) is no link."""
    return f'<span>{"".join(sign if sign.isalnum() or sign == " " else f"&#{ord(sign)};" for sign in text)}</span>'
