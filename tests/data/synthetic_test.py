"""Demo people: reproducible, honest about what a view shows, and as hard as the oracle states."""

import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image

from data import sources
from data.demo import synthetic as demo
from data.demo.outfits import identity
from data.demo.picture import CAMERAS
from data.demo.views import BACK, FRONT, shown, views
from lcr2s_jax.errors import DataError

PEOPLE = {'train': 8, 'val': 4, 'test': 6}


def _cases(count=150, split='test', seed=11):
    """(identity, view, what it shows, its captions) of every view of some people."""
    for person in range(count):
        who = identity(seed, split, person)
        said = demo.captions(seed, split, person)
        for view, pair in zip(views(seed, split, person), said, strict=True):
            yield who, view, shown(who, view), pair


@pytest.fixture(scope='module')
def drawn():
    return list(demo.records(0, PEOPLE, cameras=True))


def test_the_same_seed_gives_the_same_records_with_any_number_of_workers(drawn):
    assert drawn == list(demo.records(0, PEOPLE, True, workers=1))
    assert drawn == list(demo.records(0, PEOPLE, True, workers=2))


def test_a_larger_set_begins_with_the_smaller_one(drawn):
    assert list(demo.records(0, {'train': 9}, True))[:40] == [r for r in drawn if r.split == 'train'][:40]


def test_another_seed_gives_other_people(drawn):
    other = list(demo.records(1, PEOPLE, True))
    assert not {r.jpeg for r in drawn} & {r.jpeg for r in other}
    pairs = [[identity(seed, 'train', i).attributes for i in range(20)] for seed in (0, 1)]
    assert all(a != b for a, b in zip(*pairs, strict=True))


def test_splits_share_no_person_no_file_and_no_picture(drawn):
    for field in ('person', 'file_name', 'jpeg'):
        values = [{getattr(r, field) for r in drawn if r.split == split} for split in PEOPLE]
        assert not values[0] & values[1] and not values[1] & values[2] and not values[0] & values[2]
    assert len({r.file_name for r in drawn}) == len({r.jpeg for r in drawn}) == len(drawn)
    assert drawn[0].person == 'train_0000' and re.fullmatch(r'train/0000_c[1-6]_0\.jpg', drawn[0].file_name)


def test_every_image_has_two_captions(drawn):
    for record in drawn:
        assert len(record.captions) == 2 and all(len(text.split()) >= 4 for text in record.captions)


def test_a_photograph_is_128_by_64_and_a_crop_as_small_as_its_camera_sees_it(drawn):
    for record, photograph in zip(drawn, demo.records(0, PEOPLE, cameras=False), strict=True):
        assert Image.open(io.BytesIO(photograph.jpeg)).size == (64, 128)
        assert photograph.captions == record.captions
        width, height = Image.open(io.BytesIO(record.jpeg)).size
        assert 0.84 < height / _camera(record).height < 1.16 and width == height // 2


def test_no_camera_sees_a_person_twice(drawn):
    seen = [(record.person, re.search(r'_c(\d)_', record.file_name)[1]) for record in drawn]
    assert len(set(seen)) == len(seen)


def test_a_camera_has_its_own_colours(drawn):
    """Blue over red, beside the same picture as a photograph, follows the camera's cast."""
    casts, found = [], []
    for record, photograph in zip(drawn, demo.records(0, PEOPLE, cameras=False), strict=True):
        filmed, clear = (np.asarray(Image.open(io.BytesIO(x.jpeg)), float).mean((0, 1)) for x in (record, photograph))
        casts.append(np.log(_camera(record).cast[2] / _camera(record).cast[0]))
        found.append(np.log(filmed[2] / filmed[0]) - np.log(clear[2] / clear[0]))
    assert np.corrcoef(casts, found)[0, 1] > 0.8


def _camera(record):
    return CAMERAS[int(re.search(r'_c(\d)_', record.file_name)[1]) - 1]


def test_every_person_has_4_to_6_views_no_two_alike_with_a_front_and_a_back():
    counts = set()
    for person in range(100):
        points = [view.viewpoint for view in views(3, 'train', person)]
        counts.add(len(points))
        assert len(set(points)) == len(points)
        assert set(points) & set(FRONT) and set(points) & set(BACK)
    assert counts == {4, 5, 6}


def test_a_caption_names_only_what_its_image_shows():
    for _, _, visible, pair in _cases():
        for text, named in pair:
            assert named and named.items() <= visible.items(), text
            assert 'none' not in named.values(), text


def test_a_caption_leaves_things_out_and_its_twin_names_others():
    cases = list(_cases())
    lengths = [len(named) for _, _, _, pair in cases for _, named in pair]
    assert 4 <= np.mean(lengths) <= 7
    assert np.mean([first != second for _, _, _, ((_, first), (_, second)) in cases]) > 0.9


