"""An index made by Ray's workers on this machine: the same rows as one process makes, whoever is killed meanwhile."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import ray

from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.search import cluster, conditions, erasure, fragments, ingest, retention, stores, workers
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.model import open_model
from tests import s3, searching
from tests.road import ROOT, fails, typed

COLUMNS = ['root', 'path', 'sha256', 'bytes', 'modified', 'status', '_look', 'vector']


@pytest.fixture(scope='module')
def server():
    with s3.serving() as started:
        yield started


@pytest.fixture(scope='module')
def engine(server):
    """One Ray for all tests; its workers know the bucket server."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        with cluster.engine(embedders=1) as started:
            yield started


def rows_of(uri):
    found = Gallery(uri).rows('', COLUMNS).to_pylist()
    assert len({(one['root'], one['path']) for one in found}) == len(found), 'no file has two rows'
    return {one['path']: one for one in found}


def assert_equal_rows(ours, theirs):
    assert ours.keys() == theirs.keys()
    for path, one in ours.items():
        other = theirs[path]
        assert [one[name] for name in COLUMNS[1:-1]] == [other[name] for name in COLUMNS[1:-1]]
        assert (one['vector'] is None) == (other['vector'] is None)
        if one['vector']:
            np.testing.assert_allclose(one['vector'], other['vector'], atol=1e-6)


def twins(folder, count):
    """Two indexes of the same pictures, nothing embedded yet."""
    made = searching.index(folder, count=count)
    shutil.copytree(made.uri, folder / 'other')
    return made, searching.Index(str(folder / 'other'), made.root)


def test_a_cluster_makes_the_rows_that_one_process_makes(engine, tmp_path):
    made, other = twins(tmp_path, 20)
    (made.root / 'a' / 'bad.jpg').write_bytes(b'\xff\xd8 no picture')
    here, there = made.update(), other.update(engine=engine)
    assert here | {'index': other.uri} == there and there['embedded'] == 20
    assert_equal_rows(rows_of(made.uri), rows_of(other.uri))
    assert other.gallery().version <= 3, 'one commit'
    assert other.update(engine=engine)['unchanged'] == 21
    retention.forget(other.uri, "path = 'a/000.png'", 'me', True)
    assert other.update(engine=engine)['kept_out'] == 1, 'nothing is left for the workers'


@pytest.mark.slow
def test_what_changed_was_copied_or_was_deleted_is_treated_as_by_one_process(engine, tmp_path):
    made, other = twins(tmp_path, 12)
    (tmp_path / 't.csv').write_text('path,camera\na/000.png,c1\n')
    for one, by in ((made, {}), (other, {'engine': engine})):
        one.update(table=str(tmp_path / 't.csv'), **by)
        retention.forget(one.uri, "path = 'a/002.png'", 'me', True)
    shutil.copy(made.root / 'a' / '000.png', made.root / 'a' / 'copy.png')
    shutil.copy(made.root / 'a' / '002.png', made.root / 'a' / 'deleted.png')
    os.utime(made.root / 'b' / '001.png', (5, 5))
    (made.root / 'b' / '003.png').write_bytes(searching.photo(99, format_='PNG'))
    searching.pictures(made.root, 3, first=50)
    here, there = made.update(), other.update(engine=engine)
    assert here | {'index': other.uri} == there
    assert (there['embedded'], there['copied'], there['kept_out']) == (4, 2, 2)
    assert_equal_rows(rows_of(made.uri), rows_of(other.uri))
    here, there = made.update(readmit=True), other.update(readmit=True, engine=engine)
    assert here | {'index': other.uri} == there and there['embedded'] == 2
    assert_equal_rows(rows_of(made.uri), rows_of(other.uri))


def processes(word):
    """Ids of Ray's workers by what they do."""
    found = []
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if word in (folder / 'cmdline').read_bytes().decode(errors='replace'):
                found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['Reader', 'Embedder', 'Writer'])
