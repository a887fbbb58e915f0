"""What is forgotten is in no file of the index any more: under any clock, after a kill, and after a full disk."""

import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import approximate, audit, columns, conditions, erasure, repair, retention, storage
from lcr2s_jax.search.gallery import Gallery
from tests import searching

ROOT = pathlib.Path(__file__).parents[2]
SECRET = 'secret/SECRETNAME.png'
VECTOR = searching.vector(4242)
TRACES = (b'SECRETNAME', b'SECRETNOTE', b'deadbeefdeadbeef', VECTOR.tobytes())


def secret():
    return searching.rows([1])[0]._replace(path=SECRET, sha256='deadbeef' * 8, vector=VECTOR)


def fill(uri: str) -> Gallery:
    """300 rows, and in a commit of its own the one that is to be forgotten."""
    gallery = Gallery(uri, 8)
    gallery.put('/r', searching.rows(range(300)), new=True)
    gallery.put('/r', [secret()], new=True)
    columns.join(gallery, '/r', {'note': 'string'}, {SECRET: {'note': 'SECRETNOTE'}})
    return gallery


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    return fill(str(tmp_path_factory.mktemp('erasure') / 'i')).uri


@pytest.fixture
def gallery(filled, tmp_path):
    shutil.copytree(filled, tmp_path / 'i')
    return Gallery(str(tmp_path / 'i'))


def traces(uri: str) -> list[str]:
    """Files below an index, but the audit log, that hold something of the secret."""
    files = [path for path in pathlib.Path(uri).rglob('*') if path.is_file() and path.name != audit.NAME]
    return [str(path) for path in files if any(trace in path.read_bytes() for trace in TRACES)]


def by_condition(gallery):
    retention.delete(gallery, "note = 'SECRETNOTE'")


def by_path(gallery):
    retention.forget(gallery.uri, [('/r', SECRET)], 'ann', True)


def by_age(gallery):
    aged = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
    gallery.table.update(where=f"path = '{SECRET}'", values={'added': aged})
    retention.delete(gallery, retention.older_than('30d'))


def by_pruning(gallery):
    retention.prune(gallery, '/r', [SECRET])


@pytest.mark.parametrize('forget', [by_condition, by_path, by_age, by_pruning])
@pytest.mark.parametrize('how', ['plain', 'tidied', 'approximate'])
def test_no_file_holds_anything_of_a_forgotten_row(gallery, forget, how):
    if how == 'tidied':
        gallery.tidy()
    if how == 'approximate':
        approximate.build(gallery)
    assert traces(gallery.uri)
    forget(gallery)
    assert not traces(gallery.uri)
    left = Gallery(gallery.uri)
    assert left.count('') == 300 and len(left.vectors()[1]) == 300 and left.approximate == (how == 'approximate')
    assert not (pathlib.Path(gallery.uri) / erasure.BEGUN).exists()


