"""The page is made and served: who may log in, what it is called, and what is told before it starts."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import pytest

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.search.web import app
from tests.road import ROOT


def test_users_come_from_a_pair_or_from_a_file_that_is_private(tmp_path):
    file = tmp_path / 'users'
    file.write_text('ann:one:two\n\nbob:three\n')
    file.chmod(0o600)
    assert app.read_users('ann:secret') == {'ann': 'secret'}
    assert app.read_users(str(file)) == {'ann': 'one:two', 'bob': 'three'}
    file.chmod(0o640)
    with pytest.raises(ConfigError, match='others can read .*chmod 600'):
        app.read_users(str(file))
    file.chmod(0o600)
    for wrong in ('ann', ':secret', 'ann:', str(tmp_path / 'none')):
        with pytest.raises(ConfigError, match='found neither user:password nor a file') as error:
            app.read_users(wrong)
        assert 'secret' not in str(error.value).replace('user:password', '')
    file.write_text('ann:one\nann:two\n')
    with pytest.raises(ConfigError):
        app.read_users(str(file))


def test_only_this_machine_needs_no_login():
    assert all(map(app.is_local, ('127.0.0.1', 'localhost', '::1', '127.3.2.1')))
    assert not any(map(app.is_local, ('0.0.0.0', '::', '192.168.0.7', 'example.org', 'localhost.example.org', '')))
    run = subprocess.run(
        [sys.executable, 'main.py', 'serve', '--index=i', '--host=0.0.0.0'], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2 and 'others could reach the page; that needs --auth' in run.stderr


def test_the_address_that_the_page_is_told_to_listen_on_is_one_of_its_names():
    assert app.names_of('127.0.0.2') == {'127.0.0.2', '127.0.0.1', 'localhost', '::1'}
    assert app.names_of('0.0.0.0') is None


def test_a_port_that_is_taken_is_explained(tmp_path):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        with pytest.raises(ConfigError, match='cannot listen on 127.0.0.1:.*another --port'):
            app.serve(str(tmp_path), '127.0.0.1', other.getsockname()[1], None, None)


def test_uploads_of_a_page_that_was_killed_go_and_those_of_one_at_work_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    killed, others, linked = (tmp_path / name for name in ('lcr2s-page-killed', 'elsewhere', 'lcr2s-page-linked'))
    for folder in (killed, others):
        (folder / 'uploads').mkdir(parents=True)
        (folder / 'uploads' / 'x.png').touch()
        (folder / '.lock').touch()
    linked.symlink_to(others)
    with app.passing_folder() as one:
        (one / 'x.png').touch()
        with app.passing_folder() as other:
            assert not killed.exists() and (one / 'x.png').exists() and list(other.iterdir()) == []
            assert (others / 'uploads' / 'x.png').exists()
    assert {path.name for path in tmp_path.iterdir()} == {'elsewhere', 'lcr2s-page-linked'}


@pytest.mark.parametrize(
    'root', ['people', '//people', 'ftp://x/', 'https:///x', 'https://x/?a', '/a/../b', 'https://[x']
)
def test_a_root_path_that_cannot_be_is_explained(root):
    with pytest.raises(ConfigError, match='--root-path: found .*such as /people'):
        app.check_root(root)


def test_a_root_path_is_a_path_or_a_whole_address():
    assert app.check_root('') == '' and app.check_root('/people/') == '/people'
    assert app.check_root('https://example.org/people') == 'https://example.org/people'


@pytest.fixture
def served():
    """(address of a server that takes seven connections, what its calls wait for)."""
    import uvicorn

    begun, go_on = threading.Event(), threading.Event()

    async def application(scope, receive, send):
        if scope['path'] == '/slow':
            begun.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)
        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})
        await send({'type': 'http.response.body', 'body': b'ok'})

    config = uvicorn.Config(
        application, port=0, log_level='critical', lifespan='off', limit_concurrency=9, http=app._protocol(7)
    )
    server = uvicorn.Server(config)
    running = threading.Thread(target=server.run)
    running.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname(), begun, go_on
    go_on.set()
    server.should_exit = True
    running.join()


def test_connections_that_say_nothing_keep_nobody_out_and_end_no_call(served):
    address, begun, go_on = served
    url, answers = f'http://127.0.0.1:{address[1]}', []

    def ask(path):
        answers.append(urllib.request.urlopen(url + path, timeout=30).read())

    slow = threading.Thread(target=ask, args=['/slow'])
    slow.start()
    assert begun.wait(10)
    with contextlib.ExitStack() as held:
        silent = [held.enter_context(socket.create_connection(address, timeout=10)) for _ in range(7)]
        silent += [held.enter_context(socket.create_connection(address, timeout=10)) for _ in range(20)]
        silent[-1].sendall(b'GET / HTTP/1.1\r\n')  # a beginning is no call
        ask('/')
        assert answers == [b'ok'] and silent[0].recv(9) == b'', 'the oldest was closed'
        go_on.set()
        slow.join()
    assert answers == [b'ok', b'ok']
