"""A Hugging Face hub on this machine: the few addresses that its client asks for a repository's list and files."""

import contextlib
import hashlib
import http.server
import json
import pathlib
import threading
import urllib.parse

COMMIT = '0' * 40


@contextlib.contextmanager
def serving(root: pathlib.Path, monkeypatch, cache: pathlib.Path):
    """Folders OWNER/NAME below `root` as repositories, `cache` as the client's; yields the paths that were fetched."""
    from huggingface_hub import constants

    fetched: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip('/').split('/')
            if path[:2] == ['api', 'models']:
                repository = root / path[2] / path[3]
                files = sorted(p for p in repository.rglob('*') if p.is_file())
                names = [p.relative_to(repository).as_posix() for p in files]
                if path[4:5] == ['tree']:
                    listed = [
                        {'type': 'file', 'path': n, 'size': p.stat().st_size, 'oid': _hash(p)}
                        for n, p in zip(names, files, strict=True)
                    ]
                else:
                    siblings = [{'rfilename': n} for n in names]
                    listed = {'id': '/'.join(path[2:4]), 'sha': COMMIT, 'siblings': siblings, 'private': False}
                return self.send(200 if files else 404, json.dumps(listed).encode(), body)
            file = root.joinpath(*path[:2], *path[4:])
            if not file.is_file():
                return self.send(404, b'', body, {'X-Error-Code': 'EntryNotFound'})
            if body:
                fetched.append('/'.join(path[4:]))
            self.send(200, file.read_bytes(), body, {'ETag': f'"{_hash(file)}"', 'X-Repo-Commit': COMMIT})

        def send(self, status, content, body, headers=()):
            self.send_response(status)
            more = {'X-Error-Code': 'RepoNotFound'} if status == 404 else {}
            for name, value in (more | dict(headers) | {'Content-Length': str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    address = f'http://127.0.0.1:{server.server_port}'
    template = address + '/{repo_id}/resolve/{revision}/{filename}'
    for name, value in dict(
        ENDPOINT=address, HUGGINGFACE_CO_URL_TEMPLATE=template, HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE=False
    ).items():
        monkeypatch.setattr(constants, name, value)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield fetched
    finally:
        server.shutdown()
        server.server_close()


def _hash(path: pathlib.Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
