"""What stands before the page: its own addresses and origin only, login first, a bound for all that a call can take.

An ASGI application around another; it needs no library. Each bound and its reason is in docs/serve.md.
"""

import asyncio
import collections
import contextlib
import io
import itertools
import json
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Collection
from urllib.parse import parse_qs, urlsplit

from lcr2s_jax.search.web import bounds, refusals, sessions

_EXACT = ('/', '/config', '/favicon.ico', '/manifest.json', '/robots.txt', '/theme.css')
_BELOW = ('/assets/', '/static/')
_API = '/gradio_api/'
_JOIN, _DATA, _UPLOAD = f'{_API}queue/join', f'{_API}queue/data', f'{_API}upload'
_PROGRESS, _HEARTBEAT = f'{_API}upload_progress', f'{_API}heartbeat/'
_FIELDS = ('data', 'fn_index', 'session_hash', 'event_data', 'trigger_id')  # of a call
_FILE = ('path', 'orig_name', 'size', 'mime_type', 'meta')  # of a file in it; no url, which gradio would fetch
_TAB = re.compile(r'[0-9a-zA-Z_-]{1,40}')


class Middleware:
    """Let through what the page, an ASGI application, needs.

    Args:
      hosts: names that the page may be called by; None for any. A page on localhost that answers to any name can be
        read by every website whose name an attacker points there.
      room: where uploads lie.
      people: who may log in; None where nobody has to.
      root: path, or URL with a path, that a proxy has the page below; '' without.
      waiting: user -> how many calls of hers wait or run.
      forget: told the name of a page that is closed, or pushed out by others.
      told: status -> how many calls were refused with it, once a minute at most.
      fits: whether the page has what a call asks for; gradio would fail with a traceback.
    """

    def __init__(
        self,
        app,
        hosts: Collection[str] | None,
        room: bounds.Room,
        limits: bounds.Bounds,
        people: sessions.Sessions | None = None,
        root: str = '',
        waiting: Callable[[str], int] = lambda user: 0,
        forget: Callable[[str], None] = lambda tab: None,
        told: Callable[[dict[int, int]], None] = lambda refused: None,
        fits: Callable[[dict], bool] = lambda call: True,
    ):
        self.app, self._room, self._limits, self._people = app, room, limits, people
        self._waiting, self._forget, self._told, self._fits = waiting, forget, told, fits
        self._root = _parts(root)
        own = {self._root.hostname} if self._root.hostname else set()
        self._hosts = None if hosts is None else {*hosts, *own}
        self._alone = sessions.Session('')
        self._logins = bounds.Newest(limits.logins, limits.logins)
        self._streams = bounds.Newest(*limits.streams)
        self._refused: collections.Counter = collections.Counter()
        self._taking_apart = asyncio.Semaphore(1)  # one upload that has come whole: it costs the loop of all calls

    async def __call__(self, scope, receive, send):
        if scope['type'] == 'lifespan':
            return await self.app(scope, receive, send)
        if scope['type'] != 'http':
            return await send({'type': 'websocket.close', 'code': 1008})
        headers = {name.decode('latin-1').lower(): value.decode('latin-1') for name, value in scope['headers']}
        path = self._below(scope['path'])
        try:
            if sum(map(len, itertools.chain(*scope['headers']))) > self._limits.headers:
                raise _Refused(431)
            self._check(scope['method'], path, headers)
            scope = scope | {'path': path, 'raw_path': path.encode(), 'root_path': ''}
            await self._route(scope, headers, receive, send)
        except _Refused as refused:
            self._count(refused.status)
            if refused.status in refusals.CLOSING:
                await bounds.drain(receive)
            await refusals.refuse(send, refused.status, refused.text, path.startswith(_API))
        except bounds.Late as late:
            self._count(late.status)
            await refusals.refuse(send, late.status, refusals.why(late.status), path.startswith(_API))
        except Exception as error:
            if traceback.extract_tb(error.__traceback__)[-1].filename in (__file__, refusals.__file__):
                raise
            self._count(500)  # gradio could not read it, and has said so

    def _below(self, path: str) -> str:
        """A path without the one that a proxy may have left before it."""
        root = self._root.path.rstrip('/')
        return path[len(root) :] or '/' if root and (path + '/').startswith(root + '/') else path

    def _check(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Raise for what needs no look at who calls."""
        host = headers.get('host', '')
        if self._hosts is not None and _parts(f'//{host}').hostname not in self._hosts:
            raise _Refused(421, host=host, names=' or '.join(sorted(self._hosts)))
        if 'origin' in headers:
            # a website can set none of these headers of a browser that visits it, but for its own Origin
            names = {host, headers.get('x-forwarded-host', host), self._root.netloc or host}
            if _parts(headers['origin']).netloc not in names:
                raise _Refused(403, origin=headers['origin'], host=host)
        own = path in (_JOIN, _DATA, _UPLOAD, _PROGRESS, '/login', '/logout') or path.startswith(_HEARTBEAT)
        odd = any(sign in path for sign in ('..', '//', '\\'))
        if odd or not (own or path in _EXACT or path.startswith(_BELOW)):
            raise _Refused(404)
        if 'transfer-encoding' in headers:  # then the length that is told counts for nothing
            raise _Refused(411)
        if method not in (('POST',) if path in (_JOIN, _UPLOAD) else ('GET', 'HEAD', 'POST') if path == '/login' else
                          ('GET', 'HEAD')):  # fmt: skip
            raise _Refused(405)
        if method == 'POST':
            length = headers.get('content-length', '')
            if not (length.isascii() and length.isdigit()):
                raise _Refused(411)
            limits = {_UPLOAD: self._limits.upload, '/login': self._limits.login}
            if len(length) > 12 or int(length) > limits.get(path, self._limits.call):
                raise _Refused(413)

    async def _route(self, scope, headers: dict[str, str], receive, send) -> None:
        path, found = scope['path'], None
        if self._people:
            lines = [value.decode('latin-1') for name, value in scope['headers'] if name.lower() == b'cookie']
            found = self._people.of('; '.join(lines))
        if path in ('/login', '/logout'):
            return await self._come_or_go(scope, headers, found, receive, send)
        if self._people and not found:
            if path == '/':
                return await refusals.login_page(send, 200)
            raise _Refused(401)
        token, session = found or ('', self._alone)
        scope = scope | {'lcr2s_user': session.user}
        if path == _JOIN:
            await self._join(scope, session, receive, send)
        elif path == _UPLOAD:
            await self._upload(scope, session, headers, receive, send)
        elif path == _PROGRESS:  # gradio would keep a record of each for good
            await refusals.answer(send, 200, b'data: {"msg": "done"}\n\n', 'text/event-stream')
        elif path == _DATA or path.startswith(_HEARTBEAT):
            await self._stream(scope, (token, session), receive, send)
        else:
            await self.app(scope, receive, refusals.with_headers(send, path))

    async def _come_or_go(self, scope, headers: dict[str, str], found, receive, send) -> None:
        secure = 'https' in (scope.get('scheme'), headers.get('x-forwarded-proto'), self._root.scheme)
        if scope['path'] == '/logout':
            for tab in self._people.end(found[0]) if found else ():
                self._forget(tab)
            ended = (b'set-cookie', sessions.cookie('', secure).encode())
            return await refusals.answer(send, 303, b'', 'text/plain', [(b'location', b'./'), ended])
        if not self._people:
            return await refusals.answer(send, 303, b'', 'text/plain', [(b'location', b'./')])
        if scope['method'] != 'POST':
            return await refusals.login_page(send, 200)
        content: list[bytes] = []

        async def read():
            content.append(await bounds.body(receive, self._limits.login, self._limits.arrive))

        if not await self._logins.run('', read()):
            raise _Refused(503)
        fields = _fields(content[0].decode('utf-8', 'replace'))
        name, password = (fields.get(key, [''])[0] for key in ('username', 'password'))
        came = await self._people.login(name.strip(), password)
        if came is None:
            self._count(400)
            return await refusals.login_page(send, 400, 'This name and password are not known here. Try again.')
        for tab in came[1]:
            self._forget(tab)
        await refusals.login_page(send, 200, more=[(b'set-cookie', sessions.cookie(came[0], secure).encode())])

    async def _join(self, scope, session: sessions.Session, receive, send) -> None:
        content = await bounds.body(receive, self._limits.call, self._limits.arrive)
        try:
            call = json.loads(content, object_hook=lambda one: self._file(session.user, one))
            call = {name: call[name] for name in _FIELDS if name in call}
            # no reader finds another call in it than was checked; half a character, of an emoji say, becomes a ?
            again = json.dumps(call, allow_nan=False, ensure_ascii=False).encode(errors='replace')
            tab = _TAB.fullmatch(str(call['session_hash']))[0]
        except _Refused:
            raise
        except (ValueError, RecursionError, KeyError, TypeError):  # TypeError: no object, or no name
            raise _Refused(403 if not content.startswith(b'{"') else 400) from None
        if not self._fits(call):
            raise _Refused(400)
        if self._waiting(session.user) >= self._limits.waiting:
            raise _Refused(429)
        for old in session.tab(tab):
            self._forget(old)
        headers = [pair for pair in scope['headers'] if pair[0].lower() != b'content-length']
        headers = bounds.with_type(headers, b'application/json') + [(b'content-length', str(len(again)).encode())]
        receive = bounds.replay(io.BytesIO(again), receive)
        await self.app(scope | {'headers': headers}, receive, refusals.with_headers(send, scope['path']))

    def _file(self, user: str, one: dict) -> dict:
        """Refuse a file that the user has not uploaded, or one of another host, which gradio would fetch."""
        if 'path' not in one:
            return one
        if not isinstance(one['path'], str) or not self._room.owns(user, one['path']):
            raise _Refused(403)
        return {name: one[name] for name in _FILE if name in one}

    async def _stream(self, scope, who: tuple[str, sessions.Session], receive, send) -> None:
        token, session = who
        path, query = scope['path'], _fields(scope['query_string'].decode('latin-1'))
        tab = path.removeprefix(_HEARTBEAT) if path != _DATA else query.get('session_hash', [''])[0]
        if not _TAB.fullmatch(tab) or (path == _DATA and tab not in session.tabs):
            raise _Refused(404)
        begun = False

        async def noted(message):
            nonlocal begun
            begun = begun or message['type'] == 'http.response.start'
            await send(message)

        if not await self._streams.run(token, self.app(scope, receive, refusals.with_headers(noted, path))) and begun:
            await send({'type': 'http.response.body', 'body': b''})
        elif not begun:
            raise _Refused(503)

    async def _upload(self, scope, session: sessions.Session, headers: dict[str, str], receive, send) -> None:
        boundary = bounds.BOUNDARY.fullmatch(headers.get('content-type', ''))
        if not boundary:
            raise _Refused(400)
        count, user, taken, paths = int(headers['content-length']), session.user, b'', []
        reserved = 2 * count  # as it comes, and as gradio keeps it
        if status := await asyncio.to_thread(self._room.take, user, reserved):
            raise _Refused(status)

        async def noted(message):
            nonlocal taken
            taken += message.get('body', b'')
            await send(message)

        try:
            with tempfile.TemporaryFile(dir=self._room.folder) as file:
                await bounds.spool(receive, file, count, self._limits.upload_arrives)
                between = b'--' + boundary[1].encode('latin-1')
                if await asyncio.to_thread(bounds.occurrences, file, between) > self._limits.parts + 1:
                    raise _Refused(413)
                kind = f'multipart/form-data; boundary={boundary[1]}'.encode()
                scope = scope | {'query_string': b'', 'headers': bounds.with_type(scope['headers'], kind)}
                async with self._taking_apart:
                    await self.app(scope, bounds.replay(file, receive), refusals.with_headers(noted, scope['path']))
            paths = _listed(taken)
        finally:
            self._room.give(user, reserved, paths)

    def _count(self, status: int) -> None:
        """One line a minute tells how many were refused: a line each would let strangers fill the disk."""
        if not self._refused:
            asyncio.get_running_loop().call_later(60, self.tell)
        self._refused[status] += 1

    def tell(self) -> None:
        """Write down what was refused since the last time."""
        refused, self._refused = dict(self._refused), collections.Counter()
        if refused:
            self._told(refused)


class _Refused(Exception):
    def __init__(self, status: int, **found: str):
        self.status, self.text = status, refusals.why(status, **found)


def _fields(text: str) -> dict[str, list[str]]:
    with contextlib.suppress(ValueError):  # more
        return parse_qs(text, max_num_fields=8)
    raise _Refused(400)


def _listed(reply: bytes) -> list[str]:
    """The paths that gradio has given to uploaded files."""
    with contextlib.suppress(ValueError, TypeError):  # it refused them
        return [os.path.realpath(path) for path in json.loads(reply) if isinstance(path, str)]
    return []


def _parts(url: str):
    try:
        found = urlsplit(url)
        return found if found.hostname or not url.startswith('//') else urlsplit('')
    except ValueError:  # of brackets that are no address
        return urlsplit('')
