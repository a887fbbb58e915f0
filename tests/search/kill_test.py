"""Whatever writes to an index may be killed at any moment: the same call goes on, nothing is lost or left behind."""

import datetime
import pathlib
import random
import shutil
import subprocess
import sys
import time

import pytest

from lcr2s_jax.search import approximate, audit, columns, conditions, erasure, repair, retention, storage
from lcr2s_jax.search.gallery import Gallery
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


CALLS = {call.__name__: call for call in (put, delete, expire, prune, tidy, metadata, upload, index)}


def child(name: str, uri: str) -> None:
    """One call in a process of its own, which says when it begins and when it is done."""
    import lancedb

    lancedb.connect(uri).open_table('images').count_rows()  # everything is loaded
    if name == 'index':
        from lcr2s_jax.search.model import open_model

        open_model(uri)
    print('go', flush=True)
    CALLS[name](uri)
    print('done', flush=True)


def state(uri: str) -> tuple:
    """What is in an index, but for times and the order of rows."""
    gallery = Gallery(uri)
    names = sorted({'root', 'path', 'sha256', 'status', *gallery.columns})
    rows = sorted(map(str, gallery.rows('', names).to_pylist()))
    vector_GE, row_G = gallery.vectors()
    vectors = sorted(zip((one['path'] for one in gallery.facts(row_G)), map(bytes, vector_GE), strict=True))
    folder = storage.uploads(uri)
    kept = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
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
    return lambda name: (folder / 'model' / 'index', made.root) if name == 'index' else (folder / 'plain', None)


@pytest.mark.slow
@pytest.mark.parametrize('name', CALLS)
def test_a_call_that_is_killed_at_any_moment_is_finished_by_the_same_call(begin, tmp_path, name):
    source, pictures = begin(name)
    if pictures:
        shutil.copytree(pictures, tmp_path / 'crops')
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
    for _ in range(KILLS // len(CALLS) + 1):
        fresh()
        process, _ = start()
        time.sleep(rng.uniform(0, takes))
        process.kill()
        process.wait()
        CALLS[name](uri)
        assert state(uri) == whole
        gallery = Gallery(uri)
        assert gallery.count(conditions.among('path', [SECRET])) or not traces(uri)
        left = [path for path in pathlib.Path(uri).rglob('*') if path.name.endswith('.partial')]
        assert not left and not (pathlib.Path(uri) / erasure.BEGUN).exists()
        log = (pathlib.Path(uri) / audit.NAME).read_bytes() if name == 'delete' else b''
        assert log.isascii() and log.count(b'\n') == len(log.splitlines())
