"""The doctor: silent about good folders, plain about planted mistakes, and of one mind with the builder."""

import json
import os
import pathlib
import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from commands import doctor as command
from configs import cuhk
from data import people
from data.doctor import checks
from data.plan import Plan
from lcr2s_jax.errors import DataError
from lcr2s_jax.weights.tokenizer import Tokenizer
from tests import folders, road
from tests.folders import WORDS, examine, levels, the

NAMES = {'cuhk_pedes': folders.cuhk, 'icfg_pedes': folders.icfg, 'rstpreid': folders.rstp}


@pytest.mark.parametrize('dataset', NAMES)
def test_a_good_folder_is_usable_and_only_its_size_is_warned_of(dataset, tmp_path):
    folder = NAMES[dataset](tmp_path)
    if dataset == 'rstpreid':
        folder.rows[5]['captions'][1] = 'Nobody else wears this.'
        folder.save()
    found = examine(tmp_path, dataset)
    assert found.usable
    assert [code for code, level in levels(found).items() if level == 'warning'] == ['counts']
    for finding in found.findings:
        assert finding.level == 'good' or finding.follows and finding.do


def test_a_folder_of_the_published_size_is_not_warned_of(tmp_path, monkeypatch):
    folders.rstp(tmp_path)
    published = {'train': (6, 30, 60), 'val': (2, 10, 20), 'test': (2, 10, 20)}
    layout = checks.LAYOUTS['rstpreid']._replace(published=published)
    monkeypatch.setitem(checks.LAYOUTS, 'rstpreid', layout)
    assert levels(examine(tmp_path, 'rstpreid'))['counts'] == 'good'


def test_counts_stand_beside_the_published_ones(tmp_path):
    folders.cuhk(tmp_path)
    train = examine(tmp_path, 'cuhk_pedes').counts['train']
    assert (train['identities'], train['images'], train['captions']) == (10, 28, 56)
    assert train['published'] == dict(identities=11003, images=34054, captions=68126)


def shared_id(folder):
    folder.rows[-1]['id'] = folder.rows[0]['id']


def one_damaged(folder):
    folder.damage(folder.rows[4])


def all_of_val_damaged(folder):
    for number in range(100, 600):
        folder.add('train', 1000 + number, folder.rows[0]['img_path'], 1)
    folder.rows = [row for row in folder.rows if row['split'] != 'val' or row is folder.of('val')[0]]
    folder.path(folder.of('val')[0]).unlink()


def one_of_hundreds_damaged(folder):
    for number in range(100, 600):
        folder.add('train', 1000 + number, folder.rows[0]['img_path'], 1)
    folder.damage(folder.rows[4])


def no_test(folder):
    folder.rows = [row for row in folder.rows if row['split'] != 'test']


def no_val(folder):
    folder.rows = [row for row in folder.rows if row['split'] != 'val']


def one_identity(folder):
    folder.rows = [row for row in folder.rows if row['split'] != 'train' or row['id'] == 0]


def broken_entry(folder):
    folder.rows[3]['split'] = 'training'


def same_pictures(folder):
    folder.copy(folder.rows[0], folder.rows[-1])


def nothing(folder):
    pass


@pytest.mark.parametrize(
    'plant,codes',
    [
        (nothing, []),
        (shared_id, ['shared-identities']),
        (one_damaged, ['unusable-images']),
        (one_of_hundreds_damaged, []),
        (all_of_val_damaged, ['empty-split']),
        (no_test, ['missing-splits']),
        (no_val, []),
        (one_identity, ['batch']),
        (broken_entry, ['annotations']),
        (same_pictures, []),
    ],
)
def test_an_error_is_what_stops_training_and_nothing_else(plant, codes, tmp_path):
    folder = folders.rstp(tmp_path)
    plant(folder)
    folder.save()
    found = examine(tmp_path, 'rstpreid')
    assert [finding.code for finding in found.findings if finding.level == 'error'] == codes
    assert found.usable == trains(tmp_path, 'rstpreid') == (not codes)


def trains(root, dataset):
    """Whether the builder and the plan take the data."""
    try:
        splits = people.load(folders.open_source(dataset, root), Tokenizer(WORDS), 12, str(root / 'cache'))
        if not {'train', 'test'} <= set(splits):
            return False
        Plan(splits['train'].image_pid, splits['train'].caption_image, identities=4, views=2, captions=1, seed=0)
    except DataError:
        return False
    return True


