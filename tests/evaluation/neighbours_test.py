"""A gallery that supports itself: neighbours help where they are right, and cost nothing where none are asked for."""

import numpy as np

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.evaluation import evaluate, metrics, neighbours


def noisy_people(seed: int = 0, people: int = 60, views: int = 4, width: int = 32):
    rng = np.random.default_rng(seed)
    who = rng.normal(size=(people, width))
    pid = np.repeat(np.arange(people), views)
    gallery = who[pid] + 0.7 * rng.normal(size=(people * views, width))
    query = who + 1.5 * rng.normal(size=(people, width))
    return query, gallery, np.arange(people), pid


def test_the_nearest_are_the_most_similar_others():
    _, gallery, _, _ = noisy_people()
    found = neighbours.nearest(gallery, 3)
    sim = neighbours.unit(gallery) @ neighbours.unit(gallery).T
    np.fill_diagonal(sim, -2)
    np.testing.assert_array_equal(found, np.argsort(-sim, axis=1)[:, :3])


def test_right_neighbours_raise_the_mean_average_precision_and_none_change_nothing():
    query, gallery, query_pid, gallery_pid = noisy_people()
    near = neighbours.nearest(gallery, 3)
    richer = {k: neighbours.enriched(gallery, near[:, :k]) for k in (0, 3)}
    found = {k: metrics.retrieval(query, x, query_pid, gallery_pid)['mAP'] for k, x in richer.items()}
    plain = metrics.retrieval(query, gallery, query_pid, gallery_pid)['mAP']
    assert found[0] == plain and found[3] > plain + 3


def test_the_nearer_a_neighbour_the_more_it_weighs():
    x_GE = np.eye(4)
    rich_GE = neighbours.enriched(x_GE, np.array([[1, 2, 3], [0, -1, -1], [3, -1, -1], [-1, -1, -1]]))
    np.testing.assert_allclose(rich_GE[0] / rich_GE[0, 0], [1, 1, 1 / 2, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(rich_GE[3], x_GE[3])


def test_right_neighbours_of_another_encoder_help_where_the_own_ones_are_wrong():
    query, gallery, query_pid, gallery_pid = noisy_people()
    other = np.eye(gallery_pid.max() + 1)[gallery_pid]
    e = Embeddings(gallery, query, gallery_pid, query_pid, None, None)
    own, theirs = (evaluate.gallery_side(e, 3, near_GE=near_GE) for near_GE in (None, other))
    assert theirs['first neighbours'] == 100 > own['first neighbours']
    name = 'averaged with 3 nearest'
    assert theirs[name]['t2i']['mAP'] > own[name]['t2i']['mAP'] + 1


def test_reciprocal_neighbours_re_rank_for_the_better():
    query, gallery, query_pid, gallery_pid = noisy_people()
    score = neighbours.reciprocal_scores(query, gallery, k1=6, k2=3)
    again = metrics.from_scores(lambda rows: score[rows], query_pid, gallery_pid)['mAP']
    assert again > metrics.retrieval(query, gallery, query_pid, gallery_pid)['mAP'] + 3


def test_visual_neighbours_re_rank_for_the_better():
    query, gallery, query_pid, gallery_pid = noisy_people()
    score = neighbours.visual_scores(query, gallery, k=4)
    again = metrics.from_scores(lambda rows: score[rows], query_pid, gallery_pid)['mAP']
    assert again > metrics.retrieval(query, gallery, query_pid, gallery_pid)['mAP'] + 1
    one = neighbours.visual_scores(query, gallery, k=4, weight=0.0)
    np.testing.assert_allclose(one, neighbours.unit(query) @ neighbours.unit(gallery).T, atol=1e-6)


def test_equal_rows_and_blocks_change_nothing(monkeypatch):
    _, gallery, _, _ = noisy_people(people=10)
    gallery = np.concatenate([gallery, np.repeat(gallery[:1], 9, axis=0)])
    whole = neighbours.nearest(gallery, 3)
    assert not (whole == np.arange(len(gallery))[:, None]).any() and (whole >= 0).all()
    monkeypatch.setattr(neighbours, '_BLOCK', 16)
    parts = neighbours.nearest(gallery, 3)
    np.testing.assert_array_equal(parts[1:40], whole[1:40])
    np.testing.assert_allclose(neighbours.enriched(gallery, parts), neighbours.enriched(gallery, whole), atol=1e-5)


def test_the_share_of_right_first_neighbours_is_counted():
    assert neighbours.right_neighbours(np.array([[1, 2], [2, 0], [0, 1], [-1, -1]]), np.array([0, 0, 1, 1])) == 1 / 3
    assert neighbours.right_neighbours(np.array([[-1, -1]]), np.array([0])) == 0, 'a picture alone has none'


def test_a_gallery_smaller_than_its_neighbourhood_is_fine():
    for rows in range(3):
        x_GE = np.eye(3)[:rows]
        near_Gk = neighbours.nearest(x_GE, 5)
        assert near_Gk.shape == (rows, 5) and (near_Gk[:, max(rows - 1, 0) :] == -1).all()
        assert neighbours.enriched(x_GE, near_Gk).shape == (rows, 3)
