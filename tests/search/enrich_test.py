"""Enriched vectors are of just the pictures that an index holds: whoever comes or goes, whenever a call is killed."""

import concurrent.futures
import functools
import hashlib
import pathlib
import shutil
import types

import jax
import numpy as np
import pytest

from lcr2s_jax.cli import delete as deleting
from lcr2s_jax.errors import SearchError
from lcr2s_jax.evaluation import neighbours
from lcr2s_jax.evaluation.gallery_fusion import GalleryFusion
from lcr2s_jax.method.fusion import Fusion
from lcr2s_jax.search import approximate, columns, describe, enrich, enrichment, retention
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.rows import ENRICHED, VECTOR
from tests import searching

TWO = functools.partial(enrich.choose, how='neighbours', count=2)
ASKED = [Query((searching.WORDS,))]


def expected(gallery, count=2) -> dict[str, np.ndarray]:
    """path -> what its vector should be, the slow way."""
    rows = gallery.rows("status = 'ok'", ['path', 'sha256', 'vector']).to_pylist()
    found = {}
    for one in rows:
        others = {other['sha256']: np.array(other['vector']) for other in rows if other['sha256'] != one['sha256']}
        near = sorted(others.values(), key=lambda x, one=one: -x @ np.array(one['vector']))[:count]
        total = np.array(one['vector']) + sum(x / rank for rank, x in enumerate(near, 1))
        found[one['path']] = total / np.linalg.norm(total)
    return found


def assert_enriched(uri, count=2) -> Gallery:
    """Every picture has just the vector that the present ones make."""
    gallery = Gallery(uri)
    assert gallery.compared == ENRICHED
    vector_GE, row_G = gallery.vectors(ENRICHED)
    paths = [one['path'] for one in gallery.facts(row_G, ['path'])]
    wanted = expected(gallery, count)
    assert sorted(paths) == sorted(wanted)
    np.testing.assert_allclose(
        vector_GE, np.array([wanted[path] for path in paths]).reshape(-1, gallery.width), atol=1e-5
    )
    return gallery


def filled(uri, numbers) -> Gallery:
    gallery = Gallery(str(uri), 8)
    gallery.put('/r', searching.rows(numbers), new=True)
    return gallery


@pytest.fixture
def gallery(tmp_path):
    made = filled(tmp_path / 'i', range(30))
    TWO(made)
    enrich.renew(made)
    return made


@pytest.fixture(scope='module')
def indexed(tmp_path_factory):
    made = searching.index(tmp_path_factory.mktemp('enrich'), 10)
    made.update(enriched=TWO)
    return made


def copied(index, folder) -> searching.Index:
    shutil.copytree(pathlib.Path(index.uri).parent, folder / 'w')
    made = searching.Index(str(folder / 'w' / 'index'), folder / 'w' / 'crops')
    made.update(moved_from=str(index.root))
    return made


def test_vectors_are_each_picture_with_its_nearest_and_more_pictures_make_them_anew(indexed, tmp_path):
    here = copied(indexed, tmp_path)
    assert_enriched(here.uri)
    searching.pictures(here.root, 5, first=40)
    told = here.update()
    assert (told['new'], told['enriched']['neighbours'], 'before' in told['enriched']) == (5, 2, False)
    assert_enriched(here.uri)


def test_a_sentence_meets_enriched_vectors_without_probabilities_and_an_example_meets_own_ones(indexed):
    opened = indexed.open()
    answer = opened(ASKED, top=10, false_alarms=0.05)[0]
    vector_GE, _ = opened.gallery.vectors(ENRICHED)
    query_E = opened.embed(ASKED[0], [])
    assert [hit.score for hit in answer.hits] == pytest.approx(sorted(vector_GE @ query_E, reverse=True), abs=1e-5)
    assert answer.threshold is None and all(hit.probability is None for hit in answer.hits)
    assert 'averaged with its 2 nearest' in answer.notes[0] and len(answer.notes) == 1
    own_GE, row_G = opened.gallery.vectors()
    both = opened([*ASKED, Query((), (own_GE[3],))], top=3, false_alarms=0.05)
    assert both[0].hits == answer.hits[:3] and both[1].hits[0].row == row_G[3]
    assert both[1].hits[0].same and both[1].hits[0].score == pytest.approx(1, abs=1e-5)
    assert both[1].threshold is not None, 'examples are compared as the model was calibrated'


