"""A sentence in, ranked pictures out: on the terminal, as JSON, as a page, and always into the audit log."""

import base64
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags

import main
from lcr2s_jax.cli import search as command
from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.search import audit as logs
from lcr2s_jax.search import calibration, query
from lcr2s_jax.search import html as sheet
from lcr2s_jax.search import search as searches
from tests import searching
from tests.searching import WORDS

ROOT = pathlib.Path(__file__).parents[2]
NOTHING = command.Wanted((), (), (), None, 5, '', '', 0.05, False, False)


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
def find(made, capsys):
    """find(words, **fields of Wanted) -> the JSON that is printed."""

    def find(*words, page=None, **fields):
        capsys.readouterr()
        command.search(made.uri, NOTHING._replace(words=words, **fields), page, as_json=True)
        return json.loads(capsys.readouterr().out)

    return find


def audit(made):
    return [json.loads(line) for line in (pathlib.Path(made.uri) / 'audit.jsonl').read_text().splitlines()]


def test_the_hits_are_the_pictures_nearest_to_the_sentence(made, find):
    opened = made.open()
    text_E = opened.searcher.embed_text(opened.tokenizer.encode([WORDS], 16))[0]
    vector_GE, row_G = opened.gallery.vectors()
    order = np.argsort(-(vector_GE @ text_E), kind='stable')[:5]
    (answer,) = find(*WORDS.split())['answers']
    assert [hit['path'] for hit in answer['hits']] == [one['path'] for one in opened.gallery.facts(row_G[order])]
    np.testing.assert_allclose([hit['score'] for hit in answer['hits']], (vector_GE @ text_E)[order], rtol=1e-5)
    assert [hit['rank'] for hit in answer['hits']] == [1, 2, 3, 4, 5] and answer['searched'] == 12 and answer['exact']


def test_probability_and_verdict_are_the_calibrations(find):
    (answer,) = find(WORDS)['answers']
    score = np.array([hit['score'] for hit in answer['hits']])
    expected = 1 / (1 + np.exp(-(10 * score - 5 - np.log(12 / 10))))
    np.testing.assert_allclose([hit['probability'] for hit in answer['hits']], expected, rtol=1e-5)
    assert answer['threshold'] == 0.7 and answer['found'] == (score.max() >= 0.7)
    easy, strict = (find(WORDS, false_alarms=rate)['answers'][0] for rate in (0.5, 0.01))
    assert easy['threshold'] == 0.4 < strict['threshold'] == 0.9
    assert not strict['found'] and not any(hit['passes'] for hit in strict['hits'])
    for rate in (0.001, 0.6):
        with pytest.raises(SearchError, match=f'--false-alarms: found {rate}, expected 0.01 to 0.5'):
            find(WORDS, false_alarms=rate)
    flag = flags.FLAGS['false-alarms'].parser
    assert (flag.lower_bound, flag.upper_bound) == (calibration.RATES[0], calibration.RATES[-1])


def test_without_a_calibration_there_is_no_probability_and_no_verdict(tmp_path, capsys):
    plain = searching.index(tmp_path, count=3, calibrated=False)
    plain.update()
    capsys.readouterr()
    command.search(plain.uri, NOTHING._replace(words=(WORDS,)), None, as_json=True)
    (answer,) = json.loads(capsys.readouterr().out)['answers']
    assert answer['found'] is answer['threshold'] is answer['hits'][0]['probability'] is None
    assert 'not calibrated' in answer['notes'][0]


def test_a_condition_limits_what_is_searched(find):
    (answer,) = find(WORDS, where="camera = 'c1' or path = 'b/011.png'", top=20)['answers']
    assert answer['searched'] == len(answer['hits']) == 4
    assert {hit['metadata']['camera'] for hit in answer['hits']} == {'c1', None}
    whole = {hit['path']: hit['probability'] for hit in find(WORDS, top=20)['answers'][0]['hits']}
    assert {hit['path']: hit['probability'] for hit in answer['hits']}.items() <= whole.items(), 'nobody gets likelier'
    assert find(WORDS, where="camera = 'none'")['answers'][0]['hits'] == []


