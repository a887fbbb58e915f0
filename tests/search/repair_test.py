"""What a kill has left is put right: rows that are there twice, a moved index, half an upload."""

import datetime
import os
import pathlib

import pyarrow as pa
import pytest

from lcr2s_jax import files, locks
from lcr2s_jax.cli.delete import forget
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import columns, repair, retention
from lcr2s_jax.search import storage as place
from lcr2s_jax.search.gallery import OWN, Gallery
from lcr2s_jax.search.search import Search
from lcr2s_jax.search.web import service, view
from tests import searching
from tests.searching import WORDS, photo


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Twelve pictures."""
    made = searching.index(tmp_path_factory.mktemp('repair'))
    made.update()
    return made


def test_rows_that_are_there_twice_lose_the_younger_one(tmp_path):
    gallery = Gallery(str(tmp_path / 'i'), 8)
    gallery.put('r', searching.rows(range(20)), new=True)
    first = gallery.rows('true', ['path', 'added']).to_pylist()
    columns.join(gallery, 'r', {'camera': 'string'}, {'003.png': {'camera': 'c1'}})
    now = pa.array([datetime.datetime.now(datetime.UTC)] * 5, pa.timestamp('us', tz='UTC'))
    gallery.table.add(gallery.rows("path < '005'", OWN).set_column(OWN.index('added'), 'added', now))
    assert gallery.count() == 25
    assert repair.doubles(gallery) == 5 and repair.doubles(gallery) == 0
    assert sorted(map(str, gallery.rows('true', ['path', 'added']).to_pylist())) == sorted(map(str, first))
    assert gallery.rows("camera = 'c1'", ['path']).to_pylist() == [{'path': '003.png'}]


def test_rows_that_two_calls_wrote_twice_are_one_after_the_next(at, made, tmp_path):
    gallery = at.search.gallery
    gallery.table.add(gallery.table.search().to_arrow())
    assert gallery.count() == 24
    (tmp_path / 'm.csv').write_text('path,camera\na/000.png,c1\n')
    done = made._replace(uri=gallery.uri).update(table=str(tmp_path / 'm.csv'))
    assert done['pictures'] == 12 and Gallery(gallery.uri).count("camera = 'c1'") == 1


def moved(at, to) -> service.Service:
    """The service at its index after that was moved."""
    pathlib.Path(at.search.gallery.uri).rename(to)
    return service.Service(Search(Gallery(str(to)), at.search.model, at.search.tokenizer), at._decoders)


def test_a_moved_index_is_whole_and_what_it_forgets_leaves_the_disk(at, made, tmp_path):
    at.add('ann', [('x.jpg', photo(5)), ('y.jpg', photo(6))])
    there = moved(at, tmp_path / 'moved')
    x, y = sorted(place.uploads(there.search.gallery.uri).iterdir())
    hit = there.find('ann', service.SearchRequest('', [('x.png', x.read_bytes())])).answer.hits[0]
    assert pathlib.Path(hit.root) / hit.path == x and '<img' in view.answer(
        there.find('ann', service.SearchRequest(WORDS)), there.index
    )
    assert 'is in the index already' in there.add('ann', [('x.jpg', photo(5))])[1][0]
    uri = there.search.gallery.uri
    made._replace(uri=uri, root=x.parent).update()
    with pytest.raises(SearchError, match='found no picture below'):  # but the index itself
        made._replace(uri=uri, root=tmp_path).update()
    assert Gallery(uri).count() == 14, 'nothing is added a second time'
    found = there.find('ann', service.SearchRequest('', [('x.png', x.read_bytes())]))
    assert there.erase('ann', there.mark(found, [1]), '1') == 1 and not x.exists()
    forget(uri, f"path = '{y.name}'", True)
    assert not y.exists() and Gallery(uri).count() == 12


def test_names_that_lead_out_of_the_index_s_own_folders_take_no_file_away(at, tmp_path):
    gallery, theirs = at.search.gallery, [tmp_path / f'mine{number}.png' for number in range(4)]
    for file in theirs:
        file.write_bytes(b'x')
    at.add('ann', [('x.jpg', photo(5))])
    below = place.uploads(gallery.uri)
    (kept,) = below.iterdir()
    outside = [os.path.relpath(theirs[0], below), str(theirs[1])]
    (below / '.pending').write_bytes('\n'.join(outside).encode() + b'\n\xff\n')
    for root, path in (
        ('./uploads', os.path.relpath(theirs[2], below)),
        ('./tracks', f'{tmp_path}/mine3.png'),
    ):
        one = searching.rows([7])[0]
        gallery.put(root, [one._replace(path=path)], new=True)
    retention.delete(Gallery(gallery.uri), "path like '%mine%'")
    assert all(file.exists() for file in theirs) and list(below.iterdir()) == [kept]
    assert Gallery(gallery.uri).count("path like '%mine%'") == 0


def test_an_upload_that_was_killed_before_its_commit_leaves_no_file(at, monkeypatch):
    root, gallery = place.uploads(at.search.gallery.uri), at.search.gallery
    at.add('ann', [('x.jpg', photo(5))])
    (kept,) = root.iterdir()
    repair.begin(gallery, [kept.name, 'killed.png', 'torn.png'])
    repair.keep(root / 'killed.png', b'x')
    files.aside_of(root / 'torn.png').write_bytes(b'x')
    retention.delete(gallery, "path = 'none'")
    assert list(root.iterdir()) == [kept]
    monkeypatch.setattr(Gallery, 'put', lambda *given, **more: (_ for _ in ()).throw(OSError(28, 'No space left')))
    with pytest.raises(SearchError, match='the disk is full'):
        at.add('ann', [('y.jpg', photo(6))])
    assert list(root.iterdir()) == [kept]


def test_crops_of_a_video_whose_cutting_was_killed_go_and_those_of_one_at_work_stay(tmp_path):
    gallery = Gallery(str(tmp_path), 8)
    tracks = place.tracks_folder(gallery.uri)
    killed, busy = (tracks / f'{name}{place.HALF_CUT}' for name in ('0' * 16, '1' * 16))
    for folder in (killed, busy):
        (folder / '00001').mkdir(parents=True)
        (folder / '00001' / '000.000.jpg').write_bytes(photo(0))
        (folder / 'detections.jsonl').write_text('{}\n')
    with locks.alone(place.cutting_lock(tracks / ('1' * 16)), lambda: None):
        retention.delete(gallery, "path = 'none'")
    assert [path.name for path in killed.iterdir()] == ['detections.jsonl'], 'the next call goes on with it'
    assert (busy / '00001' / '000.000.jpg').exists()
