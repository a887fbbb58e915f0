"""An answer helps and misleads nobody: the ranking first, copies once, what is uncertain or unread said calmly."""

import argparse
import base64
import dataclasses
import hashlib
import html.parser
import io
import json
import pathlib
import re
import time

import numpy as np
import pytest
from PIL import Image

from lcr2s_jax import images
from lcr2s_jax.cli import search as command
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import answer_text, index
from lcr2s_jax.search import html as report
from lcr2s_jax.search.answer import Answer, Hit, Place, picture
from lcr2s_jax.search.domain import Domain
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.model import open_model
from lcr2s_jax.search.query import Query
from tests import searching
from tests.searching import WORDS


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Twelve pictures, of which the first has five copies elsewhere."""
    root = tmp_path_factory.mktemp('answers')
    made = searching.index(root)
    (first, *_) = searching.pictures(made.root, 1)
    for number in range(5):
        copy = made.root / f'backup{number}' / first.name
        copy.parent.mkdir()
        copy.write_bytes(first.read_bytes())
    index.bring_up_to_date(made.uri, open_model(made.uri), str(made.root))
    return made


@pytest.fixture(scope='module')
def opened(made):
    return made.open()


def ask(opened, *sentences, examples=(), hashes=(), **more):
    query = Query(sentences, tuple(examples), tuple(hashes))
    return opened([query], **dict(top=5, false_alarms=0.05) | more)[0]


def example(opened, path: pathlib.Path):
    encoded = path.read_bytes()
    return index.embed_picture(opened.model, encoded, path.name), hashlib.sha256(encoded).hexdigest()


def test_files_with_the_same_bytes_are_one_hit_that_names_the_others(opened):
    answer = ask(opened, WORDS, top=20)
    hashes = [one['sha256'] for one in opened.gallery.facts([hit.row for hit in answer.hits], ['sha256'])]
    assert len(answer.hits) == len(set(hashes)) == 12 and answer.searched == 17
    (copied,) = [hit for hit in answer.hits if hit.copies]
    places = {copied.path, *(place.path for place in copied.copies)}
    assert places == {'a/000.png', *(f'backup{number}/000.png' for number in range(5))}
    assert answer_text.copies(copied) == 'and 5 more places'
    assert [hit.rank for hit in answer.hits] == list(range(1, 13))


@pytest.mark.parametrize('top', [1, 2, 5, 12])
def test_copies_are_collapsed_before_the_answer_is_cut(opened, top):
    whole, cut = ask(opened, WORDS, top=17).hits, ask(opened, WORDS, top=top).hits
    assert cut == whole[:top]


def test_copies_obey_the_condition_and_every_hit_is_its_own_group_of_bytes(opened):
    hits = ask(opened, WORDS, top=20, where="path like 'backup%'").hits
    assert len(hits) == 1 and len(hits[0].copies) == 4
    assert ask(opened, WORDS, top=20, group_by='sha256').hits == ask(opened, WORDS, top=20).hits


def test_a_batch_of_queries_answers_as_each_alone_does(opened):
    queries = [Query((text,)) for text in (WORDS, 'a man in white', 'a hat')]
    together = opened(queries, top=4, false_alarms=0.05)
    for query, answer in zip(queries, together, strict=True):
        (alone,) = opened([query], top=4, false_alarms=0.05)
        assert [(hit.path, hit.copies) for hit in answer.hits] == [(hit.path, hit.copies) for hit in alone.hits]


def test_an_example_that_is_in_the_index_is_called_the_same_picture(made, opened):
    vector, sha256 = example(opened, made.root / 'a' / '004.png')
    first, *others = ask(opened, examples=[vector], hashes=[sha256]).hits
    assert first.path == 'a/004.png' and first.same and first.probability is None and first.passes is None
    assert answer_text.likely(first) == 'the same picture' and not any(hit.same for hit in others)
    assert ask(opened, examples=[vector]).hits[0].same, 'its vector alone says so'
    moved = ask(opened, examples=[np.roll(vector, 1)], hashes=[sha256], top=12).hits
    assert [hit.path for hit in moved if hit.same] == ['a/004.png'], 'so do its bytes, whatever made the vector'
    assert answer_text.verdict(ask(opened, examples=[vector])).startswith('hit 1 is the example itself')


def some(found, detection=None, passes=(False, False), **more):
    hits = [Hit(rank + 1, '/r', f'{rank}.png', 0.3, 0.1, one, {}, rank, **more) for rank, one in enumerate(passes)]
    return Answer(Query((WORDS,)), hits, found, 0.4, 100, True, 0.05, [], detection)


def test_nobody_is_said_to_be_absent_unless_that_was_asked_or_the_model_can_tell(opened, made):
    assert ask(opened, WORDS, false_alarms=0.01).found is None
    absent = ask(opened, WORDS, false_alarms=0.01, verify=True)
    assert absent.found is False and 'no such person among 17 pictures' in answer_text.verdict(absent)
    fitted = opened.model.calibration
    for own, found in (((0.1, 0.95), None), ((0.85, 0.95), None), ((0.91, 0.95), False)):
        kinds = {kind: dataclasses.replace(fit, own=own) for kind, fit in fitted.kinds.items()}
        opened.model.calibration = dataclasses.replace(fitted, kinds=kinds)
        answer = ask(opened, WORDS, false_alarms=0.01)
        assert answer.found is found, own
        assert answer.detection == pytest.approx(np.interp(answer.threshold, own, (1, 0)), abs=1e-6)
    opened.model.calibration = fitted


def test_the_verdict_is_one_calm_line_with_its_rate():
    assert answer_text.verdict(some(None, 0.012)) == (
        'none of these is certain, among 100 pictures: 5 % of the searches for somebody who is absent reach '
        '0.400, 1.2 % of those for somebody who is there'
    )
    assert answer_text.verdict(some(False, 0.7)).startswith('no such person among 100 pictures: no score reaches 0.400')
    assert answer_text.verdict(some(True, passes=(True, False))).startswith('hit 1 reaches the score of 0.400: 5 %')
    assert answer_text.verdict(some(True, passes=(True, True))).startswith('2 hits reach the score')
    tracks = some(None)._replace(searched=72, tracks=17, crops=72)
    assert '17 tracks of 72 pictures' in answer_text.verdict(tracks)
    assert '3 pictures and 1 track of 69 pictures' in answer_text.searched(tracks._replace(tracks=1, crops=69))


def test_a_hit_whose_file_became_a_link_that_leads_nowhere_or_out_is_a_sentence(tmp_path):
    (tmp_path / 'root').mkdir()
    (tmp_path / 'secret.png').touch()
    for name, to in (('loop.png', 'loop.png'), ('gone.png', 'none.png'), ('out.png', '../secret.png'), ('up', '..')):
        (tmp_path / 'root' / name).symlink_to(to)
        with pytest.raises(images.PictureError, match='not there any more'):
            picture(str(tmp_path / 'root'), name)


def test_an_empty_index_is_told_as_that(tmp_path):
    searching.make_model(tmp_path / 'index')
    Gallery(str(tmp_path / 'index'), searching.clip().embed_dim)
    answer = ask(index.open_search(str(tmp_path / 'index')), WORDS)
    assert answer.hits == [] and answer.found is None
    assert 'the index is empty' in answer_text.verdict(answer)


def test_without_people_to_calibrate_on_there_are_scores_and_the_reason(tmp_path):
    plain = searching.index(tmp_path, count=3, calibrated=False)
    index.bring_up_to_date(plain.uri, open_model(plain.uri), str(plain.root))
    answer = ask(plain.open(), WORDS, verify=True)
    assert answer.found is None and {hit.probability for hit in answer.hits} == {None} and answer.hits[0].score
    assert 'no probabilities: this model came without people to calibrate it on' in answer.notes[0]
    assert answer_text.verdict(answer) == 'ranked by likeness alone, among 3 pictures'


@pytest.mark.parametrize('text', ['\u200b', '\u3000', '  ', '\x00'])
def test_a_text_without_a_visible_sign_is_no_query(opened, text):
    with pytest.raises(SearchError, match='without words'):
        ask(opened, text)


def test_half_a_character_is_no_query(opened):
    with pytest.raises(SearchError, match='no UTF-8'):
        ask(opened, 'a red \udcff coat')


def test_json_has_the_ranking_before_the_verdict_and_all_places(opened):
    answer = ask(opened, WORDS, top=12)
    told = json.loads(json.dumps(answer_text.to_json(answer, [('a woman', [0.1] * 12)], ['x.png']), default=str))
    assert list(told).index('hits') < list(told).index('verdict')
    assert sorted(len(hit['copies']) for hit in told['hits']) == [0] * 11 + [5]
    assert told['why'] == [{'phrase': 'a woman', 'moved': [0.1] * 12}] and told['examples'] == ['x.png']


def run(made, capsys, *words, **more):
    given = dict(
        words=list(words), also=[], like=[], queries=None, index=made.uri, top=5, where='', group_by='', why=False,
        exact=False, false_alarms=0.05, html=None, json=False, verify=False, audit=None,
    )  # fmt: skip
    capsys.readouterr()
    command.run(argparse.Namespace(**given | more))
    return capsys.readouterr().out


def test_the_terminal_shows_the_ranking_first_and_what_the_model_was_trained_on(made, capsys):
    out = run(made, capsys, 'a woman in a red coat', why=True, top=12)
    assert out.index('a/000.png') < out.index('None of these is certain') < out.index("'in a red coat' moved")
    assert (
        'and 5 more places' in out
        and 'trained on synthetic pedestrians (drawings of people) and on no photographs' in out
    )
    assert 'o such person' not in out
    assert 'o such person' in run(made, capsys, WORDS, verify=True, false_alarms=0.01)


def test_a_file_of_queries_with_a_mark_and_windows_lines_asks_what_is_typed(made, capsys, tmp_path):
    (tmp_path / 'q.txt').write_bytes(b'\xef\xbb\xbfa woman in a red coat\r\n\r\n  a man \r\n' + b' ' * 100_000)
    told = json.loads(run(made, capsys, queries=str(tmp_path / 'q.txt'), json=True))['answers']
    assert [one['sentences'] for one in told] == [['a woman in a red coat'], ['a man']]
    (tmp_path / 'q.txt').write_text('"a woman in a red coat"\na "red" coat')
    quoted = json.loads(run(made, capsys, queries=str(tmp_path / 'q.txt'), json=True))['answers']
    assert [one['sentences'] for one in quoted] == [['a woman in a red coat'], ['a "red" coat']]
    with pytest.raises(SearchError, match='found the table people.csv, expected text with a sentence a line'):
        run(made, capsys, queries='people.csv')
    typed = json.loads(run(made, capsys, 'a woman in a red coat', json=True))['answers'][0]
    assert [hit['score'] for hit in told[0]['hits']] == pytest.approx([hit['score'] for hit in typed['hits']])


def test_a_hit_of_a_video_tells_its_time_in_hours_minutes_and_seconds():
    known = dict(video='gate.mp4', track=7, time=3723.4, begins=3720.0, ends=3731.2, box='1,2,3,4', detected=0.7,
                 crops=9, pooling='mean', camera=None, site='north')  # fmt: skip
    hit = some(None).hits[0]._replace(metadata=known)
    assert answer_text.columns(hit) == {
        'video': 'gate.mp4', 'time': '1:02:03', 'seen': '1:02:00 to 1:02:11', 'track': '7', 'pictures': '9',
        'site': 'north',
    }  # fmt: skip


class _Balanced(html.parser.HTMLParser):
    """Counts what is opened and closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ('meta', 'br', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_whole_file_with_large_upright_pictures_and_what_each_phrase_did(tmp_path, made, opened):
    turned = tmp_path / 'root' / 'turned.jpg'
    turned.parent.mkdir()
    pixels = np.zeros((40, 20, 3), np.uint8)
    pixels[:20] = 250, 20, 20
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(turned, exif=exif, quality=95)
    hit = Hit(1, str(turned.parent), turned.name, 0.5, 0.4, True, {'note': '<b>x</b>'}, 0, (Place('/r', 'x.png'),))
    answer = some(True)._replace(hits=[hit, hit._replace(rank=2, passes=False, path='gone.png')])
    page = tmp_path / 'out.html'
    report.write(page, [answer], '<Search>', [[('a <woman>', [0.25, 0.05])]], {'kind': 'synthetic pedestrians'})
    text, parser = page.read_text(), _Balanced()
    parser.feed(text)
    assert not parser.open and {'head', 'body', 'ol', 'table'} <= set(parser.seen)
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape[:2] == (report.HEIGHT, report.HEIGHT // 2) and report.HEIGHT >= 192
    assert shown[20, 64, 0] > 200 > 60 > shown[-20, 64, 0], 'upright: red is above'
    assert not re.search(r'https?:|<script|<link|opacity', text) and '&lt;b&gt;x' in text and '<b>x' not in text
    assert text.index('<ol>') < text.index('class="verdict"') < text.index('a &lt;woman&gt;') and '+0.250' in text
    assert 'the file is not there any more' in text and 'and 1 more place' in text
    assert 'Model: trained on synthetic pedestrians' in text


@pytest.mark.parametrize('rule', ['', '@media (prefers-color-scheme: dark)'])
def test_colours_of_the_report_can_be_read_on_either_ground(rule):
    style = (report.STYLE + report._PAGE) if not rule else report._PAGE[report._PAGE.index(rule) :]
    ground = '#16181b' if rule else '#ffffff'
    colours = dict(re.findall(r'--(\w+): (#[0-9a-f]{6})', report._DARK if rule else report.STYLE))
    assert ground.replace('ffffff', 'fff') in style
    for name in ('ink', 'soft', 'good'):
        for behind in (ground, colours['card']):
            assert contrast(colours[name], behind) >= 4.5, (name, behind)


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of relative luminances."""

    def luminance(colour):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    'known,line',
    [
        (None, 'model: what it was trained on is not known'),
        ({'kind': 'unknown', 'dataset': 'x'}, 'model: what it was trained on is not known'),
        (
            {'kind': 'photographs', 'dataset': 'cuhk_pedes', 'images': 34054, 'people': 11003},
            'model: trained on cuhk_pedes, 34,054 photographs of 11,003 people',
        ),
        (
            {'kind': 'synthetic pedestrians', 'dataset': 'demo', 'images': 1, 'people': 1},
            'model: trained on synthetic pedestrians (1 drawing of 1 person) and on no photographs: what it says of '
            'photographs means little',
        ),
    ],
)
def test_a_model_says_in_a_line_what_it_was_trained_on(known, line):
    assert answer_text.trained_on(known) == line


def test_pictures_unlike_those_of_the_calibration_get_no_probability_and_the_reason(opened):
    fitted, hits = opened.model.calibration, ask(opened, WORDS, top=12).hits
    look_KS = searching.looks(opened.gallery, [hit.row for hit in hits])
    copied = next(k for k, hit in enumerate(hits) if hit.copies)  # six of 17 pictures: outside, they would be too many
    # Plain distances to that picture: a fit of so few pictures would divide by variances that are nothing but rounding.
    one_S = np.ones(look_KS.shape[1], np.float32)
    known = Domain(look_KS[copied], one_S, one_S[None] * 0, one_S[:1], rest=1.0, limit=0.0, pictures=len(look_KS))
    distance = known.distance(look_KS)
    limit = float(np.sort(distance)[-2:].mean())  # one picture lies beyond it
    opened.model.calibration = dataclasses.replace(fitted, domain=dataclasses.replace(known, limit=limit))
    opened.gallery.refresh()
    answer = ask(opened, WORDS, top=12, verify=True)
    assert [hit.outside for hit in answer.hits] == (distance > limit).tolist() and sum(distance > limit) == 1
    assert all((hit.probability is None) == hit.outside == (hit.passes is None) for hit in answer.hits)
    assert 'no probability for 1 of 12 hits' in answer.notes[-1] and answer.found is False
    opened.model.calibration = dataclasses.replace(fitted, domain=dataclasses.replace(known, limit=-1.0))
    answer = ask(opened, WORDS, top=12, verify=True)
    assert {hit.probability for hit in answer.hits} == {None} and answer.found is None
    assert answer.notes[-1] == 'no probabilities: these pictures are unlike those that the model was calibrated on'
    opened.model.calibration = fitted


def test_phrases_of_a_text_that_is_too_long_are_refused_at_once(opened):
    answer = ask(opened, WORDS)
    clock = time.process_time()
    with pytest.raises(SearchError, match='--why: found 1,000 phrases in texts of 1,000 parts or more'):
        opened.why(Query((','.join(['red'] * 1000),)), answer.hits)
    assert time.process_time() - clock < 5
