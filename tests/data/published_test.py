"""Datasets of 2023 and later in the layouts that their authors' loaders read: from the folder to batches and scores."""

import json

import numpy as np
import pytest

from data import annotations, people
from lcr2s_jax.errors import DataError
from lcr2s_jax.weights.tokenizer import Tokenizer
from tests import folders
from tests.folders import examine, levels, open_source, read, the

SIZES = {'orbench': (20, 12), 'chatpedes': (15, 9)}  # images of train and test


def test_orbench_names_persons_by_folders_and_keeps_the_whole_gallery(tmp_path):
    folders.orbench(tmp_path)
    found = read('orbench', tmp_path)
    assert read('orbench', tmp_path / 'ORBench') == found
    train, test = ([e for e in found.entries if e.split == split] for split in ('train', 'test'))
    assert (len(train), len(test)) == SIZES['orbench']
    assert {e.person for e in train} == {'0003', '0007', '0001', '0010', '0005'} and found.counted_anew == ()
    assert {e.person for e in test} == {'0012', '0002', '0004'}
    assert [len(e.captions) for e in test] == [1] * 11 + [0] and all(e.gallery for e in test)
    assert not annotations.shared_people(found.entries)


def test_orbench_s_other_queries_are_not_texts_and_its_texts_belong_to_persons(tmp_path):
    folder = folders.orbench(tmp_path)
    path = folder.root / 'test_gallery_and_queries.json'
    content = json.loads(path.read_text())
    content['TEXT'] = [[1, f'number {n}'] for n in range(6)]
    path.write_text(json.dumps(content))
    first, *rest = (e.captions for e in read('orbench', tmp_path).entries if e.split == 'test')
    assert (first, rest[0], rest[1]) == (('number 0', 'number 4'), ('number 1', 'number 5'), ('number 2',))
    assert not any(rest[3:])


@pytest.mark.parametrize('images', ['imgs', 'imgs00'])
def test_a_dialogue_of_chatpedes_is_one_caption_and_a_picture_may_have_two(images, tmp_path):
    folders.chatpedes(tmp_path, images)
    found = read('chatpedes', tmp_path)
    assert found.images.name == images
    first, second, *_ = found.entries
    assert first.captions[1] == 'What is the person wearing? A man in red.' and len(first.captions) == 2
    assert first.captions[0].endswith('A man. Is there a bag? No.') and len(second.captions) == 1
    assert found.counted_anew == () and len(found.entries) == sum(SIZES['chatpedes'])


@pytest.mark.parametrize('dataset', ['orbench', 'chatpedes'])
def test_they_are_built_with_every_image_of_the_gallery_and_the_doctor_takes_them(dataset, tmp_path):
    getattr(folders, dataset)(tmp_path)
    built = people.load(open_source(dataset, tmp_path), Tokenizer(folders.WORDS), 20, str(tmp_path / 'cache'))
    assert (len(built['train'].image_pid), len(built['test'].image_pid)) == SIZES[dataset]
    assert set(np.bincount(built['train'].caption_image, minlength=SIZES[dataset][0])) <= {1, 2}
    assert built['test'].tokens.shape == (len(built['test'].captions), 20)
    found = examine(tmp_path, dataset)
    assert found.usable and 'counts' not in levels(found), 'what was not published is not compared'
    assert the(found, 'no-val').do.endswith('is published so.')


@pytest.mark.parametrize(
    ('dataset', 'file', 'change', 'words'),
    [
        ('orbench', 'test_gallery_and_queries.json', lambda c: c.pop('TEXT') and c, 'found no list TEXT'),
        ('orbench', 'test_gallery_and_queries.json', lambda c: [c], 'found no list RGB_GALLERY and TEXT'),
        ('orbench', 'test_gallery_and_queries.json', lambda c: c | {'TEXT': [[9, 'x']]}, 'of an id in RGB_GALLERY'),
        ('orbench', 'test_gallery_and_queries.json', lambda c: c | {'TEXT': [[1, None]]}, 'at 0 of TEXT'),
        ('orbench', 'test_gallery_and_queries.json', lambda c: c | {'RGB_GALLERY': [7, [1, 'vis/1/0.jpg']]}, 'found'),
        ('orbench', 'train_annos.json', lambda c: {'a': c}, 'expected a list of entries'),
        ('orbench', 'train_annos.json', lambda c: [c[0] | {'caption': None}, *c[1:]], 'caption is missing'),
        ('orbench', 'train_annos.json', lambda c: [c[0] | {'caption': [3]}, *c[1:]], 'expected sentences'),
        ('chatpedes', 'test_reid.json', lambda c: [c[0] | {'chats': 7}, *c[1:]], 'test_reid.json, entry 0.*chats is'),
        ('chatpedes', 'test_reid.json', lambda c: [c[0] | {'chats': [[[7]]]}, *c[1:]], 'found the message 7'),
        ('chatpedes', 'test_reid.json', lambda c: [c[0] | {'chats': [[{'from': 1}]]}, *c[1:]], 'found the message'),
        ('chatpedes', 'train_reid.json', lambda c: [c[0] | {'chats': [3, [[]]]}, *c[1:]], 'expected dialogues'),
    ],
)  # fmt: skip
def test_what_is_wrong_in_either_file_is_named(dataset, file, change, words, tmp_path):
    folder = getattr(folders, dataset)(tmp_path)
    path = folder.root / file
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=words):
        read(dataset, tmp_path)


