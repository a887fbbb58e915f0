"""A dataset's folder that is nearly one is told by what it is."""

import json

import pytest

from data import sources
from lcr2s_jax.errors import DataError
from tests import folders
from tests.folders import examine, the


def refused(dataset, root):
    with pytest.raises(DataError) as error:
        sources.read_annotations(dataset, str(root), '', {})
    return str(error.value)


def test_another_letter_case_a_deeper_folder_an_archive_and_another_dataset_are_named(tmp_path):
    made = folders.cuhk(tmp_path / 'above')
    assert "this is the folder of 'cuhk_pedes'" in refused('rstpreid', made.root)
    assert f'it is in {made.root}: set config.data.root' in refused('cuhk_pedes', tmp_path)
    made.file.rename(made.root / 'Reid_Raw.JSON')
    assert 'Reid_Raw.JSON is there, other letter case: rename it' in refused('cuhk_pedes', made.root)
    (made.root / 'Reid_Raw.JSON').rename(made.root / 'CUHK-PEDES.zip')
    assert 'unpack CUHK-PEDES.zip first' in refused('cuhk_pedes', made.root)
    assert 'unpack CUHK-PEDES.zip first' in refused('cuhk_pedes', made.root / 'CUHK-PEDES.zip')
    assert f'did you mean {made.root}?' in refused('cuhk_pedes', tmp_path / 'above' / 'CUHK_PEDES2')


@pytest.mark.parametrize('name', ['images', 'Imgs', 'imgs/imgs'])
def test_images_that_lie_elsewhere_in_the_folder_are_named(tmp_path, name):
    made = folders.cuhk(tmp_path / 'above')
    made.images.rename(made.root / 'x')
    (made.root / name).parent.mkdir(exist_ok=True)
    (made.root / 'x').rename(made.root / name)
    found = the(examine(made.root, 'cuhk_pedes'), 'image-folders')
    assert f'They are in {made.root / name}' in found.do


def test_a_list_within_an_object_and_entries_a_line_are_told_with_what_to_do(tmp_path):
    made = folders.cuhk(tmp_path / 'above')
    for content, change in (
        (json.dumps({'info': 1, 'annotations': made.rows}), 'Write what is in annotations as one list'),
        (json.dumps({split: made.of(split) for split in ('train', 'test')}), 'what is in train, test as one list'),
        ('\n'.join(map(json.dumps, made.rows)), 'It has an entry a line: join them'),
    ):
        made.file.write_text(content)
        assert change in refused('cuhk_pedes', made.root)


@pytest.mark.parametrize('written', ['.jpg', '.PNG', ''])
def test_pictures_of_another_suffix_are_named(tmp_path, written):
    made = folders.table(tmp_path / 'own')
    made.file.write_text(made.file.read_text().replace('.png', written))
    found = the(examine(made.root, 'folder'), 'unusable-images')
    assert 'in one way' in found.do and '.png is there: ' in found.examples[0]
    assert ('another suffix' in found.examples[0]) == (written != '.PNG')


@pytest.mark.parametrize('name', ['People.csv', 'people.xlsx', 'annotations.csv'])
def test_a_table_of_another_name_is_named(tmp_path, name):
    made = folders.table(tmp_path / 'own')
    made.file.rename(made.root / name)
    assert name in the(examine(made.root, 'folder'), 'annotations').found


def test_quoted_cells_between_semicolons_are_called_so(tmp_path):
    made = folders.table(tmp_path / 'own')
    made.file.write_text('"image";"caption";"id"\n"a.png";"A man, in red";"1"\n')
    assert 'not semicolons: save it so' in the(examine(made.root, 'folder'), 'annotations').found


def test_an_empty_list_is_called_so(tmp_path):
    made = folders.cuhk(tmp_path / 'above')
    made.rows = []
    made.save()
    assert 'found an empty list, expected a list of entries' in refused('cuhk_pedes', made.root)
