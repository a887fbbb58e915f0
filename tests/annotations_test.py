"""Annotation files, tables and pictures: read as they are published, and refused in words where they are not."""

import json

import numpy as np
import pytest
from PIL import Image

from data import annotations, images, people, sources, table
from data.records import DataError
from tests import folders
from tests.people_test import tokenizer

MAX_PIXELS = 1_000_000
DEAL = dict(table='people.csv', seed=0, val=0.1, test=0.2)


@pytest.fixture(scope='module')
def words(tmp_path_factory):
    return tokenizer(tmp_path_factory.mktemp('words'))


def read(dataset, root, **changes):
    return sources.read_annotations(dataset, str(root), DEAL | changes)


def open_source(dataset, root, max_pixels=MAX_PIXELS, **changes):
    return sources.open_source(dataset, str(root), max_pixels, DEAL | changes, {})


@pytest.mark.parametrize(
    'make,dataset,splits,first,entries',
    [
        (folders.cuhk, 'cuhk_pedes', ('train', 'val', 'test'), ('1', 'CUHK01/p1_0.png'), 40),
        (folders.icfg, 'icfg_pedes', ('train', 'test'), ('0', 'train/0000/0000_000.jpg'), 42),
        (folders.rstp, 'rstpreid', ('train', 'val', 'test'), ('0', '0000_c1_0001.jpg'), 50),
    ],
)
def test_the_published_layouts_are_read_from_their_folder_or_the_one_above(
    make, dataset, splits, first, entries, tmp_path
):
    folder = make(tmp_path)
    found = read(dataset, folder.root)
    assert read(dataset, tmp_path) == found
    assert found.splits == splits and len(found.entries) == entries
    assert (found.entries[0].person, found.entries[0].file_name) == first
    assert found.splits_from == 'file'


def test_entries_come_split_by_split_in_the_file_s_order(tmp_path):
    folder = folders.cuhk(tmp_path)
    mixed = [folder.rows[i] for i in np.random.default_rng(0).permutation(len(folder.rows))]
    folder.rows = mixed
    found = read('cuhk_pedes', folder.save().root).entries
    expected = [row['file_path'] for split in ('train', 'val', 'test') for row in mixed if row['split'] == split]
    assert [entry.file_name for entry in found] == expected


def test_icfg_s_folders_train_and_test_are_not_its_split(tmp_path):
    folders.icfg(tmp_path)
    found = read('icfg_pedes', tmp_path).entries
    assert {entry.file_name.split('/')[0] for entry in found if entry.split == 'train'} == {'train', 'test'}


def test_both_names_of_icfg_s_file_are_read(tmp_path):
    folders.icfg(tmp_path, 'ICFG_PEDES.json')
    assert read('icfg_pedes', tmp_path).path.name == 'ICFG_PEDES.json'


def test_captions_keep_every_character_and_every_number(tmp_path):
    folders.rstp(tmp_path)
    assert any('一个女人' in caption for entry in read('rstpreid', tmp_path).entries for caption in entry.captions)
    folders.cuhk(tmp_path)
    assert max(len(entry.captions) for entry in read('cuhk_pedes', tmp_path).entries) == 10


