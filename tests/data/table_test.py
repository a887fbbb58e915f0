"""Somebody's own table: read alike from CSV and JSONL, dealt to splits once, its mistakes named by row."""

import json
import os

import pytest

from data import annotations, table
from lcr2s_jax.errors import DataError
from tests import folders
from tests.folders import open_source, read_table


def test_csv_and_jsonl_say_the_same(tmp_path):
    folders.table(tmp_path, splits=True)
    folders.table(tmp_path, 'people.jsonl', splits=True)
    one, other = read_table(tmp_path), read_table(tmp_path, table='people.jsonl')
    assert [entry.captions for entry in one.entries] == [entry.captions for entry in other.entries]
    assert [entry.file_name for entry in one.entries] == [entry.file_name for entry in other.entries]
    assert [entry.split for entry in one.entries] == [entry.split for entry in other.entries]


@pytest.mark.parametrize(
    'entry',
    [
        {'split': 'train', 'id': 1, 'file_path': 'images/1.jpg', 'captions': ['A long one.', 'Another.']},  # UFine6926
        {'id': 1, 'file_path': 'images/1.jpg', 'captions': ['A long one.', 'Another.']},  # caption_all.json
        {'id': 1, 'image_path': 'images/1.jpg', 'caption1': 'A long one.', 'caption2': 'Another.'},  # WebPerson
        {
            'split': 'train', 'id': 1, 'file_path': 'images/1.jpg', 'vague_caption': 'One.',
            'coarse-grained_caption': 'A man.', 'fine-grained_caption': ['A long one.', 'Another.'],
        },
    ],
)  # fmt: skip
def test_json_as_newer_datasets_publish_it_is_a_table(entry, tmp_path):
    others = [dict(entry, id=n) | {k: f'images/{n}.jpg' for k in entry if k.endswith('path')} for n in range(2, 12)]
    (tmp_path / 'people.json').write_text(json.dumps([entry, *others]))
    found = read_table(tmp_path, table='people.json')
    assert found.splits_from == ('file' if 'split' in entry else 'seed') and len(found.entries) == 11
    one = next(e for e in found.entries if e.file_name == 'images/1.jpg')
    assert (one.person, one.captions) == ('1', ('A long one.', 'Another.'))


@pytest.mark.parametrize(
    'text,words',
    [
        ('{"id": 1}', 'found dict, expected a list'),
        ('[', 'found no JSON'),
        ('[{"id": 1, "file_path": "a.jpg", "captions": null}]', 'entry 0: found no caption'),
        ('[{"id": true, "file_path": "a.jpg", "captions": ["x"]}]', 'id as text or a number'),
        ('[{"id": 1, "file_path": "a.jpg", "chats": [[{"from": "user"}]]}]', 'found the message'),
        ('[{"id": 1, "file_path": "a.jpg", "chats": [[[7]]]}]', 'found the message'),
        ('[{"id": 1, "file_path": "a.jpg", "chats": [["x"], 7]}]', 'found '),
        ('[{"id": 1, "file_path": "a.jpg", "captions": {"a": 1}}]', 'expected sentences'),
        ('[{"id": 1, "captions": ["x"]}]', 'entry 0: found no image'),
        ('[7]', 'entry 0: found no image'),
        ('[{"id": 1, "split": 0, "file_path": "a.jpg", "captions": ["x"]}]', "found split '0', expected one of"),
        ('[{"id": 1, "split": {}, "file_path": "a.jpg", "captions": ["x"]}]', 'found split .* expected one of'),
        ('[{"id": 1, "split": "train", "file_path": "a.jpg", "captions": [7]}]', 'expected sentences'),
    ],
)
def test_a_mistake_in_a_json_list_names_its_entry(text, words, tmp_path):
    (tmp_path / 'people.json').write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path, table='people.json')


def test_rows_of_one_image_are_its_captions(tmp_path):
    folder = folders.table(tmp_path)
    found = read_table(tmp_path).entries
    assert len(found) == 36 and {len(entry.captions) for entry in found} == {2}
    by_name = {entry.file_name: entry.captions for entry in found}
    assert all(by_name[row['image']] == tuple(row['captions']) for row in folder.rows)


