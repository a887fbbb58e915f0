"""The table of an index keeps what was committed, finds it again, and forgets it for good when asked."""

import concurrent.futures
import datetime
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import columns, retention, writing
from lcr2s_jax.search.gallery import Gallery
from tests import searching

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def gallery(tmp_path):
    made = Gallery(str(tmp_path / 'i'), 8)
    made.put('r', searching.rows(range(20)), new=True)
    return made


def on_disk(gallery, content: bytes) -> bool:
    return any(content in file.read_bytes() for file in pathlib.Path(gallery.uri).rglob('*') if file.is_file())


def test_vectors_come_back_in_the_order_of_their_rows(gallery):
    vector_GE, row_G = gallery.vectors()
    assert (row_G[1:] > row_G[:-1]).all()
    names = [one['path'] for one in gallery.facts(row_G)]
    np.testing.assert_array_equal(vector_GE, [searching.vector(int(name[:3])) for name in names])
    np.testing.assert_array_equal(gallery.vectors_at(row_G[[7, 2]]), vector_GE[[7, 2]])


def test_a_changed_file_replaces_its_row_and_an_unusable_one_is_known_but_not_found(gallery):
    gallery.put('r', [searching.rows([3])[0]._replace(vector=searching.vector(99))], new=False)
    gallery.put('r', searching.rows([40], 'damaged'), new=True)
    assert len(gallery.known('r')) == 21 and gallery.known('r')['040.png'][3] == 'damaged'
    vector_GE, row_G = gallery.vectors()
    assert len(row_G) == 20 and gallery.count() == 20
    assert any((vector_GE == searching.vector(99)).all(axis=1)) and not any(
        (vector_GE == searching.vector(3)).all(axis=1)
    )


def test_every_commit_is_a_version_and_an_open_reader_stays_at_its_own(gallery):
    reader, before = Gallery(gallery.uri), gallery.version
    gallery.put('r', searching.rows([50]), new=True)
    assert gallery.version == before + 1 and reader.count() == 20
    reader.refresh()
    assert reader.count() == 21


def test_a_writer_that_is_open_for_long_goes_on_after_another_has_erased(gallery):
    late = Gallery(gallery.uri)
    retention.delete(gallery, "path = '007.png'")
    late.put('r', searching.rows([7, 8]), new=False)  # looked at before the deletion
    late.put('r', searching.rows([50]), new=True)
    late.drop('r', ['001.png'])
    assert columns.join(late, 'r', {'camera': 'string'}, {'050.png': {'camera': 'c1'}}) == 1
    left = Gallery(gallery.uri)
    assert left.known('r').keys() == {f'{n:03}.png' for n in (0, *range(2, 7), *range(8, 20), 50)}
    assert left.count("camera = 'c1'") == 1


def test_writers_and_an_eraser_at_once_lose_nothing_that_was_committed(gallery):
    def write(first):
        other = Gallery(gallery.uri)
        for n in range(first, first + 40, 4):
            other.put('r', searching.rows(range(n, n + 4)), new=True)

    with concurrent.futures.ThreadPoolExecutor(
        2
    ) as pool:  # the lock is of an open file, so threads keep each other out
        writing = [pool.submit(write, first) for first in (100, 200)]
        while not all(one.done() for one in writing):
            retention.erase(gallery)
            time.sleep(0.01)
        assert [one.result() for one in writing] == [None, None]
    left = Gallery(gallery.uri)
    assert left.count() == len(left.known('r')) == len(left.vectors()[1]) == 100


def test_another_process_is_waited_for(gallery, capfd, monkeypatch):
    monkeypatch.setattr(writing, '_PATIENCE', 0.05)
    other = Gallery(gallery.uri)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with gallery.writing():
            waits = pool.submit(other.put, 'r', searching.rows([50]), new=True)
            time.sleep(0.3)
            assert not waits.done() and Gallery(gallery.uri).count() == 20
        waits.result()
    assert Gallery(gallery.uri).count() == 21
    assert capfd.readouterr().err == f'{gallery.uri}: another process is writing to it; waiting\n'


def test_two_that_put_the_same_files_leave_a_row_each(gallery):
    gallery.put('r', searching.rows(range(15, 25)), new=True)
    assert gallery.count() == len(gallery.known('r')) == 25


def test_a_file_that_is_merely_touched_gets_older_and_a_changed_one_is_new(gallery):
    aged = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
    gallery.table.update(where='true', values={'added': aged})
    touched, changed = searching.rows([3, 4])
    gallery.put('r', [touched._replace(modified=9), changed._replace(sha256='other')], new=False)
    assert gallery.known('r')['003.png'][1] == 9
    assert gallery.rows(f'not ({retention.older_than("30d")})', ['path']).to_pylist() == [{'path': '004.png'}]


