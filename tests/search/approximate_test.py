"""The approximate index finds nearly what comparing all finds, with the same scores, under the same conditions."""

import numpy as np
import pytest

from lcr2s_jax.search import approximate, retention
from lcr2s_jax.search.gallery import OK, Gallery, Row
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.topk import Exact
from tests import searching

COUNT, WIDTH, TOP = 3000, 64, 5


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope='module')
def gallery(tmp_path_factory):
    """People of ten pictures each, in three lists."""
    rng = np.random.default_rng(0)
    vector_GE = unit(
        np.repeat(rng.normal(size=(COUNT // 10, WIDTH)), 10, axis=0) + 0.3 * rng.normal(size=(COUNT, WIDTH))
    )
    made = Gallery(str(tmp_path_factory.mktemp('approximate') / 'i'), WIDTH)
    made.put('r', [Row(f'{n:04}', f'{n}', 0, 0, OK, vector) for n, vector in enumerate(vector_GE)], new=True)
    made.put('r', [Row('damaged', '', 0, 0, 'damaged', None)], new=True)
    approximate.build(made)
    return made


@pytest.mark.parametrize('queries', [1, 20])
@pytest.mark.parametrize('loaded', [False, True])
@pytest.mark.parametrize('codes', ['pq', 'rq'])
def test_it_finds_nearly_all_that_comparing_all_finds_with_the_same_scores(gallery, queries, loaded, codes):
    approximate.build(gallery, codes)
    vector_GE, row_G = gallery.vectors()
    query_QE, exact = unit(vector_GE[7 : 7 + 10 * queries : 10] + 0.05), Exact(vector_GE)
    _, place_QK = exact(query_QE, TOP)
    memory = (exact, row_G) if loaded else None
    found_QK, row_QK = approximate.nearest(gallery, query_QE, TOP, refine=20, memory=memory)
    shared = [set(a) & set(b) for a, b in zip(row_QK.tolist(), row_G[place_QK].tolist(), strict=True)]
    assert sum(map(len, shared)) >= 0.9 * queries * TOP and row_QK.shape == (queries, TOP)
    expected = np.einsum('qe,qke->qk', query_QE, gallery.vectors_at(row_QK.ravel()).reshape(queries, TOP, WIDTH))
    np.testing.assert_allclose(found_QK, expected, atol=1e-5)
    assert (np.diff(found_QK, axis=1) <= 0).all()


def test_a_condition_holds_and_behind_the_last_row_there_is_nothing(gallery):
    query_QE = unit(np.random.default_rng(1).normal(size=(3, WIDTH)))
    score_QK, row_QK = approximate.nearest(gallery, query_QE, TOP, where="path < '0003'", probes=3)
    assert {one['path'] for one in gallery.facts(row_QK[:, :3].ravel())} == {'0000', '0001', '0002'}
    assert (row_QK[:, 3:] == -1).all() and np.isneginf(score_QK[:, 3:]).all()


def test_rows_that_came_later_are_found_and_deleted_ones_are_not(gallery):
    late = unit(np.full((1, WIDTH), 1.0))
    gallery.put('r', [Row('late', 'late', 0, 0, OK, late[0])], new=True)
    assert gallery.facts(approximate.nearest(gallery, late, 1)[1][0])[0]['path'] == 'late'
    retention.delete(gallery, "path = 'late'")
    assert gallery.approximate, 'it was made anew, without the vector'
    assert gallery.facts(approximate.nearest(gallery, late, 1)[1][0])[0]['path'] != 'late'


def test_a_large_index_gets_one_and_a_search_uses_it_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(approximate, 'FROM', 300)
    small = searching.index(tmp_path, count=299)
    small.update()
    assert not small.gallery().approximate
    searching.pictures(small.root, 1, first=299)
    small.update()
    opened, asked = small.open(), [Query((searching.WORDS,))]
    near, exact = (opened(asked, top=3, false_alarms=0.05, exact=exact)[0] for exact in (False, True))
    every = {hit.path: hit.score for hit in opened(asked, top=300, false_alarms=0.05, exact=True)[0].hits}
    opened.load()
    again = opened(asked, top=3, false_alarms=0.05)[0]
    for answer in (near, again):  # eight numbers make poor codes: others may be found, of these the scores are exact
        found = [hit.score for hit in answer.hits]
        assert found == pytest.approx([every[hit.path] for hit in answer.hits], abs=1e-5)
        assert found == sorted(found, reverse=True) and not answer.exact
    opened.gallery.put('r', [Row('late', 'late', 0, 0, OK, searching.vector(0))], new=True)
    late = opened(asked, top=3, false_alarms=0.05)[0]
    assert late.searched == 301 and not opened._nearest.loaded, 'vectors of another version serve nobody'
    assert opened.gallery.approximate and (near.exact, exact.exact) == (False, True)
    assert near.searched == exact.searched == 300
