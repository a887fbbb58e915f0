"""What the page shows and saves, and what a search can be narrowed to."""

import csv
import io
import json
import re
import urllib.parse

import numpy as np
import pytest

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search.answer import Answer, Hit
from lcr2s_jax.search.gallery import FOUND
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.web import filters, page, view
from lcr2s_jax.search.web.service import Index, SearchResult
from lcr2s_jax.video.update import COLUMNS
from tests.searching import photo

INDEX = Index('/data/shop <1>', 1234, 'abcdef12', 'synthetic pedestrians')


class Table:
    """Columns of an index, and the condition that was last asked for."""

    def __init__(self, **columns):
        import pyarrow as pa

        self.table = pa.table(columns)
        self.columns = {
            name: str(kind) for name, kind in zip(self.table.column_names, self.table.schema.types, strict=True)
        }
        self.kinds = self.columns

    def rows(self, where, columns):
        assert where == FOUND
        return self.table.select(columns)

    def condition(self, text):
        from lcr2s_jax.search import conditions

        return conditions.parse(text, self.kinds)


def hit(rank=1, root='/data', path='a/1.png', **metadata) -> Hit:
    return Hit(rank, root, path, 0.5, 0.25, None, metadata, rank)


def result(*hits) -> SearchResult:
    answer = Answer(Query(('a <b> coat',), ()), list(hits), None, None, 7, True, 0.05, ['a note'])
    return SearchResult(answer, [('coat', [0.1] * len(hits))], 3)


def saved(text: str, suffix: str) -> str:
    """What a click on a link of the answer saves."""
    kind, _, content = re.search(rf'download="answer.{suffix}" href="data:([^,"]+)(,)([^"]*)"', text).groups()
    assert 'utf-8' in kind
    return urllib.parse.unquote(content)


def test_an_answer_can_be_saved_as_csv_and_as_json():
    text = view.answer(result(hit(camera='c1', note='=1+1'), hit(2, camera='-3.5', note='é, "x"')), INDEX)
    rows = list(csv.DictReader(io.StringIO(saved(text, 'csv'))))
    assert [row['rank'] for row in rows] == ['1', '2'] and rows[0]['path'] == 'a/1.png'
    assert rows[0]['note'] == "'=1+1", 'no program for a spreadsheet' and rows[1]['note'] == 'é, "x"'
    assert rows[1]['camera'] == '-3.5', 'a number is one'
    kept = json.loads(saved(text, 'json'))
    assert kept['trained_on'] == 'synthetic pedestrians' and kept['index'] == INDEX.uri and kept['version'] == 3
    assert kept['hits'][0]['metadata']['camera'] == 'c1' and 'row' not in kept['hits'][0]
    assert 'download' not in view.answer(result(), INDEX)


def test_the_ranking_comes_before_the_verdict():
    text = view.answer(result(hit()), INDEX)
    assert text.index('<ol>') < text.index('class="verdict"') < text.index('a note')


def test_a_tracks_hit_tells_when_it_was_seen_and_no_internal_field():
    track = dict(zip(COLUMNS, ('door.mp4', 'ab/3', 3725.4, 3724.0, 3790.0, '1,2,3,4', 0.9, 8, 'mean'), strict=True))
    one = hit(root='/i/tracks', path='ab/x.png', **track, floor='2')
    for text in (view.answer(result(one), INDEX), view.large(result(one), one)):
        shown = re.sub(r'href="[^"]*"', '', text)
        assert '1:02:05' in shown and '1:02:04 to 1:03:10' in shown and 'door.mp4' in shown
        assert not any(word in shown for word in ('1,2,3,4', '0.9', 'mean', 'pooling', 'begins', '3725'))
    assert 'floor' in view.large(result(one), one)


def test_a_track_is_opened_with_its_crops_and_their_times(tmp_path):
    folder = tmp_path / 'tracks' / 'ab'
    folder.mkdir(parents=True)
    crops = [
        {'file': f'{n}.png', 'sha256': '', 'time': 60.0 * n, 'score': 0.5, 'box': [0.0, 0.0, 1.0, 1.0]}
        for n in range(30)
    ]
    for crop in crops:
        (folder / crop['file']).write_bytes(photo(1, format_='PNG'))
    from lcr2s_jax.video import crops as cutting

    track = {'track': '1', 'begins': 0.0, 'ends': 1740.0, 'seen': 30, 'crops': crops}
    facts = {'settings': {}, 'frames': 30, 'read': 30, 'expected': None, 'notes': [], 'left_out': 0}
    (folder / cutting.FILE).write_text(json.dumps(facts | {'tracks': [track]}))
    one = hit(root=str(tmp_path / 'tracks'), path='ab/3.png')
    text = view.large(result(one), one)
    assert '12 of 30 pictures' in text and text.count('<img') == 13
    assert re.findall(r'<span>([\d:]+)</span>', text)[::11] == ['0:00:00', '0:29:00']


