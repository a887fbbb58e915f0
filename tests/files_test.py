"""Locks keep one process in, files are whole or not there, and JSON that is none is a message."""

import errno
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from lcr2s_jax import files, locks, texts
from lcr2s_jax.errors import ConfigError, DataError, UserError

HOLD = """
import pathlib, sys
from lcr2s_jax import locks
with locks.alone(pathlib.Path(sys.argv[1]), lambda: None):
    print('held', flush=True)
    sys.stdin.read()
"""


class Busy(Exception):
    """Raised by a test that does not want to wait."""


def refuse():
    raise Busy


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path):
    lock = tmp_path / 'folder' / '.lock'
    other = subprocess.Popen([sys.executable, '-c', HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b'held\n'
    with pytest.raises(Busy), locks.alone(lock, refuse):
        pass
    other.kill()
    other.wait()
    with locks.alone(lock, refuse) as held:
        assert held


def test_a_lock_that_was_taken_away_meanwhile_is_made_again(tmp_path):
    lock = tmp_path / '.lock'

    def gone():
        lock.unlink()
        os.close(first)

    first = os.open(lock, os.O_RDWR | os.O_CREAT)
    locks.fcntl.flock(first, locks.fcntl.LOCK_EX)
    with locks.alone(lock, gone):
        assert lock.exists()


@pytest.mark.parametrize('make', [lambda p: os.mkfifo(p), lambda p: p.symlink_to('elsewhere'), lambda p: p.mkdir()])
def test_what_is_no_file_is_no_lock(tmp_path, make):
    make(tmp_path / '.lock')
    with pytest.raises(OSError), locks.alone(tmp_path / '.lock', refuse):
        pass
    assert not (tmp_path / 'elsewhere').exists()


def test_a_pipe_in_the_place_of_a_file_hangs_nothing_but_somebody_may_name_one(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(OSError, match='a pipe, socket or device'):
        files.read_bytes(tmp_path / 'pipe')
    with pytest.raises(UserError, match=r'a pipe, socket or device, expected an ordinary file\); make it anew'):
        files.read_json(tmp_path / 'pipe', UserError, 'make it anew')
    threading.Thread(target=(tmp_path / 'pipe').write_text, args=['typed']).start()
    assert files.read_bytes(tmp_path / 'pipe', typed=True) == b'typed'


def test_an_error_within_a_lock_comes_through(tmp_path):
    with pytest.raises(FileNotFoundError), locks.alone(tmp_path / '.lock', refuse):
        raise FileNotFoundError


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / 'f'
    files.write(path, 'old', mode=0o600)
    files.aside_of(path).write_text('of a call that was killed')
    with pytest.raises(Busy), files.aside(path) as partial:
        partial.write_text('half')
        raise Busy
    assert path.read_text() == 'old' and path.stat().st_mode & 0o777 == 0o600
    files.write(path, b'new')
    assert path.read_text() == 'new' and os.listdir(tmp_path) == ['f']


@pytest.mark.parametrize('said', ['I/O error: File too large (os error 27)', 'No space left on device (os error 28)'])
def test_a_full_disk_that_a_library_tells_in_its_own_way_is_an_error_of_that_file(tmp_path, said):
    with pytest.raises(OSError, match=re.escape(said.split(':')[-1].split('(')[0].strip())) as error:
        with files.aside(tmp_path / 'f') as partial:
            partial.write_bytes(b'half')
            raise RuntimeError(f'Error while serializing: {said}')
    assert error.value.filename == str(tmp_path / 'f') and os.listdir(tmp_path) == []
    assert error.value.errno in (errno.EFBIG, errno.ENOSPC)


def test_what_dead_processes_left_of_a_shared_file_goes_and_what_others_write_stays(tmp_path):
    dead = subprocess.Popen(['true'])
    dead.wait()
    host = socket.gethostname()
    left, alive, elsewhere, odd = (
        tmp_path / f'.out.{by}.partial' for by in (f'{host}-{dead.pid}', f'{host}-1', f'not-{host}-1', f'{host}-x')
    )
    for folder in (left, alive, elsewhere, odd):
        folder.mkdir()
        (folder / 'picture').touch()
    (tmp_path / f'.other.{host}-{dead.pid}.partial').touch()
    files.write(tmp_path / 'out', 'new', shared=True)
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {'out', alive.name, elsewhere.name, odd.name, f'.other.{host}-{dead.pid}.partial'}


def test_a_folder_appears_whole(tmp_path):
    with files.aside(tmp_path / 'd') as partial:
        partial.mkdir()
        (partial / 'x').touch()
        assert not (tmp_path / 'd').exists()
    assert (tmp_path / 'd' / 'x').exists()


@pytest.mark.parametrize('text', ['', '{', '[]', '3', '[' * 100_000, '{"a": ' + '9' * 5000 + '}', '\xff'])
def test_json_that_holds_no_object_is_a_message(tmp_path, text):
    path: pathlib.Path = tmp_path / 'x.json'
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(ConfigError, match='x.json.*delete it'):
        files.read_json(path, ConfigError, 'delete it')
    with pytest.raises(ConfigError, match='No such file'):
        files.read_json(tmp_path / 'none', ConfigError, 'delete it')


def test_json_is_the_same_for_equal_values_and_is_read_back(tmp_path):
    assert files.to_json({'b': 1, 'a': [2]}) == files.to_json({'a': [2], 'b': 1})
    files.write(tmp_path / 'x', files.to_json({'a': [2]}))
    assert files.read_json(tmp_path / 'x', ConfigError, '') == {'a': [2]}


@pytest.mark.parametrize(
    'content,words',
    [
        ('a woman in red'.encode('utf-16-le'), 'is UTF-16LE; .*iconv -f UTF-16LE'),
        ('a woman in red'.encode('utf-16-be'), 'is UTF-16BE'),
        ('a woman in red'.encode('utf-32'), 'is UTF-32; .*iconv -f UTF-32'),
        (b'\x89PNG\r\n' + bytes(range(256)), 'has zero bytes, as no text has'),
    ],
)
def test_text_of_another_kind_is_called_by_it(tmp_path, content, words):
    (tmp_path / 't.txt').write_bytes(content)
    with pytest.raises(DataError, match=words):
        texts.read_text(tmp_path / 't.txt', '--queries')


def test_a_file_that_is_not_there_is_told_with_one_that_is_nearly_called_so(tmp_path):
    (tmp_path / 'people.csv').write_text('x')
    with pytest.raises(DataError, match=r'No such file.*; did you mean .*people.csv\?'):
        texts.read_text(tmp_path / 'people.cvs', '--metadata')
    (tmp_path / 'Café' / 'Fotos').mkdir(parents=True)
    for typed in ('CAFÉ/fotos', 'Cafe\u0301/Fotos', 'Caffé/Foto'):
        assert texts.near(tmp_path / typed) == f'; did you mean {tmp_path}/Café/Fotos?'
    assert texts.near(tmp_path / 'people.csv') == texts.near(tmp_path / 'other') == texts.near('/no/folder/x') == ''


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('end', [b'\n', b'\r\n', b'\r'])
def test_a_typed_text_is_the_same_with_any_mark_and_line_ends(tmp_path, mark, end):
    (tmp_path / 't.txt').write_bytes(mark + 'Zürich'.encode() + end + end + b'a')
    assert texts.read_text(tmp_path / 't.txt', '--queries') == 'Zürich\n\na'


@pytest.mark.parametrize(
    'content,words',
    [
        (b'a\nZ\xfcrich', 'no UTF-8 in line 2.*iconv -f WINDOWS-1252 -t UTF-8'),
        ('path,site'.encode('utf-16'), 'is UTF-16.*iconv -f UTF-16'),
        (None, r'--queries: .*t.txt cannot be read \(No such file'),
    ],
)
def test_what_is_no_typed_text_is_told_with_what_to_do(tmp_path, content, words):
    if content is not None:
        (tmp_path / 't.txt').write_bytes(content)
    with pytest.raises(DataError, match=words):
        texts.read_text(tmp_path / 't.txt', '--queries')


@pytest.mark.parametrize(
    'change',
    [
        lambda content: b'',
        lambda content: content[: len(content) // 2],
        lambda content: content[:-3] + b'xyz',
        lambda content: content.replace(bytes(range(8)), bytes(8)),
        lambda content: b'hello',
        lambda content: b'\x93NUMPY\x01\x00',
        lambda content: b'\x80\x04N.',
    ],
)
def test_arrays_that_are_damaged_are_told_with_what_to_do(change, tmp_path):
    path = tmp_path / 'a.npz'
    np.savez(path, x=np.arange(8, dtype=np.uint8))
    assert files.read_arrays(path, DataError, 'mend it', ['x'])['x'].tolist() == list(range(8))
    with pytest.raises(DataError, match='a.npz: found no array y; mend it'):
        files.read_arrays(path, DataError, 'mend it', ['x', 'y'])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match='(?s)a.npz: cannot be read .*; mend it$'):
        files.read_arrays(path, DataError, 'mend it')


def test_a_full_disk_is_told_with_the_file_that_has_no_room(tmp_path):
    full = OSError(errno.ENOSPC, 'No space left on device')
    with pytest.raises(OSError) as told, files.aside(tmp_path / 'a.npz'):
        raise full
    assert told.value.filename == str(tmp_path / 'a.npz') and not list(tmp_path.iterdir())
    (tmp_path / 'folder' / 'x').mkdir(parents=True)
    with pytest.raises(OSError) as told:
        files.write(tmp_path / 'folder', 'text')
    assert told.value.filename == str(tmp_path / 'folder')
    with pytest.raises(FileNotFoundError) as told, files.aside(tmp_path / 'b'):
        open(tmp_path / 'none')
    assert told.value.filename == str(tmp_path / 'none'), 'a file that was named stays the one that is told'


def test_a_file_by_the_name_of_a_folder_is_told_before_something_is_written_below_it(tmp_path):
    files.check_writable(tmp_path / 'a' / 'b' / 'c.json', '--out')
    (tmp_path / 'a').touch()
    with pytest.raises(UserError, match='--out: found a file by the name of the folder .*a; choose another place'):
        files.check_writable(tmp_path / 'a' / 'b' / 'c.json', '--out')
    assert [path.name for path in tmp_path.iterdir()] == ['a']
