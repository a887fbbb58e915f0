"""The public API: `load` a model from whatever holds one, `open_index` to search.

model = lcr2s_jax.load('runs/demo')
model.similarity(model.encode_text(['a woman in a red coat']), model.encode_image(['1.jpg', '2.jpg']))
"""

import json
import logging
import numbers
import os
import pathlib
from collections.abc import Mapping, Sequence

from lcr2s_jax import model as models
from lcr2s_jax.errors import ConfigError, SearchError, UserError, WeightsError
from lcr2s_jax.files import expanded
from lcr2s_jax.model import Model, Picture
from lcr2s_jax.search import storage, tables
from lcr2s_jax.search.calibration import Calibration
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.index import open_search
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.search import Answer, Search
from lcr2s_jax.training import run as runs
from lcr2s_jax.weights import layouts, pretrained, sidecar, stablehlo
from lcr2s_jax.weights.tokenizer import BUILT_IN, Tokenizer, open_tokenizer

_LOG = logging.getLogger(__name__)
_SHOWN = 300  # letters of a path


def load(
    source: str | os.PathLike,
    *,
    stage: str = '',
    image_size: tuple[int, int] | None = None,
    context_length: int | None = None,
    tokenizer: str = '',
    activation: str = '',
    heads: int | tuple[int, int] = 0,
    resize: str = 'bicubic',
    dtype: str = 'float32',
) -> Model:
    """Open a model, whatever holds it.

    Args:
      source: the workdir of a run; an export; an index, for its model; 'synthetic-pedestrians' (the small CLIP of this
        package); a CLIP in Hugging Face's or open_clip's layout, a folder or a name on the hub; OpenAI's .pt; another
        method's checkpoint (IRRA, RDE, TBPS-CLIP), a path or hf://owner/name/file.pth.
      stage: of a run; '' for its student, or its last stage where it has none.
      image_size: height and width in pixels; None for what the weights were trained at. Not of runs and indexes.
      context_length: tokens of a sentence; None for the weights' own. Not of runs and indexes.
      tokenizer: folder, hub name or bpe_simple_vocab_16e6.txt.gz; '' for what lies beside the weights.
      activation: 'quick_gelu' or 'gelu' where the weights do not say; '' to guess, and to say so.
      heads: of the attention, where the weights do not say, of the image tower or a pair for images and texts; 0 to
        guess, and to say so.
      resize: of a position table to another image size: 'bicubic' or 'bilinear'.
      dtype: compute type, 'float32' or 'bfloat16'; parameters are float32.
    """
    name, tokenizer = _place(source, 'source'), _place(tokenizer, 'tokenizer')
    for what, value, known in (('dtype', dtype, ('float32', 'bfloat16')), ('resize', resize, ('bicubic', 'bilinear'))):
        if value not in known:
            raise ConfigError(f"{what}: found '{value}', expected '{known[0]}' or '{known[1]}'")
    image_size = _size(image_size)
    path = _looked_at(name, WeightsError)
    fixed = dict(
        image_size=image_size, context_length=context_length, tokenizer=tokenizer, activation=activation, heads=heads
    )
    if not storage.is_remote(name) and path.is_dir() and layouts.is_run(path):
        _refuse('a run', fixed)
        return runs.Run.open(path, stage, dtype).model()
    if stage:
        raise ConfigError(f"stage: found '{stage}', but {name} is no run; only a run has stages")
    for folder in (path, path / storage.MODEL):
        if (folder / models.FILE).is_file():
            _refuse('a saved model or an index', fixed)
            return models.open_model(folder, dtype)
    beside = sidecar.read(expanded(BUILT_IN.get(name, name)))
    if (path / 'image.stablehlo').is_file():
        _refuse('an export as StableHLO', fixed | {'dtype': dtype if dtype != 'float32' else ''})
        clip, params, programs = stablehlo.open_stablehlo(path, beside)
        return _model(str(path), clip, params, Tokenizer(str(path)), beside, programs)
    size = image_size or beside.get('image_size')
    length = beside.get('context_length') if context_length is None else context_length
    opened = pretrained.open_source(name, activation, heads)
    clip, params, guesses = pretrained.build(opened, size and tuple(size), length, resize, dtype=dtype)
    if guesses:
        _LOG.warning('%s: guessed or changed: %s', name, '; '.join(guesses))
    return _model(name, clip, params, open_tokenizer(tokenizer or BUILT_IN.get(name, name), clip.vocab_size), beside)