SHIFT = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t c, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int e = real(c, t);
  if (c == CLOCK_REALTIME) t->tv_sec += atol(getenv("SHIFT"));
  return e;
}
"""


@pytest.mark.skipif(shutil.which('gcc') is None, reason='makes a clock that is wrong')
@pytest.mark.parametrize('seconds', [86_400, -86_400])
def test_a_clock_that_was_wrong_when_a_row_was_written_keeps_nothing_of_it(tmp_path, seconds):
    (tmp_path / 's.c').write_text(SHIFT)
    subprocess.run(['gcc', '-shared', '-fPIC', '-o', tmp_path / 's.so', tmp_path / 's.c', '-ldl'], check=True)
    code = 'import sys; from tests.search import erasure_test; erasure_test.fill(sys.argv[1])'
    wrong = os.environ | {'LD_PRELOAD': str(tmp_path / 's.so'), 'SHIFT': str(seconds)}
    subprocess.run([sys.executable, '-c', code, tmp_path / 'i'], cwd=ROOT, env=wrong, check=True)
    gallery = Gallery(str(tmp_path / 'i'))
    ahead = gallery.rows('', ['added'])['added'].to_pylist()[0] - datetime.datetime.now(datetime.UTC)
    assert abs(ahead.total_seconds() - seconds) < 600, 'the clock was wrong'
    by_condition(gallery)
    assert not traces(gallery.uri) and Gallery(gallery.uri).count() == 300


class Killed(BaseException):
    """What no handler stops, as SIGKILL."""


def kill(*_):
    raise Killed


@pytest.mark.parametrize('step', ['unlink', 'listed'])
def test_a_call_that_dies_while_it_erases_is_finished_by_the_next_writer(gallery, monkeypatch, step):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(storage, step, kill)
        by_pruning(gallery)
    assert traces(gallery.uri)
    other = Gallery(gallery.uri)
    if other.count(conditions.among('path', [SECRET])):
        by_pruning(other)
    else:
        repair.own(other)  # as `index`, `delete` and an upload do at first
    assert not traces(gallery.uri) and Gallery(gallery.uri).count() == 300


def test_files_that_cannot_be_removed_are_told_and_the_same_call_goes_on(gallery, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(storage, 'unlink', lambda uri, names: None)
        with pytest.raises(SearchError, match='the rows are forgotten, but .* files that held them cannot be removed'):
            by_condition(gallery)
    by_condition(Gallery(gallery.uri))
    assert not traces(gallery.uri) and Gallery(gallery.uri).count() == 300


FULL = """
import resource, sys
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import retention
from lcr2s_jax.search.gallery import Gallery
gallery = Gallery(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    retention.delete(gallery, "note = 'SECRETNOTE'")
except SearchError as error:
    print(error)
"""


@pytest.mark.parametrize('room', [100, 6_000])
def test_a_disk_without_room_is_told_loses_nothing_and_the_same_call_goes_on(gallery, room):
    done = subprocess.run(
        [sys.executable, '-c', FULL, gallery.uri, str(room)], cwd=ROOT, capture_output=True, text=True
    )
    assert 'the disk is full' in done.stdout and 'Traceback' not in done.stderr, done.stderr
    assert Gallery(gallery.uri).count() == 301
    by_condition(Gallery(gallery.uri))
    assert not traces(gallery.uri) and Gallery(gallery.uri).count() == 300


def test_a_table_that_was_half_made_is_made_anew(gallery, tmp_path):
    half = pathlib.Path(gallery.uri) / 'gone.lance' / '_versions'
    half.mkdir(parents=True)
    (half / '.tmp_1.manifest_x').touch()
    by_condition(gallery)
    assert len(retention.forgotten(gallery)) == 2 and not traces(gallery.uri)
    (tmp_path / 'new' / 'images.lance').mkdir(parents=True)
    with pytest.raises(SearchError, match='found no index'):
        Gallery(str(tmp_path / 'new'))
    assert Gallery(str(tmp_path / 'new'), 8).count() == 0


def test_a_table_that_lost_its_versions_is_told_and_not_made_anew(gallery):
    shutil.rmtree(pathlib.Path(gallery.uri) / 'images.lance' / '_versions')
    for width in (None, 8):
        with pytest.raises(SearchError, match='damaged: the table images has rows and no version'):
            Gallery(gallery.uri, width)


def test_a_plan_names_what_goes_and_takes_nothing_else(gallery):
    plan = retention.plan(gallery, "path < '002' or path like 'secret/%'")
    assert len(plan.files) == 3 and plan.total == 301 and plan.values == {'note': [('SECRETNOTE', 1)]}
    assert plan.lines() == [
        '3 rows of 301', '  /r/000.png', '  /r/001.png', f'  /r/{SECRET}', "  note: 'SECRETNOTE' 1",
    ]  # fmt: skip
    other = Gallery(gallery.uri)
    other.put('/r', [searching.rows([1])[0]._replace(sha256='another picture')], new=False)
    other.put('/r', [searching.rows([1])[0]._replace(path='0015.png')], new=True)  # the condition is true of it
    assert retention.delete(gallery, plan) == (2, 0, 0, 1)
    assert {'001.png', '0015.png'} <= Gallery(gallery.uri).known('/r').keys() and not traces(gallery.uri)


def test_to_forget_a_row_is_not_to_forget_bytes_that_another_row_has(gallery):
    copy = secret()._replace(path='copy.png')
    gallery.put('/elsewhere', [copy], new=True)
    bytes_ = retention.key('bytes', copy.sha256)
    assert retention.delete(gallery, f"root = '/r' and path = '{SECRET}'").rows == 1
    assert bytes_ not in retention.forgotten(gallery) and len(retention.forgotten(gallery)) == 1
    assert retention.delete(gallery, "root = '/elsewhere'").rows == 1 and bytes_ in retention.forgotten(gallery)


def test_what_was_said_of_a_forgotten_picture_is_erased_and_the_rest_stays(gallery):
    said = [{'root': '/r', 'path': path, 'right': True} for path in (SECRET, '001.png', SECRET)]
    audit.write(gallery.uri, said, audit.FEEDBACK)
    by_condition(gallery)
    audit.write(gallery.uri, said[1:2], audit.FEEDBACK)
    lines = (pathlib.Path(gallery.uri) / audit.FEEDBACK).read_text().splitlines()
    assert [json.loads(line)['path'] for line in lines] == ['001.png', '001.png'] and not traces(gallery.uri)


def test_every_attempt_is_a_line_of_ascii_in_the_log_and_a_refused_one_too(gallery):
    with pytest.raises(SearchError):
        retention.forget(gallery.uri, "note = 'x' limit 1", 'ann\u2028{"user": "eve"}', True)
    retention.forget(gallery.uri, "note = 'caf\u00e9'", 'ann', False)
    by_path(gallery)
    log = (pathlib.Path(gallery.uri) / audit.NAME).read_bytes()
    assert log.isascii() and len(log.decode().splitlines()) == 4
    told = [json.loads(line) for line in log.splitlines()]
    assert [one['event'] for one in told] == ['delete', 'delete, asked only', 'delete', 'deleting']
    assert told[0]['where'] == "note = 'x' limit 1" and told[2]['paths'] == [f'/r/{SECRET}'] and told[3]['rows'] == 1


def test_new_rows_are_put_without_a_look_at_all_that_are_there(gallery, monkeypatch):
    looked = []
    of_root = Gallery.of_root
    monkeypatch.setattr(Gallery, 'of_root', lambda self, *what: looked.append(what) or of_root(self, *what))
    for n in range(400, 420):
        gallery.put('/r', searching.rows([n]), new=True)
    assert len(looked) == 1, 'once, and not at every commit'
    Gallery(gallery.uri).put('/r', searching.rows([500]), new=True)
    looked.clear()
    gallery.put('/r', searching.rows([500, 501]), new=True)
    assert len(looked) == 1 and gallery.count() == len(gallery.known('/r')) == 323, 'another had written'


def test_a_vector_that_is_not_of_length_one_is_told_and_made_again(gallery):
    spoilt = [searching.rows([n])[0]._replace(vector=searching.vector(n) * by) for n, by in ((400, 5), (401, 0))]
    gallery.put('/r', spoilt, new=True)
    with pytest.raises(SearchError, match='damaged: 2 vectors are not of length one, such as of 400.png, 401.png'):
        Gallery(gallery.uri).vectors()
    assert repair.vectors(gallery) == 2 and repair.vectors(gallery) == 0
    known = gallery.known('/r')['400.png']
    assert known[1] == 0 and known[3] == repair.SPOILT and len(gallery.vectors()[1]) == 301
    gallery.put('/r', searching.rows([400]), new=False)
    assert len(gallery.vectors()[1]) == 302


def test_a_picture_of_which_the_model_makes_no_numbers_has_no_vector(gallery):
    gallery.put('/r', [searching.rows([400])[0]._replace(vector=np.full(8, np.nan, np.float32))], new=True)
    assert len(Gallery(gallery.uri).vectors()[1]) == 301
    assert gallery.known('/r')['400.png'][3] == 'the model makes no numbers of it'
