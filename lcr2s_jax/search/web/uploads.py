"""Pictures that somebody has sent, as the index keeps them: decoded and encoded again before a byte of them is kept."""

import pathlib


def keep(path: pathlib.Path, content: bytes) -> None:
    """Write a file that only its owner may read; aside, then renamed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    partial = aside(path)
    partial.touch(0o600)
    partial.write_bytes(content)
    partial.rename(path)


def aside(path: pathlib.Path) -> pathlib.Path:
    """Where `keep` writes a file before it has its name."""
    return path.with_name(f'.{path.name}.partial')
