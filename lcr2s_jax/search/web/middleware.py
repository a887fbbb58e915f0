"""What stands before the page: its own addresses and origin only, no file of the disk, nothing from elsewhere.

An ASGI application around another; it needs no library.
"""

import json
import pathlib
from collections.abc import Collection
from urllib.parse import urlsplit

# what the page fetches of gradio's; its file and proxy routes are not among them, nor is its API
_EXACT = ('/', '/config', '/favicon.ico', '/login', '/logout', '/manifest.json', '/robots.txt', '/theme.css')
_BELOW = ('/assets/', '/static/', '/gradio_api/heartbeat/', '/gradio_api/queue/', '/gradio_api/upload')
_JSON = 1 << 20  # bytes of a call
# the browser's own guard, should a name ever get through as markup; gradio's page has inline scripts and templates
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    'content-security-policy': _POLICY,
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
}
_UNKEPT = {'cache-control': 'no-store'}  # pictures of people do not stay in a browser's cache; gradio's own files may


class Gate:
    """Let through what the page needs.

    Args:
      app: ASGI.
      hosts: names that the page may be called by; None for any. A page on localhost that answers to any name can be
        read by every website whose name an attacker points there.
      folder: where uploads arrive; a call that names another file is refused.
      most: bytes of one upload request.
    """

    def __init__(self, app, hosts: Collection[str] | None, folder: pathlib.Path, most: int):
        self.app, self._hosts, self._folder, self._most = app, hosts, str(folder.resolve()) + '/', most

    async def __call__(self, scope, receive, send):
        if scope['type'] == 'lifespan':
            return await self.app(scope, receive, send)
        if scope['type'] != 'http':
            return await send({'type': 'websocket.close', 'code': 1008})
        headers = {name.decode('latin-1'): value.decode('latin-1') for name, value in scope['headers']}
        status, body = self._refusal(scope['method'], scope['path'], headers), None
        if not status and scope['method'] == 'POST' and scope['path'].startswith('/gradio_api/queue/'):
            body = await _whole(receive, _JSON)
            status = 413 if body is None else 403 * self._foreign(body)
        if status:
            return await _refuse(send, status)
        await self.app(scope, receive if body is None else _again(body, receive), _with_headers(send, scope['path']))

    def _refusal(self, method: str, path: str, headers: dict[str, str]) -> int:
        """A status, or 0."""
        host = headers.get('host', '')
        if self._hosts is not None and _parts(f'//{host}').hostname not in self._hosts:
            return 421
        if 'origin' in headers and _parts(headers['origin']).netloc != host:
            return 403
        if path.rstrip('/') not in _EXACT and path != '/' and not path.startswith(_BELOW):
            return 404
        if '..' in path or '//' in path or '\\' in path:
            return 404
        if 'transfer-encoding' in headers:  # then the length that is told counts for nothing
            return 411
        if method == 'POST':
            length = headers.get('content-length', '')
            if not length.isdigit():
                return 411
            if int(length) > (self._most if path.startswith('/gradio_api/upload') else _JSON):
                return 413
        return 0

    def _foreign(self, body: bytes) -> bool:
        """Whether a call names a file that was not uploaded, or one of another host, which gradio would fetch."""
        named: list[str] = []
        try:
            json.loads(body, object_hook=lambda one: named.append(str(one['path'])) if 'path' in one else None)
        except (ValueError, RecursionError):
            return True
        return any('..' in path or not path.startswith(self._folder) for path in named)


def _parts(url: str):
    try:
        return urlsplit(url)
    except ValueError:  # of brackets that are no address
        return urlsplit('')


async def _whole(receive, most: int) -> bytes | None:
    """The body of a request; None where it is longer than `most`."""
    body, more = b'', True
    while more:
        message = await receive()
        body, more = body + message.get('body', b''), message.get('more_body', False)
        if len(body) > most:
            return None
    return body


def _again(body: bytes, receive):
    """A `receive` that gives the body that was read, then goes on."""
    waiting = [{'type': 'http.request', 'body': body, 'more_body': False}]

    async def replay():
        return waiting.pop() if waiting else await receive()

    return replay


def _with_headers(send, path: str):
    added = _HEADERS if path.startswith('/assets/') else _HEADERS | _UNKEPT

    async def sent(message):
        if message['type'] == 'http.response.start':
            own = [pair for pair in message.get('headers', []) if pair[0].decode('latin-1').lower() not in added]
            more = [(name.encode(), value.encode()) for name, value in added.items()]
            message = message | {'headers': own + more}
        await send(message)

    return sent


async def _refuse(send, status: int) -> None:
    await send({'type': 'http.response.start', 'status': status, 'headers': [(b'content-length', b'0')]})
    await send({'type': 'http.response.body', 'body': b''})