def test_what_each_phrase_did_is_of_the_vectors_that_were_compared(indexed):
    opened = indexed.open()
    query = Query(('a woman in a red coat, with a black backpack',))
    answer = opened([query], top=2, false_alarms=0.05)[0]
    told = opened.why(query, answer.hits)
    rest_E = opened.embed(Query(('in a red coat with a black backpack',)), [])
    less_K = opened.gallery.vectors_at([hit.row for hit in answer.hits], ENRICHED) @ rest_E
    scores = np.array([hit.score for hit in answer.hits])
    np.testing.assert_allclose(told[0][1], scores - less_K, atol=1e-5)


def erased(gallery, *numbers):
    names = ', '.join(f"'{n:03}.png'" for n in numbers)
    deleting.forget(gallery.uri, f'path in ({names})', True)


def test_nothing_of_an_erased_picture_stays_in_the_vectors_of_its_neighbours(gallery):
    vector_GE, row_G = gallery.vectors(ENRICHED)
    before = {one['path']: x.tobytes() for one, x in zip(gallery.facts(row_G, ['path']), vector_GE, strict=True)}
    own_GE, _ = gallery.vectors()
    near_Gk = neighbours.nearest(own_GE, 2)
    paths = [one['path'] for one in gallery.facts(row_G, ['path'])]
    gone = int(np.bincount(near_Gk.ravel()).argmax())
    touched = [paths[row] for row in np.flatnonzero((near_Gk == gone).any(axis=1))] + [paths[gone]]
    assert len(touched) > 2
    erased(gallery, gone)
    files = [path.read_bytes() for path in pathlib.Path(gallery.uri).rglob('*') if path.is_file()]
    assert not [path for path in touched if any(before[path] in content for content in files)]
    assert any(before[path] in content for content in files for path in before if path not in touched)
    again = filled(pathlib.Path(gallery.uri).parent / 'fresh', [n for n in range(30) if n != gone])
    TWO(again)
    enrich.renew(again)
    assert_enriched(gallery.uri)
    found = [{one['path']: tuple(one[ENRICHED]) for one in x.rows('', ['path', ENRICHED]).to_pylist()}
             for x in (Gallery(gallery.uri), again)]  # fmt: skip
    assert found[0] == found[1], 'an index that never had it has the same vectors'


def test_between_an_erasure_and_the_new_vectors_own_ones_are_compared_and_it_is_said(indexed, tmp_path):
    here = copied(indexed, tmp_path)
    retention.delete(here.gallery(), "path = 'a/000.png'")
    answer = here.open()(ASKED, top=3, false_alarms=0.05)[0]
    assert here.gallery().compared == VECTOR and answer.threshold == pytest.approx(0.7)
    assert 'were not made again' in answer.notes[0]
    assert describe.describe(here.uri)['enriched']['up_to_date'] is False
    here.update()
    assert_enriched(here.uri)
    assert describe.describe(here.uri)['enriched']['up_to_date'] is True


def test_prune_expiry_uploads_and_columns_leave_vectors_of_what_is_there(indexed, tmp_path, decoders):
    from lcr2s_jax.search.web.service import Service

    here = copied(indexed, tmp_path)
    next(here.root.rglob('*.png')).unlink()
    here.update(prune=True)
    assert_enriched(here.uri)
    service = Service(here.open(), decoders)
    assert service.add('ann', [('x.jpg', searching.photo(7))]) == (1, [])
    gallery = assert_enriched(here.uri)
    uploaded = gallery.rows("root = './uploads'", ['path'])['path'].to_pylist()
    assert service.erase('ann', [(str(pathlib.Path(here.uri) / 'uploads'), uploaded[0])], '1') == 1
    gallery = assert_enriched(here.uri)
    columns.join(gallery, str(here.root), {'camera': 'string'}, {'a/002.png': {'camera': 'c1'}})
    assert gallery.compared == VECTOR
    here.update()
    assert list(assert_enriched(here.uri).columns) == ['camera']
    deleting.forget(here.uri, "added < timestamp '2100-01-01 00:00:00'", True)
    assert Gallery(here.uri).count() == 0 and Gallery(here.uri).compared == ENRICHED