def test_a_group_is_shown_once_by_its_best_picture(find):
    (flat,), (grouped,) = (find(WORDS, top=12, group_by=column)['answers'] for column in ('', 'person'))
    best, seen = [], set()
    for hit in flat['hits']:
        person = hit['metadata']['person']
        if person is None or person not in seen:
            best.append(hit['path'])
            seen.add(person)
    assert [hit['path'] for hit in grouped['hits']] == best and len(best) == 7
    assert len(find(WORDS, top=3, group_by='person')['answers'][0]['hits']) == 3
    with pytest.raises(SearchError, match="found 'colour', expected a column .*person, camera"):
        find(WORDS, group_by='colour')


def test_sentences_and_pictures_of_one_person_are_one_query(made, find):
    file = str(made.root / 'a' / '004.png')
    one, two = ([hit['score'] for hit in sorted(find(text, top=12)['answers'][0]['hits'], key=lambda hit: hit['path'])]
                for text in (WORDS, 'a man in white'))  # fmt: skip
    both = find(WORDS, also=('a man in white',), top=12)['answers'][0]
    mean = [hit['score'] for hit in sorted(both['hits'], key=lambda hit: hit['path'])]
    np.testing.assert_allclose(mean, np.mean([one, two], axis=0), atol=1e-6)
    alone = find(like=(file,))['answers'][0]['hits'][0]
    assert alone['path'] == 'a/004.png' and alone['score'] == pytest.approx(1, abs=1e-5)
    mixed = find(WORDS, like=(file,), top=12)['answers'][0]
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
    assert re.search(r'has \d+ tokens and the model reads 16: it was searched by \d parts', answer['notes'][0])
    assert find(WORDS.replace('a black backpack', 'it'))['answers'][0]['notes'] == []


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


def test_a_search_that_cannot_be_logged_shows_nothing(made, capsys, monkeypatch):
    monkeypatch.setattr(os, 'open', lambda *args: (_ for _ in ()).throw(PermissionError(13, 'Permission denied')))
    with pytest.raises(SearchError, match='no search goes unlogged'):
        command.search(made.uri, NOTHING._replace(words=(WORDS,)), None, as_json=True)
    assert capsys.readouterr().out == ''


