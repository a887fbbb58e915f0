"""The page is made and served: who may log in, what it is called, and what is told before it starts."""

import socket
import subprocess
import sys

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


@pytest.mark.parametrize(
    'root', ['people', '//people', 'ftp://x/', 'https:///x', 'https://x/?a', '/a/../b', 'https://[x']
)
def test_a_root_path_that_cannot_be_is_explained(root):
    with pytest.raises(ConfigError, match='--root-path: found .*such as /people'):
        app.check_root(root)


def test_a_root_path_is_a_path_or_a_whole_address():
    assert app.check_root('') == '' and app.check_root('/people/') == '/people'
    assert app.check_root('https://example.org/people') == 'https://example.org/people'
