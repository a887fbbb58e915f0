"""What may pass to the page: no file of the disk, nothing from elsewhere, login first, and no more than is bounded."""

import asyncio
import contextlib
import json
import pathlib
import re
import time
import warnings

import pytest

from lcr2s_jax.search.web import app, bounds, middleware, sessions
from tests import searching


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return searching.index_of_two_cameras(tmp_path_factory.mktemp('page'))


@pytest.fixture(scope='module')
def client(opened, tmp_path_factory):
    """client(guarded=True, users=None) -> the page of the index, without a network."""
    with warnings.catch_warnings(action='ignore'):  # that it would like another HTTP client
        from starlette.testclient import TestClient

    folder = tmp_path_factory.mktemp('uploads')
    apps = {}

    def client(guarded=True, users=None, hosts=('localhost',), root='', base='http://localhost'):
        key = str((users, hosts, root))
        if key not in apps:
            apps[key] = app.application(opened, folder, hosts, users, root)
        made = apps[key] if guarded else apps[key].app
        return TestClient(made, base_url=base, follow_redirects=False)

    client.folder = folder
    return client


def get(guarded, path: str, method='GET', headers=()) -> tuple[int, bytes]:
    """Status and body of a path just as it stands; a client would tidy it up first."""
    sent = []

    async def receive():
        return {'type': 'http.request', 'body': b'', 'more_body': False}

    async def send(message):
        sent.append(message)

    scope = {'type': 'http', 'asgi': {'version': '3.0'}, 'http_version': '1.1', 'method': method, 'scheme': 'http',
             'path': path, 'raw_path': path.encode(), 'query_string': b'', 'root_path': '',
             'headers': [(b'host', b'localhost'), *headers], 'client': ('127.0.0.1', 1),
             'server': ('localhost', 80)}  # fmt: skip
    asyncio.run(guarded(scope, receive, send))
    return sent[0]['status'], b''.join(message.get('body', b'') for message in sent[1:])


@pytest.mark.parametrize('guarded', [True, False])
def test_no_file_of_the_disk_is_served(client, made, guarded):
    inside = made.root / 'a' / '000.png'
    link = made.root / 'link.png'
    with contextlib.suppress(FileExistsError):
        link.symlink_to('/etc/passwd')
    page = client(guarded).app
    for path in ('/etc/passwd', '../../../../etc/passwd', str(link), f'{made.root}/../index/audit.jsonl', str(inside),
                 f'{made.uri}/model/model.json', '../../main.py', 'main.py'):  # fmt: skip
        for route in ('/gradio_api/file=', '/file=', '/gradio_api/file/', '/static/', '/assets/'):
            status, content = get(page, route + path)
            assert status in (403, 404), (route, path, status)
            assert b'root:' not in content and b'PNG' not in content


def test_what_the_page_does_not_need_is_not_there(client):
    page = client().app
    below = 'info openapi.json call/search proxy=https://x.hf.space/ file=http://example.org/x run-history/buckets'
    for path in [f'/gradio_api/{path}' for path in below.split()] + [
        '/monitoring',
        '/docs',
        '/openapi.json',
        '/assets/../config',
        '//config',
        '/static/..\\config',
    ]:
        assert get(page, path)[0] == 404, path
    assert get(page, '/')[0] == get(page, '/config')[0] == 200