def test_words_of_others_are_no_markup():
    text = view.answer(result(hit(path='<i>.png', camera='<b>')), INDEX) + view.title(INDEX, '<u>') + view.error('<s>')
    text += view.large(result(hit(path='<i>.png', camera='<b>')), hit(path='<i>.png', camera='<b>')) + view.told('<s>')
    assert not re.search('<[ius]>', text) and '<b>c' not in text and 'shop &lt;1&gt;' in text
    assert not set('[]()*`_<>:/.') & set(
        page._plain('[x](http://e) *y*').removeprefix('<span>').removesuffix('</span>')
    )


def test_few_values_are_choices_and_many_that_have_an_order_are_ranges():
    count = 40
    found = filters.read(Table(
        camera=[f'c{n % 3}' for n in range(count)],
        floor=[n % 2 for n in range(count)],
        number=list(range(count)),
        height=np.linspace(1, 2, count),
        day=[f'2026-05-{1 + n % 30:02} 12:00' for n in range(count)],
        note=[f'note {n}' for n in range(count)],
        same=['x'] * count,
    ))  # fmt: skip
    assert found.choices == {'camera': ['c0', 'c1', 'c2'], 'floor': [0, 1]}
    assert found.ranges == {
        'number': filters.Range('number', 0, 39),
        'height': filters.Range('number', 1.0, 2.0),
        'day': filters.Range('date', '2026-05-01 12:00', '2026-05-30 12:00'),
    }


def test_a_video_offers_its_name_and_its_time_alone():
    count = 30
    values = (['a.mp4', 'b.mp4'] * 15, *([[f't{n}' for n in range(count)]]), *([np.arange(count) * 1.0] * 3))
    more = ([f'{n},1' for n in range(count)], np.arange(count) / 30, np.arange(count), ['mean'] * count)
    table = Table(**dict(zip(COLUMNS, (*values, *more), strict=True)))
    found = filters.read(table)
    assert list(found.choices) == ['video'] and found.ranges == {'time': filters.Range('seconds', 0.0, 29.0)}
    where = found.condition(table, '', {}, {'time': ('0:00:05', '1:00')})
    assert where.text == '(`time` >= 5.0) and (`time` <= 60.0)'


def test_ranges_choices_and_a_condition_are_joined():
    table = Table(camera=['a', 'b'], height=[1.0, 2.0], day=['2026-05-01', '2026-06-01'])
    offered = filters.Filters({'camera': ['a', 'b']}, {
        'height': filters.Range('number', 1.0, 2.0), 'day': filters.Range('date', '2026-05-01', '2026-06-01'),
    })  # fmt: skip
    whole = offered.condition(
        table, "camera = 'a' or height > 1", {'camera': ['b']}, {'height': ('1.5', ''), 'day': ('', '2026-05-31')}
    )
    assert "((`camera` = 'a') or " in whole.sql and "(`camera` in ('b'))" in whole.sql and '>= cast(1.5' in whole.sql
    assert "'2026-05-31~'" in whole.sql, 'the whole day'
    assert offered.condition(table, '', {'camera': []}, {'height': ('', ''), 'day': ('', '')}).sql == ''
    for column, typed in (('height', '1; drop'), ('height', '1e999'), ('height', 'nan'), ('day', "x' or 1=1"),
                          ('day', '2026-05-' + '1' * 200)):  # fmt: skip
        with pytest.raises(SearchError, match=f'found .*{column}|for {column}'):
            offered.condition(table, '', {}, {'height': ('', ''), 'day': ('', '')} | {column: (typed, '')})
    with pytest.raises(SearchError, match=r'found camera = .*expected one of'):
        offered.condition(table, '', {'camera': ["c') or ('' = '"]}, {})
    with pytest.raises(SearchError):
        offered.condition(table, "camera = 'a') or (1 = 1", {}, {})


def test_an_empty_list_is_no_bound_either():
    assert [page._typed(value) for value in (None, '[]', ' 3 ', '')] == ['', '', '3', '']