def test_a_caption_may_hold_any_line_separator_that_json_may(tmp_path):
    folder = folders.table(tmp_path, 'people.jsonl')
    folder.rows[0]['captions'][0] = 'A man\u2028in red\u0085'
    folders.write_table(folder, splits=False)
    entries = read_table(tmp_path, table='people.jsonl').entries
    assert any('A man\u2028in red\u0085' in entry.captions for entry in entries)


@pytest.mark.parametrize(
    'text,words',
    [
        ('image,caption,id\na.png,,1\n', 'row 2: found no caption'),
        ('image,text,id\na.png,x,1\n', 'row 1: found no caption in .*text.*expected the columns image, caption, id'),
        ('image;caption;id\na.png;x;1\n', 'row 1: .*commas between the cells, not semicolons'),
        ('image,caption,id\na.png,x\n', 'row 2: found no id'),
        ('image,caption,id\na.png,a man, in red,1\n', 'row 2: found 1 cells more than the header'),
        ('image,caption,id\na.png,x,1\nb.png,"x,1\n', 'row 3: found no CSV .*quotation mark'),
        ('image,caption,id,split\na.png,x,1,train\nb.png,x,1,\n', 'row 3: found no split, but other rows have one'),
        ('image,caption,id,split\na.png,x,1,trian\n', "row 2: found split 'trian'"),
        ('image,caption,id,split\na.png,x,1,train\na.png,y,2,train\n', "row 3: found id '2' for the image 'a.png'"),
        ('image,caption,id,split\na.png,x,1,train\na.png,y,1,test\n', "row 3: found split 'test' for the image"),
        ('image,caption,id\n../a.png,x,1\n', 'row 2: found the image .* leaves the folder'),
        ('image,caption,id,caption\na.png,x,1,y\n', 'row 1: found caption more than once in .*a row of its own'),
        ('image,caption,id,split,Split\na.png,x,1,,test\n', 'row 1: found split more than once'),
        ('\nimage,caption,id\na.png,x,1\n', 'row 1: found a blank line, expected the names'),
        ('image,caption,id\n', 'found no rows'),
        ('', 'found no rows'),
    ],
)
def test_a_mistake_in_a_table_names_its_row(text, words, tmp_path):
    (tmp_path / 'people.csv').write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path, val=0, test=0)


def test_a_mistake_in_jsonl_names_its_row(tmp_path):
    for line, words in (('{"image"', 'row 2: found no JSON'), ('3', 'row 2: found no image'), ('{"image": 3, '
                        '"caption": "x", "id": 1}', 'row 2: found .*expected image as text')):  # fmt: skip
        (tmp_path / 't.jsonl').write_text('\n' + line)
        with pytest.raises(DataError, match=words):
            read_table(tmp_path, table='t.jsonl')


def test_names_of_columns_are_known_in_any_case_with_blanks_around_them(tmp_path):
    folders.table(tmp_path, splits=True)
    folders.table(tmp_path, 'people.jsonl', splits=True)
    expected = read_table(tmp_path).entries
    for name, old, new in (
        ('people.csv', 'image,caption,id,split', 'Image, CAPTION ,ID,"Split ",,'),
        ('people.jsonl', '"split"', '"SPLIT "'),
    ):
        table_file = tmp_path / name
        table_file.write_text(table_file.read_text().replace(old, new))
        found = read_table(tmp_path, table=name)
        assert found.splits_from == 'file' and [(e.split, e.captions) for e in found.entries] == [
            (e.split, e.captions) for e in expected
        ]


@pytest.mark.parametrize(
    'line,words',
    [
        ('{"image": "a", "caption": "x", "id": 1, "Caption": "y"}', 'row 1: found caption more than once'),
        ('{"image": "a", "caption": "x", "id": 1, "id": 2}', 'row 1: found id more than once'),
        ('{"image": "a", "caption": "x", "id": 1, "note": 1, "note": 2}', "row 1: found 'note' more than once"),
        ('{"image": "a", "caption": "x", "id": "\\ud83d"}', 'row 1: found characters that no file can hold'),
        ('[' * 100_000, 'row 1: found no JSON'),
    ],
)
def test_jsonl_that_would_lose_something_or_cannot_be_kept_names_its_row(line, words, tmp_path):
    (tmp_path / 't.jsonl').write_text(line)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path, table='t.jsonl')


