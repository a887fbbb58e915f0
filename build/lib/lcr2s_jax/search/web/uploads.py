"""Pictures that somebody has sent, as the index keeps them: decoded and encoded again before a byte of them is kept."""

import pathlib

from lcr2s_jax import files


def keep(path: pathlib.Path, content: bytes) -> None:
    """Write a file that only its owner may read; aside, then renamed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    files.write(path, content, mode=0o600)
