"""Whatever writes to an index may be killed at any moment: the same call goes on, nothing is lost or left behind."""

import datetime
import hashlib
import pathlib
import random
import shutil
import subprocess
import sys
import time

import pytest

from lcr2s_jax.search import approximate, audit, columns, conditions, enrich, erasure, repair, retention, storage
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.rows import ENRICHED
from tests import searching
from tests.search.erasure_test import SECRET, by_path, fill, traces

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 50
CHILD = 'import sys; from tests.search import kill_test; kill_test.child(*sys.argv[1:])'


def put(uri):
    gallery = Gallery(uri, 8)
    for first in range(400, 440, 4):
        gallery.put('/r', searching.rows(range(first, first + 4)), new=True)


def delete(uri):
    retention.forget(uri, "note = 'SECRETNOTE' or camera = 'c1'", 'ann', True)


def expire(uri):
    retention.forget(uri, retention.older_than('30d'), 'ann', True)


def prune(uri):
    gallery = Gallery(uri)
    repair.own(gallery)  # as `index --prune` does at first
    known = gallery.known('/r')
    retention.prune(gallery, '/r', [path for path in known if path == SECRET or path < '1'])


def tidy(uri):
    gallery = Gallery(uri)
    repair.own(gallery)
    repair.doubles(gallery)
    repair.vectors(gallery)
    approximate.build(gallery)
    gallery.tidy()
    by_path(gallery)


def metadata(uri):
    gallery = Gallery(uri)
    columns.join(gallery, '/r', {'place': 'string'}, {f'{n:03}.png': {'place': 'hall'} for n in range(300)})
    delete(uri)


def upload(uri):
    from lcr2s_jax.search.web.service import Service

    gallery = Gallery(uri)
    repair.own(gallery)
    fresh = {f'{n}.png': (searching.photo(n, format_='PNG'), searching.vector(n)) for n in range(8)}
    left = {path: one for path, one in fresh.items() if path not in gallery.known(storage.UPLOADED)}
    if left:
        Service._keep(None, gallery, storage.uploads(uri), left)
    retention.forget(uri, "path in ('1.png', '2.png', '3.png')", 'ann', True)


def index(uri):
    made = searching.Index(uri, pathlib.Path(uri).parent / 'crops')
    made.update(prune=True)


def video(uri):
    from tests.video import videos_test as videos

    videos.Made(pathlib.Path(uri), make=False).update(pathlib.Path(uri).parent / 'crops' / 'walk.mp4')
    retention.forget(uri, "track like '%/00002'", 'ann', True)


def enriched(uri):
    """As `index --enrich=neighbours` of what is there."""
    enrich.choose(Gallery(uri), 'neighbours', 2)
    enrich.renew(Gallery(uri))


CALLS = {call.__name__: call for call in (put, delete, expire, prune, tidy, metadata, upload, index, video, enriched)}


def _hashes(*numbers) -> list[bytes]:
    return [hashlib.sha256(searching.photo(n, format_='PNG')).hexdigest().encode() for n in numbers]


# name -> what the raw files must hold afterwards, and what they must not
MARKS = {
    'upload': (_hashes(4), _hashes(1, 2, 3)),
    'video': ([b'00001/00000.000.jpg'], [b'00002/00000.000.jpg']),
}


def child(name: str, uri: str) -> None:
    """One call in a process of its own, which says when it begins and when it is done."""
    import lancedb

    if name != 'video':  # which makes the table
        lancedb.connect(uri).open_table('images').count_rows()  # everything is loaded
    if name in ('index', 'video'):
        from lcr2s_jax.search.model import open_model

        open_model(uri)
    print('go', flush=True)
    finish(name, uri)
    print('done', flush=True)


def finish(name: str, uri: str) -> None:
    """A call to its end; of an enriched index, as the commands end it."""
    CALLS[name](uri)
    enrich.renew(Gallery(uri))


def holding(uri: str, mark: bytes) -> list[pathlib.Path]:
    """Files below an index, but the audit log and tracks.json, whose name or bytes have a mark."""
    files = [path for path in pathlib.Path(uri).rglob('*') if path.is_file()]
    files = [path for path in files if path.name not in (audit.NAME, 'tracks.json')]
    return [path for path in files if mark in bytes(path.relative_to(uri)) or mark in path.read_bytes()]


