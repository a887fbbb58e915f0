"""A dataset's folder that is nearly one is told by what it is."""

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


def test_an_empty_list_is_called_so(tmp_path):
    made = folders.cuhk(tmp_path / 'above')
    made.rows = []
    made.save()
    assert 'found an empty list, expected a list of entries' in refused('cuhk_pedes', made.root)
