"""A real S3 server for tests, moto's, in a process of its own on 127.0.0.1; and a proxy before it that has faults."""

import base64
import contextlib
import http.client
import http.server
import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.road import free_port

_SERVE = """
import base64, json, sys
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
ThreadedMotoServer('127.0.0.1', int(sys.argv[1]), verbose=False).start()
for line in sys.stdin:  # objects by the thousand, which take minutes as requests
    bucket, prefix, count, contents = json.loads(line)
    for n in range(count):
        content = base64.b64decode(contents[n % len(contents)])
        s3_backends['123456789012']['aws'].put_object(bucket, f'{prefix}/{n % 100:02}/{n:05}.png', content)
    print('done', flush=True)
"""
_HEADERS = {  # moto looks for no more of a signature than that there is one
    'Content-Type': 'application/octet-stream',
    'Authorization': 'AWS4-HMAC-SHA256 Credential=t/1/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0',
}
_HOP = ('transfer-encoding', 'expect', 'content-length', 'connection')  # of one connection, not of the message
REFUSED = '<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.</Message></Error>'
BUSY = '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
Fault = Callable[[str, str], tuple[int, str] | None]  # of method and path: what is answered in place of the server


class Server:
    """Buckets at an address."""

    def __init__(self, port: int, process: subprocess.Popen | None = None):
        self.port, self._process = port, process

    @property
    def environment(self) -> dict[str, str]:
        """What programs of AWS read, so that they come here."""
        return {
            'AWS_ENDPOINT_URL': f'http://127.0.0.1:{self.port}',
            'AWS_REGION': 'us-east-1',
            'AWS_ACCESS_KEY_ID': 'tests',
            'AWS_SECRET_ACCESS_KEY': 'tests',
        }

    def bucket(self) -> str:
        """A new one's name."""
        name = f'b{uuid.uuid4().hex[:12]}'
        self.ask('PUT', name)
        return name

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: self.ask('PUT', f'{bucket}/{one[0]}', one[1]), objects.items()))

    def fill(self, bucket: str, prefix: str, count: int, contents: Sequence[bytes]) -> None:
        """So many objects below a prefix, of these contents in turns."""
        told = json.dumps([bucket, prefix, count, [base64.b64encode(one).decode() for one in contents]])
        self._process.stdin.write(told.encode() + b'\n')
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b'done\n'

    def delete(self, bucket: str, key: str) -> None:
        self.ask('DELETE', f'{bucket}/{key}')

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Every object with its content."""
        from pyarrow import fs

        store = fs.S3FileSystem(
            endpoint_override=f'http://127.0.0.1:{self.port}', region='us-east-1', access_key='t', secret_key='t'
        )
        found = store.get_file_info(fs.FileSelector(bucket, recursive=True))
        paths = [one.path for one in found if one.type == fs.FileType.File]
        return {path.partition('/')[2]: store.open_input_stream(path).read() for path in paths}

    def ask(self, method: str, path: str, content: bytes | None = None) -> bytes:
        asked = urllib.request.Request(f'http://127.0.0.1:{self.port}/{path}', content, _HEADERS, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.read()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server that lives as long as the block."""
    port = free_port()
    line = [sys.executable, '-c', _SERVE, str(port)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    server = Server(port, process)
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError):
                server.ask('GET', '')
                break
            time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def faulty(server: Server, fault: Fault) -> Iterator[Server]:
    """The same buckets behind another port, where `fault` may answer before the server does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def handle_one_request(self):
            with contextlib.suppress(OSError):  # whoever asked has gone
                super().handle_one_request()

        def _pass(self):
            content = self._content()
            if answer := fault(self.command, self.path):
                self._answer(answer[0], {'Content-Type': 'application/xml'}, answer[1].encode())
                return
            there = http.client.HTTPConnection('127.0.0.1', server.port)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            there.request(self.command, self.path, content, headers)
            found = there.getresponse()
            body = found.read()
            self._answer(found.status, dict(found.getheaders()), body)
            there.close()

        def _content(self) -> bytes:
            if 'chunked' not in self.headers.get('Transfer-Encoding', ''):
                return self.rfile.read(int(self.headers.get('Content-Length') or 0))
            parts = []
            while size := int(self.rfile.readline().split(b';')[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b''.join(parts)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

        def _answer(self, status, headers, body):
            self.send_response_only(status)
            length = headers.pop('Content-Length', len(body)) if self.command == 'HEAD' else len(body)
            for name, value in headers.items():
                if name not in ('Content-Length', 'Transfer-Encoding', 'Connection'):
                    self.send_header(name, value)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            if self.command != 'HEAD':
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    proxy = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Server(proxy.server_address[1])
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


def always(status: int, body: str = '') -> Fault:
    """Every request is answered so."""
    return lambda method, path: (status, body)


def every(nth: int, status: int, body: str = '') -> Fault:
    """Every so manyth request is answered so."""
    count = itertools.count(1)
    return lambda method, path: None if next(count) % nth else (status, body)


def after(count: int, status: int, body: str = '') -> Fault:
    """The first so many requests that write go through, then none does."""
    written = itertools.count()

    def fault(method, path):
        return (status, body) if method in ('PUT', 'POST', 'DELETE') and next(written) >= count else None

    return fault


def slow(seconds: float) -> Fault:
    """Every answer comes so late."""
    return lambda method, path: time.sleep(seconds)