def state(uri: str) -> tuple:
    """What is in an index, but for times and the order of rows."""
    gallery = Gallery(uri)
    names = sorted({'root', 'path', 'sha256', 'status', *gallery.columns})
    rows = sorted(map(str, gallery.rows('', names).to_pylist()))
    vector_GE, row_G = gallery.vectors()
    vectors = sorted(zip((one['path'] for one in gallery.facts(row_G)), map(bytes, vector_GE), strict=True))
    if gallery.enriched:
        assert gallery.compared == ENRICHED
        rich_GE, _ = gallery.vectors(ENRICHED)
        vectors += sorted(zip((one['path'] for one in gallery.facts(row_G)), map(bytes, rich_GE), strict=True))
    own = [folder for folder in (storage.uploads(uri), storage.tracks_folder(uri)) if folder.is_dir()]
    kept = sorted(str(path.relative_to(uri)) for folder in own for path in folder.rglob('*'))
    return rows, vectors, kept, retention.forgotten(gallery)


@pytest.fixture(scope='module')
def begin(tmp_path_factory):
    """name -> an index for that call, the same each time."""
    folder = tmp_path_factory.mktemp('kill')
    gallery = fill(str(folder / 'plain'))
    aged = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
    gallery.table.update(where=f"path < '050' or path = '{SECRET}'", values={'added': aged})
    columns.join(gallery, '/r', {'camera': 'string'}, {f'{n:03}.png': {'camera': f'c{n % 3}'} for n in range(300)})
    made = searching.index(folder / 'model', 24)
    made.update()
    for number, path in enumerate(sorted(made.root.rglob('*.png'))):
        if number % 3 == 0:
            path.unlink()
    searching.pictures(made.root, 12, first=50)
    searching.make_model(folder / 'film')
    (folder / 'films').mkdir()
    own = {'index': (folder / 'model' / 'index', made.root), 'video': (folder / 'film', folder / 'films')}
    return lambda name: own.get(name, (folder / 'plain', None))


def _film(path) -> None:
    pytest.importorskip('cv2', reason='an extra: requirements-video.txt')
    from tests.video import videos_test as videos

    one, other = videos.people(2)
    videos.film(path, [[videos.walk(one, n, 4, 2), videos.walk(other, n, 180, -2)] for n in range(20)])


@pytest.mark.slow
@pytest.mark.parametrize('rich', [False, True])
@pytest.mark.parametrize('name', CALLS)
def test_a_call_that_is_killed_at_any_moment_is_finished_by_the_same_call(begin, tmp_path, name, rich):
    source, pictures = begin(name)
    if name == 'video':
        _film(pictures / 'walk.mp4')
    if pictures:
        shutil.copytree(pictures, tmp_path / 'crops')
    if rich:
        source = shutil.copytree(source, tmp_path / 'rich')
        Gallery(str(source), searching.clip().embed_dim if name == 'video' else None)
        enriched(str(source))
    uri, rng = str(tmp_path / 'i'), random.Random(name)

    def fresh():
        shutil.rmtree(uri, ignore_errors=True)
        shutil.copytree(source, uri)

    def start():
        process = subprocess.Popen([sys.executable, '-c', CHILD, name, uri], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b'go\n'
        return process, time.perf_counter()

    fresh()
    process, clock = start()
    assert process.stdout.readline() == b'done\n' and process.wait() == 0
    takes, whole = time.perf_counter() - clock, state(uri)
    kills, met, tries = KILLS // len(CALLS) + 1, 0, 0
    while met < kills and tries < 5 * kills:
        tries += 1
        fresh()
        process, _ = start()
        time.sleep(rng.uniform(0, takes))
        process.kill()
        done = b'done' in process.stdout.read()
        process.wait()
        met, takes = met + (not done), takes * 0.8 if done else takes  # the first call may have been a slow one
        finish(name, uri)
        # what was forgotten of files that the call itself has written is known by their time, too
        assert state(uri)[: 3 if name in MARKS else 4] == whole[: 3 if name in MARKS else 4]
        gallery = Gallery(uri)
        assert gallery.count(conditions.among('path', [SECRET])) or not traces(uri)
        left = [path for path in pathlib.Path(uri).rglob('*') if path.name.endswith('.partial')]
        assert not left and not (pathlib.Path(uri) / erasure.BEGUN).exists()
        kept, gone = MARKS.get(name, ((), ()))
        assert all(holding(uri, mark) for mark in kept) and not any(holding(uri, mark) for mark in gone)
        log = (pathlib.Path(uri) / audit.NAME).read_bytes() if name == 'delete' else b''
        assert log.isascii() and log.count(b'\n') == len(log.splitlines())
    print(
        f'{name}: {tries} kills, {met} of them before it was done; the same call ended each like one that nobody killed'
    )
