"""Indexes and pictures in a real object store: moto's S3 server on 127.0.0.1, with faults before it where asked for."""

import json
import subprocess
import sys
import time

import pytest

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import audit, html, index, retention, storage, stores
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.model import open_model
from lcr2s_jax.search.query import Query
from tests import s3, searching
from tests.road import ROOT, typed

WRITERS, COMMITS = 3, 4


@pytest.fixture(scope='module')
def server():
    with s3.serving() as started:
        yield started


@pytest.fixture(autouse=True)
def environment(server, tmp_path, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def begun(server, folder, count=6) -> searching.Index:
    """An index in a bucket of its own; a model, and pictures that are not embedded yet."""
    made = searching.Index(f's3://{server.bucket()}/i', folder / 'crops')
    open_model(made.uri, searching.model())
    searching.pictures(made.root, count)
    return made


def bucket(made) -> str:
    return made.uri.split('/')[2]


def rows_of(uri) -> dict:
    """path -> all that a row says but when it was added."""
    found = Gallery(uri).rows('', ['path', 'sha256', 'bytes', 'status', 'vector']).to_pylist()
    return {one['path']: (one['sha256'], one['bytes'], one['status'], tuple(one['vector'] or ())) for one in found}


def test_an_index_in_a_bucket_is_made_searched_grown_deleted_from_expired_and_logged(server, tmp_path):
    made = begun(server, tmp_path)
    assert made.update()['embedded'] == 6 and made.update()['embedded'] == 0
    searching.pictures(made.root, 2, first=6)
    (tmp_path / 't.csv').write_text('path,camera\nb/007.png,SECRETNOTE\n')
    assert made.update(table=str(tmp_path / 't.csv'))['embedded'] == 2
    opened = index.open_search(made.uri)
    answer = opened([Query((searching.WORDS,))], top=3, false_alarms=0.05)[0]
    audit.write(made.uri, [audit.line('me', answer, opened)])
    assert len(answer.hits) == 3 and answer.searched == 8
    retention.forget(made.uri, "camera = 'SECRETNOTE'", 'me', True)
    left = server.objects(bucket(made))
    assert not [key for key, content in left.items() if b'SECRETNOTE' in content and '/audit/' not in key]
    assert made.gallery().count() == 7 and made.update()['kept_out'] == 1
    logged = [json.loads(line) for key, log in sorted(left.items()) if '/audit/' in key for line in log.splitlines()]
    assert [one.get('event', 'search') for one in logged] == ['search', 'delete', 'deleting']
    run = typed('expire', f'--index={made.uri}', '--older-than=1d', '--yes')
    assert run.returncode == 0 and made.gallery().count() == 7, 'none is so old'
    run = typed('search', f'--index={made.uri}', searching.WORDS, '--json')
    assert run.returncode == 0 and len(json.loads(run.stdout)['answers'][0]['hits']) == 7


def test_pictures_in_a_bucket_are_indexed_like_those_in_a_folder(server, tmp_path):
    made, there = searching.index(tmp_path, count=4), server.bucket()
    made.update()
    files = {path.relative_to(made.root).as_posix(): path.read_bytes() for path in made.root.rglob('*.png')}
    files |= {'a/bad.jpg': b'\xff\xd8 no picture', 'a/without': files['a/000.png']}
    for name in ('a/bad.jpg', 'a/without'):
        (made.root / name).write_bytes(files[name])
    others = {'a/notes.txt': b'x', '.hidden/x.png': files['a/000.png'], 'strange': b'text'}
    server.put(there, {f'crops/{name}': content for name, content in (files | others).items()})
    made.update()
    url = f's3://{there}/crops'
    far = searching.Index(str(tmp_path / 'far'), url)
    open_model(far.uri, searching.model())
    told = far.update()
    assert told['passed_over'].keys() == {
        'by their suffix .txt',
        'hidden by a dot before their name',
        'without a suffix, by their content',
    }
    assert list(told['unusable']) == ['a/bad.jpg'] and rows_of(far.uri) == rows_of(made.uri)
    assert far.update()['unchanged'] == 6
    server.put(there, {'crops/a/000.png': files['b/001.png'][:-1] + b'?', 'crops/c/new.png': files['a/002.png']})
    server.delete(there, 'crops/b/003.png')
    told = far.update(prune=True)
    assert (told['changed'], told['new'], told['copied'], told['pruned']) == (1, 1, 1, 1)
    opened = index.open_search(far.uri)
    answers = opened([Query((searching.WORDS,))], top=2, false_alarms=0.05)
    assert answers[0].hits[0].root == url and html.section(answers[0]).count('data:image/jpeg') == 2
    server.put(there, {f'moved/{name}': content for name, content in files.items()})
    moved = searching.Index(far.uri, f's3://{there}/moved').update(moved_from=url)['moved'][0]
    assert moved['moved'] >= 3


def test_writers_at_once_lose_no_row_that_was_committed(server, tmp_path):
    made = begun(server, tmp_path)
    Gallery(made.uri, 8)
    write = (
        'import sys; from tests import searching; from lcr2s_jax.search.gallery import Gallery\n'
        'gallery, number = Gallery(sys.argv[1]), int(sys.argv[2])\n'
        f'for n in range({COMMITS}): gallery.put("/r", searching.rows([100 * number + n]), new=True)'
    )
    started = [subprocess.Popen([sys.executable, '-c', write, made.uri, str(n)], cwd=ROOT) for n in range(WRITERS)]
    assert [one.wait(timeout=120) for one in started] == [0] * WRITERS
    found = rows_of(made.uri)
    assert len(found) == made.gallery().count() == WRITERS * COMMITS


@pytest.mark.parametrize('count', [1100, pytest.param(20_000, marks=pytest.mark.slow)])
def test_objects_are_listed_page_by_page(server, count):
    there = server.bucket()
    server.fill(there, 'p', count, [b'x'])
    clock = time.monotonic()
    listed = list(stores.listing(f's3://{there}/p'))
    print(f'{len(listed):,} objects listed in {time.monotonic() - clock:.1f} s')
    assert len({path for path, *_ in listed}) == len(listed) == count


@pytest.mark.parametrize(
    'fault, words',
    [
        (s3.always(403, s3.REFUSED), 'refuses these credentials; check AWS_ACCESS_KEY_ID'),
        (s3.always(503, s3.BUSY), 'overloaded or broken just now; give the same command again'),
        pytest.param(s3.always(500), 'overloaded or broken just now', marks=pytest.mark.slow),
        pytest.param(s3.slow(30), 'does not answer; check the address', marks=pytest.mark.slow),
    ],
    ids=['wrong credentials', '503', '500', 'silence'],
)
def test_a_store_that_does_not_work_is_told_within_seconds(server, tmp_path, monkeypatch, fault, words):
    made = begun(server, tmp_path, count=1)
    Gallery(made.uri, 8)
    monkeypatch.setattr(stores, 'ANSWER', 1)
    url = f's3://{bucket(made)}/pictures'
    with s3.faulty(server, fault) as broken:
        monkeypatch.setenv('AWS_ENDPOINT_URL', broken.environment['AWS_ENDPOINT_URL'])
        for ask in (
            lambda: index.open_search(made.uri),
            lambda: Gallery(made.uri),
            lambda: retention.forget(made.uri, "path = 'x'", 'me', True),
            lambda: audit.write(made.uri, [{'user': 'me'}]),
            lambda: index.check(made.uri, url, None),
        ):
            clock = time.monotonic()
            with pytest.raises(SearchError, match=words):
                ask()
            assert time.monotonic() - clock < 15


def test_credentials_may_come_from_a_profile(server, tmp_path, monkeypatch):
    made = begun(server, tmp_path, count=1)
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.delenv(name)
    monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')  # nobody there is asked for some
    monkeypatch.setenv('AWS_SHARED_CREDENTIALS_FILE', str(tmp_path / 'credentials'))
    monkeypatch.setenv('AWS_CONFIG_FILE', str(tmp_path / 'config'))
    with pytest.raises(SearchError, match='credentials'):
        made.update()
    (tmp_path / 'credentials').write_text('[people]\naws_access_key_id = tests\naws_secret_access_key = tests\n')
    monkeypatch.setenv('AWS_PROFILE', 'people')
    assert made.update()['embedded'] == 1 and made.gallery().count() == 1


def test_a_bucket_or_a_server_that_is_not_there_is_told_in_a_line(server, tmp_path, monkeypatch):
    made = searching.index(tmp_path, count=1)
    for run in (
        typed('search', '--index=s3://nobody-made-this/i', 'a woman'),
        typed('index', '--index=s3://nobody-made-this/i', f'--images={made.root}', f'--weights={made.uri}'),
        typed('index', f'--index={made.uri}', '--images=s3://nobody-made-this/pictures'),
        typed('delete', '--index=s3://nobody-made-this/i', "--where=path = 'x'", '--yes'),
    ):
        assert run.returncode == 1 and 'found no bucket nobody-made-this; make it first' in run.stderr
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
    clock = time.monotonic()
    run = typed('search', '--index=s3://bucket/i', 'a woman')
    assert run.returncode == 1 and 'does not answer; check the address (AWS_ENDPOINT_URL' in run.stderr
    assert 'Traceback' not in run.stderr and time.monotonic() - clock < 30


def test_a_bucket_that_may_only_be_read_is_searched_with_its_log_elsewhere(server, tmp_path, monkeypatch):
    made = begun(server, tmp_path)
    made.update()
    with s3.faulty(server, s3.after(0, 403, s3.REFUSED.replace('InvalidAccessKeyId', 'AccessDenied'))) as behind:
        monkeypatch.setenv('AWS_ENDPOINT_URL', behind.environment['AWS_ENDPOINT_URL'])
        run = typed('search', f'--index={made.uri}', searching.WORDS)
        assert run.returncode == 1 and run.stdout == '' and '--audit=FILE' in run.stderr, run.stderr
        run = typed('search', f'--index={made.uri}', f'--audit={tmp_path / "log"}', searching.WORDS)
        assert run.returncode == 0 and json.loads((tmp_path / 'log').read_text())['index'] == made.uri


def test_a_store_that_fails_now_and_then_changes_nothing(server, tmp_path, monkeypatch):
    made = begun(server, tmp_path)
    with s3.faulty(server, s3.every(5, 503, s3.BUSY)) as shaky:
        monkeypatch.setenv('AWS_ENDPOINT_URL', shaky.environment['AWS_ENDPOINT_URL'])
        assert made.update()['embedded'] == 6
        assert made.gallery().count() == 6


@pytest.mark.parametrize('places', [(1, 3), pytest.param(range(8), marks=pytest.mark.slow)], ids=['two', 'all'])
def test_a_connection_that_is_lost_anywhere_leaves_the_last_version_and_the_same_call_goes_on(
    server, tmp_path, monkeypatch, places
):
    made = begun(server, tmp_path, count=4)
    made.update()
    before, lost = rows_of(made.uri), 0
    searching.pictures(made.root, 4, first=4)
    for written in places:
        with s3.faulty(server, s3.after(written, 503, s3.BUSY)) as broken, monkeypatch.context() as there:
            there.setenv('AWS_ENDPOINT_URL', broken.environment['AWS_ENDPOINT_URL'])
            try:
                made.update()
            except SearchError as error:
                assert 'overloaded or broken just now' in str(error)
                lost += 1
        found = rows_of(made.uri)
        assert found.keys() >= before.keys() and len(found) in (4, 8), 'a commit is whole, or not there'
        if len(found) == 8:
            break
    assert lost
    made.update()
    assert len(rows_of(made.uri)) == made.gallery().count() == 8


@pytest.mark.slow
def test_an_erasure_that_loses_its_connection_is_finished_by_the_same_call(server, tmp_path, monkeypatch):
    made = begun(server, tmp_path, count=4)
    made.update()
    for written in (1, 3, 5):
        with s3.faulty(server, s3.after(written, 503, s3.BUSY)) as broken, monkeypatch.context() as there:
            there.setenv('AWS_ENDPOINT_URL', broken.environment['AWS_ENDPOINT_URL'])
            with pytest.raises(SearchError):
                retention.forget(made.uri, "path = 'a/000.png'", 'me', True)
    retention.forget(made.uri, "path = 'a/000.png'", 'me', True)
    left = server.objects(bucket(made))
    assert made.gallery().count() == 3 and storage.read(made.uri, '.erasing') is None
    assert not [key for key, content in left.items() if b'a/000.png' in content and '/audit/' not in key]


@pytest.mark.slow
def test_twenty_thousand_objects_are_indexed_and_deleted(server, tmp_path):
    count, there = 20_000, server.bucket()
    made = searching.index(tmp_path, count=5)
    server.fill(there, 'p', count, [path.read_bytes() for path in sorted(made.root.rglob('*.png'))])
    far = searching.Index(f's3://{server.bucket()}/i', f's3://{there}/p')
    open_model(far.uri, searching.model())
    searching.Index(far.uri, made.root).update()  # so that the bytes are known
    clock = time.monotonic()
    told = far.update()
    assert told['files'] == told['copied'] == count
    print(f'{count:,} objects read and indexed in {time.monotonic() - clock:.1f} s')
    retention.forget(far.uri, "path like '00/%'", 'me', True)
    assert far.gallery().count() == count + 5 - count // 100
