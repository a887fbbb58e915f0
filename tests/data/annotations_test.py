"""Annotation files: read as they are published, and refused in words where they are not."""

import dataclasses
import hashlib
import pathlib

import numpy as np
import pytest

from data import annotations, sources
from lcr2s_jax.errors import DataError
from tests import folders
from tests.folders import examine, open_source, read, the


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
    folder.rows[9]['captions'] = ['', '\n\t', 'A man.']
    entries = read('rstpreid', folder.save().root).entries
    assert entries[3].captions == entries[9].captions == ('A man.',)
    assert (entries[3].blank, entries[9].blank, entries[0].blank) == (1, 2, 0)
    finding = the(examine(tmp_path, 'rstpreid'), 'blank-captions')
    assert 'found 3 captions of nothing but blanks' in finding.found
    assert finding.examples == (f'{entries[3].file_name}: 1 (entry 3)', f'{entries[9].file_name}: 2 (entry 9)')


def test_the_fingerprint_stays_what_built_datasets_and_older_runs_know():
    entry = annotations.Entry('row 4', 'train', "d'Arc", 'a/0.jpg', ('A man.', 'Ein Mädchen "x"'), 1)
    found = annotations.Annotations(
        pathlib.Path('t'), pathlib.Path('.'), (entry, dataclasses.replace(entry, captions=()))
    )
    digest = hashlib.sha256()
    for one in found.entries:
        digest.update(repr(dataclasses.astuple(one)[1:5]).encode())
    assert found.fingerprint == digest.hexdigest()


def test_what_is_blank_is_no_part_of_the_fingerprint(tmp_path):
    folder = folders.rstp(tmp_path)
    before = read('rstpreid', tmp_path).fingerprint
    folder.rows[3]['captions'].append(' ')
    assert read('rstpreid', folder.save().root).fingerprint == before


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
        (dict(id=True), 'entry 5: found id True, expected the name or number'),
        (dict(img_path='a\0.jpg'), 'entry 5: found characters that no file can hold'),
        (dict(captions=['half \ud83d']), 'entry 5: found characters that no file can hold'),
    ],
)
def test_a_broken_entry_is_named(change, words, tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[5] |= change
    with pytest.raises(DataError, match=words):
        read('rstpreid', folder.save().root)


@pytest.mark.parametrize('content', [b'', b'{"a": 1}', b'[]', b'[{"id": 1},', b'\xff\xfe[', b'[' * 100_000])
def test_a_file_that_is_no_list_of_entries_is_named(content, tmp_path):
    folder = folders.rstp(tmp_path)
    folder.file.write_bytes(content)
    with pytest.raises(DataError, match='data_captions.json(: found| cannot be read: it is UTF-16)'):
        read('rstpreid', tmp_path)


def test_a_field_that_is_given_twice_is_refused_where_it_is(tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[5]['again'] = 7
    folder.save().file.write_text(folder.file.read_text().replace('"again"', '"id"'))
    with pytest.raises(DataError, match="data_captions.json, entry 5: found 'id' more than once in .*each field once"):
        read('rstpreid', tmp_path)
    folder.file.write_text('{"a": 1, "a": 2}')
    with pytest.raises(DataError, match="data_captions.json: found 'a' more than once"):
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


@pytest.mark.parametrize('name', ['is_dir', 'is_file', 'iterdir'])
def test_a_folder_that_may_not_be_looked_at_is_named(name, tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(pathlib.Path, name, forbidden)
    with pytest.raises(DataError, match=f"config.data.root: found '{tmp_path}', which cannot be read .*denied"):
        read('cuhk_pedes', tmp_path)


def test_the_home_of_nobody_is_named(tmp_path):
    with pytest.raises(DataError, match="config.data.root: found no folder '~nobody-of-that-name'"):
        read('cuhk_pedes', '~nobody-of-that-name')


def test_an_identity_in_two_splits_is_refused(tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[-1]['id'] = 0
    folder.save()
    with pytest.raises(DataError, match='found 1 identity in more than one split, such as 0 in train and test'):
        open_source('rstpreid', tmp_path)


def count_anew(folder, *splits, first=0):
    """Give the people of these splits the ids from `first` on."""
    for split in splits:
        ids = {}
        for row in folder.of(split):
            row['id'] = ids.setdefault(row['id'], first + len(ids))
    folder.save()


def test_splits_that_count_their_ids_anew_are_of_other_people(tmp_path):
    folder = folders.rstp(tmp_path)
    apart = [entry.person for entry in read('rstpreid', tmp_path).entries]
    count_anew(folder, 'val', 'test')
    found = read('rstpreid', tmp_path)
    assert found.counted_anew == ('val', 'test')
    people = [entry.person for entry in found.entries]
    assert len(set(people)) == len(set(apart)) == 10 and {'0', 'val 0', 'test 0', 'test 1'} <= set(people)
    assert not annotations.shared_people(found.entries)
    open_source('rstpreid', tmp_path)
    note = the(examine(tmp_path, 'rstpreid'), 'ids-per-split')
    assert note.level == 'note' and 'the ids of val and test among those of train' in note.found


def test_ids_with_gaps_are_counted_anew_only_where_there_are_as_many_people_as_published(tmp_path, monkeypatch):
    folder = folders.icfg(tmp_path)
    count_anew(folder, 'test', first=1)
    with pytest.raises(DataError, match='found 3 identities in more than one split'):
        open_source('icfg_pedes', tmp_path)
    published = {'train': (5, 30, 30), 'test': (3, 12, 12)}
    monkeypatch.setitem(
        annotations.LAYOUTS, 'icfg_pedes', annotations.LAYOUTS['icfg_pedes']._replace(published=published)
    )
    assert read('icfg_pedes', tmp_path).counted_anew == ('test',)
    open_source('icfg_pedes', tmp_path)


def test_people_whose_images_were_dealt_to_splits_are_refused(tmp_path):
    folder = folders.icfg(tmp_path)
    folder.rows = folder.of('train')
    for row in folder.rows[::6]:
        row['split'] = 'test'  # an image of everybody
    with pytest.raises(DataError, match='found 5 identities in more than one split'):
        open_source('icfg_pedes', folder.save().root)


def test_the_ids_of_a_table_are_never_counted_anew(tmp_path):
    folder = folders.table(tmp_path, splits=True)  # test has 0 and 1, val 2 and 3
    for row in folder.of('train'):
        row['id'] -= 4
    folders.write_table(folder, splits=True)
    with pytest.raises(DataError, match='found 4 identities in more than one split'):
        open_source('folder', tmp_path)


def test_a_mistyped_dataset_is_told_with_the_nearest():
    with pytest.raises(DataError, match="found 'cuhk_pede', expected one of .*; did you mean cuhk_pedes?"):
        sources.check_name('cuhk_pede')