def test_metadata_is_joined_by_path_and_written_only_where_it_differs(gallery):
    kinds = {'camera': 'string', 'track': 'int64'}
    values = {f'{n:03}.png': {'camera': f'c{n % 3}', 'track': n // 2} for n in range(10)} | {
        'no.png': dict.fromkeys(kinds)
    }
    assert columns.join(gallery, 'r', kinds, values) == 10 and columns.join(gallery, 'r', kinds, values) == 0
    assert gallery.columns == kinds
    rows = gallery.rows_where("camera = 'c1' and track > 1")
    assert sorted(one['path'] for one in gallery.facts(rows)) == ['004.png', '007.png']
    assert columns.join(gallery, 'other root', kinds, values) == 0
    with pytest.raises(SearchError, match="found the columns .'_rowid'., expected names that begin with a letter"):
        columns.join(gallery, 'r', {'_rowid': 'int64'}, {})


@pytest.mark.parametrize('where', ["camra = 'c1'", "path = 'x", 'path', 'drop table images'])
def test_a_condition_that_cannot_be_used_is_explained(gallery, where):
    with pytest.raises(SearchError, match='Expected SQL over the columns root, path'):
        gallery.rows_where(where)


def test_what_is_deleted_is_nowhere_on_the_disk_any_more(gallery):
    vector = searching.vector(7).tobytes()
    assert on_disk(gallery, vector)
    assert retention.delete(gallery, "path = '007.png'").rows == 1
    assert not on_disk(gallery, vector) and not on_disk(gallery, b'007.png')
    assert Gallery(gallery.uri).count() == 19 and len(gallery.vectors()[1]) == 19


def test_an_index_may_be_emptied_and_filled_again(gallery):
    gallery.put('r', searching.rows([40], 'damaged'), new=True)
    assert retention.delete(gallery, 'true').rows == 21 and gallery.count('') == 0
    assert gallery.vectors()[0].shape == (0, 8)
    gallery.put('r', searching.rows([1]), new=True)
    assert Gallery(gallery.uri).count() == 1


def test_what_is_deleted_is_known_again_by_its_place_and_by_its_bytes_until_it_is_readmitted(gallery):
    row = searching.rows([7])[0]
    place, content = retention.key('file', 'r', row.path, row.bytes, row.modified), retention.key('bytes', row.sha256)
    assert not retention.forgotten(gallery)
    retention.delete(gallery, "path = '007.png'")
    assert retention.forgotten(gallery) == {place, content}
    retention.delete(gallery, "path = '007.png'")  # said again, as after a kill
    assert retention.forgotten(gallery) == {place, content} and gallery.count() == 19
    retention.readmit(gallery, [place, content])
    assert not retention.forgotten(gallery)


def test_rows_of_a_clock_that_was_ahead_are_told_where_age_is_asked_for(gallery):
    assert retention.to_come(gallery.uri) == ''
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=400)
    gallery.table.update(where="path < '002'", values={'added': later})
    told = retention.to_come(gallery.uri)
    where = re.search('--where="(.*)"', told)[1]
    assert ': 2 rows indexed at a time that is still to come' in told and gallery.count(where) == 2


def test_what_was_indexed_longer_ago_expires(gallery):
    aged = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
    gallery.table.update(where="path < '005'", values={'added': aged})
    assert gallery.count(retention.older_than('30d')) == 5 and gallery.count(retention.older_than('50d')) == 0
    assert retention.delete(gallery, retention.older_than('720h')).rows == 5 and gallery.count() == 15
    with pytest.raises(SearchError, match="found 'soon', expected days, hours or minutes such as 30d"):
        retention.older_than('soon')
    for age in ('900000d', '9999999999999d'):
        with pytest.raises(SearchError, match=f"found '{age}', which is before the year 1"):
            retention.older_than(age)


def test_a_name_with_quotes_is_a_name(gallery):
    gallery.put("it's", searching.rows([60]), new=True)
    gallery.drop("it's", ["x' or 'a' = 'a"])
    assert gallery.known("it's").keys() == {'060.png'} and gallery.count() == 21


def test_a_folder_without_an_index_and_a_model_of_another_width_are_refused(gallery, tmp_path):
    with pytest.raises(SearchError, match='found no index'):
        Gallery(str(tmp_path / 'nothing'))
    assert not (tmp_path / 'nothing').exists()
    with pytest.raises(SearchError, match='vectors of 8 numbers, the model makes 16'):
        Gallery(gallery.uri, 16)


def test_a_kill_between_commits_loses_nothing_that_was_committed(tmp_path):
    code = (
        'import sys, time; from lcr2s_jax.search.gallery import Gallery; from tests import searching\n'
        'g = Gallery(sys.argv[1], 8)\n'
        'for n in range(0, 400, 4): g.put("r", searching.rows(range(n, n + 4)), True); print(n + 4, flush=True)'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code, str(tmp_path / 'i')], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    while int(process.stdout.readline()) < 12:
        pass
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    told = [12, *map(int, process.stdout.read().split())][-1]
    process.wait()
    left = Gallery(str(tmp_path / 'i'))
    assert told <= left.count() <= told + 4 and left.count() % 4 == 0 and left.count() < 400
    left.put('r', searching.rows(range(left.count(), 400)), new=True)
    assert Gallery(left.uri).count() == 400
