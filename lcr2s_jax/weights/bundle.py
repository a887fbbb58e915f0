"""The model that an index carries: a student's two towers in a folder that opens fast and needs no checkpoint.

model.json (sizes, preprocessing, origin, hashes), text.safetensors, vision.safetensors, the tokenizer's files and,
where there was a val split, calibration.json. One SHA-256 stands for all that decides an embedding; vectors of another
are never compared.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from lcr2s_jax.errors import SearchError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.search.calibration import Calibration

FORMAT = 1  # of the folder; another number is refused
CALIBRATION = 'calibration.json'
_TOWERS = ('text', 'vision')
# attributes of CLIP that say how it is computed, and not what
_TRAINING = {'kernel': 'einsum', 'remat': False, 'scan': False, 'chunks': 1}
_SIZES = tuple(f.name for f in dataclasses.fields(CLIP) if f.name not in ('parent', 'name', *_TRAINING))


class Searcher:
    """Two towers, compiled when first used; text is searched without the image tower being read.

    Args:
      folder: what `save` wrote.

    Attributes:
      folder: the same; the tokenizer's files lie in it.
      facts: what model.json says.
      hash: of model, preprocessing and tokenizer, hex.
      clip: the sizes.
      calibration: from scores to probabilities; None where the model was saved without.

    Raises:
      SearchError: no such folder, of another format, or damaged.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        try:
            self.facts = json.loads((folder / 'model.json').read_text())
        except (OSError, ValueError) as error:
            raise SearchError(
                f'{folder}: found no model that can be read ({error}); expected model.json, as written by '
                '`python main.py index --workdir=...`'
            ) from None
        if self.facts.get('format') != FORMAT:
            raise SearchError(
                f'{folder}: found a model of format {self.facts.get("format")}, expected {FORMAT}; index the images '
                'again with this version, into another folder'
            )
        self.hash = self.facts['hash']
        self.clip = CLIP(**{name: _tupled(value) for name, value in self.facts['clip'].items()})
        path = folder / CALIBRATION
        self.calibration = Calibration.from_json(json.loads(path.read_text())) if path.is_file() else None
        self._towers: dict = {}

    def embed_text(self, tokens_nL: np.ndarray) -> np.ndarray:
        """Token ids int32 [n, L] -> unit float32 [n, E]."""
        return self._embed('text', tokens_nL)

    def embed_image(self, image_nhwc: np.ndarray) -> np.ndarray:
        """Pixels uint8 [n, h, w, 3] -> unit float32 [n, E]; rows are shared by this host's devices."""
        return self._embed('vision', image_nhwc)

    def _embed(self, tower: str, rows: np.ndarray) -> np.ndarray:
        if tower not in self._towers:
            self._towers[tower] = self._compile(tower), jax.device_put(self._read(tower), _everywhere())
        forward, params = self._towers[tower]
        count, devices = len(rows), jax.local_device_count()
        # few sizes, so few programs: powers of two, a multiple of the devices
        padded = max(devices, 1 << max(count - 1, 0).bit_length())
        padded = -(-padded // devices) * devices
        filled = np.concatenate([rows, np.repeat(rows[:1], padded - count, axis=0)])
        return np.asarray(forward(params, jax.device_put(filled, _by_row())))[:count]

    def _compile(self, tower: str):
        method = {'text': 'encode_text', 'vision': 'encode_image'}[tower]

        @jax.jit
        def forward(params, rows):
            x_nE = self.clip.apply({'params': {tower: params, 'logit_scale': jnp.zeros(())}}, rows, method=method)
            return x_nE / jnp.maximum(jnp.linalg.norm(x_nE, axis=1, keepdims=True), 1e-12)

        return forward

    def _read(self, tower: str) -> dict:
        from safetensors.numpy import load

        name = f'{tower}.safetensors'
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise SearchError(f'{self.folder / name}: cannot be read ({error}); restore the file from a copy') from None
        if hashlib.sha256(content).hexdigest() != self.facts['files'][name]:
            raise SearchError(
                f'{self.folder / name}: its bytes are not those that were written; restore the file from a copy, or '
                'index the images again into another folder'
            )
        return _nested(load(content))


def save(
    folder: pathlib.Path,
    clip: CLIP,
    params,
    *,
    preprocessing: dict,
    tokenizer: dict[str, bytes],
    origin: dict,
    calibration: Calibration | None,
) -> str:
    """Write the folder that `Searcher` opens; written aside, then renamed.

    Args:
      folder: must not be there.
      clip, params: {'vision': ..., 'text': ...} of a student.
      preprocessing: what makes pixels of a file, in words and numbers; part of the hash.
      tokenizer: its files by name; part of the hash.
      origin: where the model comes from, for people to read; no part of it.
      calibration: fitted on val, or None.

    Returns:
      The hash.
    """
    from safetensors.numpy import save as to_bytes

    files = dict(tokenizer)
    for tower in _TOWERS:
        # safetensors writes the memory of a strided array as if it were contiguous
        flat = {path: np.asarray(x, np.float32, order='C') for path, x in _flat(params[tower]).items()}
        files[f'{tower}.safetensors'] = to_bytes(flat)
    facts = {'format': FORMAT, **_identity(clip, params, preprocessing, tokenizer), 'origin': origin}
    facts['files'] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if calibration is not None:
        files[CALIBRATION] = calibration_file(calibration)
    aside = folder.with_name(f'{folder.name}.partial')
    shutil.rmtree(aside, ignore_errors=True)  # of a call that was killed
    aside.mkdir(parents=True)
    for name, content in (files | {'model.json': _json(facts)}).items():
        (aside / name).write_bytes(content)
    aside.rename(folder)
    return facts['hash']


def calibration_file(calibration: Calibration) -> bytes:
    """The content of calibration.json, which may come later than the model."""
    return _json(calibration.to_json())


def hash_of(clip: CLIP, params, preprocessing: dict, tokenizer: dict[str, bytes]) -> str:
    """SHA-256 in hex of all that decides an embedding; see `save`."""
    return _identity(clip, params, preprocessing, tokenizer)['hash']


def _identity(clip: CLIP, params, preprocessing: dict, tokenizer: dict[str, bytes]) -> dict:
    from lcr2s_jax.weights.pretrained import fingerprint

    facts = {
        'clip': {name: getattr(clip, name) for name in _SIZES},
        'preprocessing': preprocessing,
        'tokenizer': hashlib.sha256(b''.join(tokenizer[name] for name in sorted(tokenizer))).hexdigest(),
        'params': fingerprint({tower: params[tower] for tower in _TOWERS}),
    }
    return facts | {'hash': hashlib.sha256(_json(facts)).hexdigest()}


def _json(value) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + '\n').encode()


def _flat(tree, above: str = '') -> dict:
    """{'block_0/attn/key/kernel': array, ...}."""
    if not isinstance(tree, dict):
        return {above: tree}
    return {
        path: x for name, part in tree.items() for path, x in _flat(part, f'{above}/{name}' if above else name).items()
    }


def _nested(flat: dict) -> dict:
    tree: dict = {}
    for path, x in flat.items():
        *above, last = path.split('/')
        part = tree
        for name in above:
            part = part.setdefault(name, {})
        part[last] = x
    return tree


def _tupled(value):
    return tuple(value) if isinstance(value, list) else value


def _everywhere():
    return jax.sharding.NamedSharding(_mesh(), jax.sharding.PartitionSpec())


def _by_row():
    return jax.sharding.NamedSharding(_mesh(), jax.sharding.PartitionSpec('data'))


def _mesh():
    return jax.sharding.Mesh(np.asarray(jax.local_devices()), ('data',))