def test_files_that_change_places_change_their_vectors(indexed, tmp_path):
    here = copied(indexed, tmp_path)
    one, other = sorted(here.root.rglob('*.png'))[:2]
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert here.update()['changed'] >= 1
    assert_enriched(here.uri)


def test_copies_of_a_folder_that_is_gone_leave_and_the_vectors_are_made_again(indexed, tmp_path):
    from tests.road import typed

    here = copied(indexed, tmp_path)
    shutil.copytree(here.root, tmp_path / 'other')
    searching.pictures(tmp_path / 'other', 2, first=60)
    searching.Index(here.uri, tmp_path / 'other').update()
    shutil.rmtree(tmp_path / 'other')
    run = typed('index', f'--index={here.uri}', f'--images={tmp_path / "other"}', '--prune')
    assert run.returncode == 0 and 'and forgotten: 10 pictures' in run.stdout, run.stderr
    assert assert_enriched(here.uri).count() == 12


def test_a_page_leaves_a_large_index_with_its_own_vectors(gallery, monkeypatch):
    retention.delete(gallery, "path = '001.png'")
    assert not enrich.renew(gallery, most=28) and gallery.compared == VECTOR
    assert enrich.renew(gallery, most=29) and gallery.compared == ENRICHED


def test_other_columns_and_a_call_that_changes_nothing_compare_no_pictures(indexed, tmp_path, monkeypatch):
    here = copied(indexed, tmp_path)
    monkeypatch.setattr(neighbours, 'nearest', None)
    (tmp_path / 't.csv').write_text('path,camera\na/000.png,c1\n')
    here.update(table=str(tmp_path / 't.csv'))
    assert_enriched(here.uri)
    here.gallery().tidy()
    here.update()
    assert_enriched(here.uri)


def test_other_settings_are_told_and_none_takes_the_vectors_away(indexed, tmp_path):
    here = copied(indexed, tmp_path)
    told = here.update(enriched=functools.partial(enrich.choose, how='neighbours', count=3))['enriched']
    assert (told['neighbours'], told['before']) == (3, 'each picture averaged with its 2 nearest')
    assert_enriched(here.uri, 3)
    told = here.update(enriched=functools.partial(enrich.choose, how='none'))['enriched']
    assert told['before'] == 'each picture averaged with its 3 nearest' and 'how' not in told
    gallery = here.gallery()
    assert gallery.enriched is None and ENRICHED not in gallery.table.schema.names
    assert 'enriched' not in here.update()
    assert here.open()(ASKED, top=1, false_alarms=0.05)[0].threshold is not None


@pytest.mark.parametrize('numbers', [(), (1,), (1, 2), (1, 1, 1, 1), (1, 1, 2)])
def test_small_galleries_and_copies_of_one_picture_are_fine(tmp_path, numbers):
    gallery = Gallery(str(tmp_path / 'i'), 8)
    rows = [one._replace(path=f'{place}.png') for place, one in enumerate(searching.rows(numbers))]
    gallery.put('/r', rows, new=True)
    TWO(gallery)
    assert enrich.renew(gallery)
    gallery = assert_enriched(gallery.uri)
    if len(set(numbers)) == 1:
        np.testing.assert_allclose(gallery.vectors(ENRICHED)[0], gallery.vectors()[0], atol=1e-6)


class Killed(BaseException):
    """What no handler stops, as SIGKILL."""


