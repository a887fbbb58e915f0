"""The doctor's checks of annotations, captions and batches."""

import numpy as np
import pytest

from data.doctor import supports
from data.plan import Plan
from tests import folders
from tests.folders import examine, levels, the


def test_captions_of_different_people_are_compared_without_case_and_blanks(tmp_path):
    folders.rstp(tmp_path)
    finding = the(examine(tmp_path, 'rstpreid'), 'shared-captions')
    assert 'found 2 captions (2.0%), 0 of them in test' in finding.found
    assert finding.examples == ("'the man wears a black coat and blue jeans.' of 0, 1",)


def test_one_person_s_captions_may_repeat(tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[5]['captions'][1] = 'Nobody else wears this.'
    folder.rows[1]['captions'][1] = folder.rows[0]['captions'][1]
    assert levels(examine(folder.save().root, 'rstpreid'))['shared-captions'] == 'good'


def test_images_with_other_numbers_of_captions_and_people_seen_once_are_counted(tmp_path):
    folder = folders.cuhk(tmp_path)
    folder.rows[0]['captions'].pop()
    found = examine(folder.save().root, 'cuhk_pedes')
    assert '1 image with fewer and 1 image with more' in the(found, 'captions-per-image').found
    assert '2 identities with a single image (1 in train, 1 in test)' in the(found, 'single-images').found


def test_captions_are_counted_in_the_config_s_tokens(tmp_path):
    folder = folders.rstp(tmp_path)
    folder.rows[2]['captions'][0] = 'a man ' * 50
    folder.save()
    finding = the(examine(tmp_path, 'rstpreid'), 'tokens')
    assert 'found 1 caption of more than 77 tokens' in finding.found
    assert finding.examples == (f'{folder.rows[2]["img_path"]}: 102 tokens',)
    assert levels(examine(tmp_path, 'rstpreid', context_length=102))['tokens'] == 'good'


def test_without_a_tokenizer_the_rest_is_checked_all_the_same(tmp_path):
    folders.rstp(tmp_path)
    (tmp_path / 'clip').mkdir()
    found = examine(tmp_path, 'rstpreid', tokenizer=str(tmp_path / 'clip'))
    assert found.usable and the(found, 'tokens').level == 'note'
    assert 'not counted' in the(found, 'tokens').found and 'tokenizer.json' in the(found, 'tokens').found


@pytest.mark.parametrize('views,captions', [(2, 1), (3, 1), (4, 1), (5, 1), (8, 1), (4, 2), (8, 2), (6, 3)])
def test_shares_of_supports_are_those_of_the_plan_s_own_epoch(views, captions):
    images_P = np.random.default_rng(views).integers(1, 12, 40)
    pid = np.repeat(np.arange(40), images_P)
    plan = Plan(pid, np.arange(len(pid)), identities=1, views=views, captions=captions, seed=3)
    image_SK = np.concatenate([plan.batch(step)[0] for step in range(plan.steps_per_epoch)])
    distinct_S, images = np.array([len(set(row)) for row in image_SK]), views // captions
    found = supports.shares(images_P, views, captions)
    assert found['complete'] == pytest.approx((distinct_S == images).mean())
    assert found['repeats'] == pytest.approx((images - distinct_S).mean() / images)
    assert found['idle'] == pytest.approx(1 - len(set(image_SK.flat)) / len(pid))


def test_a_k_that_the_data_does_not_support_is_advised_against(tmp_path):
    folders.cuhk(tmp_path)
    assert levels(examine(tmp_path, 'cuhk_pedes'))['views'] == 'good'
    finding = the(examine(tmp_path, 'cuhk_pedes', batch=(4, 4)), 'views')
    assert finding.level == 'warning' and 'config.batch.views = 2' in finding.do
    assert levels(examine(tmp_path, 'cuhk_pedes', batch=(4, 1)))['views'] == 'note'
    assert levels(examine(tmp_path, 'cuhk_pedes', batch=(4, 0)))['batch'] == 'error'


def test_with_several_captions_an_image_only_their_multiples_are_advised(tmp_path):
    folders.cuhk(tmp_path)
    found = examine(tmp_path, 'cuhk_pedes', batch=(4, 8, 2))
    assert [row['views'] for row in found.views] == [4, 8]
    assert the(found, 'views').level == 'warning' and 'config.batch.views = 4,' in the(found, 'views').do
    assert levels(examine(tmp_path, 'cuhk_pedes', batch=(4, 4, 2)))['views'] == 'good', 'two images, as K = 2 has'
    found = examine(tmp_path, 'cuhk_pedes', batch=(4, 3, 3))
    assert 'no row has a support' in the(found, 'views').found and [row['views'] for row in found.views] == [6]
    for wrong in ((4, 3, 2), (4, 2, 0)):
        assert levels(examine(tmp_path, 'cuhk_pedes', batch=wrong))['batch'] == 'error'


def test_it_is_said_where_a_table_s_splits_come_from_and_nothing_is_written(tmp_path):
    folders.table(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    found = examine(tmp_path, 'folder')
    assert 'config.data.folder.seed = 0' in the(found, 'splits').follows
    assert sorted(tmp_path.rglob('*')) == before
    folders.open_source('folder', tmp_path)
    assert 'people.splits.csv says' in the(examine(tmp_path, 'folder'), 'splits').found
    folders.table(tmp_path, splits=True)
    assert 'the column split' in the(examine(tmp_path, 'folder'), 'splits').found


def test_missing_val_says_what_is_taken_instead(tmp_path):
    folders.icfg(tmp_path)
    assert 'the last step is taken' in the(examine(tmp_path, 'icfg_pedes'), 'no-val').follows
