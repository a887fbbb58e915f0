"""An index whose files were changed by anybody is told before it answers, or answers the same."""

import os
import pathlib
import random
import shutil

import numpy as np
import pytest

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import approximate, audit, columns, retention, seal, storage, writing
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.index import open_search
from lcr2s_jax.search.model import open_model
from tests import searching


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """300 rows in several commits, a deletion's mark, a column, an approximate index and a forgotten picture."""
    gallery = Gallery(str(tmp_path_factory.mktemp('seal') / 'i'), 8)
    for n in range(0, 300, 100):
        gallery.put('r', searching.rows(range(n, n + 100)), new=True)
    columns.join(gallery, 'r', {'camera': 'string'}, {f'{n:03}.png': {'camera': f'c{n % 3}'} for n in range(300)})
    retention.delete(gallery, "path = '007.png'")
    approximate.build(gallery)
    gallery.drop('r', ['008.png'])
    return gallery.uri


def answer(uri: str):
    gallery = Gallery(uri)
    vector_GE, row_G = gallery.vectors()
    chosen = gallery.rows_where("camera = 'c1'").tolist()
    near = approximate.nearest(gallery, vector_GE[:2], 5)[1].tolist()
    facts = gallery.facts(row_G)
    return vector_GE.tobytes(), str(facts), chosen, near, sorted(retention.forgotten(gallery)), gallery.version


def test_one_bit_in_any_file_is_told_or_changes_nothing(made, tmp_path):
    good, rng, told = answer(made), random.Random(0), 0
    copy = tmp_path / 'i'
    shutil.copytree(made, copy)
    files = [path for path in copy.rglob('*') if path.is_file() and path.name != '.lock']
    assert {path.suffix for path in files} >= {'.lance', '.manifest', '.idx', '.arrow', '.json'}
    for path in files:
        content = path.read_bytes()
        for bit in (0, len(content) * 8 - 1, *(rng.randrange(len(content) * 8) for _ in range(3))):
            spoilt = bytearray(content)
            spoilt[bit // 8] ^= 1 << bit % 8
            path.write_bytes(spoilt)
            try:
                assert answer(str(copy)) == good, path
            except SearchError as error:
                told += 1
                assert 'damaged' in str(error) or 'cannot be read' in str(error), path
        path.write_bytes(content)
    assert answer(str(copy)) == good and told > len(files)


def test_a_pipe_in_the_place_of_any_file_hangs_nothing(made, tmp_path):
    good, copy = answer(made), tmp_path / 'i'
    shutil.copytree(made, copy)
    for path in [path for path in copy.rglob('*') if path.is_file() and path.name != '.lock']:
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        try:
            assert answer(str(copy)) == good, path
        except SearchError as error:
            assert 'damaged' in str(error) or 'cannot be' in str(error), path
        path.unlink()
        path.write_bytes(content)
    os.mkfifo(copy / audit.NAME)
    with pytest.raises(SearchError, match='the audit log cannot be written'):
        audit.write(str(copy), [{}])


@pytest.mark.parametrize('folder', ['images.lance', 'images.lance/_versions', 'images.lance/data'])
def test_a_folder_that_one_may_not_read_is_told_and_not_taken_for_empty(made, tmp_path, folder, monkeypatch):
    copy, scandir, access = tmp_path / 'i', os.scandir, os.access  # root may read everything
    shutil.copytree(made, copy)

    def refused(path='.'):
        if str(path) == str(copy / folder):
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refused)
    monkeypatch.setattr(os, 'access', lambda path, *more: str(path) != str(copy / folder) and access(path, *more))
    for call in (lambda: storage.listed(str(copy), 'images.lance'), lambda: answer(str(copy))):
        with pytest.raises(SearchError, match='Permission denied; expected a folder of the index that you may read'):
            call()
    assert 'Permission denied' in storage.missing(str(copy)) or folder != 'images.lance'


