"""Images on disk: the same bytes as in memory, from any thread, and a damaged file is told and never read."""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import pickle
import resource
import tracemalloc

import numpy as np
import pytest

from data import built, offsets, people, pipeline
from data.records import Record, Skipped
from data.sources import Source
from lcr2s_jax.errors import DataError
from lcr2s_jax.weights.tokenizer import Tokenizer
from tests.data.pipeline_test import FULL, assert_same, jpeg

WORDS = Tokenizer('lcr2s_jax/weights/demo_clip')
LENGTH = 12


def source(images, a_file=5, total=None):
    """A split of these images, two of everybody with two captions each, in files of `a_file`."""
    records = [
        image if isinstance(image, Skipped)
        else Record('train', f'p{n // 2}', f'{n}.jpg', image, ('a man', f'a woman in red number {n}'))
        for n, image in enumerate(images)
    ]  # fmt: skip
    parts = [functools.partial(iter, records[start : start + a_file]) for start in range(0, len(records), a_file)]
    return Source('tiny', 'one', ('train',), lambda split: parts, total)


def load(given, cache, **options):
    return people.load(given, WORDS, LENGTH, str(cache), **options)['train']


def random_bytes(seed, sizes):
    rng = np.random.default_rng(seed)
    return [rng.bytes(size) for size in sizes]


def test_batches_from_disk_are_those_from_memory_to_the_bit_from_any_step(tmp_path):
    given = source([jpeg(n) for n in range(12)])
    disk, memory = load(given, tmp_path), load(given, tmp_path, in_memory=True)
    assert isinstance(disk.jpegs, built.Images) and isinstance(memory.jpegs, list)

    def batches(split, start):
        more = dict(identities=4, views=2, captions=1, seed=0, image_size=(24, 12), tokenizer=WORDS, stop=5)
        return list(pipeline.train_batches(split, **more, **FULL, start=start))

    found = batches(disk, 0)
    assert_same(batches(memory, 3), found[3:])
    assert {batch['tokens'].dtype for batch in found} == {np.dtype(np.int32)}
    galleries = [np.concatenate(list(pipeline.gallery_batches(split, (24, 12), 5))) for split in (disk, memory)]
    np.testing.assert_array_equal(*galleries)
    queries = [np.concatenate(list(pipeline.query_batches(split, 8))) for split in (disk, memory)]
    np.testing.assert_array_equal(*queries)
    assert people.digest(disk) == people.digest(memory)


def test_images_of_any_length_are_read_alone_in_slices_and_by_many_threads(tmp_path):
    """The container puts a header into every 64 KiB."""
    images = random_bytes(0, [1, 65_535, 3, 200_000, 65_512, 65_513, 131_024, 7, 500_000, 64])
    found = load(source(images), tmp_path).jpegs
    assert list(found) == images and found[2:8:3] == images[2:8:3] and found[-1] == images[-1]
    with pytest.raises(IndexError):
        found[len(images)]
    order = np.random.default_rng(1).integers(0, len(images), (64, 6))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for index, some in zip(order, pool.map(found.read, order), strict=True):
            assert some == [images[i] for i in index]


def test_memory_does_not_follow_the_bytes_of_the_images(tmp_path):
    given = source(random_bytes(0, [1_000_000] * 24))
    load(given, tmp_path)  # built
    tracemalloc.start()
    try:
        split = load(given, tmp_path)
        assert {len(image) for image in split.jpegs} == {1_000_000}
        assert tracemalloc.get_traced_memory()[0] < 6_000_000  # now; what reads JSON asks for more than it keeps
    finally:
        tracemalloc.stop()


def test_identities_go_on_over_files_and_a_skipped_image_leaves_no_hole(tmp_path, capfd):
    images = random_bytes(0, [9] * 110)
    images[6] = images[7] = Skipped('bad.jpg', 'no such file')
    split = load(source(images, a_file=4, total=200), tmp_path)
    assert split.image_pid.tolist() == [n // 2 for n in range(108)]
    assert split.file_names == [f'{n}.jpg' for n in range(110) if n not in (6, 7)]
    assert split.captions[10:14] == ['a man', 'a woman in red number 5', 'a man', 'a woman in red number 8']
    np.testing.assert_array_equal(split.tokens, WORDS.encode(split.captions, LENGTH))
    assert 'used without 2 of its images' in capfd.readouterr().err


def changed(path, at, bit=0x10):
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)