def test_a_column_that_a_caption_is_read_from_is_there_once(tmp_path):
    (tmp_path / 'people.csv').write_text('image,text,id,text,\na.png,x,1,y,\n')
    with pytest.raises(DataError, match='row 1: found text more than once'):
        read_table(tmp_path, fields={'caption': 'text'})


def test_a_table_that_is_not_there_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(DataError, match='people.csv: cannot be read'):
        read_table(tmp_path)
    with pytest.raises(DataError, match="found '.xlsx', expected .csv, .jsonl or .json"):
        read_table(tmp_path, table='people.xlsx')
    (tmp_path / 'people.csv').write_text('image,id,caption', encoding='utf-16')
    with pytest.raises(DataError, match='people.csv cannot be read: it is UTF-16; .*iconv -f UTF-16'):
        read_table(tmp_path)


def split_of(root, **changes):
    return {entry.person: entry.split for entry in read_table(root, **changes).entries}


def test_dealing_keeps_identities_whole_and_follows_the_seed_alone(tmp_path):
    folder = folders.table(tmp_path, people=20)
    dealt = split_of(tmp_path)
    assert {name: list(dealt.values()).count(name) for name in annotations.SPLITS} == dict(train=14, val=2, test=4)
    assert not annotations.shared_people(read_table(tmp_path).entries)
    folder.rows.reverse()
    folders.write_table(folder, splits=False)
    assert split_of(tmp_path) == dealt
    assert split_of(tmp_path, seed=1) != dealt


def test_dealt_splits_are_written_down_and_read_again(tmp_path):
    folder = folders.table(tmp_path)
    assert read_table(tmp_path).splits_from == 'seed'
    assert not table.splits_path(folder.file).exists(), 'reading writes nothing'
    source = open_source('folder', tmp_path)
    kept = table.splits_path(folder.file).read_text()
    assert kept.startswith('id,split\n') and kept.count('\n') == 13
    assert read_table(tmp_path).splits_from == 'beside'
    assert open_source('folder', tmp_path, seed=5).fingerprint == source.fingerprint


def test_another_process_that_writes_the_splits_is_not_in_the_way(tmp_path):
    folder = folders.table(tmp_path)
    kept = table.splits_path(folder.file)
    kept.with_name(kept.name + '.partial').mkdir()
    kept.with_name(f'{kept.name}.{os.getpid() + 1}.partial').mkdir()
    open_source('folder', tmp_path)
    assert read_table(tmp_path).splits_from == 'beside'


def test_blank_captions_of_an_image_are_counted_over_its_rows(tmp_path):
    folder = folders.table(tmp_path, 'people.jsonl')
    folder.rows[0]['captions'] = ['A man.', '  ', '\t']
    folders.write_table(folder, splits=False)
    entries = {entry.file_name: entry for entry in read_table(tmp_path, table='people.jsonl').entries}
    assert entries[folder.rows[0]['image']].blank == 2 and sum(entry.blank for entry in entries.values()) == 2


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
    with pytest.raises(DataError, match=r'people.splits.csv: found no split of 1 identity \(77\)'):
        open_source('folder', tmp_path)


@pytest.mark.parametrize('text', ['person,split\n0,train\n', 'id,split\n0,training\n', 'id,split\n0,train\n0,test\n'])
def test_a_mistake_in_the_splits_file_names_its_row(text, tmp_path):
    folders.table(tmp_path)
    (tmp_path / 'people.splits.csv').write_text(text)
    with pytest.raises(DataError, match=r'people.splits.csv, row [123]: found (id|no id)'):
        read_table(tmp_path)


@pytest.mark.parametrize('people,shares,words', [(2, {}, 'found 2 identities, too few'), (9, dict(val=1.2), 'val=1.2')])
def test_dealing_that_is_impossible_is_refused(people, shares, words, tmp_path):
    folders.table(tmp_path, people=people)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path, **shares)
