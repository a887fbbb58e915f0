"""The smallest index that has every part: a tiny CLIP, the demo's tokenizer, drawn pictures."""

import functools
import hashlib
import io
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from lcr2s_jax.model import Model
from lcr2s_jax.search import appearance, calibration, workers
from lcr2s_jax.search.gallery import OK, Gallery, Row
from lcr2s_jax.search.index import bring_up_to_date, open_search
from lcr2s_jax.search.model import open_model
from lcr2s_jax.search.rows import LOOK, looks_of
from lcr2s_jax.weights import tokenizer as tokens
from tests import folders, tiny

WORDS = 'a woman in a red coat with a black backpack'


@functools.cache
def words() -> tokens.Tokenizer:
    return tokens.Tokenizer(folders.WORDS)


@functools.cache
def clip():
    return tiny.clip(vocab_size=words().vocab_size, context_length=16)


def params(seed=0):
    return tiny.clip_params(clip(), seed)


def model(seed=0, calibrated=True) -> Model:
    weights = params(seed)
    return Model(
        clip(),
        {tower: lambda tower=tower: weights[tower] for tower in ('text', 'vision')},
        words(),
        origin={'workdir': 'w', 'step': 3},
        trained_on={'dataset': 'demo', 'kind': 'synthetic pedestrians'},
        calibration=fitted() if calibrated else None,
    )


def fitted() -> calibration.Calibration:
    """Numbers that a test can foresee."""
    fit = calibration.Fit(10.0, -5.0, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), growth=0.0, queries=9, own=(-1.0, 0.0))
    kinds = ('sentence', 'sentences', 'example', 'sentence and example', 'sentences and example')
    return calibration.Calibration(10, {'sentence': 0.1, 'example': 0.2}, dict.fromkeys(kinds, fit))


def make_model(index: pathlib.Path, seed=0, calibrated=True) -> str:
    """The model's folder of an index; its hash."""
    made = model(seed, calibrated)
    made.save(index / 'model')
    return made.hash


def pictures(root: pathlib.Path, count: int, first=0) -> list[pathlib.Path]:
    """Files of drawn pictures, all different, in two folders."""
    paths = [root / 'ab'[number % 2] / f'{number:03}.png' for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        folders.draw(path, number)
    return paths


def photo(number=0, size=(30, 60), format_='JPEG', **more) -> bytes:
    """A picture as a camera would send it."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1] // 10, size[0] // 10, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(out, format_, **more)
    return out.getvalue()


def vector(number: int, width=8) -> np.ndarray:
    x = np.random.default_rng(number).normal(size=width).astype(np.float32)
    return x / np.linalg.norm(x)


def rows(numbers, status=OK) -> list[Row]:
    """Rows as a gallery takes them, without files."""
    return [
        Row(
            f'{n:03}.png',
            hashlib.sha256(b'%d' % n).hexdigest(),
            n,
            10**6 * n,
            status,
            vector(n) if status == OK else None,
        )
        for n in numbers
    ]


def batch(rows: list[Row]) -> dict:
    """Rows as a cluster's embedder hands them to a writer."""
    names = {'path': 'path', 'size': 'bytes', 'modified': 'modified', 'sha256': 'sha256', 'vector': 'vector'}
    batch = {name: [getattr(row, field) for row in rows] for name, field in names.items()}
    batch['look'] = [np.zeros(appearance.COUNT) if row.look is None else row.look for row in rows]
    return batch | {'what': np.full(len(rows), workers.EMBEDDED), 'fault': [''] * len(rows)}


class Index(NamedTuple):
    """An index of drawn pictures."""

    uri: str
    root: pathlib.Path

    def update(self, **options) -> dict:
        """Bring it up to date; what was done."""
        return bring_up_to_date(self.uri, open_model(self.uri), str(self.root), **options)

    def gallery(self) -> Gallery:
        return Gallery(self.uri)

    def open(self):
        return open_search(self.uri)


def index(folder_: pathlib.Path, count=12, calibrated=True) -> Index:
    """Model and pictures, nothing embedded yet."""
    made = Index(str(folder_ / 'index'), folder_ / 'crops')
    make_model(folder_ / 'index', calibrated=calibrated)
    pictures(made.root, count)
    return made


def index_of_two_cameras(folder_: pathlib.Path) -> Index:
    """Twelve pictures, embedded, with a column `camera`."""
    made = index(folder_)
    table = folder_ / 'm.csv'
    paths = sorted(path.relative_to(made.root).as_posix() for path in made.root.rglob('*.png'))
    table.write_text('\n'.join(['path,camera', *(f'{path},c{number % 2}' for number, path in enumerate(paths))]))
    made.update(table=str(table))
    return made


def looks(gallery: Gallery, numbers) -> np.ndarray:
    """What the pictures of some rows look like, float32 [n, S]."""
    return looks_of([one[LOOK] for one in gallery.facts(numbers, [LOOK])])
