"""The seal of a saved model: model.json holds the hash of every file beside it, and one of itself.

It tells damage and changes by hand. It proves nothing against somebody who makes a new seal as well.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from lcr2s_jax import files
from lcr2s_jax.errors import SearchError

SEAL, FILES = 'seal', 'files'
_LARGE = '.safetensors'  # read, and then checked, when it is first needed
_ADVICE = 'restore the file from a copy, or make the index again in another folder'


def seal(facts: Mapping[str, Any], content: Mapping[str, bytes]) -> dict[str, Any]:
    """Facts for model.json that say which files belong to it: `content` of all others, or of those that come."""
    hashes = {name: hashlib.sha256(bytes_).hexdigest() for name, bytes_ in content.items()}
    return signed({**facts, FILES: {**facts.get(FILES, {}), **hashes}})


def signed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with a hash of themselves, as `read` expects it."""
    return {**facts, SEAL: _digest(facts)}


def read(path: pathlib.Path, advice: str = _ADVICE) -> dict[str, Any]:
    """The facts of a JSON file as they were sealed. Raises SearchError where a letter of them is another."""
    return checked(files.read_json(path, SearchError, advice), path, advice)


def checked(facts: dict[str, Any], where: Any, advice: str = _ADVICE) -> dict[str, Any]:
    """The facts, where they are as they were sealed. Raises SearchError."""
    if facts.get(SEAL) != _digest(facts) or not isinstance(facts.get(FILES), dict):
        raise SearchError(f'{where}: damaged: its content is not what was written; {advice}')
    return facts


def check(folder: pathlib.Path, facts: Mapping[str, Any]) -> None:
    """Compare every small file with the seal; large ones are compared by `content`.

    Raises SearchError: one is missing, changed, or does not belong there.
    """
    for name in facts[FILES]:
        if not name.endswith(_LARGE):
            content(folder, facts, name)
    known = {*facts[FILES], 'model.json', 'calibration.json'}  # an unlisted calibration is of a call that was killed
    strange = sorted(one.name for one in folder.iterdir() if one.name not in known and not one.name.startswith('.'))
    if strange:
        raise SearchError(f'{folder}: found {strange[0]!a}, which is no part of the model; remove it')


def content(folder: pathlib.Path, facts: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a sealed file. Raises SearchError where they are not those that were written."""
    path = folder / name
    try:
        with files.regular(path) as file:
            found = file.read()
    except OSError as error:
        raise SearchError(f'{path}: cannot be read ({error.strerror}); {_ADVICE}') from None
    if hashlib.sha256(found).hexdigest() != facts[FILES].get(name):
        raise SearchError(f'{path}: damaged: its bytes are not those that were written; {_ADVICE}')
    return found


def _digest(facts: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in facts.items() if name != SEAL}
    return hashlib.sha256(files.to_json(rest).encode()).hexdigest()
