"""The index of a folder: only what changed is embedded, nothing is lost by a kill, nothing unusable is fatal."""

import contextlib
import os
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from data import pictures, transforms
from lcr2s_jax import images as decoder
from lcr2s_jax import model as models
from lcr2s_jax.errors import ConfigError, DataError, SearchError
from lcr2s_jax.search import folder, ingest, metadata
from lcr2s_jax.search import index as indexing
from lcr2s_jax.search.gallery import OWN
from lcr2s_jax.search.model import open_model
from tests import searching
from tests.road import fails, typed


@pytest.fixture
def made(tmp_path):
    return searching.index(tmp_path)


@pytest.fixture
def told(made):
    """update(**options) -> what was done."""
    return made.update


def of(made):
    """path -> vector."""
    gallery = made.gallery()
    vector_GE, row_G = gallery.vectors()
    return dict(zip([one['path'] for one in gallery.facts(row_G)], vector_GE, strict=True))


def test_a_second_index_of_the_same_folder_embeds_nothing(made, told):
    first, version = told(), made.gallery().version
    assert first['embedded'] == first['new'] == first['pictures'] == 12
    second = told()
    assert second['embedded'] == second['new'] == second['changed'] == 0 and second['unchanged'] == 12
    assert made.gallery().version == version, 'not even a commit'


