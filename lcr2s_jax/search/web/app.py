"""The page in the browser that searches an index, for one person or for several: made, guarded and served."""

import asyncio
import collections
import hmac
import ipaddress
import os
import pathlib
import signal
import socket
import stat
import sys
import tempfile

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.files import read_text
from lcr2s_jax.search import audit, index
from lcr2s_jax.search.web import middleware as gate
from lcr2s_jax.search.web import page
from lcr2s_jax.search.web.service import Desk

_LOCAL = ('127.0.0.1', 'localhost', '::1')
_WAIT = 1.0  # seconds that a wrong password costs
_LINE = 5  # logins by one name that wait for each other


def is_local(host: str) -> bool:
    """Whether only this machine can reach a page that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def names_of(host: str) -> set[str] | None:
    """What a page that listens there may be called by; None for anything."""
    return {*_LOCAL, host} if is_local(host) else None


def serve(uri: str, host: str, port: int, auth: str | None, log: str | None) -> None:
    """Serve the page until the process is stopped.

    Args:
      uri: of the index.
      host: to listen on; anything but this machine needs `auth`.
      port: TCP.
      auth: 'user:password', or a file with one of these a line.
      log: file that the audit log goes to instead of the index.
    """
    import uvicorn

    users = read_users(auth) if auth else None
    _refuse_taken(host, port)
    with tempfile.TemporaryDirectory(prefix='lcr2s-page-') as folder:
        app = application(open_desk(uri, log), pathlib.Path(folder), names_of(host), users)
        server = uvicorn.Server(uvicorn.Config(
            app, host=host, port=port, log_level='warning', access_log=False, server_header=False,
            timeout_graceful_shutdown=2,
        ))  # fmt: skip
        shown = f'[{host}]' if ':' in host else host
        print(f'{uri}: http://{shown}:{port}/ (Ctrl-C ends it)', flush=True)
        if not is_local(host):
            print(
                'serve: found no TLS: passwords and pictures can be read on the way. Put a proxy with TLS before it, '
                f'or leave out --host and use: ssh -L {port}:localhost:{port} ...',
                file=sys.stderr,
            )
        # uvicorn ends by the signal that it got, and would leave uploads behind
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        server.run()


def application(desk, folder: pathlib.Path, hosts, users: dict[str, str] | None):
    """The page as an ASGI application behind its `gate.Gate`.

    Args:
      desk: `lcr2s_jax.search.web.service.Desk`.
      folder: empty; uploads pass through it.
      hosts: names that the page answers to; None for any.
      users: name -> password; None where nobody has to log in.
    """
    # before gradio is imported, which reads them then
    os.environ |= {'GRADIO_ANALYTICS_ENABLED': 'False', 'HF_HUB_DISABLE_TELEMETRY': '1', 'HF_HUB_OFFLINE': '1'}
    os.environ['GRADIO_TEMP_DIR'] = str(folder.resolve())
    import fastapi
    import gradio

    inner = gradio.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.page(desk, audit.user()),
        path='/',
        auth=_login(desk, users) if users else None,
        allowed_paths=[],
        show_error=False,  # of what is no UserError the page tells nothing
        max_file_size=desk.limits.bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=page.theme(),
        css=page.css(),
    )
    return gate.Gate(inner, hosts, folder, desk.limits.bytes * desk.limits.count + (1 << 20))


def open_desk(uri: str, log: str | None = None):
    """The `lcr2s_jax.search.web.service.Desk` of an index."""
    search = index.open_search(uri)
    search.load()

    def embed(encoded: bytes, name: str):
        return index.embed_picture(search.searcher, encoded, name)

    return Desk(search, embed, index.add_files, str(pathlib.Path(log).resolve()) if log else audit.NAME)


def read_users(auth: str) -> dict[str, str]:
    """name -> password, of 'name:password' or of a file with such lines. Raises ConfigError, without a password."""
    path = pathlib.Path(auth)
    if path.is_file():
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f'--auth: others can read {auth}; expected a file of yours alone: chmod 600 {auth}')
        lines = [line for line in read_text(path, '--auth').split('\n') if line.strip()]
    else:
        lines = [auth]
    users = dict(line.strip().split(':', 1) for line in lines if ':' in line)
    if len(users) < len(lines) or not lines or not all(name and password for name, password in users.items()):
        raise ConfigError(
            '--auth: found neither user:password nor a file of such lines, a user a line, none twice and none empty. A '
            'file is better: other users of this machine can read a command line.'
        )
    return users


def _login(desk, users: dict[str, str]):
    """(name, password) -> whether they are a user's, one after the other for each name, a second a wrong one.

    A line for each name, and one for all that are nobody's: who floods one user's keeps out that user alone. It is
    short, and who finds it full is turned away unread and unlogged, or a flood would be slowed down by nothing.
    """
    lines, waiting = {name: asyncio.Lock() for name in (*users, None)}, collections.Counter()

    async def accepted(name: str, password: str) -> bool:
        line = name if name in users else None
        if waiting[line] >= _LINE:
            return False
        waiting[line] += 1
        try:
            async with lines[line]:
                right = line is not None and hmac.compare_digest(users[name].encode(), password.encode())
                desk.login(name, right)
                if not right:
                    await asyncio.sleep(_WAIT)
                return right
        finally:
            waiting[line] -= 1

    return accepted


def _refuse_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f'--host, --port: cannot listen on {host}:{port} ({error.strerror}); another --port?'
            ) from None