def test_a_line_that_the_disk_has_no_room_for_is_cut_off_again_and_told(tmp_path, monkeypatch):
    logs.write(str(tmp_path), [{'user': 'ann'}])
    before, write = (tmp_path / 'audit.jsonl').read_bytes(), os.write
    monkeypatch.setattr(os, 'write', lambda file, content: write(file, content[: len(content) // 2]))
    with pytest.raises(SearchError, match='room for a part of the line only.*no search goes unlogged'):
        logs.write(str(tmp_path), [{'user': 'bob'}])
    assert (tmp_path / 'audit.jsonl').read_bytes() == before


@pytest.mark.parametrize('page,words', [('no/out.html', 'found no folder .*/no'), ('.', 'found the folder')])
def test_a_page_that_cannot_be_written_is_told_before_the_search(made, find, tmp_path, page, words):
    before = len(audit(made)) if (pathlib.Path(made.uri) / 'audit.jsonl').exists() else 0
    with pytest.raises(ConfigError, match=f'--html: {words}'):
        find(WORDS, page=str(tmp_path / page))
    assert (len(audit(made)) if (pathlib.Path(made.uri) / 'audit.jsonl').exists() else 0) == before


def test_a_disk_that_fails_is_a_message_and_a_mistake_in_the_program_is_a_traceback(capsys):
    def fails(error):
        def run(*given):
            raise error

        return {'fail': main.Command(run, config=False, alone=True)}

    full = OSError(28, 'No space left on device', '/disk/file')
    assert main.main(['main.py', 'fail'], fails(full)) == 1
    assert capsys.readouterr().err == 'main.py: /disk/file: No space left on device\n'
    with pytest.raises(KeyError):
        main.main(['main.py', 'fail'], fails(KeyError('x')))


def test_the_page_holds_its_pictures_and_asks_for_nothing_else(made, find, tmp_path):
    page = tmp_path / 'out.html'
    answer = find('<b>a woman</b> & "co"', page=str(page))['answers'][0]
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
    assert searches.picture(str(tmp_path / 'root'), '../secret.jpg') is None
    assert searches.picture(str(tmp_path / 'root'), 'link.jpg') is None
    assert searches.picture(str(tmp_path), 'secret.jpg') == tmp_path / 'secret.jpg'


def test_the_terminal_tells_the_verdict_and_no_name_speaks_to_it(made, capsys):
    command.search(made.uri, NOTHING._replace(words=(WORDS,), why=True), None, as_json=False)
    out = capsys.readouterr().out
    assert 'no such person among 12 pictures' in out or 'hits among 12 pictures reach' in out
    assert 'probability' in out and 'a/0' in out and "'in a red coat' moved" in out
    command.search(made.uri, NOTHING._replace(words=(WORDS,), where="camera = 'no'", why=True), None, as_json=False)
    assert 'moved' not in capsys.readouterr().out, 'there is no hit'
    hit = searches.Hit(1, '/r', '\x1b[31mred.png', 0.5, 0.5, True, {}, 0)
    answer = searches.Answer(query.Query((WORDS,)), [hit], True, 0.4, 1, True, 0.05, [])
    cells = list(command._table(answer).columns[3].cells)
    assert str(cells[0]) == '?[31mred.png' and '1 of 1 hits' in sheet.verdict(answer)


@pytest.mark.parametrize(
    'fields,words',
    [
        ({}, 'found nothing to look for'),
        ({'words': ('  ',)}, 'without words'),
        ({'like': ('/no/such.png',)}, '/no/such.png cannot be read'),
        ({'like': (str(ROOT / 'README.md'),)}, 'cannot be used: no picture'),
        ({'queries': '/no/such.txt'}, '/no/such.txt cannot be read'),
        ({'queries': str(ROOT / 'README.md'), 'words': ('x',)}, 'expected the file alone'),
        ({'words': (WORDS,), 'where': 'camra = 1'}, 'Expected SQL over the columns'),
    ],
)
def test_a_query_that_cannot_be_asked_is_explained(made, fields, words):
    with pytest.raises(SearchError) as error:
        command.search(made.uri, NOTHING._replace(**fields), None, as_json=True)
    assert words in str(error.value)


def test_an_index_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(ConfigError, match='found no index at .*nothing; make one'):
        command.search(str(tmp_path / 'nothing'), NOTHING._replace(words=(WORDS,)), None, as_json=True)
    assert not (tmp_path / 'nothing').exists()


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


def test_help_is_quick_and_names_every_flag(capsys):
    clock = time.perf_counter()
    run = subprocess.run([sys.executable, 'main.py', 'search', '--help'], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and time.perf_counter() - clock < 10, '0.2 s when nothing else runs'
    for flag in main.COMMANDS['search'].needs + main.COMMANDS['search'].takes:
        assert f'--{flag} ' in run.stdout
    code = 'import sys; sys.argv = ["main.py", "search", "--help"]; import main; main.main(sys.argv); '
    code += 'assert not {"jax", "tensorflow", "lancedb"} & set(sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_a_search_reads_neither_tensorflow_nor_checkpoints(made):
    code = (
        'import sys, main\n'
        'status = main.main(["main.py", "search", "--index=" + sys.argv[1], "a woman in red", "--json"])\n'
        'loaded = {"tensorflow", "orbax", "transformers", "torch", "matplotlib"} & set(sys.modules)\n'
        'sys.exit(f"{loaded}" if loaded else status)'
    )
    run = subprocess.run([sys.executable, '-c', code, made.uri], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)['answers'][0]['sentences'] == ['a woman in red']


@pytest.mark.parametrize(
    'words,missing',
    [
        (['search', WORDS], 'search needs --index'),
        (['index', '--index=i'], 'index needs --images'),
        (['search', '--index=i', '--images=d', WORDS], 'search takes no --images'),
        (['search', '--index=i', '--config=configs/demo.py', WORDS], 'search takes no --config'),
        (['delete', '--index=i'], 'delete needs --where'),
        (['expire', '--index=i', 'now'], "found 'expire now'"),
    ],
)
def test_a_wrong_command_line_says_what_is_missing(words, missing):
    run = subprocess.run([sys.executable, 'main.py', *words], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and missing in run.stderr
