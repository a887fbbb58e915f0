"""`info`, `evaluate` and `export` on the command line; what `search` and `index` do is in tests/search."""

import csv
import json
import shutil

import numpy as np
import pytest

from lcr2s_jax.evaluation import pictures
from lcr2s_jax.weights import export, runtimes
from tests import folders, searching
from tests.road import fails, typed


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    made = searching.index(tmp_path_factory.mktemp('info'), count=6)
    (made.root.parent / 'm.csv').write_text('path,camera\na/000.png,c1\nb/001.png,c1\na/002.png,c2\n')
    made.update(table=str(made.root.parent / 'm.csv'))
    return made


def test_info_tells_model_pictures_and_columns_with_their_most_frequent_values(made):
    found = json.loads(typed('info', f'--index={made.uri}', '--json').stdout)
    assert found['pictures'] == 6 and found['unusable'] == 0 and found['roots'] == {str(made.root): 6}
    assert found['columns'] == {'camera': {'type': 'string', 'examples': ['c1', 'c2']}}
    assert found['model']['hash'] == searching.model().hash and found['model']['image_size'] == [16, 8]
    assert found['model']['trained_on']['kind'] == 'synthetic pedestrians' and found['bytes'] > 10_000
    out = typed('info', f'--index={made.uri}').stdout
    for words in ('6 pictures', 'of 16 x 8', 'synthetic pedestrians', "camera  string  such as 'c1', 'c2'"):
        assert words in out
    fails(typed('info', f'--index={made.root}'), 1, 'found no index')


def test_info_and_delete_of_an_empty_index_say_that_nothing_is_in_it(made, tmp_path):
    (tmp_path / 'none').mkdir()
    index = f'--index={tmp_path / "i"}'
    fails(typed('index', index, f'--weights={made.uri}', f'--images={tmp_path / "none"}'), 1, 'found no picture below')
    assert '0 pictures' in typed('info', index).stdout
    fails(typed('delete', index, '--path=a.jpg'), 1, "found no picture 'a.jpg'")
    fails(typed('index', index, '--images=https://example.org/a'), 1, 'found the address https://', 'fetch')


def test_an_index_of_damaged_pictures_alone_is_no_success(made, tmp_path):
    (tmp_path / 'far').mkdir()
    (tmp_path / 'far' / 'a.jpg').write_bytes(b'no picture')
    words = 'index', f'--index={tmp_path / "i"}', f'--weights={made.uri}', f'--images={tmp_path / "far"}'
    run = typed(*words)
    assert run.returncode == 1 and '1 cannot be used' in run.stdout and "'a.jpg'" in run.stdout
    assert typed(*words).returncode == 1, 'nor is it the second time'


def test_a_path_in_another_letter_case_is_named_by_what_is_there(made):
    path = sorted(made.root.rglob('*.png'))[0].relative_to(made.root).as_posix()
    run = typed('delete', f'--index={made.uri}', f'--path={path.upper()}')
    assert run.returncode == 1 and f"such as '{path}'" in run.stderr


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    """A folder of four people, three pictures each, and its table."""
    folder = folders.table(tmp_path_factory.mktemp('people'), people=4)
    return folder.root, folder.file


def test_evaluate_measures_weights_on_a_table_of_pictures_in_float32(table, made):
    images, file = table
    words = 'evaluate', f'--images={images}', f'--table={file}', f'--weights={made.uri}'
    found = json.loads(typed(*words, '--json').stdout)
    assert (found['images'], found['captions'], found['people'], found['dtype']) == (12, 24, 4, 'float32')
    model, rows = searching.model(), list(csv.DictReader(file.open()))
    text = model.encode_text([row['caption'] for row in rows])
    names = list(dict.fromkeys(row['image'] for row in rows))
    image = model.encode_image([images / name for name in names])
    whose = {row['image']: row['id'] for row in rows}
    best = [whose[names[place]] == row['id'] for place, row in zip((text @ image.T).argmax(1), rows, strict=True)]
    assert found['t2i']['R1'] == pytest.approx(100 * np.mean(best)) and 0 < found['i2t']['mAP'] <= 100
    assert 'in float32' in typed(*words).stdout


def test_neighbours_in_the_gallery_are_measured_apart_and_not_without_being_asked_for(table, made):
    images, file = table
    words = 'evaluate', f'--images={images}', f'--table={file}', f'--weights={made.uri}', '--enrich=neighbours'
    found = json.loads(typed(*words, '--neighbours=3', '--json').stdout)
    apart = found['gallery_side']
    names = ['averaged with 3 nearest', 'k-reciprocal re-ranking', 'visual neighbours (NAFS)']
    assert list(apart) == ['first neighbours', *names] and 0 <= apart['first neighbours'] <= 100
    assert found['t2i'] != apart[names[0]]['t2i'] and 'i2t' not in apart[names[1]]
    out = typed(*words).stdout
    assert 'averaged with 8 nearest' in out and 'no labels, apart' in out
    fails(typed(*words[:4], '--neighbours=3'), 2, '--neighbours is of --enrich')
    fails(typed(*words[:4], '--enrich=fusion'), 2, 'found no --workdir')


