"""Built datasets: what goes in comes out, once, and anew when what it depends on changes."""

import dataclasses
import pathlib

import numpy as np
import pytest

from data import people
from data.records import DataError, Record
from data.sources import Source, open_source
from data.tokens import Tokenizer, save_tokenizer, train_tokenizer

RECORDS = [  # splits and identities interleaved, as annotation files may have them
    Record('train', 'b7', 'x/0.jpg', b'\xff\xd8 not even a picture \x00\x01', ('a man', 'a man in red')),
    Record('val', 'z', 'x/1.jpg', b'one', ('a woman',)),
    Record('train', 'a1', 'x/2.jpg', b'two', ('the café',)),
    Record('train', 'b7', 'x/3.jpg', b'three', ('blue', 'green', 'yellow')),
    Record('val', 'z', 'x/4.jpg', b'four', ('someone',)),
]


class Counted:
    """A source that knows how often it was read."""

    def __init__(self, records=RECORDS, splits=('train', 'val'), fingerprint='one'):
        self.passes = 0
        self.source = Source('tiny', fingerprint, splits, self._read)
        self._records = records

    def _read(self):
        self.passes += 1
        yield from self._records


def tokenizer(folder, vocab_size=520):
    save_tokenizer(
        train_tokenizer(['a man in red', 'a woman in blue'] * 9, vocab_size),
        folder,
        context_length=12,
    )
    return Tokenizer(str(folder))


@pytest.fixture(scope='module')
def words(tmp_path_factory):
    return tokenizer(tmp_path_factory.mktemp('words'))


def test_bytes_names_captions_and_order_are_kept_exactly(words, tmp_path):
    splits = people.load(Counted().source, words, 12, str(tmp_path))
    assert list(splits) == ['train', 'val']
    train = splits['train']
    expected = [record for record in RECORDS if record.split == 'train']
    assert train.jpegs == [record.jpeg for record in expected]
    assert train.file_names == ['x/0.jpg', 'x/2.jpg', 'x/3.jpg']
    assert train.captions == [caption for record in expected for caption in record.captions]
    np.testing.assert_array_equal(train.tokens, words.encode(train.captions, 12))
    np.testing.assert_array_equal(train.caption_image, [0, 0, 1, 2, 2, 2])
    assert train.tokens.dtype == train.image_pid.dtype == train.caption_image.dtype == np.int32


def test_identities_are_numbered_from_zero_within_each_split(words, tmp_path):
    splits = people.load(Counted().source, words, 12, str(tmp_path))
    np.testing.assert_array_equal(splits['train'].image_pid, [0, 1, 0])
    np.testing.assert_array_equal(splits['train'].caption_pid, [0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(splits['val'].image_pid, [0, 0])
    assert (splits['train'].num_people, splits['val'].num_people) == (2, 1)


def test_a_dataset_is_built_once_and_anew_when_anything_changes(words, tmp_path):
    cache, counted = str(tmp_path / 'cache'), Counted()
    first = people.load(counted.source, words, 12, cache)
    again = people.load(counted.source, words, 12, cache)
    assert counted.passes == 1
    assert first['train'].jpegs == again['train'].jpegs
    people.load(counted.source, tokenizer(tmp_path / 'other', 518), 12, cache)
    assert counted.passes == 2
    assert people.load(counted.source, words, 8, cache)['val'].tokens.shape == (2, 8)
    assert counted.passes == 3
    people.load(dataclasses.replace(counted.source, fingerprint='two'), words, 12, cache)
    assert counted.passes == 4


def test_a_build_that_fails_leaves_nothing_that_looks_built(words, tmp_path):
    def broken():
        yield RECORDS[0]
        raise DataError('row 2: no such file')

    source = Source('tiny', 'one', ('train',), broken)
    with pytest.raises(DataError, match='row 2'):
        people.load(source, words, 12, str(tmp_path))
    assert not list(pathlib.Path(tmp_path).rglob('*array_record*'))
    whole = Counted(splits=('train',))
    assert len(people.load(whole.source, words, 12, str(tmp_path))['train'].jpegs) == 3


def test_a_split_without_images_is_an_error(words, tmp_path):
    with pytest.raises(DataError, match='without a single image'):
        people.load(Counted(splits=('train', 'test')).source, words, 12, str(tmp_path))


def test_the_terminal_shows_the_build_and_nothing_else(words, tmp_path, capfd):
    people.load(Counted().source, words, 12, str(tmp_path))
    assert [line.split("'")[0] for line in capfd.readouterr().err.splitlines()] == [
        'Building dataset ',
        'Built dataset ',
    ]
    people.load(Counted().source, words, 12, str(tmp_path))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ''


def test_the_demo_s_fingerprint_follows_its_seed_its_people_and_who_films_them():
    def fingerprint(seed, cameras=True, **numbers):
        return open_source('demo', '', 1, {}, dict(seed=seed, people=numbers, cameras=cameras)).fingerprint

    assert fingerprint(0, train=3) == fingerprint(0, train=3, val=0)
    others = {fingerprint(0, train=3), fingerprint(1, train=3), fingerprint(0, train=4), fingerprint(0, val=3)}
    others |= {fingerprint(0, cameras=False, train=3)}
    assert len(others) == 5


def test_an_unknown_dataset_is_named():
    with pytest.raises(DataError, match="found 'cuhkk', expected one of demo"):
        open_source('cuhkk', '', 1, {}, {})
