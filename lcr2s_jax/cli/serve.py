"""lcr2s serve --index=I: the same as a page in the browser."""

import argparse

from lcr2s_jax.cli.parser import UsageError, integer, place

ABOUT = 'Search an index on a page in the browser.'


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--index', required=True, type=place, metavar='I', help='Folder of the index, or URL of an object store.')
    add('--port', type=integer(1, 65535), default=7860, metavar='N', help='Where: http://localhost:7860/.')
    add('--host', default='127.0.0.1', metavar='ADDRESS', help='Listen here; any but this machine needs --auth.')
    add('--auth', type=place, metavar='FILE',
        help='user:password, or (better) a file of such lines that only you can read.')  # fmt: skip
    add('--audit', type=place, metavar='FILE', help='The audit log, instead of the one in the index.')
    add('--root-path', default='', metavar='PATH', help='Path or URL under which a proxy serves the page.')


def run(args: argparse.Namespace) -> None:
    from lcr2s_jax.search.web import app

    if not app.is_local(args.host) and not args.auth:
        raise UsageError(f'serve --host={args.host}: others could reach the page; that needs --auth')
    app.serve(args.index, args.host, args.port, args.auth, args.audit, args.root_path)