@pytest.mark.parametrize('place', ['_write', '_put', '_enriched', 'between'])
def test_a_call_that_is_killed_leaves_own_vectors_and_the_next_one_goes_on(gallery, monkeypatch, place):
    gallery.put('/r', searching.rows(range(30, 36)), new=True)
    monkeypatch.setattr(enrich, '_ROWS', 10)
    done = []

    def kill(*_):
        raise Killed

    def twice(builder):
        done.append(builder)
        return gallery_merge() if len(done) < 3 else kill()

    gallery_merge = gallery.merge
    if place == 'between':
        monkeypatch.setattr(gallery, 'merge', lambda: twice(None))
    else:
        monkeypatch.setattr(enrich, place, kill)
    with pytest.raises(Killed):
        enrich.renew(gallery)
    monkeypatch.undo()
    assert Gallery(gallery.uri).compared == VECTOR
    enrich.renew(Gallery(gallery.uri))
    assert_enriched(gallery.uri)


def test_two_writers_at_once_leave_vectors_of_what_both_wrote(tmp_path):
    gallery = filled(tmp_path / 'i', range(6))
    TWO(gallery)

    def write(first):
        mine = Gallery(gallery.uri)
        for number in range(first, first + 6):
            mine.put('/r', searching.rows([number]), new=True)
            enrich.renew(mine)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (10, 20)))
    assert assert_enriched(gallery.uri).count() == 18


def test_rows_that_were_written_twice_and_damaged_ones_are_put_right_first(gallery):
    gallery.table.add(gallery.rows("path = '003.png'", [f.name for f in gallery.table.schema]))
    gallery.table.update(where="path = '005.png'", values={'vector': [2.0] * 8})
    with gallery.writing():
        pass  # it is sealed
    assert enrich.renew(gallery)
    assert assert_enriched(gallery.uri).count('') == 30 and gallery.count() == 29


def test_an_approximate_index_is_built_over_the_enriched_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(approximate, 'FROM', 300)
    here = searching.index(tmp_path, count=300)
    here.update(enriched=TWO)
    gallery = here.gallery()  # pictures of noise are so much alike that which of them are the nearest is rounding
    assert gallery.compared == ENRICHED and gallery.indexed == {VECTOR, ENRICHED}
    opened = here.open()
    near, exact = (opened(ASKED, top=5, false_alarms=0.05, exact=exact)[0] for exact in (False, True))
    assert (near.exact, exact.exact) == (False, True)
    every = {hit.path: hit.score for hit in opened(ASKED, top=300, false_alarms=0.05, exact=True)[0].hits}
    assert [hit.score for hit in near.hits] == pytest.approx([every[hit.path] for hit in near.hits], abs=1e-5)
    searching.pictures(here.root, 2, first=300)
    here.update()
    gallery = here.gallery()
    assert gallery.compared == ENRICHED and gallery.indexed == {VECTOR, ENRICHED}


def trained(width=8, shared=False, seed=0) -> GalleryFusion:
    """A fusion whose every parameter does something."""
    fusion = Fusion(2, shared, 'float32')
    params = jax.jit(fusion.init, static_argnums=1)(jax.random.key(seed), width)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: np.float32(x + 0.3 * rng.normal(size=x.shape)), jax.device_get(params))
    return GalleryFusion(fusion, {'fusion': {name: params[name] for name in params if name != 'text'}}, 2.5)


@pytest.mark.parametrize('shared', [False, True])
def test_a_fusion_is_kept_in_the_index_and_fuses_what_is_left_after_an_erasure(gallery, shared):
    fusion = trained(shared=shared)
    enrich.choose(gallery, 'fusion', 2, fusion)
    enrich.renew(gallery)
    erased(gallery, 3, 4)
    gallery = Gallery(gallery.uri)
    assert gallery.compared == ENRICHED and gallery.enriched.how == 'fusion'
    own_GE, _ = gallery.vectors()
    near_Gk = neighbours.nearest(own_GE, 2)
    sets = np.concatenate([np.arange(len(own_GE))[:, None], near_Gk], axis=1)
    rich = jax.jit(fusion.fusion.enrich, static_argnums=1)(fusion.params, 'image', 2.5 * own_GE[sets], sets)[:, 0]
    np.testing.assert_allclose(gallery.vectors(ENRICHED)[0], neighbours.unit(rich), atol=1e-5)
    kept = pathlib.Path(gallery.uri) / gallery.enriched.file
    before = gallery.enriched
    enrich.choose(gallery, 'fusion', 2, trained(shared=shared, seed=1))
    assert not kept.exists() and gallery.enriched.file != before.file
    kept = pathlib.Path(gallery.uri) / gallery.enriched.file
    kept.write_bytes(kept.read_bytes()[:-1] + b'x')
    with pytest.raises(SearchError, match='damaged'):
        enrich.renew(gallery)


