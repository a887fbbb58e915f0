"""Tables, metadata and names that strangers wrote are read, or refused with a message, whatever is in them."""

import csv
import io
import json
import time

import hypothesis.strategies as st
import pytest

from data import annotations, table
from lcr2s_jax.errors import UserError
from lcr2s_jax.search import metadata
from lcr2s_jax.search.name_pattern import NamePattern
from tests.folders import DEAL
from tests.fuzzing import anything, changed, damaged, fuzz

PUBLISHED = [
    {'split': split, 'id': n, 'file_path': f'cam_a/{n}.jpg', 'captions': ['A man in red.', 'He walks.']}
    for n, split in enumerate(('train', 'train', 'val', 'test'))
]
CELLS = st.sampled_from(
    ['path', 'image', 'caption', 'id', 'split', 'camera', 'train', 'a/1.jpg', '7', '1e5', '-0', 'nan']
)
CELL = (
    CELLS
    | st.text(max_size=12)
    | st.sampled_from(['', ' ', '"', "'", ',', ';', '\t', '\r', '\n', '\0', '\ufeff', '=1+1'])
)


def as_csv(rows):
    """Cells as a spreadsheet writes them."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode('utf-8', 'surrogatepass')


TABLE = as_csv([['image', 'caption', 'id', 'split'], ['a/1.jpg', 'A man, in red', '1', 'train']])
tables = damaged(TABLE) | st.lists(st.lists(CELL, max_size=5), max_size=6).map(as_csv) | st.binary(max_size=60)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder that every input is written into anew."""
    return tmp_path_factory.mktemp('tables')


def answers(read, *, seconds=3.0):
    """What `read()` gives, or None where it refuses with a message; anything else fails the test."""
    began, found = time.process_time(), None
    try:
        found = read()
    except UserError as error:
        assert 0 < len(str(error)) < 20_000
    assert time.process_time() - began < seconds  # of a processor: the machine may be busy
    return found


@fuzz(changed(PUBLISHED) | anything | damaged(json.dumps(PUBLISHED).encode()), share=0.1)
def test_a_published_annotation_file_is_read_or_refused(content, place):
    (place / 'reid_raw.json').write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    found = answers(lambda: annotations.read('cuhk_pedes', place))
    # an entry may have no sentence: what cannot be trained on then is told by the doctor and by the plan
    assert found is None or all(entry.file_name and all(entry.captions) for entry in found.entries)


@fuzz(tables, share=0.1)
def test_a_table_of_somebodys_own_is_read_or_refused(content, place):
    (place / 'people.csv').write_bytes(content)
    deal = {name: DEAL[name] for name in ('seed', 'val', 'test', 'fields')}
    found = answers(lambda: table.read(place / 'people.csv', **deal))
    assert found is None or all(entry.captions and entry.file_name for entry in found.entries)


@fuzz(tables | damaged(as_csv([['path', 'camera'], ['a/1.jpg', 'c1']])), share=0.1)
def test_metadata_is_read_or_refused(content, place):
    (place / 'columns.csv').write_bytes(content)
    found = answers(lambda: metadata.Table(str(place / 'columns.csv'), ['path', 'hash']).typed({}))
    assert found is None or all(set(values) == set(found[0]) for values in found[1].values())


FIELD = st.sampled_from(
    ['{camera}', '{time:%Y%m%d_%H%M%S}', '{*}', '{n}', '_', '-', '/', '.', '{', '}', '{:}', '{a:%', '%Y']
)
names = st.lists(FIELD | st.text(max_size=3), max_size=7).map(''.join)


@fuzz(st.tuples(names, st.lists(st.text(max_size=30) | st.from_regex(r'c\d_\d{8}_\d{6}_x'), max_size=4)), share=0.1)
def test_a_pattern_of_names_is_used_or_refused_and_is_quick(content):
    pattern, paths = content
    found = answers(lambda: NamePattern(pattern, ['path']))
    if found:
        columns = answers(lambda: found.read([*paths, '_' * 250 + '.jpg', 'a_' * 100 + '.jpg', '/_-.' * 60], {}))
        assert columns is None or set(columns.values).isdisjoint(columns.unmatched)
