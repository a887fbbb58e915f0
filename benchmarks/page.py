"""What hostile pictures and calls do to the page:  python -m benchmarks.page [--index=I] [--uploads=10] [--calls=10000]

How long others' searches take while hostile pictures are uploaded, and what hostile calls leave behind.

A page is served on 127.0.0.1 with two users. One searches, alone and while `uploads` clients of the other add pictures
made to be slow: JPEGs of many scans, PNGs of 49 million pixels, damaged and endless ones. Then strangers and users
make `calls` hostile calls. All ends by itself: nothing goes to another machine.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import pathlib
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

import numpy as np
from PIL import Image

from tests.road import ROOT, free_port

_USERS = {'ann': 'secret', 'eve': 'word'}
_TYPE = {'Content-Type': 'application/json'}
# values of no box
_ODD = ['\0', 1e308, None, {}, [], [[]], 'red ' * 40, True, -1, {'a': 'b'}, [1, 'x'], "' or 1=1 --", '<b>', [None] * 50]


class Client:
    """A user of the page by HTTP; without a name, a stranger."""

    def __init__(self, port: int, user: str = ''):
        self.port, self.headers, self._functions = port, {'Host': f'127.0.0.1:{port}'}, {}
        if user:
            form = urllib.parse.urlencode({'username': user, 'password': _USERS[user]})
            kind = {'Content-Type': 'application/x-www-form-urlencoded'}
            status, headers, _ = self.call('POST', '/login', form.encode(), kind)
            assert status == 200, status
            self.headers['Cookie'] = headers['set-cookie'].partition(';')[0]
            config = json.loads(self.call('GET', '/config')[2])
            names = {one['id']: one['props'].get('elem_id') for one in config['components']}
            self._functions = {names.get(one['targets'][0][0]): one for one in config['dependencies'] if one['targets']}

    def call(self, method: str, path: str, body=None, headers=None, seconds=90) -> tuple[int, dict, bytes]:
        """Status (0 where the connection breaks), headers and body."""
        line = http.client.HTTPConnection('127.0.0.1', self.port, timeout=seconds)
        try:
            line.request(method, path, body, self.headers | (headers or {}))
            reply = line.getresponse()
            return reply.status, {key.lower(): value for key, value in reply.getheaders()}, reply.read()
        except (OSError, http.client.HTTPException):
            return 0, {}, b''
        finally:
            line.close()

    def press(self, button: str, data: list, seconds=120) -> str:
        """What a click answers; '' where it is refused."""
        session, function = uuid.uuid4().hex[:12], self._functions[button]
        data = (data + [[]] * len(function['inputs']))[: len(function['inputs'])]
        call = {'data': data, 'fn_index': function['id'], 'session_hash': session}
        if self.call('POST', '/gradio_api/queue/join', json.dumps(call).encode(), _TYPE)[0] != 200:
            return ''
        return self.call('GET', f'/gradio_api/queue/data?session_hash={session}', seconds=seconds)[2].decode()

    def odd(self, number: int) -> tuple[int]:
        """Press a button with values that no box has; 200 once it was answered, 401 for a stranger."""
        if not self._functions:
            return self.call('POST', '/gradio_api/queue/join', b'{}', _TYPE)[:1]
        button = ('go', 'right', 'mark', 'erase', 'keep', 'add', 'answer')[number % 7]
        answer = self.press(button, _ODD[number % len(_ODD) :] + _ODD, seconds=20)
        return (200 if 'process_completed' in answer else 403,)

    def search(self, text: str) -> float:
        """Seconds that a search takes."""
        began = time.perf_counter()
        answer = self.press('go', [text, None, 12, 0.05, False, ''])
        assert '<ol>' in answer, answer[-500:]
        return time.perf_counter() - began

    def upload(self, body: bytes) -> list[str]:
        """Send files, see `form`; where they lie, [] where they are refused."""
        kind = {'Content-Type': 'multipart/form-data; boundary=x'}
        status, _, reply = self.call('POST', '/gradio_api/upload', body, kind)
        return json.loads(reply) if status == 200 else []


def form(pictures: list[bytes]) -> bytes:
    """Files as a browser sends them."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d.jpg"\r\n\r\n%b\r\n'
    return b''.join(head % pair for pair in enumerate(pictures)) + b'--x--\r\n'


