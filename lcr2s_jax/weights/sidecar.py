"""lcr2s.json, the file that lies beside weights of this project: what their formats have no field for.

{"format": 1, "image_size": [h, w], "context_length": L, "clip": sizes, "trained_on": {...}, "calibration": {...}}
"""

import pathlib
from collections.abc import Mapping

from lcr2s_jax import files
from lcr2s_jax.errors import WeightsError
from lcr2s_jax.model import TRAINED_ON
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.weights import reading, sizes

FILE = 'lcr2s.json'
_FORMAT = 1
_RESTORE = 'restore it from a copy, or delete it'
_CONTENT = {'context_length?': int, 'clip?': dict, 'trained_on?': TRAINED_ON, 'calibration?': (None, dict)}


def read(folder: pathlib.Path) -> dict:
    """The content of a folder's file, {} where there is none. Raises WeightsError."""
    path = folder / FILE
    if not path.is_file():
        return {}
    found = files.read_json(path, WeightsError, _RESTORE)
    if found.get('format') != _FORMAT or not reading.integers(found.get('image_size'), 2, 1, 9_999):
        raise WeightsError(f'{path}: found no image_size, or another format than {_FORMAT}; {_RESTORE}')
    if fault := files.misfit(found, _CONTENT):
        raise WeightsError(f'{path}: {fault}; {_RESTORE}')
    return found


def write(folder: pathlib.Path, clip: CLIP, trained_on: Mapping, calibration: Mapping | None) -> None:
    content = {'format': _FORMAT, 'image_size': clip.image_size, 'context_length': clip.context_length}
    content |= {'clip': sizes.kept(clip), 'trained_on': dict(trained_on)}
    content |= {'calibration': calibration} if calibration else {}
    files.write(folder / FILE, files.to_json(content))
