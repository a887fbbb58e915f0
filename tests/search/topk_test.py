"""The exact search is a sort, on any number of devices."""

import jax
import ml_dtypes
import numpy as np
import pytest

from lcr2s_jax.search import topk


def slow(query_QE, vector_GE, k, allowed_G=None):
    """Every row of every query, equal scores by row number."""
    score_QG = query_QE.astype(np.float64) @ vector_GE.astype(np.float64).T
    if allowed_G is not None:
        score_QG[:, ~allowed_G] = -np.inf
    return np.argsort(-score_QG, axis=1, kind='stable')[:, :k]


def problem(rows, width=8, queries=5, seed=0, distinct=True):
    """Random vectors; without `distinct` whole numbers of few values, whose products are exact and often equal."""
    rng = np.random.default_rng(seed)
    draw = rng.normal if distinct else lambda size: rng.integers(-1, 2, size)
    return draw(size=(queries, width)).astype(np.float32), draw(size=(rows, width)).astype(np.float32)


@pytest.mark.parametrize('rows', [1, 63, 64, 65, 1000, 40_000])
@pytest.mark.parametrize('distinct', [True, False])
def test_the_best_are_those_of_a_sort_and_equal_scores_rank_by_row(rows, distinct):
    query_QE, vector_GE = problem(rows, distinct=distinct)
    k = min(10, rows)
    score_QK, row_QK = topk.Exact(vector_GE)(query_QE, k)
    np.testing.assert_array_equal(row_QK, slow(query_QE, vector_GE, k))
    np.testing.assert_allclose(score_QK, np.einsum('qe,qke->qk', query_QE, vector_GE[row_QK]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('queries', [1, 5])
def test_vectors_in_half_the_memory_are_compared_in_full_precision(queries):
    query_QE, vector_GE = problem(1000, width=64, queries=queries)
    half_GE = vector_GE.astype(ml_dtypes.bfloat16)
    score_QK, row_QK = topk.Exact(half_GE)(query_QE, 10)
    np.testing.assert_array_equal(row_QK, slow(query_QE, half_GE, 10))
    true_QK = np.einsum('qe,qke->qk', query_QE.astype(np.float64), half_GE[row_QK].astype(np.float64))
    np.testing.assert_allclose(score_QK, true_QK, rtol=1e-6, atol=1e-5)  # one part of the query alone is 3e-3 off


@pytest.mark.parametrize('rows', [100, 70_000])
def test_one_device_and_eight_find_the_same_rows_with_the_same_scores(rows):
    query_QE, vector_GE = problem(rows, width=32)
    query_QE, vector_GE = query_QE.round(1), vector_GE.round(1)  # some scores are equal
    one, eight = (topk.Exact(vector_GE, jax.devices()[:n])(query_QE, 20) for n in (1, 8))
    np.testing.assert_array_equal(one[1], eight[1])
    np.testing.assert_array_equal(one[0], eight[0])


def test_blocks_do_not_change_what_is_found(monkeypatch):
    query_QE, vector_GE = problem(1000, distinct=False)
    whole = topk.Exact(vector_GE)(query_QE, 30)
    monkeypatch.setattr(topk, 'BLOCK', 128)
    np.testing.assert_array_equal(topk.Exact(vector_GE)(query_QE, 30)[1], whole[1])


def test_a_row_that_is_not_allowed_is_never_found():
    query_QE, vector_GE = problem(500)
    allowed_G = np.random.default_rng(1).random(500) < 0.1
    _, row_QK = topk.Exact(vector_GE)(query_QE, 10, allowed_G)
    np.testing.assert_array_equal(row_QK, slow(query_QE, vector_GE, 10, allowed_G))


def test_the_scores_of_some_rows_are_those_that_a_search_gives_them():
    query_QE, vector_GE = problem(1000)
    exact = topk.Exact(vector_GE)
    score_QK, row_QK = exact(query_QE, 7)
    row_QK[2, 3] = -1
    found_QK = exact.scores(query_QE, row_QK)
    assert np.isneginf(found_QK[2, 3])
    found_QK[2, 3] = score_QK[2, 3]
    np.testing.assert_allclose(found_QK, score_QK, rtol=1e-5)


def test_behind_the_last_row_there_is_nothing():
    query_QE, vector_GE = problem(100)
    score_QK, row_QK = topk.Exact(vector_GE)(query_QE, 10, np.arange(100) < 3)
    assert (row_QK[:, 3:] == -1).all() and np.isneginf(score_QK[:, 3:]).all() and (row_QK[:, :3] >= 0).all()
    assert (topk.Exact(vector_GE[:0])(query_QE, 4)[1] == -1).all()
