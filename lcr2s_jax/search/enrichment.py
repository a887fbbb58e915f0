"""What an index says of its enriched vectors: how they are made, and of which version of the table they are.

They are made by `enrich`; whoever only reads an index needs no more than this. A table of another version than the one
that is written here has changed since: then its own vectors are compared, until they are made again.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from lcr2s_jax import files
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import storage
from lcr2s_jax.texts import counted
from lcr2s_jax.weights import manifest

FILE = 'enriched.json'
HOWS = ('neighbours', 'fusion')
_ADVICE = 'remove it, and the pictures are compared by their own vectors; `index --enrich=...` makes it again'
_MOST = 1 << 30  # bytes of a fusion's file
_CONTENT = {
    'how': str, 'neighbours': int, 'fusion': (None, {'heads': int, 'shared': bool, 'scale': float}),
    'version': int, 'digest': str, 'files': {str: str}, 'seal': str, 'near?': str, 'lacking?': int,
}  # fmt: skip


class Enrichment(NamedTuple):
    """How the vectors of an index are enriched."""

    how: str  # one of HOWS
    neighbours: int  # of each picture
    fusion: Mapping | None = None  # see `GalleryFusion.shape`; None without one
    file: str = ''  # of the fusion's parameters, '' without one; its name is of its content
    version: int = 0  # of the table that they were made of; 0 while they are not whole
    digest: str = ''  # of all that they were made of, see `enrich`
    near: str = ''  # URI of the index whose vectors say which pictures are near; '' for its own
    lacking: int = 0  # pictures that are not in it: each of them is by itself

    @property
    def settings(self) -> tuple:
        """What decides the vectors, of given pictures."""
        return self.how, self.neighbours, self.file, self.fusion and self.fusion['scale'], self.near

    def __str__(self) -> str:
        nearest = 'its nearest' if self.neighbours == 1 else f'its {self.neighbours} nearest'
        nearest += f' in {self.near}' * bool(self.near)
        nearest += f' (but {counted(self.lacking, "picture")} by themselves, as it lacks them)' * bool(self.lacking)
        if self.how == 'neighbours':
            return f'each picture averaged with {nearest}'
        return f"each picture fused with {nearest} by the run's teacher"


def read(uri: str) -> Enrichment | None:
    """What was written last; None for an index without. Raises SearchError where it is damaged."""
    where, content = f'{uri}/{FILE}', storage.read(uri, FILE)
    if content is None:
        return None
    try:
        found = files.parse_json(content)
        fault = files.misfit(found, _CONTENT)
    except ValueError as error:
        fault = f'no JSON: {error}'[:200]
    if not fault and (found['how'] not in HOWS or found['neighbours'] < 1):
        fault = f'how {found["how"]!r} with {found["neighbours"]} neighbours'
    elif not fault and [found['how'] == 'fusion'] * 2 != [bool(found['files']), found['fusion'] is not None]:
        fault = f'how {found["how"]!r} and the files {list(found["files"])}'
    if fault:
        raise SearchError(f'{where}: damaged: {fault}; {_ADVICE}')
    found = manifest.checked(found, where, _ADVICE)
    facts = {name: found[name] for name in ('how', 'neighbours', 'fusion', 'version', 'digest')}
    facts |= {'near': found.get('near', ''), 'lacking': found.get('lacking', 0)}
    return Enrichment(file=next(iter(found['files']), ''), **facts)


def write(uri: str, state: Enrichment) -> None:
    """Write it down, whole or not at all; by whoever holds the lock of the index."""
    facts = {'how': state.how, 'neighbours': state.neighbours, 'fusion': state.fusion, 'version': state.version}
    facts |= {'digest': state.digest, 'files': {state.file: _hash_in(state.file)} if state.file else {}}
    facts |= {'near': state.near, 'lacking': state.lacking} if state.near else {}
    storage.write(uri, FILE, files.to_json(manifest.signed(facts)).encode())


def keep_fusion(uri: str, content: bytes) -> str:
    """Keep a fusion's parameters in an index; the file's name, which is of its content."""
    name = f'fusion-{hashlib.sha256(content).hexdigest()}.safetensors'
    if storage.read(uri, name, _MOST) != content:
        storage.write(uri, name, content)
    return name


def fusion_bytes(uri: str, name: str) -> bytes:
    """What `keep_fusion` kept. Raises SearchError where it is gone or damaged."""
    content = storage.read(uri, name, _MOST)
    if content is None or hashlib.sha256(content).hexdigest() != _hash_in(name):
        raise SearchError(f'{uri}: {name} is {"gone" if content is None else "damaged"}; {_ADVICE}')
    return content


def _hash_in(name: str) -> str:
    return name.removeprefix('fusion-').removesuffix('.safetensors')