def whole(folder):
    """All that a run reads of a built dataset."""
    split = built.read(folder, ['train'])[0]['train']
    arrays = split.tokens, split.image_pid, split.caption_image, split.file_size
    return split.jpegs[:], split.file_names[:], split.captions[:], [array.tobytes() for array in arrays]


def test_every_flipped_bit_is_told_or_harmless(tmp_path):
    given = source(random_bytes(0, [37, 70_000, 41, 5, 6, 7]), a_file=4)
    folder, rng, told = people.build(given, WORDS, LENGTH, str(tmp_path)), np.random.default_rng(0), 0
    before = whole(folder)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        used = np.flatnonzero(np.frombuffer(content, np.uint8))  # record files end in thousands of zeros
        for at in {0, len(content) - 1, *rng.choice(used, min(len(used), 25), replace=False).tolist()}:
            changed(path, at)
            try:
                assert whole(folder) == before, (path.name, at)
            except DataError as error:
                told += 1
                assert str(folder) in str(error) and 'the next run builds it anew' in str(error)
            path.write_bytes(content)
    assert told > 150 and whole(folder) == before


@pytest.mark.parametrize('name', ['people-train.array_record-00001-of-00003', 'train.tokens', offsets.INDEX])
@pytest.mark.parametrize('damage', ['cut', 'gone', 'grown'])
def test_a_file_that_is_half_written_or_gone_is_told_before_training(name, damage, tmp_path):
    given = source(random_bytes(0, [4000] * 12))
    path = people.build(given, WORDS, LENGTH, str(tmp_path)) / name
    content = path.read_bytes()
    if damage == 'gone':
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == 'cut' else content + b'\0')
    with pytest.raises(DataError, match=f'{name}: .*Delete .* the next run builds it anew'):
        load(given, tmp_path)


def test_an_image_that_is_damaged_while_training_ends_it_with_a_message(tmp_path):
    given = source([jpeg(n) for n in range(12)], a_file=12)
    split = load(given, tmp_path)
    (path,) = split.jpegs.folder.glob('*array_record*')
    image = split.jpegs[7]
    changed(path, path.read_bytes().find(image) + 9)
    with pytest.raises(DataError, match=f'{path.name}: found other bytes than were built'):
        list(pipeline.gallery_batches(split, (24, 12), 4))
    os.truncate(path, 700)
    more = dict(identities=4, views=2, captions=1, seed=0, image_size=(24, 12), tokenizer=WORDS, stop=5)
    with pytest.raises(DataError, match=f'{path.name}: found other bytes than were built'):
        list(pipeline.train_batches(split, **more, **FULL))


@pytest.mark.parametrize('limit', [50_000, 300_000])
def test_a_disk_that_fills_while_building_is_told_and_leaves_nothing(limit, tmp_path):
    """A limit of the length of a file stands for a full disk; what writes a record file meets both alike."""
    given = source(random_bytes(0, [4000] * 200), a_file=100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DataError, match='cannot be built .*too large.*Nothing was built. Make room there'):
            load(given, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.suffix for path in tmp_path.rglob('*') if path.is_file()] == ['.lock']
    assert len(load(given, tmp_path).jpegs) == 200


def test_a_cache_in_a_bucket_is_refused():
    with pytest.raises(DataError, match="config.data.cache: found 'gs://bucket/cache', expected a folder"):
        load(source([b'x']), 'gs://bucket/cache')


def test_a_larger_vocabulary_has_wider_tokens(tmp_path):
    assert (offsets.token_type(1 << 16), offsets.token_type((1 << 16) + 1)) == ('<u2', '<i4')


def test_a_tokenizer_that_is_sent_to_a_worker_reads_a_caption_as_before():
    said = ['a man in <|endoftext|> red']
    sent = pickle.loads(pickle.dumps(WORDS))
    np.testing.assert_array_equal(sent.encode(said, LENGTH), WORDS.encode(said, LENGTH))
    assert sent.fingerprint == WORDS.fingerprint


def test_the_layout_of_a_file_is_not_taken_for_granted(tmp_path, monkeypatch):
    monkeypatch.setattr(offsets, 'LAYOUT', 'group_size:1')  # compressed
    with pytest.raises(DataError, match='images cannot be read by their offsets'):
        load(source([b'a' * 3000] * 4), tmp_path)
    assert not list(pathlib.Path(tmp_path).rglob('*array_record*'))


def test_a_split_is_held_in_memory_only_where_that_is_asked_for(tmp_path):
    given = source(random_bytes(0, [50] * 4))
    assert dataclasses.replace(load(given, tmp_path, in_memory=True)).jpegs == load(given, tmp_path).jpegs[:]