def test_a_blank_caption_is_left_out(tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[3]['captions'] = ['  ', 'A man.']
    assert read('rstpreid', folder.save().root).entries[3].captions == ('A man.',)


@pytest.mark.parametrize(
    'name', ['../x.jpg', 'a/../../x.jpg', '/etc/x.jpg', '..\\x.jpg', 'C:\\x.jpg', '\\\\host\\x.jpg', 'a/..', '']
)
def test_an_image_outside_the_folder_is_refused_by_entry(name, tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[7]['img_path'] = name
    with pytest.raises(DataError, match='data_captions.json, entry 7: found the image .* leaves the folder'):
        read('rstpreid', folder.save().root)


def test_a_path_with_backslashes_below_the_folder_is_the_same_path(tmp_path):
    folder = folders.icfg(tmp_path)
    before = read('icfg_pedes', tmp_path).entries
    for row in folder.rows:
        row['file_path'] = './' + row['file_path'].replace('/', '\\')
    folder.save()
    assert read('icfg_pedes', tmp_path).entries == before


@pytest.mark.parametrize(
    'change,words',
    [
        (dict(split='training'), "entry 5: found split 'training', expected one of train, val, test"),
        (dict(captions='A man.'), 'entry 5.*captions is missing or of another type'),
        (dict(captions=['A man.', 3]), 'entry 5: found the captions .*expected sentences'),
        (dict(id=None), 'entry 5.*id is missing'),
        (dict(id=' '), 'entry 5: found an empty id'),
        (dict(img_path='a\0.jpg'), 'entry 5: found characters that no file can hold'),
        (dict(captions=['half \ud83d']), 'entry 5: found characters that no file can hold'),
    ],
)
def test_a_broken_entry_is_named(change, words, tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[5] |= change
    with pytest.raises(DataError, match=words):
        read('rstpreid', folder.save().root)


@pytest.mark.parametrize('content', [b'', b'{"a": 1}', b'[]', b'[{"id": 1},', b'\xff\xfe['])
def test_a_file_that_is_no_list_of_entries_is_named(content, tmp_path):
    folder = folders.rstp(tmp_path)
    folder.file.write_bytes(content)
    with pytest.raises(DataError, match='data_captions.json: found'):
        read('rstpreid', tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    folder = folders.rstp(tmp_path)
    before = read('rstpreid', tmp_path)
    folder.file.write_bytes(b'\xef\xbb\xbf' + folder.file.read_bytes())
    assert read('rstpreid', tmp_path) == before


def test_the_package_without_splits_is_recognised(tmp_path):
    folder = folders.cuhk(tmp_path)
    folder.file.rename(folder.root / 'caption_all.json')
    with pytest.raises(DataError, match='found caption_all.json, which says of no image to which split.*reid_raw.json'):
        read('cuhk_pedes', tmp_path)


def test_another_folder_is_described(tmp_path):
    (tmp_path / 'holiday').mkdir()
    with pytest.raises(DataError, match='found holiday; expected reid_raw.json beside imgs/'):
        read('cuhk_pedes', tmp_path)
    with pytest.raises(DataError, match="found no folder.*nowhere.*expected the folder of the dataset 'cuhk_pedes'"):
        read('cuhk_pedes', tmp_path / 'nowhere')


def test_an_identity_in_two_splits_is_refused(tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[-1]['id'] = 0
    folder.save()
    with pytest.raises(DataError, match='found 1 identities in more than one split, such as 0 in train and test'):
        open_source('rstpreid', tmp_path)


def test_csv_and_jsonl_say_the_same(tmp_path):
    folders.table(tmp_path, splits=True)
    folders.table(tmp_path, 'people.jsonl', splits=True)
    one, other = read('folder', tmp_path), read('folder', tmp_path, table='people.jsonl')
    assert [entry.captions for entry in one.entries] == [entry.captions for entry in other.entries]
    assert [entry.file_name for entry in one.entries] == [entry.file_name for entry in other.entries]
    assert [entry.split for entry in one.entries] == [entry.split for entry in other.entries]


def test_rows_of_one_image_are_its_captions(tmp_path):
    folder = folders.table(tmp_path)
    found = read('folder', tmp_path).entries
    assert len(found) == 36 and {len(entry.captions) for entry in found} == {2}
    by_name = {entry.file_name: entry.captions for entry in found}
    assert all(by_name[row['image']] == tuple(row['captions']) for row in folder.rows)


def test_a_caption_may_hold_any_line_separator_that_json_may(tmp_path):
    folder = folders.table(tmp_path, 'people.jsonl')
    folder.rows[0]['captions'][0] = 'A man\u2028in red\u0085'
    folders.write_table(folder, splits=False)
    entries = read('folder', tmp_path, table='people.jsonl').entries
    assert any('A man\u2028in red\u0085' in entry.captions for entry in entries)


@pytest.mark.parametrize(
    'text,words',
    [
        ('image,caption,id\na.png,,1\n', 'row 2: found no caption'),
        ('image,text,id\na.png,x,1\n', 'row 2: found no caption in .*text.*expected image, caption, id'),
        ('image,caption,id\na.png,x\n', 'row 2: found no id'),
        ('image,caption,id\na.png,a man, in red,1\n', 'row 2: found 1 cells more than the header'),
        ('image,caption,id\na.png,x,1\nb.png,"x,1\n', 'row 3: found no CSV .*quotation mark'),
        ('image,caption,id,split\na.png,x,1,train\nb.png,x,1,\n', 'row 3: found no split, but other rows have one'),
        ('image,caption,id,split\na.png,x,1,trian\n', "row 2: found split 'trian'"),
        ('image,caption,id,split\na.png,x,1,train\na.png,y,2,train\n', "row 3: found id '2' for the image 'a.png'"),
        ('image,caption,id,split\na.png,x,1,train\na.png,y,1,test\n', "row 3: found split 'test' for the image"),
        ('image,caption,id\n../a.png,x,1\n', 'row 2: found the image .* leaves the folder'),
        ('image,caption,id\n', 'found no rows'),
        ('', 'found no rows'),
    ],
)
def test_a_mistake_in_a_table_names_its_row(text, words, tmp_path):
    (tmp_path / 'people.csv').write_text(text)
    with pytest.raises(DataError, match=words):
        read('folder', tmp_path, val=0, test=0)


def test_a_mistake_in_jsonl_names_its_row(tmp_path):
    for line, words in (('{"image"', 'row 2: found no JSON'), ('3', 'row 2: found no image'), ('{"image": 3, '
                        '"caption": "x", "id": 1}', 'row 2: found .*expected image as text')):  # fmt: skip
        (tmp_path / 't.jsonl').write_text('\n' + line)
        with pytest.raises(DataError, match=words):
            read('folder', tmp_path, table='t.jsonl')


def test_a_table_that_is_not_there_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(DataError, match='people.csv: cannot be read'):
        read('folder', tmp_path)
    with pytest.raises(DataError, match="found '.xlsx', expected .csv or .jsonl"):
        read('folder', tmp_path, table='people.xlsx')


def split_of(root, **changes):
    return {entry.person: entry.split for entry in read('folder', root, **changes).entries}


def test_dealing_keeps_identities_whole_and_follows_the_seed_alone(tmp_path):
    folder = folders.table(tmp_path, people=20)
    dealt = split_of(tmp_path)
    assert {name: list(dealt.values()).count(name) for name in annotations.SPLITS} == dict(train=14, val=2, test=4)
    assert not annotations.shared_people(read('folder', tmp_path).entries)
    folder.rows.reverse()
    folders.write_table(folder, splits=False)
    assert split_of(tmp_path) == dealt
    assert split_of(tmp_path, seed=1) != dealt


def test_dealt_splits_are_written_down_and_read_again(tmp_path):
    folder = folders.table(tmp_path)
    assert read('folder', tmp_path).splits_from == 'seed'
    assert not table.splits_path(folder.file).exists(), 'reading writes nothing'
    source = open_source('folder', tmp_path)
    kept = table.splits_path(folder.file).read_text()
    assert kept.startswith('id,split\n') and kept.count('\n') == 13
    assert read('folder', tmp_path).splits_from == 'beside'
    assert open_source('folder', tmp_path, seed=5).fingerprint == source.fingerprint


def test_a_shorter_table_forgets_no_split_and_a_new_identity_is_refused(tmp_path):
    folder = folders.table(tmp_path)
    open_source('folder', tmp_path)
    kept = table.splits_path(folder.file).read_text()
    whole, folder.rows = folder.rows, folder.rows[6:]
    folders.write_table(folder, splits=False)
    open_source('folder', tmp_path)
    assert table.splits_path(folder.file).read_text() == kept
    folder.rows = whole
    folder.add('train', 77, 'photos/77.png', 1)
    folders.write_table(folder, splits=False)
    with pytest.raises(DataError, match='found 1 identities that people.splits.csv does not name.*77'):
        open_source('folder', tmp_path)


@pytest.mark.parametrize('text', ['person,split\n0,train\n', 'id,split\n0,training\n', 'id,split\n0,train\n0,test\n'])
def test_a_mistake_in_the_splits_file_names_its_row(text, tmp_path):
    folders.table(tmp_path)
    (tmp_path / 'people.splits.csv').write_text(text)
    with pytest.raises(DataError, match=r'people.splits.csv, row [23]: found id'):
        read('folder', tmp_path)


@pytest.mark.parametrize('people,shares,words', [(2, {}, 'found 2 identities, too few'), (9, dict(val=1.2), 'val=1.2')])
def test_dealing_that_is_impossible_is_refused(people, shares, words, tmp_path):
    folders.table(tmp_path, people=people)
    with pytest.raises(DataError, match=words):
        read('folder', tmp_path, **shares)


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
    found = list(images.read(entries, folder.images, MAX_PIXELS))
    assert [entry for entry, _, _ in found] == list(entries)
    faults = {number: fault for number, (_, _, fault) in enumerate(found) if fault}
    expected = {0: 'damaged', 2: 'no such file', 5: 'damaged', 9: 'no picture', 12: 'a GIF file', 14: 'no caption'}
    assert faults.keys() == expected.keys()
    for number, words in expected.items():
        assert words in faults[number]


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.new('1', (30_000, 100)).save(tmp_path / 'wide.png')
    Image.new('1', (20_000, 20_000)).save(tmp_path / 'bomb.png')
    monkeypatch.setattr(images.transforms, 'decode', lambda encoded: pytest.fail('decoded'))
    assert '30000 x 100 pixels, above config.data.max_pixels = 1000' in images.fault_of(
        (tmp_path / 'wide.png').read_bytes(), 1000
    )
    assert 'too many pixels' in images.fault_of((tmp_path / 'bomb.png').read_bytes(), 1000)


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
        out = capfd.readouterr().out
        assert 'used without 1 images' in out and hundred.rows[40]['image'] in out


def test_more_unusable_images_stop_the_build_and_leave_nothing(hundred, words, tmp_path):
    hundred.damage(hundred.rows[40])
    hundred.path(hundred.rows[90]).unlink()
    with pytest.raises(DataError, match='found 2 unusable among .*expected 1% at most') as error:
        people.load(open_source('folder', hundred.root), words, 12, str(tmp_path / 'cache'))
    assert hundred.rows[40]['image'] in str(error.value) and hundred.rows[90]['image'] in str(error.value)
    assert not list((tmp_path / 'cache').rglob('*array_record*'))


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