def test_neighbours_that_are_not_there_are_hidden_from_a_fusion():
    x_GE = np.stack([searching.vector(n) for n in range(3)])
    none, some = trained()(x_GE, np.full((3, 2), -1)), trained()(x_GE, np.array([[1, -1], [-1, -1], [0, 1]]))
    np.testing.assert_allclose(none[1], some[1], atol=1e-6)
    assert np.abs(none[0] - some[0]).max() > 1e-3


def test_a_fusion_that_is_not_given_is_told(gallery):
    with pytest.raises(SearchError, match="'fusion' needs one"):
        enrich.choose(gallery, 'fusion', 2)


@pytest.mark.parametrize('content', [b'', b'[]', b'{"how": 1}', b'{}', None])
def test_a_file_that_is_not_what_was_written_is_told(gallery, content):
    path = pathlib.Path(gallery.uri) / enrichment.FILE
    path.write_bytes(path.read_bytes().replace(b'"neighbours": 2', b'"neighbours": 3') if content is None else content)
    with pytest.raises(SearchError, match='enriched.json: damaged'):
        Gallery(gallery.uri)


def test_enriched_vectors_without_the_file_that_says_how_are_told_until_it_is_said_again(indexed, tmp_path):
    here = copied(indexed, tmp_path)
    (pathlib.Path(here.uri) / enrichment.FILE).unlink()
    with pytest.raises(SearchError, match='enriched vectors, and no enriched.json'):
        here.open()(ASKED, top=3, false_alarms=0.05)
    here.update(enriched=TWO)
    assert_enriched(here.uri)


def test_a_changed_enriched_vector_is_noticed(gallery):
    vector_E = gallery.vectors(ENRICHED)[0][0]
    files = [path for path in pathlib.Path(gallery.uri).rglob('*') if path.is_file()]
    file = next(path for path in files if vector_E.tobytes() in path.read_bytes())
    file.write_bytes(file.read_bytes().replace(vector_E.tobytes(), np.roll(vector_E, 1).tobytes()))
    with pytest.raises(SearchError, match='not what was written'):
        Gallery(gallery.uri)


def test_a_cluster_writes_rows_beside_enriched_ones(gallery):
    pytest.importorskip('lance', reason='an extra: requirements-cluster.txt')
    from lcr2s_jax.search import fragments

    assert not fragments.commit(gallery, '/r', [fragments.write(gallery.uri, '/r', searching.rows([77]))])
    assert gallery.compared == VECTOR and enrich.renew(gallery)
    assert assert_enriched(gallery.uri).count() == 31


def test_a_digest_is_of_the_pictures_and_not_of_their_order():
    import pyarrow as pa

    x_GE = np.stack([searching.vector(n) for n in range(3)])
    table = pa.table({'sha256': [hashlib.sha256(b'%d' % n).hexdigest() for n in range(3)]})
    shuffled, digest = x_GE[[2, 0, 1]], enrich._digest
    one, other = digest(table, x_GE, x_GE), digest(table.take([2, 0, 1]), shuffled, shuffled)
    assert one == other != digest(table, x_GE[[1, 0, 2]], x_GE)
    assert one != digest(table, x_GE, x_GE[[1, 0, 2]]), 'of the vectors that find neighbours, too'


