"""Pictures that cannot be used: told apart, skipped and named up to one in a hundred, more stop the build."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data import people, pictures, transforms
from lcr2s_jax.errors import DataError
from tests import folders
from tests.data.people_test import tokenizer
from tests.folders import MAX_PIXELS, open_source, read


@pytest.fixture(scope='module')
def words(tmp_path_factory):
    return tokenizer(tmp_path_factory.mktemp('words'))


def test_pictures_are_read_in_order_with_what_is_wrong(tmp_path):
    folder = folders.cuhk(tmp_path)
    folder.path(folder.rows[2]).unlink()
    folder.damage(folder.rows[0])  # PNG
    folder.damage(folder.rows[5])  # JPEG
    folder.path(folder.rows[9]).write_text('<html>')
    with Image.new('L', (9, 9)) as picture:
        picture.save(folder.path(folder.rows[12]), format='GIF')
    folder.rows[14]['captions'] = ['']
    entries = read('cuhk_pedes', folder.save().root).entries
    found = list(pictures.read(entries, folder.images, MAX_PIXELS))
    assert [entry for entry, _, _ in found] == list(entries)
    faults = {number: fault for number, (_, _, fault) in enumerate(found) if fault}
    expected = {0: 'damaged', 2: 'no such file', 5: 'damaged', 9: 'an HTML file', 12: 'a GIF file', 14: 'no caption'}
    assert faults.keys() == expected.keys()
    for number, words in expected.items():
        assert words in faults[number]


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.new('1', (30_000, 100)).save(tmp_path / 'wide.png')
    Image.new('1', (20_000, 20_000)).save(tmp_path / 'bomb.png')
    monkeypatch.setattr(Image.Image, 'load', lambda self: pytest.fail('decoded'))
    assert '30000 x 100 pixels, above config.data.max_pixels = 1000' in pictures.fault_of(
        (tmp_path / 'wide.png').read_bytes(), 1000
    )
    assert '20000 x 20000 pixels' in pictures.fault_of((tmp_path / 'bomb.png').read_bytes(), 1000)


def test_training_reads_what_pillow_shows_of_a_bmp_with_a_palette_and_of_a_turned_picture():
    picture = Image.effect_mandelbrot((12, 16), (-2, -2, 2, 2), 9).convert('RGB')
    picture.paste((200, 30, 90), (3, 3, 9, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    for other, kind, more in (
        (picture, 'BMP', {}),
        (picture.convert('L'), 'BMP', {}),
        (picture.convert('RGBA'), 'BMP', {}),
        (picture.quantize(7), 'BMP', {}),
        (picture.convert('1'), 'BMP', {}),
        (picture.quantize(7), 'PNG', {}),
        (picture.convert('1'), 'PNG', {}),
        (picture, 'PNG', {'exif': exif}),
    ):
        file = io.BytesIO()
        other.save(file, kind, **more)
        assert pictures.fault_of(file.getvalue(), MAX_PIXELS) == ''
        decoded = transforms.decode(transforms.tf.constant(pictures.as_shown(file.getvalue()))).numpy()
        shown = other.convert('RGB').transpose(Image.Transpose.ROTATE_270) if more else other.convert('RGB')
        np.testing.assert_array_equal(decoded, np.asarray(shown))


@pytest.fixture
def hundred(tmp_path):
    """A table of 102 images: one may be unusable, two may not."""
    return folders.table(tmp_path / 'data', splits=True, people=34)


def test_one_percent_unusable_images_are_skipped_and_named(hundred, words, tmp_path, capfd):
    hundred.damage(hundred.rows[40])
    for _ in range(2):
        splits = people.load(open_source('folder', hundred.root), words, 12, str(tmp_path / 'cache'))
        assert sum(len(split.jpegs) for split in splits.values()) == 101
        assert hundred.rows[40]['image'] not in splits['train'].file_names
        out = capfd.readouterr().err
        assert 'used without 1 of its images' in out and hundred.rows[40]['image'] in out


def test_more_unusable_images_stop_the_build_and_leave_nothing(hundred, words, tmp_path):
    hundred.damage(hundred.rows[40])
    hundred.path(hundred.rows[90]).unlink()
    with pytest.raises(DataError, match='found 2 unusable among .*expected 1% at most') as error:
        people.load(open_source('folder', hundred.root), words, 12, str(tmp_path / 'cache'))
    assert hundred.rows[40]['image'] in str(error.value) and hundred.rows[90]['image'] in str(error.value)
    assert not list((tmp_path / 'cache').rglob('*array_record*'))


def test_other_pictures_under_the_same_names_in_another_root_are_refused_and_a_moved_folder_is_not(words, tmp_path):
    cache = str(tmp_path / 'cache')

    def load(root):
        return people.load(open_source('rstpreid', tmp_path / root), words, 12, cache)['train'].jpegs[:]

    folders.rstp(tmp_path / 'a')
    blurred = folders.rstp(tmp_path / 'b')
    built = load('a')
    assert load('b') == built, 'a copy'
    Image.new('RGB', (9, 9)).save(blurred.path(blurred.rows[3]))
    with pytest.raises(DataError, match=f'found 1 image of another size .*from the images below {tmp_path}/a/RSTP'):
        load('b')
    shutil.rmtree(blurred.images)
    assert load('b') == built, 'of the folder only the annotations are needed'
    damaged = folders.rstp(tmp_path / 'c')
    Image.new('RGB', (9, 9)).save(damaged.path(damaged.rows[3]))
    assert (
        people.load(open_source('rstpreid', tmp_path / 'c'), words, 12, str(tmp_path / 'other'))['train'].jpegs != built
    )


def test_other_annotations_tokens_or_limits_are_built_anew(words, tmp_path):
    folder, cache = folders.rstp(tmp_path), tmp_path / 'cache'

    def built(tokens=words, **changes):
        people.load(open_source('rstpreid', tmp_path, **changes), tokens, 12, str(cache))
        return len(list(cache.glob('*/*/*/dataset_info.json')))

    assert built() == built() == 1
    folder.rows[0]['captions'].append('One more.')
    folder.save()
    assert built() == 2
    assert built(tokenizer(tmp_path / 'other', 518)) == 3
    assert built(max_pixels=999) == 4
    folder.file.write_text(json.dumps(folder.rows, indent=1))
    assert built() == 4, 'another spelling of the same entries is the same dataset'