def test_a_colour_is_spelt_in_the_sentence_that_names_it():
    for _, _, _, pair in _cases():
        for text, named in pair:
            for key, value in named.items():
                if key.endswith('colour'):
                    assert value in text.lower().replace('gray', 'grey'), (text, key)


def test_a_chest_print_hides_from_behind_and_a_back_print_from_the_front():
    seen = {'chest': 0, 'back': 0}
    for who, view, visible, pair in _cases():
        named = set().union(*(names for _, names in pair))
        for place, sides in (('chest', FRONT), ('back', BACK)):
            if view.viewpoint not in sides:
                assert place not in visible and f'{place}_colour' not in named
            elif who.attributes[place] != 'none':
                seen[place] += place in named
    assert min(seen.values()) > 5


def test_the_front_gives_no_backpack_away_and_an_occluded_foot_no_shoe():
    kinds = set()
    for who, view, visible, _ in _cases():
        if who.attributes['bag'] == 'backpack' and view.viewpoint == 'front':
            assert 'bag' not in visible and 'bag_colour' not in visible
            kinds.add('backpack')
        if view.occlusion in ('box', 'car', 'cut'):
            assert 'shoes' not in visible and 'shoes_colour' not in visible
            kinds.add(view.occlusion)
    assert kinds == {'backpack', 'box', 'car', 'cut'}


def test_the_oracle_is_far_above_chance_and_below_certainty():
    people = {'test': 80}
    score_QG, query_pid_Q, gallery_pid_G = demo.oracle_scores(0, people, 'test')
    images = sum(len(views(0, 'test', person)) for person in range(80))
    assert score_QG.shape == (2 * images, images) and score_QG.dtype == np.float64
    assert query_pid_Q.shape == (2 * images,) and gallery_pid_G.shape == (images,)
    recall = np.mean(gallery_pid_G[score_QG.argmax(1)] == query_pid_Q)
    assert 0.3 < recall < 0.9


def test_the_oracles_rows_follow_the_records(drawn):
    _, query_pid_Q, gallery_pid_G = demo.oracle_scores(0, PEOPLE, 'test')
    persons = [int(r.person.split('_')[1]) for r in drawn if r.split == 'test']
    assert gallery_pid_G.tolist() == persons
    assert query_pid_Q.tolist() == [person for person in persons for _ in range(2)]


def test_no_true_image_contradicts_its_caption():
    score_QG, _, gallery_pid_G = demo.log_likelihood(0, {'test': 30}, 'test')
    own_Q = score_QG[np.arange(len(score_QG)), np.arange(len(score_QG)) // 2]
    assert len(gallery_pid_G) * 2 == len(own_Q)
    assert (own_Q > -0.05).all()


def test_jitter_breaks_ties_and_reorders_nothing_else():
    plain_QG, _, _ = demo.log_likelihood(0, {'test': 30}, 'test')
    score_QG, _, _ = demo.oracle_scores(0, {'test': 30}, 'test')
    order_QG = score_QG.argsort(1)
    sorted_QG = np.take_along_axis(plain_QG, order_QG, 1)
    assert (np.diff(sorted_QG, axis=1) > -1e-6).all()
    ties = [len(np.unique(row)) for row in plain_QG]
    assert min(ties) < plain_QG.shape[1] and all(len(np.unique(row)) == len(row) for row in score_QG)
    assert (demo.oracle_scores(0, {'test': 30}, 'test')[0] == score_QG).all()


@pytest.mark.parametrize(('seed', 'people'), [(-1, {'test': 1}), (0, {'tests': 1}), (0, {'test': -1})])
def test_a_wrong_request_says_what_is_expected(seed, people):
    with pytest.raises(DataError, match='expected'):
        list(demo.records(seed, people, True))


def test_a_sheet_has_one_row_per_person():
    assert demo.sheet(0, 2).size == (900, 636)


@pytest.mark.parametrize(
    ('cameras', 'golden'),
    [
        (True, 'a07a7ccebe081c7e82edfab4647fcec55df88c7a0632bb009b16a45555563168'),
        (False, 'ad7ec64dc43ce684474e79e398bacd4b715f8b26c2353201f2e8eddfe647ae6f'),
    ],
)
def test_this_version_of_the_data_has_these_bytes(cameras, golden):
    """Where this fails, what is drawn or said has changed: raise demo.VERSION, and write the new hashes here."""
    digest = hashlib.sha256()
    for record in demo.records(0, {'train': 3, 'val': 1, 'test': 2}, cameras):
        digest.update(repr((record.split, record.person, record.file_name, record.captions)).encode() + record.jpeg)
    assert (demo.VERSION, digest.hexdigest()) == (1, golden)


def test_the_identity_of_the_data_is_version_and_settings_and_not_source_code():
    drawn = dict(seed=0, people=dict(train=4, val=1, test=1), cameras=True)
    one, other = (sources.open_source('demo', '', '', 1, {}, drawn | {'seed': seed}) for seed in (0, 1))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint.startswith(f'demo {demo.VERSION} ')
