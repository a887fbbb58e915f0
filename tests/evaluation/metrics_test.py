"""Block metrics equal a literal ranking, ties included, whatever the block."""

import numpy as np
import pytest

from lcr2s_jax.errors import UserError
from lcr2s_jax.evaluation import evaluate, metrics


def slow(score_QG, query_pid, gallery_pid):
    rows = []
    for score, pid in zip(score_QG, query_pid, strict=True):
        relevant = gallery_pid == pid
        if not relevant.any():
            continue
        order = sorted(range(len(score)), key=lambda j: (-score[j], relevant[j]))  # ties: relevant ones last
        ranks = [r + 1 for r, j in enumerate(order) if relevant[j]]
        ap = np.mean([(k + 1) / rank for k, rank in enumerate(ranks)])
        rows.append([ranks[0] <= 1, ranks[0] <= 5, ranks[0] <= 10, ap, len(ranks) / ranks[-1]])
    return 100 * np.mean(rows, axis=0)


def problem(queries=23, gallery=40, people=9, seed=0):
    rng = np.random.default_rng(seed)
    query_pid, gallery_pid = rng.integers(0, people, queries), rng.integers(0, people, gallery)
    return rng.normal(size=(queries, 5)), rng.normal(size=(gallery, 5)), query_pid, gallery_pid


@pytest.mark.parametrize('block', [1, 7, 23, 256])
def test_metrics_are_those_of_a_literal_ranking(block):
    query, gallery, query_pid, gallery_pid = problem()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery)]
    found = metrics.retrieval(query, gallery, query_pid, gallery_pid, block)
    expected = slow(unit[0] @ unit[1].T, query_pid, gallery_pid)
    np.testing.assert_allclose([found[name] for name in metrics.NAMES], expected, rtol=1e-5)


def test_ties_count_against_the_system():
    score = np.round(np.random.default_rng(3).normal(size=(30, 50)))  # few distinct values: many ties
    query_pid, gallery_pid = np.arange(30) % 6, np.arange(50) % 6
    found = metrics.from_scores(lambda rows: score[rows], query_pid, gallery_pid, 8)
    np.testing.assert_allclose([found[n] for n in metrics.NAMES], slow(score, query_pid, gallery_pid), rtol=1e-5)
    blind = metrics.from_scores(lambda rows: np.zeros((len(rows), 50)), query_pid, gallery_pid)
    assert blind['R10'] == 0, 'a system that scores all alike finds nobody'


def test_copies_are_a_tie_wherever_they_stand():
    rng = np.random.default_rng(0)
    kinds, query = rng.normal(size=(3, 16)), rng.normal(size=(41, 16))
    gallery, pid = np.concatenate([kinds] * 1366)[:4097], np.arange(4097) // 100
    score = metrics.cosine(query, gallery)(np.arange(41))
    assert all(len(np.unique(row)) == 3 for row in np.asarray(score))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery)]
    found = metrics.retrieval(query, gallery, np.arange(41), pid)
    expected = slow(np.round(unit[0] @ unit[1].T, 9), np.arange(41), pid)
    np.testing.assert_allclose([found[name] for name in metrics.NAMES], expected, rtol=1e-5)


def test_a_query_without_a_relevant_image_is_excluded_and_counted():
    query, gallery, query_pid, gallery_pid = problem()
    query_pid[:4] = 77
    found = metrics.retrieval(query, gallery, query_pid, gallery_pid)
    rest = metrics.retrieval(query[4:], gallery, query_pid[4:], gallery_pid)
    assert found == rest | {'excluded': 4}


def test_no_relevant_image_at_all_is_an_error():
    with pytest.raises(UserError, match='of the same people'):
        metrics.retrieval(np.ones((2, 3)), np.ones((2, 3)), np.array([0, 1]), np.array([2, 3]))


def test_length_and_type_of_vectors_are_no_matter_however_large_or_small():
    query, gallery, query_pid, gallery_pid = problem()
    expected = metrics.retrieval(query, gallery, query_pid, gallery_pid)
    for scale in (1e300, 1e30, 1e-30, 1e-300):  # whose squares float32 has not
        assert metrics.retrieval(query * scale, gallery / scale, query_pid, gallery_pid) == expected
    some = metrics.retrieval(query * np.where(np.arange(23) % 2, 1e200, 1)[:, None], gallery, query_pid, gallery_pid)
    assert some == expected
    with pytest.raises(UserError, match='complex128'):
        metrics.retrieval(query * 1j, gallery, query_pid, gallery_pid)


def test_identities_are_equal_as_python_says_and_nobody_is_unknown():
    vectors = np.eye(2)
    large = np.array([2**53, 2**53 + 1])
    found = metrics.retrieval(vectors, vectors[::-1], large.astype(np.uint64), large.astype(np.int64)[::-1])
    assert found['R1'] == 100 and found['mAP'] == 100, 'as float64 both would be one person'
    names = metrics.retrieval(vectors, vectors, ['ann', 'bob'], np.array(['ann', 'bob'], object))
    assert names['R1'] == 100
    for unknown in (np.nan, None):
        with pytest.raises(UserError, match=f'1 identities that are {unknown}, expected a person each'):
            metrics.retrieval(vectors, vectors, [0, unknown], [0, 1])
    with pytest.raises(UserError, match=r'share \(int and str\)'):
        metrics.retrieval(vectors, vectors, [0, 1], ['0', '1'])


@pytest.mark.parametrize('wrong', [np.nan, np.inf])
@pytest.mark.parametrize('which', ['queries', 'gallery items'])
def test_features_that_are_not_finite_are_no_perfect_ranking(which, wrong):
    query, gallery, query_pid, gallery_pid = problem()
    (query if which == 'queries' else gallery)[2, 1] = wrong
    with pytest.raises(UserError, match=rf'1 of \d+ {which}'):
        metrics.retrieval(query, gallery, query_pid, gallery_pid)


def test_supports_are_other_pictures_of_the_same_person_each_once():
    pid, view = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 3, 3, 4])  # captions: two of some pictures
    for seed in range(9):
        for item, row in enumerate(evaluate.support_index(pid, view, 3, seed)):
            others, there = row[row != item], set(view[pid == pid[item]]) - {view[item]}
            assert row[0] == item and set(view[others]) <= there
            assert len(set(view[others])) == len(others) == min(2, len(there))


def test_chance_is_what_random_rankings_reach():
    rng = np.random.default_rng(0)
    query_pid, gallery_pid = np.arange(40) % 8, np.arange(60) % 8
    runs = [
        metrics.from_scores(lambda rows: rng.normal(size=(len(rows), 60)), query_pid, gallery_pid) for _ in range(100)
    ]
    for name, expected in metrics.random(query_pid, gallery_pid).items():
        assert abs(np.mean([run[name] for run in runs]) - expected) < 1.5


def test_vectors_may_be_lists_and_those_of_two_models_are_refused():
    rows, people = np.eye(3).tolist(), [0, 1, 2]
    assert metrics.retrieval(rows, rows, people, people)['R1'] == 100
    for queries in (np.eye(3)[:, :2], [['a', 'b', 'c']] * 3):
        with pytest.raises(UserError, match='expected vectors of as many numbers'):
            metrics.retrieval(queries, rows, people, people)
