"""What the page's server answers by itself: why a call is refused, the form to log in, headers of all that it sends."""

import html
import json

CLOSING = (408, 411, 413)  # after these the connection ends: a body is late, or no more of it is read
_STATUS = {
    400: 'the call cannot be read. Reload the page in the browser and try again.',
    401: 'log in first: open the page in the browser.',
    404: 'there is no such page. The search is at the address that `serve` printed; below a path of a proxy it needs '
    '--root-path (docs/serve.md).',
    405: 'this address takes another method.',
    408: 'the call took too long to arrive. Try again, over a faster line or with fewer pictures.',
    411: 'expected a call that tells its length (Content-Length) and comes in one piece; a proxy that passes bodies on '
    'in chunks must buffer them (docs/serve.md).',
    413: 'the call is too large. Send fewer or smaller pictures at once.',
    429: 'too much at once from you. Wait for what is under way, then try again.',
    431: 'the headers of the call are too large. Delete the cookies of this address, then try again.',
    500: 'something went wrong here; the log of the server tells what.',
    503: 'too much is under way here. Try again in a minute.',
}
_HOST = (
    'found the name {host!r} in the header Host, expected {names}. To reach the page by another name start it with '
    '--host and --auth, or behind a proxy with --root-path=https://NAME/PATH (docs/serve.md).'
)
_ORIGIN = (
    "found a call from the page {origin!r} to the name {host!r}: a website may not use this page. If it is a proxy's "
    'name, have the proxy pass on the header Host, or start with --root-path={origin} (docs/serve.md).'
)
_LOGIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">{refresh}<title>Person search</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 12vh auto; max-width: 20rem; padding: 0 1rem;
  color: #1b1f24; background: #fff; }}
label {{ display: block; margin: 0 0 .9rem; }}
input, button {{ font: inherit; box-sizing: border-box; width: 100%; min-height: 44px; padding: 0 .7rem;
  border: 1px solid #6b7280; border-radius: 6px; color: inherit; background: transparent; }}
button {{ color: #fff; background: #1d4ed8; border-color: #1d4ed8; font-weight: 600; }}
:focus-visible {{ outline: 3px solid #60a5fa; outline-offset: 2px; }}
[role=alert] {{ color: #b42318; }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e6e8eb; background: #16181d; }} [role=alert] {{ color: #ffb4a8; }} }}
</style></head><body><main><h1>Person search</h1>{body}</main></body></html>
"""
_FORM = """{told}<form method="post" action="login">
<label>Name<input name="username" autocomplete="username" autocapitalize="none" required autofocus></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button></form>"""
# policies are the browser's own guard; the form needs no script
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
# should a name ever get through as markup; gradio's page has inline scripts and templates
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    'content-security-policy': _PAGE_POLICY,
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
}
_UNKEPT = {'cache-control': 'no-store'}  # pictures of people do not stay in a browser's cache; gradio's own files may


def why(status: int, **found: str) -> str:
    """A sentence for a status, with what was found in a call; of that no more than its beginning, in ASCII."""
    known = {421: _HOST, 403: _ORIGIN if 'origin' in found else 'a file that this page did not take from you just now.'}
    short = {name: value.encode('ascii', 'backslashreplace').decode()[:200] for name, value in found.items()}
    return 'Refused: ' + known.get(status, _STATUS.get(status, _STATUS[400])).format(**short)


async def refuse(send, status: int, text: str, as_json: bool) -> None:
    """Answer a call with a sentence; as JSON where gradio's page shows it."""
    kind = 'application/json' if as_json else 'text/plain; charset=utf-8'
    content = json.dumps({'detail': text}) if as_json else text + '\n'
    await answer(send, status, content.encode(), kind)


async def login_page(send, status: int, told: str = '', more=()) -> None:
    """The form to log in; with status 200 and a cookie in `more` the way into the page."""
    said = f'<p role="alert">{html.escape(told)}</p>' if told else ''
    inside = any(name == b'set-cookie' for name, _ in more)
    body = '<p>You are in. <a href="./">Go to the search</a></p>' if inside else _FORM.format(told=said)
    refresh = '<meta http-equiv="refresh" content="0;url=./">' if inside else ''
    page = _LOGIN.format(refresh=refresh, body=body)
    policy = (b'content-security-policy', _POLICY.encode())
    await answer(send, status, page.encode(), 'text/html; charset=utf-8', [policy, *more])


async def answer(send, status: int, body: bytes, kind: str, more=()) -> None:
    """Send a whole reply, which no browser keeps."""
    headers = [
        (b'content-type', kind.encode()),
        (b'content-length', str(len(body)).encode()),
        (b'cache-control', b'no-store'),
        (b'x-content-type-options', b'nosniff'),
        (b'referrer-policy', b'no-referrer'),
        *([(b'connection', b'close')] if status in CLOSING else []),
        *more,
    ]
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': body})


def with_headers(send, path: str):
    """A `send` of gradio's page under the headers that guard it."""
    added = _HEADERS if path.startswith('/assets/') else _HEADERS | _UNKEPT

    async def sent(message):
        if message['type'] == 'http.response.start':
            own = [pair for pair in message.get('headers', []) if pair[0].decode('latin-1').lower() not in added]
            more = [(name.encode(), value.encode()) for name, value in added.items()]
            message = message | {'headers': own + more}
        await send(message)

    return sent
