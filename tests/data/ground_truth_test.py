"""What is said to be known of drawn people is what they are drawn and described from, in the same order."""

import numpy as np
import pytest

from data.demo import synthetic as demo
from lcr2s_jax.errors import DataError

PEOPLE = {'train': 2, 'test': 5}


def test_it_has_the_images_and_captions_of_the_records_in_their_order():
    records = [record for record in demo.records(7, PEOPLE, True) if record.split == 'test']
    found = demo.seen(7, PEOPLE, 'test')
    assert [f'test_{person:04d}' for person in found.image_person] == [record.person for record in records]
    assert len(found.viewpoint) == len(found.shown) == len(records)
    assert len(found.named) == len(found.caption_person) == sum(len(record.captions) for record in records)
    image = np.repeat(np.arange(len(records)), [len(record.captions) for record in records])
    for names, i in zip(found.named, image, strict=True):
        assert names.items() <= found.shown[i].items() <= found.traits[found.image_person[i]].items()
    assert [f'camera {record.file_name.split("_c")[1][0]}' for record in records] == demo.cameras(
        record.file_name for record in records
    )


def test_a_photograph_names_no_camera():
    assert demo.cameras(['test/0004_2.jpg', 'test/0004_c3_2.jpg']) == ['', 'camera 3']


def test_every_viewpoint_has_a_side():
    sides = {word: demo.side(word) for word in ('front-left', 'left', 'right', 'back', 'back-right')}
    assert sides == {'front-left': 'front', 'left': 'side', 'right': 'side', 'back': 'back', 'back-right': 'back'}


def test_a_split_without_people_is_refused():
    with pytest.raises(DataError, match="'val'"):
        demo.seen(0, PEOPLE, 'val')


def test_circles_are_look_alikes_and_others_are_not():
    one, another, others = demo.circles(np.random.default_rng(0), 12, np.arange(64))
    assert len(one) == len(another) == len(others) == 4
    assert len({pid // 8 for pid in one}) == len({pid // 8 for pid in another}) == 1
    assert not {pid // 8 for pid in others} & {one[0] // 8, another[0] // 8} and one[0] // 8 != another[0] // 8
    assert demo.circles(np.random.default_rng(0), 12, np.arange(6))[1:] == [[], []]
