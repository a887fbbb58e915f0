"""The attributes that a first-ranked image contradicts are counted as the docstring says, on cases made by hand."""

import numpy as np
import pytest

from benchmarks import attributes
from data.demo import synthetic as seen
from lcr2s_jax.arrays import Embeddings

# 0: red bag, seen from the side; 1: blue bag, once hidden; 2: red bag, hidden
TRUTH = seen.Seen(
    traits=[{'bag_colour': 'red'}, {'bag_colour': 'blue'}, {'bag_colour': 'red'}],
    image_person=np.array([0, 1, 1, 2]),
    caption_person=np.array([0, 0, 1, 2]),
    shown=[{'bag_colour': 'red'}, {'bag_colour': 'blue'}, {}, {}],
    named=[{'bag_colour': 'red'}, {'bag_colour': 'red'}, {'bag_colour': 'blue'}, {}],
    viewpoint=['left', 'left', 'front', 'front'],
)


def features(*first, truth=TRUTH):
    """A model that ranks these images first, one a caption, and the others in their order from the last."""
    count = len(truth.image_person)
    text = np.arange(count) * 0.01 + np.eye(count)[list(first)]
    return Embeddings(
        np.eye(count, dtype=np.float32), text.astype(np.float32), truth.image_person, truth.caption_person,
        np.arange(count), np.zeros(len(first)),
    )  # fmt: skip


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.setattr(attributes, 'seen', lambda *_: TRUTH)

    def rows(**models):
        return {(row['gallery'], row['first']): row for row in attributes.breakdown(models, 0, {'test': 3}, 'test')}

    return rows


def test_a_first_image_counts_by_its_person_whether_it_shows_the_attribute_or_not(compare):
    rows = compare(one=features(0, 2, 1, 3), two=features(0, 3, 2, 3))
    shows, hides = rows['all', 'shows'], rows['all', 'hides']
    assert shows['queries'] == 3, 'the caption that names no colour is not asked'
    assert (shows['one'], shows['one queries']) == (0, 2) and (shows['two'], shows['two queries']) == (0, 1)
    assert (hides['one'], hides['one queries']) == (100, 1), (
        "a blue bag's owner, whose bag is hidden, is no owner of a red"
    )
    assert (hides['two'], hides['two queries']) == (0, 2)
    assert hides['difference'] == -100


def test_a_part_of_the_gallery_is_ranked_for_every_query(compare):
    rows = compare(one=features(0, 0, 1, 3), two=features(1, 1, 0, 3))
    showing, hiding = rows['showing', 'shows'], rows['hiding', 'hides']
    assert (showing['one'], showing['two'], showing['difference']) == (0, 100, 100)
    assert showing['one queries'] == hiding['two queries'] == 3
    # of the two images that hide it all rank the last first, whose person has a red bag
    assert hiding['one'] == hiding['two'] == pytest.approx(100 / 3) and hiding['difference'] == 0
    assert showing['chance'] == hiding['chance'] == pytest.approx(50)


def test_the_interval_is_that_of_queries_drawn_again(compare):
    row = compare(one=features(1, 0, 1, 3), two=features(0, 0, 1, 3))['showing', 'shows']
    assert row['difference'] == pytest.approx(-100 / 3)
    assert (row['low'], row['high']) == pytest.approx((-100, 0))
    same = compare(one=features(1, 0, 1, 3), two=features(1, 0, 1, 3))['showing', 'shows']
    assert same['low'] == same['high'] == 0


def test_several_runs_of_a_model_are_averaged(compare):
    twice = [features(1, 0, 1, 3), features(0, 0, 1, 3)]
    rows = compare(one=features(0, 0, 1, 3), two=twice)
    assert rows['showing', 'shows']['difference'] == pytest.approx(100 / 6)
    assert rows['all', 'shows'] | {'gallery': 'showing'} == rows['showing', 'shows'] | {'queries': 3}


def test_what_no_query_counts_for_is_none(compare):
    row = compare(one=features(0, 0, 1, 3), two=features(0, 0, 1, 3))['all', 'hides']
    assert row['one queries'] == 0 and row['one'] is None and row['difference'] is None and row['low'] is None


def test_other_people_and_other_numbers_of_models_are_refused(compare):
    one = features(0, 0, 1, 3)
    with pytest.raises(ValueError, match='expected two'):
        compare(one=one)
    with pytest.raises(ValueError, match='two: found features of 4 images and 4 captions'):
        compare(one=one, two=one._replace(image_pid_G=one.image_pid_G[::-1]))


def test_whoever_knows_everybody_contradicts_nothing_of_the_drawn_people():
    people = {'train': 0, 'test': 24}
    truth = seen.seen(3, people, 'test')
    rng = np.random.default_rng(0)
    count = len(truth.traits)
    right = Embeddings(
        np.eye(count)[truth.image_person], np.eye(count)[truth.caption_person], truth.image_person,
        truth.caption_person, None, None,
    )  # fmt: skip
    guess = right._replace(image_GE=rng.normal(size=right.image_GE.shape), text_QE=rng.normal(size=right.text_QE.shape))
    rows = attributes.breakdown({'guess': guess, 'right': right}, 3, people, 'test')
    assert {row['attribute'] for row in rows} >= {'upper', 'bag', 'chest', 'hair_colour'}
    for row in rows:
        if row['gallery'] == 'all' and row['right'] is not None:
            assert row['right'] == 0
    shown = {row['attribute']: row for row in rows if row['gallery'] == 'showing'}
    for key in ('upper', 'lower_colour', 'gender'):
        assert shown[key]['low'] < shown[key]['high'] < 0
        assert abs(shown[key]['guess'] - shown[key]['chance']) < 20


def test_the_plot_is_drawn(compare, tmp_path):
    from PIL import Image

    models = dict(one=features(1, 0, 1, 3), two=features(0, 0, 1, 3))
    attributes.plot(attributes.breakdown(models, 0, {'test': 3}, 'test'), tmp_path / 'made' / 'plot.png')
    with Image.open(tmp_path / 'made' / 'plot.png') as picture:
        assert min(picture.size) > 100
