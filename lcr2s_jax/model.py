"""A trained dual encoder with all that its embeddings depend on: towers, tokenizer, preprocessing, calibration.

Saved in a folder (model.json, text.safetensors, vision.safetensors, tokenizer.json, perhaps calibration.json) it opens
fast and needs no checkpoint; every index carries one. One SHA-256 stands for all that decides an embedding.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensor_bytes

from lcr2s_jax import files, images, threads
from lcr2s_jax.errors import SearchError, UserError, many
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.search.calibration import Calibration
from lcr2s_jax.training.parallel import fetch, fingerprint
from lcr2s_jax.weights import manifest, sizes
from lcr2s_jax.weights.tokenizer import Tokenizer

FORMAT = 2  # of the folder; another number is refused
FILE = 'model.json'
CALIBRATION = 'calibration.json'
TOWERS = ('text', 'vision')
TRAINED_ON = {'dataset?': str, 'kind?': str, 'people?': int, 'images?': int, 'captions?': int}  # in files, see `Model`
_BATCH = 64  # pictures or sentences embedded at once

Picture = str | os.PathLike | bytes | Image.Image | np.ndarray


class Model:
    """Pictures and sentences -> unit vectors of one space. Each tower is read and compiled when it is first used.

    Args:
      towers: 'text' and 'vision' -> a function that gives that tower's parameters.
      origin: where it comes from, for people to read; no part of the hash.
      trained_on: what its training data were, see `TRAINED_ON`; {} where nobody knows.
      calibration: from scores to probabilities; None without a val split.
      facts: what decides an embedding, with its hash, where that is known already.
      programs: 'text' and 'vision' -> (parameters, rows) -> features, where they are not those of `clip`.
    """

    def __init__(
        self,
        clip: CLIP,
        towers: Mapping[str, Callable[[], Any]],
        tokenizer: Tokenizer | Callable[[], Tokenizer],
        *,
        origin: Mapping,
        trained_on: Mapping,
        calibration: Calibration | None = None,
        facts: Mapping | None = None,
        programs: Mapping[str, Callable] | None = None,
    ):
        self.clip, self.origin, self.trained_on, self.calibration = clip, dict(origin), dict(trained_on), calibration
        self._towers, self._tokenizer, self._facts, self._programs = dict(towers), tokenizer, facts, programs or {}
        self._ready: dict = {}

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels that pictures are resized to."""
        return tuple(self.clip.image_size)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Sentences -> token ids."""
        return self._tokenizer() if callable(self._tokenizer) else self._tokenizer

    @functools.cached_property
    def facts(self) -> dict:
        """All that decides an embedding, see `identity`, and its one hash."""
        if self._facts is not None:
            return dict(self._facts)
        params = {tower: self._towers[tower]() for tower in TOWERS}
        return identity(self.clip, params, self.tokenizer.files)

    @property
    def hash(self) -> str:
        """SHA-256 in hex; vectors of models with another hash are never compared."""
        return self.facts['hash']

    def encode_text(self, sentences: str | Sequence[str]) -> np.ndarray:
        """Embed sentences: unit vectors, float32 [n, E]. What is longer than the context is cut."""
        sentences = [sentences] if isinstance(sentences, str) else list(many(sentences, 'encode_text', 'sentences'))
        for odd in (one for one in sentences if not isinstance(one, str)):
            raise UserError(f'encode_text: found {type(odd).__name__}, expected sentences (str)')
        tokens_nL = self.tokenizer.encode(sentences, self.clip.context_length)
        starts = range(0, max(len(tokens_nL), 1), _BATCH)
        least = _BATCH if len(starts) > 1 else 1
        return np.concatenate([self._embed('text', tokens_nL[start : start + _BATCH], least) for start in starts])

    def encode_image(self, pictures: Picture | Iterable[Picture]) -> np.ndarray:
        """Embed pictures: unit vectors, float32 [n, E].

        Args:
          pictures: paths, encoded bytes, PIL pictures, or uint8 arrays [h, w, 3] (RGB, any size); one, or many, which
            may be a generator: a batch of them is in memory at a time. A uint8 array [n, h, w, 3] is n pictures.

        Raises:
          PictureError: one that cannot be used; the message names it.
        """
        array = isinstance(pictures, np.ndarray) and pictures.ndim in (2, 3) and pictures.dtype != object
        if array or isinstance(pictures, str | os.PathLike | bytes | Image.Image):
            pictures = [pictures]
        vectors = [np.empty((0, self.clip.embed_dim), np.float32)]
        many(pictures, 'encode_image', 'paths, bytes, PIL pictures or uint8 arrays')
        pixels = threads.in_order(self._numbered, enumerate(pictures, 1))
        while batch := list(itertools.islice(pixels, _BATCH)):
            vectors.append(self._embed('vision', np.stack(batch), _BATCH if vectors[1:] else 1))
        return np.concatenate(vectors)

    def similarity(self, text_QE: np.ndarray, image_GE: np.ndarray) -> np.ndarray:
        """Cosine of every sentence with every picture, float32 [Q, G], of vectors that this model made."""
        try:
            if any(np.iscomplexobj(x) for x in (text_QE, image_GE)):
                raise TypeError
            text_QE, image_GE = (np.atleast_2d(np.asarray(x, np.float32)) for x in (text_QE, image_GE))
        except (TypeError, ValueError):
            raise UserError('similarity: found no vectors, expected those of encode_text and encode_image') from None
        if text_QE.ndim != 2 or text_QE.shape[1:] != image_GE.shape[1:]:
            shapes = text_QE.shape, image_GE.shape
            raise UserError(f'similarity: found arrays {shapes}, expected vectors of as many numbers')
        for what, x in (('sentences', text_QE), ('pictures', image_GE)):
            if not np.isfinite(x.sum(dtype=np.float64)):
                raise UserError(f'similarity: found NaN or infinity in the vectors of {what}, expected finite numbers')
        return text_QE @ image_GE.T

    def embed_text(self, tokens_nL: np.ndarray) -> np.ndarray:
        """Token ids int32 [n, L] -> unit float32 [n, E]."""
        return self._embed('text', tokens_nL)

    def embed_image(self, image_nhwc: np.ndarray) -> np.ndarray:
        """Pixels uint8 [n, h, w, 3] of `image_size` -> unit float32 [n, E]; this host's devices share the rows."""
        return self._embed('vision', image_nhwc)

    def __reduce__(self):
        raise UserError(
            'found a Model to be pickled, as multiprocessing does with what it hands over; expected its source: load '
            'it in each process, or `save` it and load that'
        )

    def __deepcopy__(self, memo) -> 'Model':
        return self  # nothing of it changes

    def params(self, tower: str) -> Any:
        """The parameters of 'text' or 'vision', float32 tree on the host."""
        return self._towers[tower]()

    def save(self, folder: str | os.PathLike) -> None:
        """Write the folder that `load` reads: aside, then renamed. Raises UserError where there is one already."""
        if not isinstance(folder, str | os.PathLike):
            raise UserError(f'save: found {type(folder).__name__}, expected a new folder')
        folder = files.expanded(folder)
        try:
            there = folder.exists()
            folder.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as fault:  # ValueError: a zero byte
            reason = getattr(fault, 'strerror', '') or fault
            raise UserError(f'save: {folder} cannot be made ({reason}); name another folder') from None
        if there:
            raise UserError(f'save: found {folder} there already, expected a new folder; name another')
        content = dict(self.tokenizer.files)
        for tower in TOWERS:
            # safetensors writes the memory of a strided array as if it were contiguous
            flat = flatten_dict(self.params(tower), sep='/')
            flat = {path: np.asarray(fetch(x), np.float32, order='C') for path, x in flat.items()}
            content[f'{tower}.safetensors'] = tensor_bytes(flat)
        if self.calibration is not None:
            content[CALIBRATION] = calibration_file(self.calibration)
        facts = {'format': FORMAT, **self.facts, 'origin': self.origin, 'trained_on': self.trained_on}
        facts = manifest.seal(facts, content)
        with files.aside(folder) as partial:
            partial.mkdir()
            for name, bytes_ in (content | {FILE: files.to_json(facts).encode()}).items():
                (partial / name).write_bytes(bytes_)

    def _numbered(self, one: tuple[int, Picture]) -> np.ndarray:
        number, picture = one
        try:
            return self._pixels(picture)
        except UserError as fault:
            named = picture if isinstance(picture, str | os.PathLike) else f'encode_image, picture {number:,}'
            hint = '; it is the path of a file, which is given as str' if _is_path(picture) else ''
            raise type(fault)(f'{named}: {fault}{hint}') from None

    def _pixels(self, picture: Picture) -> np.ndarray:
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
                raise UserError(f'found an array {picture.dtype} {list(picture.shape)}, expected uint8 [h, w, 3], RGB')
            return images.resize(picture, self.image_size)
        if isinstance(picture, Image.Image):
            return images.resize(images.opened(picture), self.image_size)
        if isinstance(picture, bytes):
            return images.pixels(picture, self.image_size)
        if not isinstance(picture, str | os.PathLike):
            raise UserError(f'found {type(picture).__name__}, expected a path, bytes, a PIL picture or a uint8 array')
        return images.pixels(images.read(files.expanded(picture)), self.image_size)

    def _embed(self, tower: str, rows: np.ndarray, least: int = 1) -> np.ndarray:
        """`least` rows are computed at once: another program would round otherwise, and copies be no tie."""
        if not len(rows):
            return np.empty((0, self.clip.embed_dim), np.float32)
        threads.refuse_fork()
        if tower not in self._ready:
            self._ready[tower] = self._compile(tower), jax.device_put(self.params(tower), _placed())
        forward, params = self._ready[tower]
        count, devices = len(rows), jax.local_device_count()
        # few sizes, so few programs: powers of two, a multiple of the devices
        padded = max(devices, least, 1 << max(count - 1, 0).bit_length())
        padded = -(-padded // devices) * devices
        filled = np.concatenate([rows, np.repeat(rows[:1], padded - count, axis=0)])
        return np.asarray(forward(params, jax.device_put(filled, _placed('data'))))[:count]

    def _compile(self, tower: str):
        method = {'text': 'encode_text', 'vision': 'encode_image'}[tower]

        def encode(params, rows):
            variables = {'params': {tower: params, 'logit_scale': jnp.zeros(())}}
            return self.clip.apply(variables, rows, method=method)

        encode = self._programs.get(tower, encode)

        @jax.jit
        def forward(params, rows):
            x_nE = encode(params, rows)
            return x_nE / jnp.maximum(jnp.linalg.norm(x_nE, axis=1, keepdims=True), 1e-12)

        return forward


def _is_path(picture: Picture) -> bool:
    with contextlib.suppress(ValueError):  # a zero byte
        return isinstance(picture, bytes) and os.path.isfile(picture)
    return False


def open_model(folder: pathlib.Path, dtype: str = 'float32') -> Model:
    """Open what `Model.save` wrote. Raises SearchError: no such folder, of another format, or damaged."""
    facts = read_facts(folder)
    clip = sizes.clip_of(folder / FILE, facts.get('clip')).clone(dtype=dtype)
    manifest.check(folder, facts)

    def read(tower: str) -> dict:
        return unflatten_dict(read_tensors(manifest.content(folder, facts, f'{tower}.safetensors')), sep='/')

    calibration = json.loads(manifest.content(folder, facts, CALIBRATION)) if CALIBRATION in facts['files'] else None
    return Model(
        clip,
        {tower: functools.partial(read, tower) for tower in TOWERS},
        lambda: Tokenizer(str(folder)),
        origin=facts['origin'],
        trained_on=facts['trained_on'],
        calibration=calibration and Calibration.from_json(calibration, folder / CALIBRATION),
        facts=facts,
    )


def read_facts(folder: pathlib.Path) -> dict:
    """The content of model.json, as it was sealed. Raises SearchError."""
    facts = files.read_json(folder / FILE, SearchError, 'expected a model as `lcr2s index` writes it')
    if facts.get('format') != FORMAT:
        raise SearchError(
            f'{folder}: found a model of format {facts.get("format")}, expected {FORMAT}; index the images again with '
            'this version, into another folder'
        )
    return manifest.read(folder / FILE)


def calibration_file(calibration: Calibration) -> bytes:
    """The content of calibration.json, which may come later than the model."""
    return files.to_json(calibration.to_json()).encode()


def identity(clip: CLIP, params: Mapping, tokenizer: Mapping[str, bytes]) -> dict:
    """All that decides an embedding, and its SHA-256 in hex under 'hash'."""
    facts = {
        'clip': sizes.kept(clip),
        'preprocessing': {'recipe': images.RECIPE, 'image_size': list(clip.image_size)},
        'tokenizer': hashlib.sha256(b''.join(tokenizer[name] for name in sorted(tokenizer))).hexdigest(),
        'params': fingerprint({tower: params[tower] for tower in TOWERS}),
    }
    return facts | {'hash': hashlib.sha256(files.to_json(facts).encode()).hexdigest()}


def _placed(*axes: str) -> jax.sharding.NamedSharding:
    """Whole on every device of this host, or cut along the axis 'data'."""
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), ('data',))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