def test_a_worker_that_is_killed_loses_and_doubles_nothing(engine, tmp_path, kind):
    made, other = twins(tmp_path, 400)
    made.update()
    killed, over = [], threading.Event()

    def kill():
        while not over.wait(0.05):
            for pid in processes(f'ray::MapWorker(MapBatches({kind}))'):
                if pid not in killed and len(killed) < 2:
                    time.sleep(0.5)
                    killed.append(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        told = other.update(engine=engine)
    finally:
        over.set()
        killer.join()
    assert killed and told['pictures'] == 400
    assert_equal_rows(rows_of(made.uri), rows_of(other.uri))


@pytest.mark.slow
def test_a_driver_that_is_killed_is_finished_by_the_same_command(tmp_path):
    made, other = twins(tmp_path, 2500)
    made.update()
    flags = ['index', f'--images={made.root}', f'--index={other.uri}', '--engine=ray', '--json']
    dies = (
        'import os, sys, main; from lcr2s_jax.search import cluster\n'
        'cluster._COMMIT, commit = 0, cluster.fragments.commit\n'
        'cluster.fragments.commit = lambda *given: (commit(*given), given[2] and os.kill(os.getpid(), 9))\n'
        'main.main(sys.argv)'
    )
    assert subprocess.run([sys.executable, '-c', dies, *flags], cwd=ROOT).returncode == -signal.SIGKILL
    committed, line = Gallery(other.uri).count(), [sys.executable, 'main.py', *flags]
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert 0 < committed < 2500 and told['embedded'] == 2500 - committed, 'it went on from the last commit'
    assert_equal_rows(rows_of(made.uri), rows_of(other.uri))


def test_a_fragment_counts_once_it_is_committed_and_not_beside_another_writers_row(tmp_path):
    made = searching.index(tmp_path, count=0)
    gallery = Gallery(made.uri, 8)
    rows = searching.rows(range(6))
    first, second, third = (fragments.write(made.uri, '/r', rows[n : n + 2]) for n in (0, 2, 4))
    assert gallery.count() == 0
    assert fragments.commit(gallery, '/r', [first]) == []
    Gallery(made.uri).put('/r', rows[2:3], new=True)
    assert fragments.commit(gallery, '/r', [second]) == [second], 'another call has written a row of it'
    erasure.erase(Gallery(made.uri))
    assert fragments.commit(gallery, '/r', [third]) == [third], 'an erasure has taken it'
    found = rows_of(made.uri)
    assert sorted(found) == ['000.png', '001.png', '002.png'] and gallery.count() == 3
    np.testing.assert_array_equal(found['001.png']['vector'], searching.vector(1))
    assert gallery.count(conditions.EVERY) == 3


def test_fragments_that_came_before_a_worker_failed_are_committed(tmp_path):
    made = searching.index(tmp_path, count=0)
    gallery, work = Gallery(made.uri, 8), ingest.Work('/r', '/r', (), True, frozenset(), frozenset(), False)
    written = workers.Writer(workers.Task(made.uri, '', (16, 8), 8, 1), '/r')(searching.batch(searching.rows(range(6))))
    done, tell = ingest.Done(0, 0, [], [], []), lambda count: None
    with pytest.raises(SearchError, match='on the node'), cluster._Driver(gallery, work, done, tell) as driver:
        driver.take(written)
        assert Gallery(made.uri).count() == 0, 'else it was committed at once'
        raise SearchError('on the node there was none')
    assert Gallery(made.uri).count() == 6


@pytest.mark.slow
def test_files_whose_fragment_an_erasure_took_are_looked_at_again(engine, tmp_path, monkeypatch):
    made, other = twins(tmp_path, 20)
    made.update()
    erased, commit = [], fragments.commit

    def late(gallery, *given):
        if not erased:
            erased.append(erasure.erase(Gallery(gallery.uri)))
        return commit(gallery, *given)

    monkeypatch.setattr(fragments, 'commit', late)
    told = other.update(engine=engine)
    assert erased and told['pictures'] == 20
    assert_equal_rows(rows_of(made.uri), rows_of(other.uri))


def test_a_cluster_that_is_not_there_is_told_within_seconds(tmp_path):
    made = searching.index(tmp_path, count=1)
    for address in ('127.0.0.1:9', 'ray://127.0.0.1:9', 'no-such-host.invalid:6379'):
        clock = time.monotonic()
        run = typed('index', f'--index={made.uri}', f'--images={made.root}', '--engine=ray', f'--ray-address={address}')
        fails(run, 1, f'found no cluster at {address}', 'expected HOST:PORT', '`ray status`')
        assert time.monotonic() - clock < 30
    fails(typed('index', f'--index={made.uri}', f'--images={made.root}', '--workers=2'), 2, 'are of --engine=ray')


def test_more_workers_than_there_is_room_for_are_refused():
    assert cluster._processes({'CPU': 8.0}, 0) == (4, 0, 4) and cluster._processes({'CPU': 8.0, 'GPU': 2.0}, 0) == (
        2,
        1,
        8,
    )
    with pytest.raises(ConfigError, match='found 3, the cluster has 2 GPUs'):
        cluster._processes({'CPU': 8.0, 'GPU': 2.0}, 3)
    with pytest.raises(ConfigError, match='found 8, the cluster has 8 cores'):
        cluster._processes({'CPU': 8.0}, 8)


@pytest.mark.slow
def test_a_worker_without_the_model_says_so_and_nothing_is_committed(engine, tmp_path):
    made = searching.index(tmp_path, count=4)
    model = open_model(made.uri)
    model.params('vision')
    shutil.move(tmp_path / 'index' / 'model', tmp_path / 'elsewhere')
    from lcr2s_jax.search.index import bring_up_to_date

    with pytest.raises(SearchError, match='on the node .*: found no model in .*; expected the index on a disk that'):
        bring_up_to_date(made.uri, model, str(made.root), engine=engine)
    assert Gallery(made.uri).count(conditions.EVERY) == 0
    with pytest.raises(SearchError, match='found the model .* of the driver; give every node the same disk'):
        shutil.move(tmp_path / 'elsewhere', tmp_path / 'index' / 'model')
        workers.model_of(workers.Task(made.uri, 'f' * 64, (16, 8), 8, 1))


def test_a_disk_that_fills_on_one_worker_is_told_with_its_name_and_nothing_is_committed(tmp_path):
    made = searching.index(tmp_path, count=0)
    gallery = Gallery(made.uri, 8)
    child = (
        'import resource, signal, sys; from lcr2s_jax.search import workers; from tests import searching\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096,) * 2)\n'
        'batch = searching.batch(searching.rows(range(400)))\n'
        'try: workers.Writer(workers.Task(sys.argv[1], "", (16, 8), 8, 1), "/r")(batch)\n'
        'except Exception as error: print(type(error).__name__, error)'
    )
    run = subprocess.run([sys.executable, '-c', child, made.uri], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.startswith('SearchError on the node') and 'the disk is full' in run.stdout, run.stderr
    gallery.refresh()
    assert gallery.count(conditions.EVERY) == 0


def test_stores_tell_lancedb_where_they_are(monkeypatch):
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:1')
    assert stores.options('s3://b/i')['allow_http'] == 'true' and stores.options('/a/folder') is None


@pytest.mark.slow
def test_a_store_that_is_lost_meanwhile_loses_and_doubles_nothing(server, tmp_path, monkeypatch):
    made, there = searching.index(tmp_path, count=60), server.bucket()
    made.update()
    files = {path.relative_to(made.root).as_posix(): path.read_bytes() for path in made.root.rglob('*.png')}
    server.put(there, {f'crops/{name}': content for name, content in files.items()})
    broken, far = threading.Event(), searching.Index(f's3://{there}/i', f's3://{there}/crops')
    read = []

    def fault(method, path):
        read.extend([path] * ('.png' in path and method == 'GET'))
        return (503, s3.BUSY) if broken.is_set() and len(read) > 30 else None

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    with s3.faulty(server, fault) as shaky:
        for name, value in shaky.environment.items():
            monkeypatch.setenv(name, value)
        open_model(far.uri, searching.model())
        broken.set()
        ray.shutdown()  # the one of the other tests has another address of the store
        with cluster.engine(embedders=1) as engine:
            with pytest.raises(SearchError, match='on the node .* overloaded or broken just now'):
                far.update(engine=engine)
            broken.clear()
            told = far.update(engine=engine)
            theirs = {path: one | {'modified': None} for path, one in rows_of(far.uri).items()}
    assert told['pictures'] == 60
    assert_equal_rows({path: one | {'modified': None} for path, one in rows_of(made.uri).items()}, theirs)