def test_what_is_embedded_is_what_evaluation_would_see(made, told):
    told()
    found, model = of(made), models.open_model(made.root.parent / 'index' / 'model')
    for path, vector in found.items():
        image = transforms.resize(transforms.decode((made.root / path).read_bytes()), (16, 8)).numpy()
        assert 1 - vector @ model.embed_image(image[None])[0] <= 1e-4


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
@pytest.mark.parametrize('orientation', [1, 3, 5, 6])
def test_a_picture_that_exif_turns_is_indexed_as_an_upload_of_it_is(suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = searching.photo(7, format_={'jpg': 'JPEG', 'png': 'PNG'}[suffix], exif=exif)
    upload = decoder.png(encoded)  # as an upload is kept
    turned, plain = (folder.decode(one, (16, 8)) for one in (encoded, searching.photo(7)))
    assert turned[1] == '' and pictures.turned(encoded) == (orientation != 1) and not pictures.turned(upload)
    np.testing.assert_array_equal(turned[0], folder.decode(upload, (16, 8))[0])
    if suffix == 'jpg':
        assert np.array_equal(turned[0], plain[0]) == (orientation == 1)


def test_damaged_exif_and_a_damaged_turned_picture_are_not_fatal():
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = searching.photo(7, exif=exif)
    assert 'damaged' in folder.decode(encoded[: len(encoded) * 9 // 10], (16, 8))[1]
    broken = encoded.replace(b'Exif\0\0MM\0*', b'Exif\0\0XXXX')
    assert broken != encoded and not pictures.turned(broken) and folder.decode(broken, (16, 8))[1] == ''


def test_only_a_changed_file_is_embedded_again_and_a_renamed_one_is_known_by_its_bytes(made, told):
    told()
    old = of(made)
    (made.root / 'a' / '000.png').rename(made.root / 'new.png')
    shutil.copy(made.root / 'b' / '003.png', made.root / 'b' / '001.png')
    searching.folders.draw(made.root / 'a' / '002.png', 77)
    os.utime(made.root / 'a' / '004.png', ns=(1, 1))
    again, now = told(prune=True), of(made)
    assert (again['embedded'], again['copied'], again['pruned']) == (1, 3, 1)
    assert now.keys() == old.keys() - {'a/000.png'} | {'new.png'}
    np.testing.assert_array_equal(now['new.png'], old['a/000.png'])
    np.testing.assert_array_equal(now['b/001.png'], old['b/003.png'])
    assert not np.array_equal(now['a/002.png'], old['a/002.png'])
    assert told()['unchanged'] == 12


def test_what_is_gone_is_still_found_until_it_is_pruned(made, told):
    told()
    (made.root / 'a' / '000.png').unlink()
    assert (told()['gone'], len(of(made))) == (1, 12)
    assert (told(prune=True)['pruned'], len(of(made))) == (1, 11)


def test_an_empty_folder_prunes_nothing(made, told):
    told()
    shutil.rmtree(made.root)
    made.root.mkdir()
    with pytest.raises(SearchError, match='Is the disk there'):
        told(prune=True)
    assert len(of(made)) == 12


def test_unusable_files_are_listed_and_never_fatal(made, told, capsys):
    (made.root / 'text.jpg').write_text('<html>')
    (made.root / 'empty.png').touch()
    cut = (made.root / 'a' / '000.png').read_bytes()
    (made.root / 'cut.png').write_bytes(cut[: len(cut) * 2 // 3])
    Image.new('1', (10_001, 5_000)).save(made.root / 'wide.png')
    (made.root / 'notes.txt').write_text('no picture by its name')
    (made.root / 'out.png').symlink_to('/etc/hostname')
    first = told()
    assert first['files'] == 16 and first['pictures'] == 12
    assert set(first['unusable']) == {'text.jpg', 'empty.png', 'cut.png', 'wide.png'}
    assert 'pixels' in first['unusable']['wide.png'] and 'decoded' in first['unusable']['cut.png']
    second = told()
    assert second['unchanged'] == 16 and second['unusable'] == {}, 'they are not looked at again'
    shutil.copy(made.root / 'b' / '001.png', made.root / 'text.jpg')
    assert told()['pictures'] == 13
    run = typed('index', f'--index={made.uri}', f'--images={made.root}')
    assert '13 pictures can be found' in run.stdout and '2 passed over' in run.stdout


def test_odd_names_and_what_may_not_be_looked_at_are_listed_and_never_forgotten(made, told, monkeypatch, capsys):
    told()
    odd = 'x\udcff.png'
    shutil.copy(made.root / 'a' / '000.png', made.root / odd)
    os.mkfifo(made.root / 'pipe.jpg')  # opening it would wait forever
    shutil.copy(made.root / 'a' / '000.png', made.root / 'went.png')
    look, scandir = folder.look, os.scandir

    def forbidden(path):
        if path.endswith('/b'):
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    def looked(root, path):
        (made.root / 'went.png').unlink(missing_ok=True)
        return look(root, path)

    monkeypatch.setattr(folder.os, 'scandir', forbidden)
    monkeypatch.setattr(folder, 'look', looked)
    found = told(prune=True)
    assert (
        found['unusable'].keys() >= {odd, 'pipe.jpg', 'went.png', 'b'} and 'Permission denied' in found['unusable']['b']
    )
    assert (found['unchanged'], found['gone'], len(of(made))) == (6, 0, 12)
    assert (
        r"'x\udcff.png': a name that is no UTF-8"
        in typed('index', f'--index={made.uri}', f'--images={made.root}').stdout
    )
    with pytest.raises(DataError, match='cannot be read .Permission denied.'):
        folder.walk(made.root / 'b')


def test_a_call_that_dies_between_commits_is_finished_by_the_next_one(made, told, monkeypatch):
    monkeypatch.setattr(ingest, 'COMMIT', 4)
    whole, opened = folder.read, []

    def dies(*args):
        for picture in whole(*args):
            if len(opened) == 10:
                raise KeyboardInterrupt
            opened.append(picture)
            yield picture

    monkeypatch.setattr(folder, 'read', dies)
    with pytest.raises(KeyboardInterrupt):
        told()
    assert len(of(made)) == 8
    monkeypatch.setattr(folder, 'read', whole)
    assert told()['embedded'] == 4 and len(of(made)) == 12


def test_what_was_deleted_stays_out_under_any_name_until_it_is_readmitted(made, told):
    told()
    words = 'delete', f'--index={made.uri}', '--path=a/000.png'
    assert '1 row of 12 would be forgotten' in typed(*words).stdout and len(of(made)) == 12
    assert typed(*words, '--yes').returncode == 0
    shutil.copy(made.root / 'a' / '000.png', made.root / 'other name.png')
    again = told()
    assert (again['kept_out'], again['embedded'], len(of(made))) == (2, 0, 11)
    assert told()['kept_out'] == 2
    assert told(readmit=True)['embedded'] == 2 and len(of(made)) == 13
    assert told()['kept_out'] == 0


def test_a_deletion_names_its_pictures_in_one_way_and_a_path_that_is_none_gets_the_nearest(made, told):
    told()
    index = f'--index={made.uri}'
    fails(typed('delete', index), 2, 'needs either --where or --path')
    fails(typed('delete', index, '--where= '), 2, 'needs either --where or --path')
    fails(typed('delete', index, '--path=a/00.png'), 1, "found no picture 'a/00.png'", "such as 'a/0")
    both = typed('delete', index, '--path', made.root / 'a' / '000.png', '--path=b/001.png', '--yes')
    assert '2 rows forgotten' in both.stdout and of(made).keys().isdisjoint(('a/000.png', 'b/001.png'))


def test_another_models_index_is_refused_with_both_hashes(made):
    theirs, ours = (searching.model(seed) for seed in (0, 1))
    with pytest.raises(SearchError, match=f'{theirs.hash[:16]} there, {ours.hash[:16]} of w'):
        open_model(made.uri, ours)
    assert open_model(made.uri, theirs).hash == theirs.hash


def test_an_index_that_was_made_with_other_preprocessing_takes_no_more_pictures(made, told, monkeypatch):
    told()
    monkeypatch.setattr(decoder, 'RECIPE', 'other')
    with pytest.raises(SearchError, match='found pictures made by .RGB uint8'):
        told()


def test_an_index_behind_a_url_fetches_its_model_once_and_logs_an_object_a_call(tmp_path, monkeypatch):
    from lcr2s_jax.search import audit
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.search.query import Query

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    url = f'file://{tmp_path}/store/i'  # the road of s3:// and gs://, to a disk
    assert place.model_folder(url) is None
    open_model(url, searching.model(calibrated=False))
    searching.pictures(tmp_path / 'crops', 3)
    searching.Index(url, tmp_path / 'crops').update()
    opened = indexing.open_search(url)
    answer = opened([Query((searching.WORDS,))], top=2, false_alarms=0.05)[0]
    for _ in range(2):
        audit.write(url, [audit.line('me', answer, opened)])
    assert len(list((tmp_path / 'store' / 'i' / 'audit').iterdir())) == 2 and len(answer.hits) == 2
    fetched = place.model_folder(url)
    assert fetched.is_relative_to(tmp_path / 'cache') and place.model_folder(url) == fetched
    assert opened.model.calibration is None and open_model(url, searching.model()).calibration is not None
    assert place.model_folder(url) != fetched, 'a calibration that came later is seen'


def test_what_cannot_be_indexed_is_said_before_a_model_is_opened(tmp_path, made):
    with pytest.raises(ConfigError, match='--weights=... or --workdir=... says what shall embed'):
        open_model(str(tmp_path / 'none'))
    (tmp_path / 'file').touch()
    (tmp_path / 'x\udcff').mkdir()
    for uri, folder_, words in (
        (made.uri, '/no/such', 'found no folder /no/such'),
        (made.uri, str(made.root / 'a' / '000.png'), f'expected a folder, such as its own: --images={made.root / "a"}'),
        (str(tmp_path / 'file'), str(made.root), '--index: found the file .*file, expected a folder'),
        (str(made.root / 'a'), str(made.root), '--index: found the folder .* with pictures of yours, such as 0'),
        (made.uri, str(tmp_path / 'x\udcff'), 'no UTF-8; rename'),
        (made.uri, 'file:///a%20b/c', 'expected the folder itself: --images=/a b/c'),
    ):
        with pytest.raises(ConfigError, match=words):
            indexing.check(uri, folder_, None)


def test_a_folder_without_pictures_is_a_mistake_that_says_what_is_there(made, tmp_path):
    (tmp_path / 'far').mkdir()
    (tmp_path / 'far' / 'x.jpg').symlink_to(made.root / 'a' / '000.png')
    (tmp_path / 'far' / 'notes.txt').touch()
    run = typed('index', f'--index={made.uri}', f'--images={tmp_path / "far"}')
    fails(run, 1, 'found no picture below', '1 links', "'x.jpg'", 'suffix .txt')


def test_pictures_of_a_moved_folder_keep_vectors_and_columns(made, told, tmp_path):
    (tmp_path / 'm.csv').write_text('path,camera\na/000.png,c1\nb/001.png,c2\n')
    told(table=str(tmp_path / 'm.csv'))
    before, moved = of(made), made._replace(root=tmp_path / 'new')
    made.root.rename(moved.root)
    assert moved.update()['seems_moved'] == [str(made.root)] and made.gallery().count() == 24, 'nothing is guessed'
    first = moved.update(moved_from=str(made.root))
    assert first['moved'] == [{'old': str(made.root), 'moved': 12, 'left': 0}] and first['embedded'] == 0
    rows = made.gallery().rows("camera = 'c1'", ['root', 'path']).to_pylist()
    assert rows == [{'root': str(moved.root), 'path': 'a/000.png'}]
    now = of(made)
    assert now.keys() == before.keys() and all(np.array_equal(now[path], before[path]) for path in now)
    searching.pictures(moved.root, 1, first=70)
    again = moved.update(moved_from=str(made.root))
    assert (again['moved'][0]['moved'], again['embedded']) == (0, 1), (
        'the same call goes on after a kill or a full disk'
    )
    with pytest.raises(SearchError, match='found no picture of the folder /never in .*has those of .*new'):
        moved.update(moved_from='/never')


def test_a_picture_keeps_its_columns_under_another_name_and_in_a_deeper_folder(made, told, tmp_path):
    (tmp_path / 'm.csv').write_text('path,camera\na/000.png,c1\nb/001.png,c2\n')
    told(table=str(tmp_path / 'm.csv'))
    (made.root / 'a' / '000.png').rename(made.root / 'a' / 'new.png')
    (made.root / 'b').rename(made.root / 'c')
    done = made.update()
    assert done['renamed']['a/000.png'] == 'a/new.png' and done['renamed']['b/001.png'] == 'c/001.png'
    assert made.update(prune=True)['pruned'] == len(done['renamed']) and made.gallery().count() == 12
    rows = made.gallery().rows('camera is not null', ['path', 'camera']).to_pylist()
    assert sorted((one['path'], one['camera']) for one in rows) == [('a/new.png', 'c1'), ('c/001.png', 'c2')]
    deep = made._replace(root=tmp_path / 'all')
    deep.root.mkdir()
    made.root.rename(deep.root / '2024')
    assert deep.update()['seems_moved'] == [str(made.root)] and made.gallery().count() == 24, 'nothing is guessed'
    assert deep.update(moved_from=str(made.root))['moved'] == [{'old': str(made.root), 'moved': 12, 'left': 0}]
    assert made.gallery().count() == 12
    rows = made.gallery().rows("camera = 'c1'", ['root', 'path']).to_pylist()
    assert rows == [{'root': str(deep.root), 'path': '2024/a/new.png'}]


def test_pruning_takes_a_folder_that_is_gone_for_moved_and_forgets_no_only_copy(made, told, tmp_path):
    told()
    moved = made._replace(root=tmp_path / 'new')
    made.root.rename(moved.root)
    (moved.root / 'a' / '000.png').unlink()
    assert moved.update(prune=True)['moved'] == [{'old': str(made.root), 'moved': 11, 'left': 1}]
    assert made.gallery().count() == 12
    run = typed('index', f'--index={made.uri}', f'--images={made.root}', '--prune')
    assert run.returncode == 0, run.stderr
    assert 'nowhere else, and kept, as their disk may come back: 1 picture;' in run.stdout
    shutil.copytree(moved.root, made.root)
    made.update()
    shutil.rmtree(made.root)
    run = typed('index', f'--index={made.uri}', f'--images={made.root}', '--prune')
    assert (
        'in another folder of the index too, and forgotten: 11 pictures' in run.stdout and made.gallery().count() == 12
    )


def test_columns_come_out_of_file_names(made, told):
    told()
    for number, name in enumerate(
        ('gate_2_20240501_123000_0007', 'gate_2_20241301_123000_1', 'hall_20240502_080000_x')
    ):
        searching.folders.draw(made.root / 'c' / f'{name}.jpg', 100 + number)
    found = told(name_pattern='{camera}_{time:%Y%m%d_%H%M%S}_{*}')['name_pattern']
    assert found['columns'] == {'camera': 'string', 'time': 'string'} and found['matched'] == 2
    assert len(found['unmatched']) == 13 and 'c/gate_2_20241301_123000_1.jpg' in found['unmatched'], (
        'there is no month 13'
    )
    chosen = "camera = 'gate_2' and time >= '2024-05-01 12:00' and time < '2024-05-02'"
    assert made.gallery().count(chosen) == 1
    run = typed('index', f'--index={made.uri}', f'--images={made.root}', '--name-pattern={camera}-{n}')
    fails(run, 1, "found no file that '{camera}-{n}' fits, as in 'a/000.png'")


def test_metadata_becomes_columns_of_the_narrowest_kind(made, told, tmp_path):
    table = tmp_path / 'm.csv'
    table.write_text(
        'path,camera,track,speed,code\n./a/000.png,c1,7,0.5,007\nb\\001.png,,8,2,010\nnone.png,c1,9,,\n', 'utf-8-sig'
    )
    first = told(table=str(table))
    assert first['metadata'] == {'changed': 2, 'without_picture': ['none.png'], 'nearly': {}}
    gallery = made.gallery()
    assert gallery.columns == {'camera': 'string', 'track': 'int64', 'speed': 'double', 'code': 'string'}
    found = {one['path']: one for one in gallery.facts(gallery.vectors()[1])}
    assert [found['b/001.png'][name] for name in gallery.columns] == [None, 8, 2.0, '010']
    assert found['a/002.png']['track'] is None
    assert told(table=str(table))['metadata']['changed'] == 0


def test_a_column_that_lancedb_would_take_for_its_own_is_refused_before_anything_is_embedded(made, tmp_path):
    (tmp_path / 'm.csv').write_text('path,_rowid\na/000.png,1\n')
    with pytest.raises(SearchError, match="found the columns .'_rowid'., expected names that begin with a letter"):
        made.update(table=str(tmp_path / 'm.csv'))
    assert not (tmp_path / 'index' / 'images.lance').exists()


def test_a_second_call_that_looked_before_the_first_was_done_adds_no_row(made, told, monkeypatch):
    walk = folder.walk

    def overtaken(*args, **more):
        monkeypatch.setattr(folder, 'walk', walk)
        made.update()
        return walk(*args, **more)

    monkeypatch.setattr(folder, 'walk', overtaken)
    made.update()
    gallery = made.gallery()
    assert gallery.count() == len(gallery.known(str(made.root))) == 12


@pytest.mark.parametrize(
    'values,kind',
    [
        (['7', '-12', '0'], 'int64'),
        (['7', '0.5', '-0.30000000000000004'], 'double'),
        (['1e-05', '1.5e+20', '-2.5E-3'], 'double'),
        (['1_2'], 'string'),
        (['2024_01_05', '2024_01_06'], 'string'),
        (['1234567890123456789'], 'string'),
        (['9007199254740993', '0.5'], 'string'),  # of the first a double would lose a digit
        (['12e4', '120000'], 'string'),
        (['1e-99999999999999999999'], 'string'),
        (['nan'], 'string'),
        (['inf', '1'], 'string'),
        (['١٢'], 'string'),
        ([' 1'], 'string'),
        ([''], 'string'),
    ],
)
def test_a_column_is_of_numbers_only_where_numbers_keep_all_that_it_says(tmp_path, values, kind):
    (tmp_path / 'm.csv').write_text('path,c\n' + ''.join(f'{i},{value}\n' for i, value in enumerate(values)))
    kinds, found = metadata.Table(str(tmp_path / 'm.csv'), ()).typed({})
    assert kinds == {'c': kind}
    if kind == 'string':
        assert [row['c'] or '' for row in found.values()] == values


@pytest.mark.parametrize(
    'text,words',
    [
        ('file,camera\na,b\n', '`path`'),
        ('path\na\n', '`path` and others'),
        ('Path,camera\na,b\n', "write path for 'Path'"),
        ('camera,filename\na,b\n', "write path for 'filename'"),
        (' path ,camera\na,b\n', "write path for ' path '"),
        ('path;camera\na;b\n', 'put commas between the cells, not semicolons'),
        ('path\tcamera\na\tb\n', 'put commas between the cells, not tabs'),
        ('path,vector\na,b\n', "['vector']"),
        ('path,my column\na,b\n', "['my column']"),
        ('path,c,c\na,b,d\n', 'each once'),
        ('path,camera,Camera\na,b,d\n', "['camera', 'Camera']; expected each once"),
        ('path,PATH,c\na,b,d\n', "['PATH']"),
        ('path,Vector\na,b\n', "['Vector']"),
        ('[{"path": "a", "c": "b"}]', 'found JSON, expected CSV'),
        ('{"path": "a", "c": "b"}\n{"path": "b", "c": "b"}\n', 'found JSON, expected CSV'),
        ('\n\npath,c\na,b\n\na,c\n', "line 6: found 'a' a second time"),
        ('path,c\na,b\n./a,c\n', "line 3: found 'a' a second time"),
        ('path,c\na,b,d\n', 'line 2: found another number of cells'),
        ('path,c\na\n', 'line 2: found another number of cells'),
        ('path,c\na,"x\ny"\nb,d\nb,e\n', "line 5: found 'b' a second time"),
        ('path,c\na,"x\nb,y\n', 'cannot be read'),
        ('"path,c\na,x\n', 'cannot be read'),
        (f'path,{"a" * 300}\na,b\n', f"found the columns ['{'a' * 60}']; expected each once, of at most 100 letters"),
        (','.join(['path', *(f'c{n}' for n in range(5000))]) + '\n', 'found 5,000 columns, expected at most 500'),
        ('path,track\na,1_2\n', "found '1_2' in the column track, which the index has as int64"),
        ('path,track\na,seven\n', "found 'seven' in the column track, which the index has as int64"),
    ],
)
def test_a_table_that_cannot_be_joined_is_explained(tmp_path, text, words):
    (tmp_path / 'm.csv').write_text(text)
    with pytest.raises(DataError) as error:
        metadata.Table(str(tmp_path / 'm.csv'), OWN).typed({'track': 'int64'})
    assert words in str(error.value)


def test_all_bad_lines_of_a_table_are_counted_and_the_first_ten_named(tmp_path):
    lines = [f'{n}.png,{"seven" if n < 9 else n}' for n in range(20)] + ['19.png,1'] * 3 + ['20.png']
    (tmp_path / 'm.csv').write_text('\n'.join(['path,track', *lines]))
    with pytest.raises(DataError) as error:
        metadata.Table(str(tmp_path / 'm.csv'), OWN).typed({'track': 'int64'})
    first, *named = str(error.value).split('\n')
    assert 'found 13 that cannot be used' in first and len(named) == 10
    assert named[0].strip().startswith("line 2: found 'seven' in the column track")
    assert named[9].strip().startswith("line 22: found '19.png' a second time")


def test_a_picture_that_a_table_nearly_names_is_told(made, told, tmp_path):
    told()
    names = sorted(made.root.rglob('*.png'))
    name = names[0].relative_to(made.root).as_posix()
    (tmp_path / 'm.csv').write_text(f'path,track\n{name.upper()},1\nnowhere.png,2\n')
    found = told(table=str(tmp_path / 'm.csv'))['metadata']
    assert metadata.nearly([f'/home/me/{name}', 'other/x.png'], [name]) == {f'/home/me/{name}': name}
    assert metadata.nearly(['1.png', '2.png'], ['a/1.png', 'a/2.png', 'b/2.png']) == {'1.png': 'a/1.png'}
    assert found['nearly'] == {name.upper(): name} and found['without_picture'] == sorted([name.upper(), 'nowhere.png'])


@pytest.mark.parametrize('there', ['d', 'c'])
def test_near_names_are_found_in_time_that_grows_with_the_names_alone(there):
    start = time.process_time()
    found = metadata.nearly(
        [f'x/c{n}/0001.jpg' for n in range(20_000)], [f'{there}{n}/0001.jpg' for n in range(20_000)]
    )
    assert len(found) == (20_000 if there == 'c' else 0)
    assert time.process_time() - start < 5  # comparing each with each takes a minute and a half


def test_a_table_is_read_once_as_a_pipe_can_be(made, told, tmp_path):
    name = next(made.root.rglob('*.png')).relative_to(made.root).as_posix()
    os.mkfifo(pipe := tmp_path / 'table')
    writer = threading.Thread(target=pipe.write_text, args=(f'path,camera\n{name},c1\n',), daemon=True)
    writer.start()
    run = typed('index', f'--index={made.uri}', f'--images={made.root}', f'--metadata={pipe}')
    assert 'new metadata of 1 row\n' in run.stdout and not writer.is_alive()


def test_a_column_that_differs_from_one_of_the_index_by_letter_case_is_refused_before_pictures_are_read(
    made, told, tmp_path
):
    name = next(made.root.rglob('*.png')).relative_to(made.root).as_posix()
    for column, more in (('camera', {}), ('Camera', {'match': 'found the column Camera, and the index has camera'})):
        (tmp_path / 'm.csv').write_text(f'path,{column}\n{name},c1\n')
        with pytest.raises(SearchError, **more) if more else contextlib.nullcontext():
            told(table=str(tmp_path / 'm.csv'))
    with pytest.raises(SearchError, match='found the column Camera'):
        told(name_pattern='{Camera}')