@pytest.mark.parametrize('change', ['cut', 'empty', 'gone', 'another', 'longer'])
def test_a_file_that_is_cut_or_gone_or_is_another_is_told_or_changes_nothing(made, tmp_path, change):
    good = answer(made)
    for path in [path for path in pathlib.Path(made).rglob('*') if path.is_file() and path.name != '.lock']:
        shutil.rmtree(tmp_path / 'i', ignore_errors=True)
        shutil.copytree(made, tmp_path / 'i')
        spoilt = tmp_path / 'i' / path.relative_to(made)
        content = spoilt.read_bytes()
        if change == 'gone':
            spoilt.unlink()
        else:
            spoilt.write_bytes(
                {
                    'cut': content[: len(content) // 2],
                    'empty': b'',
                    'another': content[::-1],
                    'longer': content + b'x',
                }[change]
            )
        try:
            assert answer(str(tmp_path / 'i')) == good, path
        except SearchError:
            pass


def test_a_damaged_manifest_stops_no_thread_of_lancedb_and_without_a_seal_it_is_told_all_the_same(
    made, tmp_path, capfd
):
    shutil.copytree(made, tmp_path / 'i')
    newest = min((tmp_path / 'i' / 'images.lance' / '_versions').glob('*.manifest'))
    newest.write_bytes(newest.read_bytes() + b'x')
    with pytest.raises(SearchError, match='is not what was written'):
        Gallery(str(tmp_path / 'i'))
    assert 'panicked' not in capfd.readouterr().err
    (tmp_path / 'i' / seal.FILE).unlink()
    with pytest.raises(SearchError, match='damaged'):
        Gallery(str(tmp_path / 'i'))


def test_an_older_version_is_told(made, tmp_path):
    shutil.copytree(made, tmp_path / 'i')
    newest = min((tmp_path / 'i' / 'images.lance' / '_versions').glob('*.manifest'))
    newest.unlink()
    (newest.parent / 'latest_version_hint.json').unlink()
    with pytest.raises(SearchError, match='damaged: found version'):
        Gallery(str(tmp_path / 'i'))


def test_writers_and_those_who_write_by_other_means_are_no_damage(made, tmp_path):
    uri = str(tmp_path / 'i')
    shutil.copytree(made, uri)
    reader, gallery = Gallery(uri), Gallery(uri)
    gallery.table.update(where="path = '001.png'", values={'camera': 'mine'})  # by LanceDB alone
    assert Gallery(uri).count("camera = 'mine'") == 1
    gallery.put('r', searching.rows([400]), new=True)
    gallery.tidy()
    retention.delete(gallery, "path = '400.png'")
    reader.refresh()
    assert reader.count() == Gallery(uri).count() == 298
    known = seal.read(uri)['files']
    assert {name for name in known if '/data/' in name} == {
        path.relative_to(uri).as_posix() for path in pathlib.Path(uri).rglob('*.lance') if path.is_file()
    }


def test_an_index_without_a_seal_can_be_searched_and_gets_one_by_the_next_writer(made, tmp_path):
    uri = str(tmp_path / 'i')
    shutil.copytree(made, uri)
    (tmp_path / 'i' / seal.FILE).unlink()
    good = answer(made)
    assert answer(uri) == good
    Gallery(uri).put('r', searching.rows([400]), new=True)
    assert (tmp_path / 'i' / seal.FILE).exists() and Gallery(uri).count() == 299


def test_vectors_of_another_model_are_refused(made, tmp_path):
    uri = str(tmp_path / 'i')
    shutil.copytree(made, uri)
    gallery = Gallery(uri)
    gallery.bind('a' * 64)
    gallery.put('r', searching.rows([400]), new=True)
    Gallery(uri).bind('a' * 64)
    with pytest.raises(SearchError, match='found vectors of the model aaaaaaaaaaaaaaaa, expected bbbb'):
        Gallery(uri).bind('b' * 64)
    np.testing.assert_array_equal(Gallery(uri).model, 'a' * 64)


@pytest.mark.parametrize('left', ['nothing', 'an empty folder'])
def test_a_list_of_forgotten_pictures_that_is_gone_is_told_before_anything_is_written(made, tmp_path, left):
    shutil.copytree(made, copy := tmp_path / 'i')
    shutil.rmtree(copy / 'gone.lance')
    if left != 'nothing':
        (copy / 'gone.lance').mkdir()
    gallery = Gallery(str(copy))
    assert gallery.count() == 298, 'searches need no list'
    for write in (
        lambda: gallery.put('r', searching.rows([7]), new=True),
        lambda: retention.delete(gallery, "path = '009.png'"),
        lambda: columns.join(gallery, 'r', {'x': 'string'}, {}),
    ):
        with pytest.raises(SearchError, match='damaged: found no versions in gone.lance, which this index had'):
            write()


def test_an_index_without_its_rows_is_damaged_and_no_new_one(made, tmp_path):
    shutil.copytree(made, copy := tmp_path / 'i')
    shutil.rmtree(copy / 'images.lance')
    for width in (8, None):
        with pytest.raises(SearchError, match='damaged: found no .* images.lance, which this index had'):
            Gallery(str(copy), width)
    assert not (copy / 'images.lance').exists()


@pytest.mark.parametrize('part', ['model', 'tracks', 'uploads', 'images.lance', 'gone.lance'])
@pytest.mark.parametrize(
    'make,words',
    [
        (pathlib.Path.touch, 'is a file, expected a folder of the index'),
        (os.mkfifo, 'is a pipe, socket or device, expected a folder'),
        (lambda path: path.symlink_to('nowhere'), 'is a link that leads to no folder, expected a folder'),
        (lambda path: path.symlink_to(path.name), 'is a link that leads to no folder, expected a folder'),
    ],
)
def test_what_has_the_name_of_an_indexs_folder_is_called_by_what_it_is(made, tmp_path, part, make, words):
    shutil.copytree(made, copy := tmp_path / 'i')
    shutil.rmtree(copy / part, ignore_errors=True)
    make(copy / part)
    for opened in (Gallery, open_search, open_model):
        with pytest.raises(SearchError, match=f'{part} {words}'):
            opened(str(copy))


def test_an_index_without_its_model_is_said_to_have_none(made):
    for opened in (open_search, open_model):
        with pytest.raises(SearchError, match='found no folder model in this index, expected the model of its vectors'):
            opened(made)


@pytest.mark.parametrize('make', [pathlib.Path.touch, os.mkfifo, lambda path: path.symlink_to('nowhere')])
def test_no_folder_of_rows_is_a_mistake_of_this_program(made, tmp_path, make):
    shutil.copytree(made, copy := tmp_path / 'i')
    shutil.rmtree(copy / 'images.lance' / 'data')
    make(copy / 'images.lance' / 'data')
    with pytest.raises(SearchError, match='damaged'):
        answer(str(copy))


@pytest.mark.parametrize(
    'make,words',
    [
        (pathlib.Path.mkdir, 'is a folder'),
        (os.mkfifo, 'is a pipe, socket or device'),
        (lambda path: path.symlink_to('nowhere'), 'is a link'),
    ],
)
def test_what_has_the_name_of_the_log_or_the_lock_is_called_by_what_it_is(tmp_path, make, words):
    for name in (audit.NAME, writing.LOCK):
        make(tmp_path / name)
    with pytest.raises(SearchError, match=f'{audit.NAME} {words}'):
        audit.write(str(tmp_path), [{}])
    with pytest.raises(SearchError, match=f'{writing.LOCK} {words}'), writing.alone(str(tmp_path)):
        pass