def hostile(random_: random.Random) -> list[bytes]:
    """Uploads that cost as much as an upload may."""
    out = io.BytesIO()
    Image.new('L', (3000, 3000), random_.randrange(256)).save(out, 'JPEG', progressive=True)
    plain = out.getvalue()
    last = plain[plain.rindex(b'\xff\xda') : -2]
    scans = [plain[:-2] + last * count + b'\xff\xd9' for count in (80, 5000)]
    out = io.BytesIO()
    Image.new('RGB', (7000, 7000), (random_.randrange(256), 0, 0)).save(out, 'PNG')
    large = out.getvalue()
    noise = np.random.default_rng(random_.randrange(1 << 30)).integers(0, 256, (1500, 1500, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, 'JPEG', quality=95)
    kinds = [large, large[:-100]], scans * 8, [out.getvalue()] * 8, [large[:50_000] + bytes(5_000_000)] * 4
    return [form(pictures) for pictures in kinds]


def served(uri: str, folder: pathlib.Path):
    """(process, port, folder of its uploads) of the page."""
    users = folder / 'users'
    users.write_text(''.join(f'{name}:{word}\n' for name, word in _USERS.items()))
    users.chmod(0o600)
    port = free_port()
    call = [sys.executable, 'main.py', 'serve', f'--index={uri}', f'--port={port}', f'--auth={users}']
    process = subprocess.Popen(call, cwd=ROOT, env=os.environ | {'TMPDIR': str(folder)}, stdout=subprocess.DEVNULL)
    for _ in range(600):
        if Client(port).call('GET', '/')[0] == 200:
            return process, port
        assert process.poll() is None, 'the page has ended'
        time.sleep(0.3)
    raise TimeoutError('the page does not answer')


def latency(port: int, searches: int, uploads: int) -> dict:
    """Seconds of searches, alone and beside hostile uploads."""
    ann, eve = Client(port, 'ann'), Client(port, 'eve')
    for number in range(5):
        ann.search(f'a man in blue {number}')
    alone = [ann.search(f'a woman in a red coat {number}') for number in range(searches)]
    stop, tried, lock = threading.Event(), [0, 0], threading.Lock()
    bodies = [hostile(random.Random(number)) for number in range(3)]  # made before: the attackers' own work is no load

    def attack(number: int) -> None:
        while not stop.is_set():
            for body in bodies[number % 3]:
                if stop.is_set():
                    return
                paths = eve.upload(body)
                files = [{'path': path, 'meta': {'_type': 'gradio.FileData'}} for path in paths]
                answer = eve.press('add', [files]) if files else ''
                with lock:
                    tried[0] += 1
                    tried[1] += 'process_completed' in answer

    attackers = [threading.Thread(target=attack, args=(number,)) for number in range(uploads)]
    for one in attackers:
        one.start()
    time.sleep(5)
    beside = [ann.search(f'a woman in a red coat {number}') for number in range(searches)]
    stop.set()
    for one in attackers:
        one.join(180)
    told = {'uploads': tried[0], 'of them decoded': tried[1]}
    return {'alone': _spread(alone), 'beside hostile uploads': _spread(beside) | told}


def _spread(seconds: list[float]) -> dict:
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return {'searches': len(seconds), 'p50': round(p50, 3), 'p99': round(p99, 3), 'max': round(max(seconds), 3)}


def hostile_call(client: Client, number: int) -> int:
    """One of many kinds; its status."""
    name = uuid.uuid4().hex[:12]
    join = {'data': ['x' * (number % 70_000)], 'fn_index': number % 20, 'session_hash': name}
    fields = {'Content-Type': 'application/x-www-form-urlencoded'}
    parts = {'Content-Type': 'multipart/form-data; boundary=x'}
    kinds = [
        lambda: client.call('GET', f'/gradio_api/file=/etc/passwd{number}'),
        lambda: client.call('GET', f'/gradio_api/heartbeat/{name}', seconds=0.05),
        lambda: client.call('GET', f'/gradio_api/queue/data?session_hash={name}'),
        lambda: client.call('GET', '/gradio_api/upload_progress?upload_id=' + name),
        lambda: client.call('GET', '/config', headers={'Host': f'{name}.example'}),
        lambda: client.call('POST', '/gradio_api/queue/join', json.dumps(join).encode(), _TYPE),
        lambda: client.call('POST', '/gradio_api/queue/join', b'[' * 60_000, _TYPE),
        lambda: client.call('POST', '/gradio_api/queue/join', b'{}', _TYPE | {'Origin': 'http://evil.example'}),
        lambda: client.call('POST', '/gradio_api/upload', os.urandom(2000), parts),
        lambda: client.call('POST', '/login', b'username=' + name.encode() + b'&password=x', fields, seconds=0.05),
        lambda: client.call('GET', '/' + '%2e%2e/' * 20 + name),
        lambda: len(client.upload(form([os.urandom(20_000)]))),
        lambda: client.odd(number),
    ]  # fmt: skip
    status = kinds[number % len(kinds)]()
    return status[0] if isinstance(status, tuple) else 200


def leftovers(process, folder: pathlib.Path, port: int, calls: int, rest: float = 12) -> dict:
    """Memory, files and open files before and after hostile calls; one call in two is a user's."""
    stranger, eve, ann = Client(port), Client(port, 'eve'), Client(port, 'ann')
    statuses: collections.Counter = collections.Counter()

    def run(numbers: range) -> None:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:  # it raises what a call does
            statuses.update(pool.map(lambda number: hostile_call((stranger, eve)[number // 13 % 2], number), numbers))

    run(range(min(500, calls)))  # what is read and compiled once
    ann.search('a man in blue')
    before = _kept(process, folder)
    run(range(calls))
    ann.search('a man in blue')
    time.sleep(rest)  # connections that do nothing are closed
    return {
        'calls': calls,
        'statuses': dict(sorted(statuses.items())),
        'before': before,
        'after': _kept(process, folder),
    }


def _kept(process, folder: pathlib.Path) -> dict:
    status = pathlib.Path(f'/proc/{process.pid}/status').read_text()
    files = [file.stat().st_size for file in folder.rglob('*') if file.is_file()]
    return {
        'memory MiB': int(re.search(r'VmRSS:\s+(\d+)', status)[1]) >> 10,
        'open files': len(os.listdir(f'/proc/{process.pid}/fd')),
        'threads': len(os.listdir(f'/proc/{process.pid}/task')),
        'MiB on disk': round(sum(files) / (1 << 20), 1),
    }


def measure(uri: str, folder: pathlib.Path, searches: int, uploads: int, calls: int, **how) -> dict:
    """Both, of a copy of an index."""
    shutil.copytree(uri, folder / 'index')
    process, port = served(str(folder / 'index'), folder)
    try:
        told = {'machine': f'{platform.machine()}, {os.cpu_count()} cores'}
        if searches:
            told['seconds of a search'] = latency(port, searches, uploads)
        if calls:
            told['hostile calls'] = leftovers(process, folder, port, calls, **how)
        return told
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--index', help='that is copied first; without, one of 12 drawn pictures is made')
    parser.add_argument('--searches', type=int, default=200, help='searches to time')
    parser.add_argument('--uploads', type=int, default=10, help='clients that upload meanwhile')
    parser.add_argument('--calls', type=int, default=10_000, help='hostile calls')
    parser.add_argument('--out', type=pathlib.Path, help='JSON file to write')
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if not given.index:
            from tests import searching

            made = searching.index(folder / 'made')
            made.update()
            given.index = made.uri
        (folder / 'served').mkdir()
        told = measure(given.index, folder / 'served', given.searches, given.uploads, given.calls)
    text = json.dumps(told, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + '\n')


if __name__ == '__main__':
    main()
