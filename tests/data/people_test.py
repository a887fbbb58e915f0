"""Built datasets: what goes in comes out, once, and anew when what it depends on changes."""

import dataclasses
import functools
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from benchmarks.train_tokenizer import train_tokenizer
from data import builder, people
from data.records import Record
from data.sources import Source, open_source
from lcr2s_jax import locks
from lcr2s_jax.errors import DataError
from lcr2s_jax.weights.tokenizer import Tokenizer, save_tokenizer

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
        self.source = Source('tiny', fingerprint, splits, lambda split: [functools.partial(self._read, split)])
        self._records, self._first = records, splits[0]

    def _read(self, split):
        self.passes += split == self._first
        yield from (record for record in self._records if record.split == split)


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
    assert list(train.jpegs) == [record.jpeg for record in expected]
    assert list(train.file_names) == ['x/0.jpg', 'x/2.jpg', 'x/3.jpg']
    assert list(train.captions) == [caption for record in expected for caption in record.captions]
    np.testing.assert_array_equal(train.tokens, words.encode(train.captions, 12))
    np.testing.assert_array_equal(train.caption_image, [0, 0, 1, 2, 2, 2])
    assert train.tokens.dtype == np.uint16 and train.image_pid.dtype == train.caption_image.dtype == np.int32


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
    assert list(first['train'].jpegs) == list(again['train'].jpegs)
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

    source = Source('tiny', 'one', ('train',), lambda split: [broken])
    with pytest.raises(DataError, match='row 2'):
        people.load(source, words, 12, str(tmp_path))
    assert not list(pathlib.Path(tmp_path).rglob('*array_record*'))
    whole = Counted(splits=('train',))
    assert len(people.load(whole.source, words, 12, str(tmp_path))['train'].jpegs) == 3


HOLD = """
import sys, time
from lcr2s_jax import locks
import pathlib
with locks.alone(pathlib.Path(sys.argv[1]), lambda: None):
    print('held', flush=True)
    sys.stdin.read()
"""


def test_of_two_that_start_together_one_builds_and_the_other_waits_and_finds_it_built(words, tmp_path, capfd):
    """The other process is played: it holds the lock, then the dataset is there."""
    counted = Counted()
    people.load(counted.source, words, 12, str(tmp_path / 'there'))
    built = next((tmp_path / 'there' / 'people').glob('tiny-*'))
    capfd.readouterr()
    lock = tmp_path / 'cache' / 'people' / f'.{built.name}.lock'
    other = subprocess.Popen(
        [sys.executable, '-c', HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip
    assert other.stdout.readline() == 'held\n'
    found = {}
    late = threading.Thread(
        target=lambda: found.update(people.load(counted.source, words, 12, str(tmp_path / 'cache')))
    )
    late.start()
    said = ''
    while not said.endswith('\n') and late.is_alive():  # a line may come in two pieces
        time.sleep(0.01)
        said += capfd.readouterr().err
    built.rename(lock.with_name(built.name))
    other.communicate('')
    late.join()
    assert said == "Dataset 'tiny': waiting for another process that builds it\n"
    assert list(found) == ['train', 'val'] and counted.passes == 1
    assert capfd.readouterr().err == ''


def test_what_a_killed_build_left_is_removed_and_only_of_this_dataset(words, tmp_path):
    people.load(Counted().source, words, 12, str(tmp_path))
    built = next((tmp_path / 'people').glob('tiny-*'))
    (built / '2.0.0').rename(built / 'incomplete.ABCDEF_2.0.0')
    others = tmp_path / 'people' / 'other-1' / 'incomplete.ABCDEF_2.0.0'
    others.mkdir(parents=True)
    people.load(Counted().source, words, 12, str(tmp_path))
    assert [path.name for path in built.iterdir()] == ['2.0.0'] and others.is_dir()


def test_without_locks_it_is_built_all_the_same_and_nothing_is_removed(words, tmp_path, monkeypatch):
    def unsupported(file, how):
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(locks.fcntl, 'flock', unsupported)
    people.load(Counted().source, words, 12, str(tmp_path / 'there'))
    built = next((tmp_path / 'there' / 'people').glob('tiny-*'))
    left = tmp_path / 'cache' / 'people' / built.name / 'incomplete.ABCDEF_2.0.0'
    left.mkdir(parents=True)
    assert list(people.load(Counted().source, words, 12, str(tmp_path / 'cache'))) == ['train', 'val']
    assert left.is_dir(), 'somebody may be at work in it'


def test_the_home_folder_may_be_written_as_a_tilde(words, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    people.load(Counted().source, words, 12, '~/cache')
    assert list((tmp_path / 'cache' / 'people').glob('tiny-*/2.0.0'))


def test_a_cache_that_cannot_be_written_is_named(words, tmp_path, monkeypatch, capfd):
    (tmp_path / 'file').write_text('no folder')
    with pytest.raises(DataError, match="config.data.cache: found '.*file', where the dataset 'tiny' cannot be built"):
        people.load(Counted().source, words, 12, str(tmp_path / 'file'))

    def full(self, **more):
        raise RuntimeError('No space left on device')  # of array_record, as it was met

    monkeypatch.setattr(builder.People, 'download_and_prepare', full)
    with pytest.raises(DataError, match='No space left on device.*Make room there, or change config.data.cache'):
        people.load(Counted().source, words, 12, str(tmp_path))
    assert 'Built' not in capfd.readouterr().err


def test_a_split_without_images_is_an_error(words, tmp_path):
    with pytest.raises(DataError, match='without a single image'):
        people.load(Counted(splits=('train', 'test')).source, words, 12, str(tmp_path))


def test_a_digest_says_which_images_of_whom_were_loaded(words, tmp_path):
    def digest(records, folder):
        source = Counted([*records, RECORDS[1]]).source
        return people.digest(people.load(source, words, 12, str(tmp_path / folder))['train'])

    train = [record for record in RECORDS if record.split == 'train']
    whole = digest(train, 'a')
    assert whole.startswith('3 images, ') and whole == digest(train, 'b')
    assert digest(train[:2], 'c') != whole, 'one was skipped'
    assert digest([train[0], train[1], dataclasses.replace(train[2], person='a1')], 'd') != whole


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
        return open_source('demo', '', '', 1, {}, dict(seed=seed, people=numbers, cameras=cameras)).fingerprint

    assert fingerprint(0, train=3) == fingerprint(0, train=3, val=0)
    others = {fingerprint(0, train=3), fingerprint(1, train=3), fingerprint(0, train=4), fingerprint(0, val=3)}
    others |= {fingerprint(0, cameras=False, train=3)}
    assert len(others) == 5


def test_an_unknown_dataset_is_named():
    with pytest.raises(DataError, match="found 'cuhkk', expected one of demo"):
        open_source('cuhkk', '', '', 1, {}, {})