def test_neighbours_are_those_that_another_index_of_the_same_pictures_finds(gallery, tmp_path):
    other = Gallery(str(tmp_path / 'other'), 6)
    rows = [row._replace(vector=searching.vector(100 + n, 6)) for n, row in enumerate(searching.rows(range(28)))]
    other.put('/elsewhere', rows, new=True)
    enrich.choose(gallery, 'neighbours', 3, near=other.uri)
    enrich.renew(gallery)
    own = {one['path']: np.array(one['vector']) for one in gallery.rows('', ['path', 'vector']).to_pylist()}
    seen = {row.path: row.vector for row in rows}
    for one in gallery.rows('', ['path', ENRICHED]).to_pylist():
        path, total = one['path'], own[one['path']]
        if path in seen:  # the other two keep their own, and are nobody's neighbours
            near = sorted((name for name in seen if name != path), key=lambda name: -seen[name] @ seen[path])[:3]
            total = total + sum(own[name] / rank for rank, name in enumerate(near, 1))
        np.testing.assert_allclose(one[ENRICHED], total / np.linalg.norm(total), atol=1e-5)
    kept = f'its 3 nearest in {other.uri} (but 2 pictures by themselves, as it lacks them)'
    assert kept in str(gallery.enriched) and kept in str(Gallery(gallery.uri).enriched)
    version = gallery.version
    enrich.renew(gallery)
    assert gallery.version == version, 'nothing has changed'
    other.put('/elsewhere', [rows[0]._replace(vector=searching.vector(999, 6))], new=False)
    before = gallery.vectors(ENRICHED)[0]
    enrich.renew(gallery)
    assert not np.allclose(gallery.vectors(ENRICHED)[0], before), 'the other index has another vector'


def test_an_index_by_which_neighbours_are_found_is_named_where_it_is_gone(gallery, tmp_path):
    other = filled(tmp_path / 'other', range(30))
    enrich.choose(gallery, 'neighbours', 3, near=other.uri)
    enrich.renew(gallery)
    shutil.move(other.uri, tmp_path / 'moved')
    with pytest.raises(SearchError, match='until then pictures are compared by what it said before'):
        enrich.renew(gallery)
    assert Gallery(gallery.uri).compared == ENRICHED
    retention.delete(gallery, [('/r', '000.png')])
    told = f'^{gallery.uri}: {other.uri}, by which neighbours are found, .* by their own vectors. .* choose anew'
    with pytest.raises(SearchError, match=told):
        enrich.renew(gallery)
    assert Gallery(gallery.uri).compared == VECTOR
    enrich.choose(gallery, 'neighbours', 3, near=str(tmp_path / 'moved'))
    enrich.renew(gallery)
    assert Gallery(gallery.uri).compared == ENRICHED


def test_pictures_that_come_to_a_store_meanwhile_have_their_vectors_made_with_another_index(
    gallery, tmp_path, monkeypatch
):
    other = filled(tmp_path / 'other', range(40))
    enrich.choose(gallery, 'neighbours', 3, near=other.uri)
    as_if = vars(enrich.storage) | {'is_remote': lambda uri: uri == gallery.uri}
    monkeypatch.setattr(enrich, 'storage', types.SimpleNamespace(**as_if))
    put, late = enrich._put, searching.rows(range(30, 32))

    def put_beside_another(*given):
        put(*given)
        if late:
            Gallery(gallery.uri).put('/r', [late.pop(), late.pop()], new=True)

    monkeypatch.setattr(enrich, '_put', put_beside_another)
    assert enrich.renew(gallery) and not late
    assert gallery.compared == ENRICHED and len(gallery.vectors(ENRICHED)[0]) == 32


def test_an_index_that_cannot_say_what_is_near_is_refused_before_anything_changes(gallery, tmp_path):
    before = gallery.enriched
    stranger = filled(tmp_path / 'stranger', range(50, 60))
    (tmp_path / 'link').symlink_to(gallery.uri)
    searching.pictures(tmp_path / 'pictures', 1)
    for near, told in (
        (str(tmp_path / 'nothing'), '^--neighbours-by: found no index at'),
        (str(tmp_path / 'pictures' / 'a'), '^--neighbours-by: found the folder .* with pictures of yours'),
        (str(tmp_path / 'link'), '^--neighbours-by: found the index itself'),
        (f'{gallery.uri}/', '^--neighbours-by: found the index itself'),
        (stranger.uri, 'found none of the 30 pictures'),
        (gallery.uri, 'found the index itself'),
    ):
        with pytest.raises(SearchError, match=told):
            enrich.choose(gallery, 'neighbours', 3, near=near)
    assert gallery.enriched == before == enrichment.read(gallery.uri)
