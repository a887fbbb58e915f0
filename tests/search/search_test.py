"""A sentence in, ranked pictures out: on the terminal, as JSON, as a page, and always into the audit log."""

import base64
import io
import json
import os
import pathlib
import re
import stat
import subprocess
import sys

import numpy as np
import pytest
import rich.console

import lcr2s_jax
from lcr2s_jax.errors import SearchError, UserError
from lcr2s_jax.images import PictureError
from lcr2s_jax.search import answer as answers
from lcr2s_jax.search import answer_text, calibration, likeness, query, search
from lcr2s_jax.search import audit as logs
from tests import road, searching
from tests.road import fails, typed
from tests.searching import WORDS

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Twelve pictures; the column person has two of each, and none for the last two."""
    made = searching.index(tmp_path_factory.mktemp('search'))
    table = made.root.parent / 'm.csv'
    paths = sorted(path.relative_to(made.root).as_posix() for path in made.root.rglob('*.png'))
    lines = [f'{path},p{number // 2},c{number % 3}' for number, path in enumerate(paths[:10])]
    table.write_text('\n'.join(['path,person,camera', *lines]))
    made.update(table=str(table))
    return made


@pytest.fixture
def ask(made):
    """ask(*words, **flags) -> what `search` prints and returns; five hits where no other number is asked for."""

    def ask(*words, top=5, **given):
        flags = []
        for name, value in given.items():
            flag = '--' + name.replace('_', '-')
            values = value if isinstance(value, tuple) else [value]
            flags += [flag if value is True else f'{flag}={value}' for value in values]
        return typed('search', f'--index={made.uri}', f'--top={top}', *flags, *words)

    return ask


@pytest.fixture
def find(ask):
    """As `ask`; the JSON that is printed."""

    def find(*words, **given):
        run = ask(*words, json=True, **given)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    return find


def audit(made):
    return [json.loads(line) for line in (pathlib.Path(made.uri) / 'audit.jsonl').read_text().splitlines()]


def test_the_hits_are_the_pictures_nearest_to_the_sentence(made, find):
    opened = made.open()
    text_E = opened.model.embed_text(opened.tokenizer.encode([WORDS], 16))[0]
    vector_GE, row_G = opened.gallery.vectors()
    order = np.argsort(-(vector_GE @ text_E), kind='stable')[:5]
    (answer,) = find(*WORDS.split())['answers']
    assert [hit['path'] for hit in answer['hits']] == [one['path'] for one in opened.gallery.facts(row_G[order])]
    np.testing.assert_allclose([hit['score'] for hit in answer['hits']], (vector_GE @ text_E)[order], rtol=1e-5)
    assert [hit['rank'] for hit in answer['hits']] == [1, 2, 3, 4, 5] and answer['searched'] == 12 and answer['exact']


def test_probability_and_verdict_are_the_calibrations(ask, find):
    (answer,) = find(WORDS)['answers']
    score = np.array([hit['score'] for hit in answer['hits']])
    expected = 1 / (1 + np.exp(-(10 * score - 5 - np.log(12 / 10))))
    np.testing.assert_allclose([hit['probability'] for hit in answer['hits']], expected, rtol=1e-5)
    assert answer['threshold'] == 0.7 and answer['found'] is None and score.max() < 0.7
    easy, strict = (find(WORDS, false_alarms=rate)['answers'][0] for rate in (0.5, 0.01))
    assert easy['threshold'] == 0.4 < strict['threshold'] == 0.9
    assert strict['found'] is None and not any(hit['passes'] for hit in strict['hits'])
    assert (0.01, 0.5) == (calibration.RATES[0], calibration.RATES[-1])
    for rate in (0.001, 0.6):
        fails(ask(WORDS, false_alarms=rate), 2, f"--false-alarms: found '{rate}', expected a number, 0.01 to 0.5")


def test_without_a_calibration_there_is_no_probability_and_no_verdict(tmp_path):
    plain = searching.index(tmp_path, count=3, calibrated=False)
    plain.update()
    (answer,) = json.loads(typed('search', f'--index={plain.uri}', WORDS, '--json').stdout)['answers']
    assert answer['found'] is answer['threshold'] is answer['hits'][0]['probability'] is None
    assert 'came without people to calibrate it on' in answer['notes'][0]


def test_a_condition_limits_what_is_searched(find):
    (answer,) = find(WORDS, where="camera = 'c1' or path = 'b/011.png'", top=20)['answers']
    assert answer['searched'] == len(answer['hits']) == 4
    assert {hit['metadata']['camera'] for hit in answer['hits']} == {'c1', None}
    whole = {hit['path']: hit['probability'] for hit in find(WORDS, top=20)['answers'][0]['hits']}
    assert {hit['path']: hit['probability'] for hit in answer['hits']}.items() <= whole.items(), 'nobody gets likelier'
    assert find(WORDS, where="camera = 'none'")['answers'][0]['hits'] == []


@pytest.mark.parametrize(
    'given', [{'where': None}, {'where': b'true'}, {'top': 1.5}, {'top': '3'}, {'false_alarms': None},
              {'like': [np.zeros((0, 4, 3), np.uint8)]}, {'sentence': [None]}, {'sentence': b'red'}],
)  # fmt: skip
def test_what_python_passes_of_another_type_is_explained(made, given):
    with pytest.raises(UserError, match='expected'):
        lcr2s_jax.open_index(made.uri).search(**({'sentence': WORDS} | given))


def test_a_group_is_shown_once_by_its_best_picture(ask, find):
    (flat,), (grouped,) = (find(WORDS, top=12, group_by=column)['answers'] for column in ('', 'person'))
    best, seen = [], set()
    for hit in flat['hits']:
        person = hit['metadata']['person']
        if person is None or person not in seen:
            best.append(hit['path'])
            seen.add(person)
    assert [hit['path'] for hit in grouped['hits']] == best and len(best) == 7
    assert len(find(WORDS, top=3, group_by='person')['answers'][0]['hits']) == 3
    fails(ask(WORDS, group_by='colour'), 1, "found 'colour', expected a column", 'person, camera')


def test_sentences_and_pictures_of_one_person_are_one_query(made, find):
    file = str(made.root / 'a' / '004.png')
    one, two = ([hit['score'] for hit in sorted(find(text, top=12)['answers'][0]['hits'], key=lambda hit: hit['path'])]
                for text in (WORDS, 'a man in white'))  # fmt: skip
    both = find(WORDS, **{'and': 'a man in white'}, top=12)['answers'][0]
    mean = [hit['score'] for hit in sorted(both['hits'], key=lambda hit: hit['path'])]
    np.testing.assert_allclose(mean, np.mean([one, two], axis=0), atol=1e-6)
    alone = find(like=file)['answers'][0]['hits'][0]
    assert alone['path'] == 'a/004.png' and alone['score'] == pytest.approx(1, abs=1e-5)
    mixed = find(WORDS, like=file, top=12)['answers'][0]
    score = {hit['path']: hit['score'] for hit in mixed['hits']}['a/004.png']
    text = {hit['path']: hit['score'] for hit in find(WORDS, top=12)['answers'][0]['hits']}['a/004.png']
    assert score == pytest.approx(2 / 3 * text + 1 / 3, abs=1e-5), 'pictures spread twice as widely here'


def test_a_file_of_queries_is_one_batch_and_each_answer_is_as_if_alone(find, tmp_path):
    (tmp_path / 'q.txt').write_text(f'{WORDS}\n\n  a man in a blue hat \n')
    answers = find(queries=str(tmp_path / 'q.txt'))['answers']
    assert [answer['sentences'] for answer in answers] == [[WORDS], ['a man in a blue hat']]
    for answer in answers:
        (alone,) = find(*answer['sentences'])['answers']
        assert [hit['path'] for hit in alone['hits']] == [hit['path'] for hit in answer['hits']]


def test_a_caption_beyond_the_context_is_searched_by_chunks_and_says_so(find):
    long = ', '.join([WORDS, 'white shoes and a yellow hat', 'she holds a long green umbrella', 'and a brown bag'])
    (answer,) = find(long)['answers']
    assert re.search(r'has \d+ tokens and the model reads 16: it was searched by \d parts', answer['notes'][-2])
    assert find(WORDS.replace('a black backpack', 'it'))['answers'][0]['notes'] == [likeness.UNCHECKED]


def test_why_is_what_the_score_loses_without_the_phrase(find):
    whole = find(WORDS, why=True)['answers'][0]
    assert [one['phrase'] for one in whole['why']] == ['a woman', 'in a red coat', 'with a black backpack']
    less = {hit['path']: hit['score'] for hit in find('a woman with a black backpack', top=12)['answers'][0]['hits']}
    expected = [hit['score'] - less[hit['path']] for hit in whole['hits']]
    np.testing.assert_allclose(whole['why'][1]['moved'], expected, atol=1e-6)
    assert find('a woman', why=True)['answers'][0]['why'] == [], 'nothing would be left of it'


def test_every_search_is_one_more_line_of_the_audit_log(made, find):
    find(WORDS)
    before = (pathlib.Path(made.uri) / 'audit.jsonl').read_bytes()
    answer = find('a man in a blue hat', where="camera = 'c1'")
    after = (pathlib.Path(made.uri) / 'audit.jsonl').read_bytes()
    assert after.startswith(before) and after.count(b'\n') == before.count(b'\n') + 1
    line = audit(made)[-1]
    assert line['text'] == ['a man in a blue hat'] and line['where'] == "camera = 'c1'" and line['user']
    assert line['model'] == answer['model'] and re.match(r'20\d\d-\d\d-\d\dT.*\+00:00', line['time'])
    assert line['top'] == [f'{hit["root"]}/{hit["path"]}' for hit in answer['answers'][0]['hits']]
    mode = stat.S_IMODE((pathlib.Path(made.uri) / 'audit.jsonl').stat().st_mode)
    assert mode == 0o600


def test_a_search_that_cannot_be_logged_shows_nothing(ask, monkeypatch):
    road.nothing_can_be_written(monkeypatch)
    run = ask(WORDS)
    fails(run, 1, 'no search goes unlogged')
    assert run.stdout == ''


def read_only(monkeypatch, folder):
    """From now on files below a folder can be opened for reading alone."""
    real = os.open

    def unwritable(path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(folder)):
            raise PermissionError(13, 'Permission denied', str(path))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, 'open', unwritable)


def test_an_index_that_may_only_be_read_is_searched_with_its_log_elsewhere(made, ask, find, tmp_path, monkeypatch):
    log = tmp_path / 'log.jsonl'
    read_only(monkeypatch, made.uri)
    with monkeypatch.context() as patch:
        patch.setattr(search.Search, '__call__', None)  # it is told before the work
        run = ask(WORDS)
        fails(run, 1, 'audit.jsonl there a file that', 'for an index that may only be read', '--audit=FILE')
        assert run.stdout == ''
        fails(ask(WORDS, audit=tmp_path), 1, f'--audit: {tmp_path} cannot be written', 'is a folder')
    hits = find(WORDS, audit=log)['answers'][0]['hits']
    fails(ask(WORDS, audit=log, where='nothing = 1'), 1, 'nothing')
    one, refused = map(json.loads, log.read_text().splitlines())
    assert one['index'] == refused['index'] == made.uri and refused['event'] == 'search refused'
    assert one['text'] == [WORDS] and one['top'] == [f'{hit["root"]}/{hit["path"]}' for hit in hits]


def test_a_line_that_the_disk_has_no_room_for_is_cut_off_again_and_told(tmp_path, monkeypatch):
    logs.write(str(tmp_path), [{'user': 'ann'}])
    before, write = (tmp_path / 'audit.jsonl').read_bytes(), os.write
    monkeypatch.setattr(os, 'write', lambda file, content: write(file, content[: len(content) // 2]))
    told = 'room for a part of the line only.*no search goes unlogged. Make room on the disk'
    with pytest.raises(SearchError, match=told):
        logs.write(str(tmp_path), [{'user': 'bob'}])
    assert (tmp_path / 'audit.jsonl').read_bytes() == before


@pytest.mark.parametrize('page,words', [('no/out.html', 'found no folder /'), ('.', 'found the folder')])
def test_a_page_that_cannot_be_written_is_told_before_the_search(made, ask, tmp_path, page, words):
    before = len(audit(made)) if (pathlib.Path(made.uri) / 'audit.jsonl').exists() else 0
    fails(ask(WORDS, html=tmp_path / page), 1, f'--html: {words}')
    assert (len(audit(made)) if (pathlib.Path(made.uri) / 'audit.jsonl').exists() else 0) == before


def test_the_page_holds_its_pictures_and_asks_for_nothing_else(made, find, tmp_path):
    page = tmp_path / 'out.html'
    answer = find('<b>a woman</b> & "co"', html=page)['answers'][0]
    text = page.read_text()
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == len(answer['hits']) == 5 and base64.b64decode(images[0])[:3] == b'\xff\xd8\xff'
    assert not re.search(r'https?:|<script|<link|src="(?!data:)', text)
    assert '&lt;b&gt;a woman&lt;/b&gt; &amp;' in text and '<b>a woman' not in text
    assert 'no such person' in text or 'reach' in text


def test_a_picture_outside_its_root_is_never_read(tmp_path):
    (tmp_path / 'root').mkdir()
    (tmp_path / 'secret.jpg').write_bytes(b'x')
    (tmp_path / 'root' / 'link.jpg').symlink_to(tmp_path / 'secret.jpg')
    for path in ('../secret.jpg', 'link.jpg'):
        with pytest.raises(PictureError, match='not there any more'):
            answers.picture(str(tmp_path / 'root'), path)
    assert answers.picture(str(tmp_path), 'secret.jpg') == b'x'


def test_the_terminal_tells_the_verdict_and_no_name_speaks_to_it(ask):
    out = ask(WORDS, why=True).stdout
    assert out.index('a/0') < out.index('None of these is certain, among 12 pictures')
    assert 'o such person among 12 pictures' in ask(WORDS, verify=True).stdout
    assert 'probability' in out and 'a/0' in out and "'in a red coat' moved" in out
    assert 'moved' not in ask(WORDS, where="camera = 'no'", why=True).stdout, 'there is no hit'
    hit = answers.Hit(1, '/r', '\x1b[31mred.png', 0.5, 0.5, True, {}, 0)
    answer = answers.Answer(query.Query((WORDS,)), [hit], True, 0.4, 1, True, 0.05, [])
    console = rich.console.Console(file=io.StringIO(), width=100)
    answer_text.show(console, answer)
    out = console.file.getvalue()
    assert '?[31mred.png' in out and '\x1b' not in out and 'Hit 1 reaches the score of 0.400' in out


@pytest.mark.parametrize(
    'words,flags,told',
    [
        ((), {}, 'found nothing to look for'),
        (('  ',), {}, 'without words'),
        ((), {'like': '/no/such.png'}, '/no/such.png cannot be read'),
        ((), {'like': str(ROOT / 'README.md')}, 'cannot be used: no picture'),
        ((), {'queries': '/no/such.txt'}, '/no/such.txt cannot be read'),
        (('x',), {'queries': str(ROOT / 'README.md')}, 'expected the file alone'),
        (('a man', 'a woman'), {'and': 'in red'}, 'found 2 sentences beside --and or --like'),
        ((WORDS,), {'where': 'camra = 1'}, 'camra'),
    ],
)
def test_a_query_that_cannot_be_asked_is_explained(ask, words, flags, told):
    fails(ask(*words, **flags), 1, told)


def test_an_index_that_is_not_there_is_explained(tmp_path):
    fails(typed('search', f'--index={tmp_path / "nothing"}', WORDS), 1, 'found no index at', 'nothing; make one')
    assert not (tmp_path / 'nothing').exists()
    (tmp_path / 'mine' / 'images.lance').mkdir(parents=True)
    (tmp_path / 'a.txt').write_text('x')
    for place, words in (
        ('mine2', f'did you mean {tmp_path / "mine"}?'),
        ('', f'did you mean {tmp_path / "mine"}?'),
        ('mine/images.lance', f'a part of one; expected {tmp_path / "mine"}'),
        ('a.txt', 'it is a file'),
    ):
        fails(typed('search', f'--index={tmp_path / place}', WORDS), 1, 'found no index at', words)


def test_two_quoted_sentences_are_two_queries_and_words_without_quotes_are_one(find):
    two = find(WORDS, 'a man in a blue hat')['answers']
    assert [answer['sentences'] for answer in two] == [[WORDS], ['a man in a blue hat']]
    (one,) = find(*WORDS.split())['answers']
    assert one['sentences'] == [WORDS]
    assert [hit['path'] for hit in one['hits']] == [hit['path'] for hit in two[0]['hits']]


def test_a_mark_before_the_text_of_a_windows_editor_is_no_part_of_a_query(find, tmp_path):
    (tmp_path / 'q.txt').write_bytes(b'\xef\xbb\xbfa man in white\r\na woman\r\n')
    assert [one['sentences'] for one in find(queries=tmp_path / 'q.txt')['answers']] == [
        ['a man in white'],
        ['a woman'],
    ]


def test_an_open_search_stays_at_its_version_until_it_is_refreshed(tmp_path):
    small = searching.index(tmp_path, count=3)
    small.update()
    opened, asked = small.open(), [query.Query((WORDS,))]
    before = opened(asked, top=5, false_alarms=0.05)[0]
    searching.pictures(small.root, 2, first=3)
    small.update()
    assert opened(asked, top=5, false_alarms=0.05)[0] == before and before.searched == 3
    opened.gallery.refresh()
    assert opened(asked, top=5, false_alarms=0.05)[0].searched == 5


def test_data_frames_work_as_ever_after_pandas_was_left_out():
    pytest.importorskip('pandas')
    code = (
        'import sys\n'
        'from lcr2s_jax.search import lance\n'
        'lance.without_pandas()\n'
        'import pyarrow\n'
        'assert lance.lancedb().connect and "pandas" not in sys.modules\n'
        'table = pyarrow.table({"a": [1, 2]})\n'
        'assert pyarrow.Table.from_pandas(table.to_pandas()).equals(table)'
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_search_reads_neither_tensorflow_nor_checkpoints(made):
    code = (
        'import sys, main\n'
        'status = main.main(["main.py", "search", "--index=" + sys.argv[1], "a woman in red", "--json"])\n'
        'heavy = "tensorflow orbax transformers torch matplotlib pandas scipy lance_namespace_urllib3_client"\n'
        'loaded = set(heavy.split()) & set(sys.modules)\n'
        'sys.exit(f"{loaded}" if loaded else status)'
    )
    run = subprocess.run([sys.executable, '-c', code, made.uri], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)['answers'][0]['sentences'] == ['a woman in red']
