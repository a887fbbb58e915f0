"""The page in the browser that searches an index, for one person or for several: made, guarded and served."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import pathlib
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from lcr2s_jax import locks
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.search import audit, index, tables
from lcr2s_jax.search.web import bounds, middleware, page, sessions, style
from lcr2s_jax.search.web.decoding import Decoders
from lcr2s_jax.search.web.service import Service
from lcr2s_jax.texts import read_text

_LOCAL = ('127.0.0.1', 'localhost', '::1')
_CONNECTIONS = 512  # at once; half of the files that a process may have open on most systems
_SPARE = 16  # of these, for connections that are being closed and still count
_HEADERS_ARRIVE = 10.0  # seconds
_REST = 5  # seconds that a connection is kept between two calls
_QUEUE = 48  # calls that wait or run, of all users
_TABS = 256  # pages whose answers are kept
_PASSING = 'lcr2s-page-'  # folders that uploads pass through


def is_local(host: str) -> bool:
    """Whether only this machine can reach a page that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def names_of(host: str) -> set[str] | None:
    """What a page that listens there may be called by; None for anything."""
    return {*_LOCAL, host} if is_local(host) else None


def serve(uri: str, host: str, port: int, auth: str | None, log: str | None, root_path: str = '') -> None:
    """Serve the page until the process is stopped; the arguments are those of `lcr2s serve`, see its --help."""
    import uvicorn

    users = read_users(auth) if auth else None
    root = check_root(root_path)
    _refuse_taken(host, port)
    with passing_folder() as folder, contextlib.closing(open_service(uri, log)) as service:
        app = application(service, folder, names_of(host), users, root)
        server = uvicorn.Server(uvicorn.Config(
            app, host=host, port=port, log_level='warning', access_log=False, server_header=False, http=_protocol(),
            timeout_graceful_shutdown=2, timeout_keep_alive=_REST, limit_concurrency=_CONNECTIONS, proxy_headers=False,
        ))  # fmt: skip
        shown = f'[{host}]' if ':' in host else host
        print(f'{uri}: http://{shown}:{port}/ (Ctrl-C ends it)', flush=True)
        if not is_local(host) and urlsplit(root).scheme != 'https':
            print(
                'serve: found no TLS: passwords and pictures can be read on the way. Put a proxy with TLS before it '
                '(docs/serve.md) and say so by --root-path=https://NAME, '
                f'or leave out --host and use: ssh -L {port}:localhost:{port} ...',
                file=sys.stderr,
            )
        server.run()  # a signal ends it, and is raised again then: uploads go


@contextlib.contextmanager
def passing_folder() -> Iterator[pathlib.Path]:
    """An empty folder that uploads pass through; what is left by a page that was killed, pictures of people, goes."""
    for lock in pathlib.Path(tempfile.gettempdir()).glob(f'{_PASSING}*/.lock'):
        with contextlib.suppress(OSError):  # a page is at work there
            if lock.lstat().st_uid == os.getuid() and not lock.parent.is_symlink():
                with locks.alone(lock, locks.refuse):
                    shutil.rmtree(lock.parent)
    with tempfile.TemporaryDirectory(prefix=_PASSING) as made, locks.alone(pathlib.Path(made) / '.lock', locks.refuse):
        folder = pathlib.Path(made) / 'uploads'
        folder.mkdir(mode=0o700)
        yield folder


def application(service: Service, folder: pathlib.Path, hosts, users: dict[str, str] | None, root: str = ''):
    """The page as an ASGI application behind its `middleware.Middleware`.

    Args:
      folder: empty; uploads pass through it.
      hosts: names that the page answers to; None for any.
      users: name -> password; None where nobody has to log in.
      root: as checked by `check_root`.
    """
    # before gradio is imported, which reads them then
    os.environ |= {'GRADIO_ANALYTICS_ENABLED': 'False', 'HF_HUB_DISABLE_TELEMETRY': '1', 'HF_HUB_OFFLINE': '1'}
    os.environ |= {'GRADIO_TEMP_DIR': str(folder.resolve()), 'GRADIO_ANALYTICS_MAX_EVENTS': '100'}
    import fastapi
    import gradio

    page.quiet()
    logging.getLogger('python_multipart').setLevel(logging.ERROR)  # a line for each odd byte of an upload
    limits = bounds.Bounds()
    blocks = page.page(service, audit.user())
    blocks.queue(max_size=_QUEUE, default_concurrency_limit=1)
    blocks.state_session_capacity = _TABS
    room = bounds.Room(folder, limits.uploads, limits.of_user, limits.kept, blocks.upload_file_set)
    inner = gradio.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path='/',
        auth_dependency=(lambda request: request.scope.get('lcr2s_user')) if users else None,
        allowed_paths=[],
        show_error=False,  # of what is no UserError the page tells nothing
        max_file_size=service.limits.bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        root_path=root or None,
        theme=style.theme(),
        css=style.CSS,
        head=style.HEAD,
    )
    return middleware.Middleware(
        inner,
        hosts,
        room,
        limits,
        people=sessions.Sessions(users, service.login) if users else None,
        root=root,
        waiting=lambda user: page.waiting(blocks, user),
        forget=lambda tab: page.forget(blocks, tab),
        told=service.refused,
        fits=lambda call: page.fits(blocks, call),
    )


def open_service(uri: str, log: str | None = None) -> Service:
    search = index.open_search(uri)
    tables.lasting(search.load, search.gallery.refresh)
    log = audit.log_of(log)
    audit.check(uri, log)
    decoders = Decoders(1, nice=5), Decoders(max(1, (os.cpu_count() or 2) // 2), nice=15)
    return Service(search, decoders, log)


def check_root(root: str) -> str:
    """A path or URL that a proxy has the page below, without a slash at its end. Raises ConfigError."""
    with contextlib.suppress(ValueError):
        found = urlsplit(root)
        path = found.path.startswith('/') and not found.scheme and not found.netloc
        url = found.scheme in ('http', 'https') and found.hostname
        if not root or ((path or url) and not (found.query or found.fragment or '..' in root or '//' in found.path)):
            return root.rstrip('/')
    raise ConfigError(
        f'--root-path: found {root!r}, expected the path that the proxy has the page below, such as /people, or the '
        'whole address, such as https://example.org/people'
    )


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


def _protocol(most: int = _CONNECTIONS - _SPARE):
    """uvicorn's own, which would wait for headers for ever, and refuse new connections while old ones say nothing."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    silent: dict[Any, asyncio.TimerHandle] = {}  # connections between two calls; who is silent for longest comes first

    class Protocol(H11Protocol):
        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > most and silent:
                next(iter(silent))._close()
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle and not self.cycle.response_complete:  # a call has begun
                self._waited()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def connection_lost(self, error) -> None:
            self._waited()
            super().connection_lost(error)

        def _wait(self) -> None:
            self._waited()
            if not self.cycle or self.cycle.response_complete:  # else the next call has come with the last one
                silent[self] = self.loop.call_later(_HEADERS_ARRIVE, self._close)

        def _waited(self) -> None:
            if late := silent.pop(self, None):
                late.cancel()

        def _close(self) -> None:
            self._waited()
            self.transport.close()

    return Protocol


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