def test_unusable_images_are_counted_and_the_first_ten_named(tmp_path):
    folder = folders.cuhk(tmp_path)
    for row in folder.rows[:11]:
        folder.path(row).unlink()
    folder.damage(folder.rows[11])
    finding = the(examine(tmp_path, 'cuhk_pedes'), 'unusable-images')
    assert 'found 12 of 40 images' in finding.found and '11 missing, 1 otherwise' in finding.found
    assert len(finding.examples) == 10
    assert finding.examples[0] == f'{folder.rows[0]["file_path"]}: no such file (train)'


def test_images_that_may_not_be_looked_at_are_an_error_and_no_traceback(tmp_path, monkeypatch):
    folder = folders.cuhk(tmp_path)
    folder.rows[0]['file_path'] = 'x' * 300 + '/p.jpg'  # longer than a file's name may be
    folder.save()

    def forbidden(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(pathlib.Path, 'iterdir', forbidden)
    finding = the(examine(tmp_path, 'cuhk_pedes'), 'image-folders')
    assert 'imgs, which cannot be read (Permission denied)' in finding.found and finding.do == 'Make it readable.'


def test_images_that_do_not_fit_into_memory_are_warned_of_where_they_are_to_lie_there(tmp_path, monkeypatch):
    folder = folders.cuhk(tmp_path)
    assert 'memory' not in levels(examine(tmp_path, 'cuhk_pedes', in_memory=True))
    size = sum(folder.path(row).stat().st_size for row in folder.rows)
    for have, in_memory, warned in ((2 * size, True, False), (2 * size - 2, True, True), (2 * size - 2, False, False)):
        monkeypatch.setattr(os, 'sysconf', lambda name, have=have: have // 2 if name == 'SC_PHYS_PAGES' else 2)
        assert ('memory' in levels(examine(tmp_path, 'cuhk_pedes', in_memory=in_memory))) == warned


def test_a_disk_without_room_for_the_images_is_warned_of(tmp_path, monkeypatch):
    folder = folders.cuhk(tmp_path)
    size = sum(folder.path(row).stat().st_size for row in folder.rows)
    for free, warned in ((2 * size, False), (size, True)):
        monkeypatch.setattr(shutil, 'disk_usage', lambda path, free=free: SimpleNamespace(free=free))
        assert ('disk' in levels(examine(tmp_path, 'cuhk_pedes'))) == warned


def test_a_cache_in_a_bucket_is_an_error_as_in_training(tmp_path):
    folders.cuhk(tmp_path)
    finding = the(examine(tmp_path, 'cuhk_pedes', cache='gs://bucket/cache'), 'disk')
    assert finding.level == 'error' and "config.data.cache: found 'gs://bucket/cache'" in finding.found


def test_splits_that_cannot_be_kept_beside_a_table_are_an_error_as_in_training(tmp_path, monkeypatch):
    folder = folders.table(tmp_path)
    (tmp_path / 'people.splits.csv').mkdir()
    assert the(examine(tmp_path, 'folder'), 'splits').level == 'error' and not trains(folder.root, 'folder')
    (tmp_path / 'people.splits.csv').rmdir()
    assert the(examine(tmp_path, 'folder'), 'splits').level == 'note'
    monkeypatch.setattr(os, 'access', lambda path, mode: path != tmp_path)
    assert the(examine(tmp_path, 'folder'), 'splits').level == 'error'


def test_a_dataset_built_from_other_images_or_damaged_is_an_error_as_in_training(tmp_path):
    folder = folders.rstp(tmp_path)
    assert trains(tmp_path, 'rstpreid')
    cache = dict(cache=str(tmp_path / 'cache'), context_length=12)
    assert examine(tmp_path, 'rstpreid', **cache).usable
    index = next((tmp_path / 'cache').rglob('index.json'))
    content = index.read_text()
    index.write_text(content.replace('crc32', 'crc23', 1))
    found = the(examine(tmp_path, 'rstpreid', **cache), 'built')
    assert found.level == 'error' and 'damaged' in found.found and not trains(tmp_path, 'rstpreid')
    index.write_text(content)
    shutil.copytree(folder.root, tmp_path / 'other')
    for path in (tmp_path / 'other').rglob('*.jpg'):
        folders.draw(path, 99, (60, 90))
    found = the(examine(tmp_path / 'other', 'rstpreid', **cache), 'built')
    assert 'of another size than those that were built' in found.found


def test_images_that_exif_turns_are_counted(tmp_path):
    folder = folders.cuhk(tmp_path)
    exif = Image.Exif()
    for number, orientation in ((2, 6), (5, 1)):  # JPEG
        path = folder.path(folder.rows[number])
        exif[0x0112] = orientation
        with Image.open(path) as picture:
            picture.save(path, format='JPEG', exif=exif)
    finding = the(examine(tmp_path, 'cuhk_pedes'), 'turned-images')
    assert finding.level == 'note' and 'found 1 image that EXIF' in finding.found
    assert finding.examples == (f'{folder.rows[2]["file_path"]} (train)',)


def test_the_package_with_three_folders_is_recognised(tmp_path):
    folder = folders.cuhk(tmp_path)
    lost = [row for row in folder.rows if row['file_path'].split('/')[0] not in ('cam_a', 'cam_b', 'CUHK03')]
    for row in lost:
        folder.path(row).unlink()
    for path in folder.images.iterdir():
        if not list(path.iterdir()):
            path.rmdir()
    finding = the(examine(tmp_path, 'cuhk_pedes'), 'image-folders')
    assert finding.level == 'error' and 'packages of 2025' in finding.found and 'authors' in finding.do
    for name in ('CUHK01', 'Market', 'test_query', 'train_query', f'{len(lost)} images of 40'):
        assert name in finding.found
    assert f'{sum(row["split"] == "test" for row in lost)} in test' in finding.found


def test_no_folder_of_images_is_one_finding_with_its_path(tmp_path):
    folder = folders.cuhk(tmp_path)
    folder.images.rename(folder.root / 'images')
    finding = the(examine(tmp_path, 'cuhk_pedes'), 'image-folders')
    assert finding.level == 'error' and f'found no folder {folder.images}: 40 images of 40' in finding.found


def test_the_package_without_splits_and_the_other_file_name_are_recognised(tmp_path):
    folder = folders.cuhk(tmp_path)
    folder.file.rename(folder.root / 'caption_all.json')
    found = examine(tmp_path, 'cuhk_pedes')
    assert not found.usable and 'caption_all.json' in the(found, 'annotations').found
    folders.icfg(tmp_path, 'ICFG_PEDES.json')
    found = examine(tmp_path, 'icfg_pedes')
    assert found.usable and levels(found)['file-name'] == 'note'


@pytest.mark.parametrize(
    'pair,code,level',
    [
        ((0, 1), 'duplicates-identity', 'note'),  # one identity
        ((0, 5), 'duplicates-identities', 'warning'),  # another one of train
        ((0, -1), 'duplicates-splits', 'warning'),  # one of test
    ],
)
def test_equal_pictures_are_told_apart_by_what_they_spoil(pair, code, level, tmp_path):
    folder = folders.rstp(tmp_path)
    one, other = (folder.rows[number] for number in pair)
    folder.copy(one, other)
    found = examine(tmp_path, 'rstpreid')
    finding = the(found, code)
    assert [other for other in levels(found) if other.startswith('duplicates')] == [code]
    assert finding.level == level and 'found 2 images of only 1 picture' in finding.found
    assert one['img_path'] in finding.examples[0] and other['img_path'] in finding.examples[0]


def test_an_image_named_twice_is_no_copy_but_named(tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[1]['img_path'] = folder.rows[0]['img_path']
    folder.rows[7]['img_path'] = folder.rows[0]['img_path']
    found = examine(folder.save().root, 'rstpreid')
    finding = the(found, 'named-twice')
    assert '1 image named by two entries or more, 1 of them with different ids' in finding.found
    assert finding.examples == ('0000_c1_0001.jpg: entry 0, entry 1, entry 7',)
    assert levels(found)['duplicates'] == 'good'


def test_the_demo_needs_no_check_and_an_unknown_dataset_is_an_error(tmp_path):
    assert examine(tmp_path, 'demo').usable
    assert "found 'cuhk'" in the(examine(tmp_path, 'cuhk'), 'annotations').found


def test_the_command_prints_a_readable_page_that_ends_in_the_verdict(tmp_path):
    folders.cuhk(tmp_path)
    fields = {'data.root': tmp_path, 'tokenizer': WORDS, 'batch.identities': 4}
    run = road.run_here(road.line('doctor', config='configs/cuhk.py', **fields))
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[-1] == 'usable (1 warning, 2 notes)'
    assert any(line.split() == 'train 10 11,003 28 34,054 56 68,126'.split() for line in lines)
    assert any(line.split()[:2] == ['2', '(config)'] for line in lines)
    assert max(map(len, lines[1:])) <= 110 and '\x1b' not in run.stdout


def test_json_is_one_object_and_the_exit_status_says_unusable(tmp_path, capsys):
    folder = folders.cuhk(tmp_path)
    Image.new('RGB', (9, 9)).save(folder.path(folder.rows[0]), format='GIF')
    config = cuhk.get_config()
    config.tokenizer, config.data.root = WORDS, str(tmp_path)
    assert command.doctor(config, as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert found['usable'] is False
    assert found['counts']['test']['images'] == 7 and found['views'][0]['views'] == 2
    finding = next(finding for finding in found['findings'] if finding['code'] == 'unusable-images')
    assert finding['level'] == 'error' and 'a GIF file' in finding['examples'][0]


def test_every_fault_of_a_folder_is_said_in_one_pass(tmp_path):
    folder = folders.cuhk(tmp_path)
    folder.rows[0]['file_path'] = '../outside.jpg'
    folder.rows[1]['split'] = 'training'
    folder.damage(folder.rows[2])
    folder.path(folder.rows[3]).unlink()
    folder.rows[-1]['id'] = folder.rows[4]['id']
    found = examine(folder.save().root, 'cuhk_pedes')
    errors = {finding.code: finding for finding in found.findings if finding.level == 'error'}
    assert errors.keys() == {'annotations', 'unusable-images', 'shared-identities'}
    assert 'found 2 entries that cannot be used' in errors['annotations'].found
    assert [one.partition(':')[0] for one in errors['annotations'].examples] == ['entry 0', 'entry 1']
    assert '1 missing, 1 otherwise' in errors['unusable-images'].found
    assert sum(have['images'] for have in found.counts.values()) == 38


def test_every_fault_of_a_table_and_of_its_splits_is_said_in_one_pass(tmp_path):
    folder = folders.table(tmp_path, people=20)
    folders.open_source('folder', tmp_path)  # deals, and writes the splits down
    splits = tmp_path / 'people.splits.csv'
    splits.write_text(splits.read_text().replace('0,train\n', '0,training\n', 1) + '99\n')
    table = folder.file.read_text().splitlines()
    table[2:4] = ['/etc/passwd,a man,1', 'a.png,,1']
    folder.file.write_text('\n'.join(table) + '\nphotos/x.png,"a man, 1\n')
    found = examine(tmp_path, 'folder')
    finding = the(found, 'annotations')
    told = ' '.join(finding.examples)
    for words in ('row 4: found no caption', 'leaves the folder', 'no CSV', "with split 'training'", "found id '99'"):
        assert words in told, finding.examples
    assert 'found no split of' in told and found.counts['train']['images']


def test_an_image_by_nearly_the_name_is_named(tmp_path):
    folder = folders.cuhk(tmp_path)
    one, other = folder.rows[:2]
    for row, old, new in ((one, 'p1', 'P1'), (other, 'p1', 'caf\u00e9')):
        path = folder.path(row)
        path.rename(path.with_name(path.name.replace(old, new)))
    other['file_path'] = other['file_path'].replace('p1', 'cafe\u0301')
    finding = the(examine(folder.save().root, 'cuhk_pedes'), 'unusable-images')
    assert finding.examples == (
        'CUHK01/p1_0.png: no such file, but CUHK01/P1_0.png is there: other letter case (train)',
        'CUHK03/cafe\u0301_1.png: no such file, but CUHK03/caf\u00e9_1.png is there: accents composed otherwise '
        '(Unicode NFC, NFD) (train)',
    )
    assert finding.do == 'Write the names of 2 files in one way, in the annotations or on the disk.'


def test_an_annotation_file_of_another_name_is_named_first(tmp_path):
    folder = folders.cuhk(tmp_path)
    folder.file.rename(folder.root / 'CUHK-PEDES.json')
    assert f'found {folder.root.name}/CUHK-PEDES.json' in the(examine(tmp_path, 'cuhk_pedes'), 'annotations').found
