"""The command `lcr2s`: one file a command. A file says what it takes, calls the library and prints.

The library is imported when a command runs, and not before: `--help` and a mistake are answered at once.
"""

import sys

from lcr2s_jax import __version__
from lcr2s_jax.cli import completion, delete, evaluate, expire, export, index, info, search, serve
from lcr2s_jax.cli.program import Program

COMMANDS = {
    'index': index,
    'search': search,
    'serve': serve,
    'info': info,
    'delete': delete,
    'expire': expire,
    'evaluate': evaluate,
    'export': export,
    'completion': completion,
}
PROGRAM = Program('lcr2s', __version__, 'Find people in pictures by describing them (LCR2S in JAX).', COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit status, see `program`."""
    return PROGRAM.main(sys.argv[1:] if argv is None else argv)