def test_neighbours_may_be_measured_as_another_model_finds_them(table, made):
    images, file = table
    words = 'evaluate', f'--images={images}', f'--table={file}', f'--weights={made.uri}', '--json'
    own = json.loads(typed(*words, '--enrich=neighbours', f'--neighbours-by={made.uri}').stdout)
    assert own['gallery_side'] == json.loads(typed(*words, '--enrich=neighbours').stdout)['gallery_side']
    other = json.loads(typed(*words, '--enrich=neighbours', '--neighbours-by=synthetic-pedestrians').stdout)
    assert other['t2i'] == own['t2i'] and other['gallery_side'] != own['gallery_side']
    fails(typed(*words, f'--neighbours-by={made.uri}'), 2, '--neighbours-by is of --enrich')


def test_an_index_tells_how_its_pictures_are_compared_and_what_is_typed_wrongly(made, tmp_path):
    uri = shutil.copytree(made.uri, tmp_path / 'i')
    out = typed('index', f'--index={uri}', '--enrich=neighbours', '--neighbours=1').stdout
    assert 'each picture averaged with its nearest (in' in out
    assert 'averaged with its nearest; no probabilities' in typed('info', f'--index={uri}').stdout
    out = typed('index', f'--index={uri}', '--enrich=neighbours').stdout
    assert 'averaged with its 8 nearest; before: each picture averaged with its nearest' in out
    assert typed('delete', f'--index={uri}', '--where=true', '--yes').returncode == 0
    assert 'by itself' not in typed('info', f'--index={uri}').stdout, 'of an empty index the vectors are up to date'
    other = shutil.copytree(made.uri, tmp_path / 'j')
    out = typed('index', f'--index={other}', '--enrich=neighbours', f'--neighbours-by={made.uri}').stdout
    assert f'averaged with its 8 nearest in {made.uri} (in' in out
    assert '; before: ' in typed('index', f'--index={uri}', '--enrich=none').stdout
    fails(typed('index', f'--index={uri}'), 2, 'index needs --images or --video')
    fails(typed('index', f'--index={uri}', '--neighbours=2'), 2, '--neighbours is of --enrich')
    fails(typed('index', f'--index={uri}', '--enrich=fusion'), 2, 'found no --workdir')
    near = '--enrich=neighbours', f'--neighbours-by={tmp_path / "none"}'
    fails(
        typed('index', f'--index={tmp_path / "new"}', f'--weights={uri}', f'--images={made.root}', *near),
        1,
        '--neighbours-by: found no index',
    )
    assert typed('info', f'--index={tmp_path / "new"}').returncode == 1, 'told before pictures are embedded'


@pytest.mark.parametrize(
    'text,words',
    [
        ('image,caption\na,b\n', "found the columns ['image', 'caption'], expected image, caption, id once each"),
        ('image,caption,id,caption\na,b,1,c\n', 'expected image, caption, id once each'),
        ('image,caption,id,id\na.png,a,1,2\n', "found the columns ['image', 'caption', 'id', 'id'], expected"),
        ('image;caption;id\na.png;b;1\n', 'put commas between the cells, not semicolons'),
        ('image,caption,id\na.png,a man, with a bag,1\n', 'line 2: found more cells than names of columns'),
        ('image,caption,id\na.png,"a man,1\n', 'its quotation marks closed'),
        ('image,caption,id\na.png,x,1\n./a.png,y,2\n', 'found the picture a.png of two ids'),
        ('image,caption,id\nNO.png,x,1\nno.png,x,1\n', 'found 2 pictures of the table missing, expected all of 2'),
        ('image,caption,id\n', 'found no row'),
        ('image,caption,id\na.png,,1\n', 'line 2: found an empty cell as caption'),
        ('image,caption,id\na.png,x,1\na.png,y,2\n', 'found the picture a.png of two ids'),
        ('image,caption,id\nno.png,x,1\n', 'no.png'),
    ],
)
def test_a_table_that_cannot_be_evaluated_is_explained(made, tmp_path, text, words):
    (tmp_path / 't.csv').write_text(text)
    run = typed('evaluate', f'--images={tmp_path}', f'--table={tmp_path / "t.csv"}', f'--weights={made.uri}')
    assert run.returncode == 1 and words in run.stderr and 'Traceback' not in run.stderr, run.stderr


def test_blanks_around_an_id_make_nobody_else(tmp_path):
    (tmp_path / 't.csv').write_text('image,caption,id\na.png,x,1\na.png,y,1 \nb.png,z, 2\n')
    found = pictures.read(str(tmp_path / 't.csv'), str(tmp_path))
    assert found.image_pid_G.tolist() == [0, 1] and found.text_pid_Q.tolist() == [0, 0, 1]


def test_a_picture_is_in_the_gallery_once_however_its_path_is_spelled(tmp_path):
    rows = ('d/a.png,x,1', './d/a.png,y,1', '" d/a.png ",z,1', 'd\\a.png,w,1', 'd/../d//a.png,v,1')
    (tmp_path / 't.csv').write_text('\n'.join(['image,caption,id', *rows]) + '\n')
    found = pictures.read(str(tmp_path / 't.csv'), str(tmp_path))
    assert found.files == [tmp_path / 'd' / 'a.png'] and len(found.captions) == 5


def test_every_format_that_there_is_can_be_asked_for(capsys):
    run = typed('export', '--workdir=w', '--format=none', '--out=o')
    assert f'expected {" or ".join(export.FORMATS)}' in run.stderr
    assert set(export.FORMATS) == set(runtimes.RUNTIMES)