def test_the_page_asks_nobody_else_for_anything(client):
    reply = client().get('/')
    assert not re.search(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//', reply.text)
    assert not re.search(r'@import|url\((?!["\']?(?:data:|static/|\.?/))', client().get('/theme.css').text)
    policy = reply.headers['content-security-policy']
    assert "default-src 'none'" in policy and 'http' not in policy and reply.headers['cache-control'] == 'no-store'
    config = json.loads(re.search(r'window\.gradio_config = (\{.*?\});</script>', reply.text)[1])
    assert config['analytics_enabled'] is False and not config.get('run_history')


def test_a_call_names_uploaded_files_alone(client):
    http = client()
    for path in ('/etc/passwd', 'http://example.org/x.png', f'{client.folder}/../x', 'x.png'):
        body = {'fn_index': 6, 'session_hash': 's', 'data': [[{'path': path, 'meta': {'_type': 'gradio.FileData'}}]]}
        for kind in ('application/json', 'text/plain'):
            reply = http.post('/gradio_api/queue/join', content=json.dumps(body), headers={'content-type': kind})
            assert reply.status_code == 403, path
    for odd in (
        b'{',
        b'[' * 50_000,
        b'[]',
        b'"x"',
        b'{"session_hash": {}}',
        b'{"session_hash": "../x"}',
        b'{"data": NaN}',
        b'{"session_hash": "s", "fn_index": 99, "data": []}',
        b'{"session_hash": "s", "fn_index": 0}',
    ):
        assert http.post('/gradio_api/queue/join', content=odd).status_code in (400, 403), odd[:30]
    words = {'fn_index': 0, 'session_hash': 's', 'data': ['a woman with "path": "/etc/passwd" on her shirt']}
    assert http.post('/gradio_api/queue/join', json=words).status_code == 200
    half = b'{"fn_index": 0, "session_hash": "s", "data": ["red \\ud83d coat"]}'  # a character of an emoji's two
    assert http.post('/gradio_api/queue/join', content=half).status_code == 200


def test_an_upload_is_limited_before_it_is_read(client):
    http = client()
    too_many = {'content-length': str(65 << 20), 'content-type': 'multipart/form-data; boundary=x'}
    assert http.post('/gradio_api/upload', content=b'', headers=too_many).status_code == 413
    unknown = (part for part in [b'x'])  # sent in chunks, without a length
    assert http.post('/gradio_api/upload', content=unknown).status_code == 411
    for method in ('POST', 'GET'):  # a server reads chunks, however short the length that is told beside them
        both = [(b'content-length', b'5'), (b'transfer-encoding', b'chunked')]
        assert get(client().app, '/gradio_api/upload', method, both)[0] == 411
    large = http.post('/gradio_api/upload', files={'files': ('x.png', b'x' * ((8 << 20) + 1))})
    assert large.status_code == 413 and 'maximum allowed size' in large.text
    assert http.post('/gradio_api/queue/join', content=b'"' + b'x' * (1 << 18) + b'"').status_code == 413
    many = [('files', (f'{number}.png', b'x')) for number in range(33)]
    assert http.post('/gradio_api/upload', files=many).status_code == 413
    parts = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nb\r\n' * 40
    for kind in (
        'multipart/form-data; xboundary=y; boundary=x', 'multipart/form-data; boundary=y; BOUNDARY=x',
        f'multipart/form-data; boundary={"x" * 300}', 'multipart/form-data; boundary="x', 'text/plain', '',
    ):  # fmt: skip
        told = http.post('/gradio_api/upload', content=parts + b'--x--\r\n', headers={'content-type': kind})
        assert told.status_code in (400, 413) and told.text.count('Refused'), kind
    assert not [path for path in client.folder.rglob('*') if path.is_file()], 'nothing of it is left'


def test_a_call_with_more_fields_than_any_is_refused_with_a_word(client):
    fields = '&'.join(['a=b'] * 900)
    for user in (None, {'ann': 'secret'}):
        http = client(users=user)
        for told in (
            http.post('/login', content=fields, follow_redirects=False),
            http.get(f'/gradio_api/queue/data?{fields}'),
        ):
            assert told.status_code in (303, 400, 401) and 'Internal' not in told.text


def test_a_page_on_this_machine_answers_to_its_own_name_and_its_own_page_alone(client):
    http = client()
    for name in ('evil.example:80', '[::1', ''):
        assert http.get('/', headers={'host': name}).status_code == 421
    assert http.get('/config', headers={'origin': 'http://evil.example'}).status_code == 403
    assert http.get('/config', headers={'origin': 'null'}).status_code == 403
    assert http.get('/config', headers={'origin': 'http://localhost'}).status_code == 200
    assert client(hosts=None, users={'ann': 'x'}).get('/', headers={'host': 'any.example'}).status_code == 200


def test_without_a_login_nothing_can_be_asked(client, made, monkeypatch):
    monkeypatch.setattr(sessions, '_WAIT', 0)
    http = client(users={'ann': 'secret'}, hosts=None)
    form = http.get('/')
    assert form.status_code == 200 and 'name="password"' in form.text and 'Condition' not in form.text
    assert '<script' not in form.text and 'script-src' not in form.headers['content-security-policy']
    for path in ('/config', '/theme.css', '/assets/index.js', '/manifest.json', '/favicon.ico',
                 '/gradio_api/heartbeat/x', '/gradio_api/queue/data?session_hash=x',
                 '/gradio_api/upload_progress?upload_id=x'):  # fmt: skip
        reply = http.get(path)
        assert reply.status_code == 401 and 'log in first' in reply.text, path
    assert http.post('/gradio_api/upload', files={'files': ('x.png', b'x')}).status_code == 401
    assert http.post('/gradio_api/queue/join', json={'fn_index': 0, 'data': [], 'session_hash': 's'}).status_code == 401
    assert not [path for path in client.folder.rglob('*') if path.is_file()]
    for name, password in (('ann', 'wrong'), ('bob', 'secret'), ('bob', '')):
        assert http.post('/login', data={'username': name, 'password': password or ' '}).status_code == 400
    came = http.post('/login', data={'username': 'ann', 'password': 'secret'})
    assert came.status_code == 200 and 'HttpOnly' in came.headers['set-cookie']
    assert 'SameSite=Lax' in came.headers['set-cookie'] and 'Secure' not in came.headers['set-cookie']
    assert http.get('/config').status_code == 200 and json.loads(http.get('/config').text)['username'] == 'ann'
    assert http.get('/logout').headers['location'] == './' and http.get('/config').status_code == 401
    tls = http.post('/login', data={'username': 'ann', 'password': 'secret'}, headers={'x-forwarded-proto': 'https'})
    assert 'Secure' in tls.headers['set-cookie']
    log = [json.loads(line) for line in (pathlib.Path(made.uri) / 'audit.jsonl').read_text().splitlines()]
    assert [(line['user'], line['event']) for line in log if 'event' in line][-3:] == [
        ('bob', 'login refused'),
        ('ann', 'login'),
        ('ann', 'login'),
    ]


def test_a_websocket_is_refused_and_a_start_is_passed_on(tmp_path):
    seen, sent = [], []

    async def inner(scope, receive, send):
        seen.append(scope['type'])

    async def send(message):
        sent.append(message)

    room = bounds.Room(tmp_path, 1, 1, 1)
    guarded = middleware.Middleware(inner, None, room, bounds.Bounds())
    for kind in ('websocket', 'lifespan'):
        asyncio.run(guarded({'type': kind}, None, send))
    assert seen == ['lifespan'] and sent == [{'type': 'websocket.close', 'code': 1008}]


def test_a_refused_call_says_what_to_do(client):
    http = client()
    other = http.get('/', headers={'host': 'search.example'})
    assert other.status_code == 421 and "found the name 'search.example'" in other.text and '--root-path' in other.text
    click = http.post('/gradio_api/queue/join', json={}, headers={'origin': 'https://search.example'})
    assert click.status_code == 403 and '--root-path=https://search.example' in click.json()['detail']
    assert 'needs --root-path' in http.get('/search/').text.replace('\n', ' ')
    forged = http.get('/', headers={'host': b'x\xe2\x80\xa8y'})
    assert forged.text.isascii() and len(forged.text) < 700
    for reply in (other, click, forged):
        assert reply.headers['x-content-type-options'] == 'nosniff' and 'html' not in reply.headers['content-type']


@pytest.mark.parametrize(
    'more', [[(b'cookie', b'; '.join(b'a%d=b' % n for n in range(9000)))], [(b'x%d' % n, b'') for n in range(9000)]]
)
def test_headers_are_bounded_before_they_are_read(client, more):
    made = client(users={'ann': 'secret'}).app
    clock = time.process_time()
    status, body = get(made, '/', headers=more)
    assert status == 431 and b'cookies' in body and time.process_time() - clock < 0.2


@pytest.mark.parametrize('kept', [True, False])
def test_below_a_path_of_a_proxy_the_page_names_itself_as_browsers_see_it(client, kept):
    root = 'https://search.example/people'
    http = client(root=root, hosts=('127.0.0.1',), base='http://search.example')
    before = '/people' if kept else ''
    for path in ('/', '/config', '/theme.css'):
        assert http.get(before + path).status_code == 200, path
    assert http.get(f'{before}/config').json()['root'] == root
    body = {'fn_index': 0, 'session_hash': 's', 'data': []}
    for origin, host, status in (
        ('https://search.example', '127.0.0.1', 200),
        ('https://evil.example', '127.0.0.1', 403),
    ):
        reply = http.post(f'{before}/gradio_api/queue/join', json=body, headers={'origin': origin, 'host': host})
        assert reply.status_code == status, (origin, reply.text)
    assert http.get('/peoplex/').status_code == 404


def test_behind_tls_that_another_machine_ends_the_page_is_https(client):
    http = client(hosts=None, root='', users={'ann': 'x'}, base='http://search.example')
    http.post('/login', data={'username': 'ann', 'password': 'x'})
    for more in ({'x-forwarded-host': 'search.example'}, {}):
        config = http.get('/config', headers={'x-forwarded-proto': 'https'} | more).json()
        assert config['root'] == 'https://search.example'


def test_a_path_alone_may_be_the_root(client):
    http = client(root='/people')
    assert http.get('/config').json()['root'] == 'http://localhost/people'


def test_nobody_reads_the_answers_or_uses_the_uploads_of_another_session(client, monkeypatch):
    monkeypatch.setattr(sessions, '_WAIT', 0)
    ann, bob = (client(hosts=None, users={'ann': 'x', 'bob': 'y'}) for _ in range(2))
    ann.post('/login', data={'username': 'ann', 'password': 'x'})
    bob.post('/login', data={'username': 'bob', 'password': 'y'})
    call = {'fn_index': 0, 'data': ['a red coat'], 'session_hash': 'anns'}
    assert ann.post('/gradio_api/queue/join', json=call).status_code == 200
    assert bob.get('/gradio_api/queue/data?session_hash=anns').status_code == 404
    (path,) = ann.post('/gradio_api/upload', files={'files': ('x.png', b'x')}).json()
    file = {'path': path, 'meta': {'_type': 'gradio.FileData'}, 'url': 'http://127.0.0.1:1/'}
    call = {'fn_index': 0, 'data': ['', [file]], 'session_hash': 'bobs'}
    assert bob.post('/gradio_api/queue/join', json=call).status_code == 403
    assert ann.post('/gradio_api/queue/join', json=call | {'session_hash': 'anns'}).status_code == 200


def test_a_user_has_so_many_calls_waiting_and_no_more(client):
    page = client().app
    waiting, page._waiting = page._waiting, lambda user: bounds.Bounds().waiting
    try:
        reply = client().post('/gradio_api/queue/join', json={'fn_index': 0, 'data': [], 'session_hash': 's'})
    finally:
        page._waiting = waiting
    assert reply.status_code == 429 and 'too much at once from you' in reply.json()['detail']


def test_refused_calls_are_counted_in_one_line(client, opened):
    page = client().app
    page.tell()
    for _ in range(5):
        client().get('/nothing')
    page.tell()
    line = json.loads((pathlib.Path(opened.index.uri) / 'audit.jsonl').read_text().splitlines()[-1])
    assert (line['event'], line['statuses']) == ('calls refused', {'404': 5})