def test_the_file_of_test_must_lie_beside_that_of_train(tmp_path):
    folder = folders.chatpedes(tmp_path)
    (folder.root / 'test_reid.json').unlink()
    with pytest.raises(DataError, match='found train_reid.json without test_reid.json'):
        read('chatpedes', tmp_path)


def test_the_folder_of_images_is_where_the_config_says(tmp_path):
    folder = folders.cuhk(tmp_path)
    (folder.root / 'imgs').rename(tmp_path / 'elsewhere')
    for images in (str(tmp_path / 'elsewhere'), '../elsewhere'):
        assert examine(folder.root, 'cuhk_pedes', images=images).usable
    assert not examine(folder.root, 'cuhk_pedes').usable
    with pytest.raises(DataError, match="config.data.images: found no folder '.*nowhere'"):
        read('cuhk_pedes', folder.root, images='nowhere')


def test_fields_of_captions_are_chosen_by_name_in_json_and_csv(tmp_path):
    folders.published_json(tmp_path, 'interactive')
    fields = folders.USUAL | {'caption': 'vague_caption, coarse-grained_caption'}
    entry = read('folder', tmp_path, table='interactive.json', fields=fields).entries[0]
    assert entry.captions[1] == 'A person.' and len(entry.captions) == 2
    with pytest.raises(DataError, match='found no caption in'):
        read('folder', tmp_path, table='interactive.json', fields=folders.USUAL | {'caption': 'text'})
    rows = [f'{n},images/{n}_0.jpg,A man {n}.,In red {n}.' for n in range(12)]
    (tmp_path / 'own.csv').write_text('\n'.join(['who,file,first,second', *rows]))
    fields = dict(image='file', caption='first,second', id='who', split='')
    found = read('folder', tmp_path, table='own.csv', fields=fields).entries
    assert len(found) == 12 and all(len(e.captions) == 2 for e in found)
    with pytest.raises(DataError, match='found no third in .*expected the columns file, first, third, who'):
        read('folder', tmp_path, table='own.csv', fields=fields | {'caption': 'first,third'})
    with pytest.raises(DataError, match="found no 'fold' in any row"):
        read('folder', tmp_path, table='own.csv', fields=fields | {'split': 'fold'})


def test_a_picture_without_captions_in_a_json_list_is_skipped_as_in_published_files(tmp_path):
    folder = folders.published_json(tmp_path, 'models')
    folder.rows[4]['captions'], folder.rows[5]['captions'] = [], [' ', 'A man.']
    entries = {e.file_name: e for e in read('folder', folder.save().root, table='models.json').entries}
    assert entries[folder.rows[4]['file_path']].captions == ()
    assert entries[folder.rows[5]['file_path']].captions == ('A man.',)
    found = examine(tmp_path, 'folder', table='models.json')
    unusable = the(found, 'unusable-images')
    assert unusable.examples[0].endswith('no caption (train)')
    assert unusable.do == 'Give them captions, or leave them out of the annotations.', 'another copy helps nothing'


def test_a_byte_order_mark_backslashes_ids_as_text_and_entries_named_twice_are_no_obstacle(tmp_path):
    folder = folders.published_json(tmp_path, 'ufine')
    before = read('folder', tmp_path, table='ufine.json').entries
    for row in folder.rows:
        row['file_path'], row['id'] = row['file_path'].replace('/', '\\'), f' {row["id"]}'
    twice = folder.rows[0] | {'captions': folder.rows[0]['captions'][1:]}
    folder.rows[0]['captions'] = folder.rows[0]['captions'][:1]
    folder.rows.append(twice)
    folder.file.write_text('\ufeff' + json.dumps(folder.rows), encoding='utf-8')
    assert [(e.person, e.captions) for e in read('folder', tmp_path, table='ufine.json').entries] == [
        (e.person, e.captions) for e in before
    ]


def test_captions_that_are_cut_are_counted_and_a_longer_table_of_positions_reads_them_whole(tmp_path):
    folders.published_json(tmp_path, 'ufine')
    found = examine(tmp_path, 'folder', table='ufine.json')
    cut = the(found, 'tokens')
    assert cut.found.startswith('found 72 captions of more than 77 tokens') and 'context_length' in cut.do
    assert levels(examine(tmp_path, 'folder', table='ufine.json', context_length=160))['tokens'] == 'good'