class Index:
    """An index, open for searches."""

    def __init__(self, uri: str):
        self.uri = uri
        self._search = open_search(uri)
        self.model = self._search.model

    def _over(self, gallery: Gallery) -> Search:
        # another object: a thread that searches goes on with its own version
        return Search(gallery, self.model, self.model.tokenizer)

    def _renew(self) -> None:
        self._search = self._over(Gallery(self.uri))

    def __len__(self) -> int:
        """Pictures that can be found."""
        return tables.lasting(lambda: self._now().gallery.count(), self._renew)

    def _now(self) -> Search:
        """At the version of this moment: what was erased since is not shown from what LanceDB still holds."""
        now = Gallery(self.uri)
        if now.version != self._search.gallery.version:
            self._search = self._over(now)
        return self._search

    def search(
        self,
        sentence: str | Sequence[str] = (),
        *,
        like: Sequence[Picture] = (),
        top: int = 10,
        where: str = '',
        group_by: str = '',
        false_alarms: float = 0.05,
        exact: bool = False,
    ) -> Answer:
        """Rank the pictures by what is said and shown of one person.

        Args:
          like: pictures of that person, as `Model.encode_image` takes them.
          where: a condition over the columns of the index, such as "camera = 'c1'".
          group_by: a column of which every value is shown once, by its best picture.
          false_alarms: share of searches for somebody who is not there that may find somebody.
          exact: compare every vector, however many there are.

        Returns:
          `Answer`: its hits, best first, have `path`, `score` (cosine), `probability` (or None) and `metadata`.

        Raises:
          SearchError: words, condition or column that cannot be used.
        """
        sentences = (sentence,) if not isinstance(sentence, list | tuple) else tuple(sentence)
        _check('text', str, where=where, group_by=group_by)
        _check('a whole number', numbers.Integral, top=top)
        _check('a number', numbers.Real, false_alarms=false_alarms)
        for one in sentences:
            _check('text', str, sentence=one)
        top, false_alarms = int(top), float(false_alarms)
        query = Query(sentences, tuple(self.model.encode_image(() if like is None else like)))
        how = dict(top=top, false_alarms=false_alarms, where=where, group_by=group_by, exact=exact)
        return tables.lasting(lambda: self._now()([query], **how)[0], self._renew)


def open_index(uri: str | os.PathLike) -> Index:
    """Open an index for searching. Raises SearchError: nothing there, or it cannot be read."""
    uri = _place(uri, 'uri')
    return Index(uri if storage.is_remote(uri) else str(_looked_at(uri, SearchError)))


def _looked_at(name: str, error: type[UserError]) -> pathlib.Path:
    """The path of what may be there. Raises `error` where the system does not even look."""
    path = expanded(name)
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):  # it may be on the hub
        pass
    except (OSError, ValueError) as fault:  # ValueError: a zero byte
        reason = getattr(fault, 'strerror', '') or fault
        told = name if len(name) <= _SHOWN else f'a name of {len(name):,} letters'
        raise error(f'{told}: {reason}, expected a folder, a file or a hub name') from None
    return path


def _place(value, what: str) -> str:
    if not isinstance(value, str | os.PathLike):
        kind = type(value).__name__
        raise ConfigError(f'{what}: found a {kind}, expected text or a path: a folder, a file or a hub name')
    if not value and what != 'tokenizer':
        raise ConfigError(f'{what}: found nothing, expected a folder, a file or a hub name')
    return os.fspath(value)


def _check(expected: str, kind: type, **given) -> None:
    for name, value in given.items():
        if not isinstance(value, kind):
            raise SearchError(f'{name}: found {str(value)[:60]!r} ({type(value).__name__}), expected {expected}')


def _size(value) -> tuple[int, int] | None:
    if value is None or (isinstance(value, list | tuple) and len(value) == 2):
        return value and tuple(value)
    raise ConfigError(f'image_size: found {str(value)[:60]!r}, expected height and width in pixels, such as (384, 128)')


def _model(name: str, clip, params, words, beside: Mapping, programs=None) -> Model:
    fitted = beside.get('calibration')
    return Model(
        clip,
        {tower: lambda tower=tower: params[tower] for tower in models.TOWERS},
        words,
        origin={'weights': name},
        trained_on=beside.get('trained_on', {}),
        calibration=Calibration.from_json(fitted, f'{name}, {sidecar.FILE}') if fitted is not None else None,
        programs=programs,
    )


def _refuse(source: str, given: Mapping) -> None:
    for name, value in given.items():
        if value:
            raise ConfigError(f'{name}: found {json.dumps(value)}, but {source} has its own; leave it out')
