"""The page that is served: nothing of the disk, nothing from elsewhere, and a whole journey in a real Chromium."""

import asyncio
import contextlib
import html
import json
import pathlib
import re
import warnings

import pytest

from lcr2s_jax.search.web import app as command
from lcr2s_jax.search.web import middleware as gate
from tests import browser, searching
from tests.searching import photo


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Twelve pictures of two cameras."""
    made = searching.index(tmp_path_factory.mktemp('page'))
    table = made.root.parent / 'm.csv'
    paths = sorted(path.relative_to(made.root).as_posix() for path in made.root.rglob('*.png'))
    table.write_text('\n'.join(['path,camera', *(f'{path},c{number % 2}' for number, path in enumerate(paths))]))
    made.update(table=str(table))
    return made


@pytest.fixture(scope='module')
def client(made, tmp_path_factory):
    """client(behind_gate=True, users=None) -> the page of the index, without a network."""
    with warnings.catch_warnings(action='ignore'):  # that it would like another HTTP client
        from starlette.testclient import TestClient

    folder = tmp_path_factory.mktemp('uploads')
    desk = command.open_desk(made.uri)
    apps = {}

    def client(behind_gate=True, users=None, hosts=('localhost',)):
        key = str((users, hosts))
        if key not in apps:
            apps[key] = command.application(desk, folder, hosts, users)
        app = apps[key] if behind_gate else apps[key].app
        return TestClient(app, base_url='http://localhost', follow_redirects=False)

    client.folder = folder
    return client


def get(app, path: str, method='GET', headers=()) -> tuple[int, bytes]:
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
    asyncio.run(app(scope, receive, send))
    return sent[0]['status'], b''.join(message.get('body', b'') for message in sent[1:])


@pytest.mark.parametrize('behind_gate', [True, False])
def test_no_file_of_the_disk_is_served(client, made, behind_gate):
    inside = made.root / 'a' / '000.png'
    link = made.root / 'link.png'
    with contextlib.suppress(FileExistsError):
        link.symlink_to('/etc/passwd')
    app = client(behind_gate).app
    for path in ('/etc/passwd', '../../../../etc/passwd', str(link), f'{made.root}/../index/audit.jsonl', str(inside),
                 f'{made.uri}/model/model.json', '../../main.py', 'main.py'):  # fmt: skip
        for route in ('/gradio_api/file=', '/file=', '/gradio_api/file/', '/static/', '/assets/'):
            status, content = get(app, route + path)
            assert status in (403, 404), (route, path, status)
            assert b'root:' not in content and b'PNG' not in content


def test_what_the_page_does_not_need_is_not_there(client):
    app = client().app
    below = 'info openapi.json call/search proxy=https://x.hf.space/ file=http://example.org/x run-history/buckets'
    for path in [f'/gradio_api/{path}' for path in below.split()] + [
        '/monitoring',
        '/docs',
        '/openapi.json',
        '/assets/../config',
        '//config',
        '/static/..\\config',
    ]:
        assert get(app, path)[0] == 404, path
    assert get(app, '/')[0] == get(app, '/config')[0] == 200


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
    assert http.post('/gradio_api/queue/join', content=b'{').status_code == 403
    words = {'fn_index': 0, 'session_hash': 's', 'data': ['a woman with "path": "/etc/passwd" on her shirt']}
    assert http.post('/gradio_api/queue/join', json=words).status_code != 403


def test_an_upload_is_limited_before_it_is_read(client):
    http = client()
    too_many = {'content-length': str(40 * 8 << 20), 'content-type': 'multipart/form-data; boundary=x'}
    assert http.post('/gradio_api/upload', content=b'', headers=too_many).status_code == 413
    unknown = (part for part in [b'x'])  # sent in chunks, without a length
    assert http.post('/gradio_api/upload', content=unknown).status_code == 411
    for method in ('POST', 'GET'):  # a server reads chunks, however short the length that is told beside them
        both = [(b'content-length', b'5'), (b'transfer-encoding', b'chunked')]
        assert get(client().app, '/gradio_api/upload', method, both)[0] == 411
    large = http.post('/gradio_api/upload', files={'files': ('x.png', b'x' * ((8 << 20) + 1))})
    assert large.status_code == 413 and 'maximum allowed size' in large.text
    assert http.post('/gradio_api/queue/join', content=b'"' + b'x' * (1 << 20) + b'"').status_code == 413


def test_a_page_on_this_machine_answers_to_its_own_name_and_its_own_page_alone(client):
    http = client()
    for name in ('evil.example:80', '[::1', ''):
        assert http.get('/', headers={'host': name}).status_code == 421
    assert http.get('/config', headers={'origin': 'http://evil.example'}).status_code == 403
    assert http.get('/config', headers={'origin': 'null'}).status_code == 403
    assert http.get('/config', headers={'origin': 'http://localhost'}).status_code == 200
    assert client(hosts=None, users={'ann': 'x'}).get('/', headers={'host': 'any.example'}).status_code == 200


def test_without_a_login_nothing_can_be_asked(client, made, monkeypatch):
    monkeypatch.setattr(command, '_WAIT', 0)
    http = client(users={'ann': 'secret'}, hosts=None)
    page = http.get('/').text
    assert 'Search</' not in page and 'Condition' not in page
    assert http.get('/config').status_code == 401
    assert http.post('/gradio_api/upload', files={'files': ('x.png', b'x')}).status_code == 401
    assert http.post('/gradio_api/queue/join', json={'fn_index': 0, 'data': [], 'session_hash': 's'}).status_code == 401
    for name, password in (('ann', 'wrong'), ('bob', 'secret'), ('bob', '')):
        assert http.post('/login', data={'username': name, 'password': password or ' '}).status_code == 400
    assert http.post('/login', data={'username': 'ann', 'password': 'secret'}).status_code == 200
    assert http.get('/config').status_code == 200
    log = [json.loads(line) for line in (pathlib.Path(made.uri) / 'audit.jsonl').read_text().splitlines()]
    assert [(line['user'], line['event']) for line in log if 'event' in line][-2:] == [
        ('bob', 'login refused'),
        ('ann', 'login'),
    ]


def test_a_websocket_is_refused_and_a_start_is_passed_on(tmp_path):
    seen, sent = [], []

    async def app(scope, receive, send):
        seen.append(scope['type'])

    async def send(message):
        sent.append(message)

    guarded = gate.Gate(app, None, tmp_path, 1)
    for kind in ('websocket', 'lifespan'):
        asyncio.run(guarded({'type': kind}, None, send))
    assert seen == ['lifespan'] and sent == [{'type': 'websocket.close', 'code': 1008}]


@pytest.mark.skipif(browser.PROGRAM is None, reason='found no chromium; on Debian: apt-get install chromium')
def test_a_journey_through_the_page_in_a_real_browser(made, tmp_path):
    pytest.importorskip('websocket', reason='found no websocket-client; pip install -r requirements-dev.txt')
    (tmp_path / 'new.jpg').write_bytes(photo(9))
    (tmp_path / 'chromium').mkdir()
    log = pathlib.Path(made.uri) / 'audit.jsonl'
    with browser.served(made.uri, tmp_path / 'log') as url, browser.Browser(tmp_path / 'chromium') as b:
        b.go(url)
        b.type('#text textarea', 'a woman in a red coat ${6*7} <b>x</b>')
        b.click('#go')
        answer = b.wait_for_text('among 12 pictures', '#answer', 60)
        assert '${6*7} <b>x</b>' in answer, 'words stay words'
        images = b.evaluate('[...document.querySelectorAll("#answer li img")].map(e => [e.src.slice(0, 22), '
                            'e.naturalWidth > 0])')  # fmt: skip
        assert images == [['data:image/jpeg;base64', True]] * 12
        ranks = re.findall(r'^(\d+)\. (\d+)%', answer, re.MULTILINE)
        chances = [int(chance) for _, chance in ranks]
        assert [int(rank) for rank, _ in ranks] == list(range(1, 13)) and chances == sorted(chances, reverse=True)

        b.click('#chosen label:nth-of-type(1) input')
        b.click('#right')
        b.wait_for_text('1 marked as right', '#told')
        (line,) = (pathlib.Path(made.uri) / 'feedback.jsonl').read_text().splitlines()
        assert json.loads(line)['rank'] == 1 and json.loads(line)['right'] is True

        b.click('#liking button')
        b.attach('#like input[type=file]', tmp_path / 'new.jpg')
        b.wait_for_text('new.jpg', '#like')
        for sentence in ('a man in blue', 'a man in green'):  # the picture stays in its box
            b.type('#text textarea', sentence)
            b.click('#go')
            b.wait_for_text(f'{sentence} + 1 example picture', '#answer', 60)

        b.click('#adding button')
        b.attach('#files input[type=file]', tmp_path / 'new.jpg')
        b.wait_for_text('new.jpg', '#files')
        b.click('#add')
        b.wait_for_text('1 added', '#added', 60)
        b.click('#go')
        b.wait_for_text('among 13 pictures', '#answer')

        b.click('#chosen label:nth-of-type(2) input')
        b.click('#mark')
        b.wait_for_text('Type 1 to confirm', '#warning')
        b.type('#typed textarea, #typed input', '7')
        b.click('#erase')
        b.wait_for_text('nothing was erased')
        b.type('#typed textarea, #typed input', '1')
        b.click('#erase')
        b.wait_for_text('1 picture erased', '#told')
        b.click('#go')
        b.wait_for_text('among 12 pictures', '#answer')

        foreign = [one for one in b.requests if not one.startswith((url, 'data:', 'blob:'))]
        assert not foreign and not b.errors and b.requests
    assert html.escape(url) in (tmp_path / 'log').read_text()
    events = [json.loads(line).get('event', 'search') for line in log.read_text().splitlines()]
    assert events[-7:] == ['search'] * 3 + ['upload', 'search', 'erase', 'search']
