"""What reads an index takes no lock: an erasure that removes its files meanwhile is not the reader's trouble."""

import json

import pytest

import lcr2s_jax
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import audit, erasure, retention, tables
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.model import open_model
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.search import Search
from lcr2s_jax.search.web.service import SearchRequest
from tests import s3, searching
from tests.road import fails, typed
from tests.searching import WORDS


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    made = searching.index(tmp_path_factory.mktemp('beside'), count=6)
    made.update()
    return made


@pytest.fixture
def erased(made, monkeypatch):
    """erased(what, name, times) -> has so many calls of a method begin with an erasure by somebody else."""

    def erased(owner, name, times=1):
        real, left = getattr(owner, name), [times]

        def beside(*given, **named):
            if left[0]:
                left[0] -= 1
                erasure.erase(Gallery(made.uri))
            return real(*given, **named)

        monkeypatch.setattr(owner, name, beside)
        return left

    return erased


@pytest.mark.parametrize('owner,name', [(Search, '_answer'), (Search, '_distinct'), (Search, 'why')])
def test_a_search_whose_version_is_erased_is_done_again_at_the_next_one_and_logged_once(made, erased, owner, name):
    line = ('search', f'--index={made.uri}', '--json', '--why', WORDS)
    before = json.loads(typed(*line).stdout)
    left, log = erased(owner, name, 2), len(open(f'{made.uri}/{audit.NAME}').readlines())
    run = typed(*line)
    assert run.returncode == 0 and left == [0], run.stderr
    after = json.loads(run.stdout)
    assert after['version'] > before['version'] and after['answers'] == before['answers']
    assert len(open(f'{made.uri}/{audit.NAME}').readlines()) == log + 1


def test_erasures_without_end_are_told_after_some_tries(made, erased):
    left = erased(Search, '_answer', 1000)
    run = typed('search', f'--index={made.uri}', WORDS)
    fails(run, 1, 'files of it are gone. Others erase pictures there: wait for them', 'or it is damaged')
    assert 2 < 1000 - left[0] < 20


@pytest.mark.parametrize('words', [('info',), ('delete', '--where=bytes > 0'), ('expire', '--older-than=0m')])
def test_what_only_looks_is_done_again_too(made, erased, words):
    left = erased(Gallery, 'rows')
    run = typed(words[0], f'--index={made.uri}', *words[1:])
    assert run.returncode == 0 and left == [0], run.stderr
    assert '6' in run.stdout


def test_an_index_that_stays_open_in_python_goes_on_after_an_erasure(tmp_path):
    small = searching.index(tmp_path, count=3)
    small.update()
    opened = lcr2s_jax.open_index(small.uri)
    gone = opened.search(WORDS).hits[0].path
    retention.forget(small.uri, [(str(small.root), gone)], 'ann', True)
    assert gone not in {hit.path for hit in opened.search(WORDS).hits} and len(opened) == 2


def test_the_page_goes_on_after_an_erasure_that_came_within_a_search(made, opened, erased):
    before, left = opened.find('ann', SearchRequest(WORDS, why=True)), erased(Search, 'why')
    after = opened.find('ann', SearchRequest(WORDS, why=True))
    assert left == [0] and after.version > before.version and after.why == before.why


def test_a_search_in_a_bucket_is_done_again_after_an_erasure(tmp_path, monkeypatch):
    with s3.serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
        made = searching.Index(f's3://{server.bucket()}/i', tmp_path / 'crops')
        open_model(made.uri, searching.model())
        searching.pictures(made.root, 3)
        made.update()
        opened = made.open()
        erasure.erase(Gallery(made.uri))

        def ask():
            return opened([Query((WORDS,))], top=3, false_alarms=0.05)[0].hits

        with pytest.raises(SearchError, match='files of it are gone'):
            ask()
        assert len(tables.lasting(ask, opened.gallery.refresh)) == 3
