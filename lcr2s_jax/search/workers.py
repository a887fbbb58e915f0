"""What the processes of a cluster do with files: read and decode, embed, write. Called by Ray Data, batch by batch.

Each does by `ingest` what a single process does; only how batches travel is written here.
"""

import contextlib
import functools
import json
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import SearchError, UserError
from lcr2s_jax.search import appearance, fragments, ingest, storage
from lcr2s_jax.search.folder import File, Picture
from lcr2s_jax.search.gallery import Row

_THREADS = 4  # of a reader: to wait for a disk or a store takes no processor
EMBEDDED, KNOWN, UNUSABLE, FORGOTTEN = range(4)  # what a file turned out to be


class Task(NamedTuple):
    """What every worker of a call is told."""

    uri: str  # of the index, as every node sees it
    model: str  # hash of the one that must be there
    image_size: tuple[int, int]  # height and width in pixels
    width: int  # E, of its vectors
    share: int  # processor cores of an embedder; 0 where it has a GPU


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Say on which node a mistake was made."""
    try:
        yield
    except UserError as error:
        raise type(error)(f'on the node {socket.gethostname()}: {error}') from None


class Reader:
    """Files -> hashes and pixels.

    `work` is Ray's reference to the `ingest.Work`, without its files, pickled: the driver keeps it alive.
    """

    def __init__(self, task: Task, work: bytes):
        import ray

        self._task, self._work = task, ray.get(ray.cloudpickle.loads(work))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        files = [_file(batch, place) for place in range(len(batch['path']))]
        with _named():
            found = list(ingest.read(self._work, files, self._task.image_size, _THREADS))
        pixels = np.zeros((len(found), *self._task.image_size, 3), np.uint8)
        what = np.zeros(len(found), np.int8)
        for place, one in enumerate(found):
            if ingest.is_forgotten(self._work, one):
                what[place] = FORGOTTEN
            elif one.pixels is None:
                what[place] = UNUSABLE if one.fault else KNOWN
            else:
                pixels[place] = one.pixels
        facts = {name: np.array([getattr(one, name) for one in found], object) for name in ('sha256', 'fault')}
        return batch | facts | {'what': what, 'pixels': pixels}


class Embedder:
    """Pixels -> numbers. The model is the index's own, opened where the worker runs."""

    def __init__(self, task: Task):
        if task.share:  # XLA would start a thread for every core of the machine
            os.environ['NPROC'] = str(task.share)
            os.environ.setdefault('JAX_PLATFORMS', 'cpu')
        self._task = task

    @functools.cached_property
    def _model(self):
        return model_of(self._task)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with _named():
            model, chosen = self._model, np.flatnonzero(batch['what'] == EMBEDDED)
            vectors = np.zeros((len(batch['what']), self._task.width), np.float32)
            looks = np.zeros((len(batch['what']), appearance.COUNT), np.float32)
            if len(chosen):
                numbers = ingest.embed(model, [_picture(batch, place) for place in chosen])
                vectors[chosen], looks[chosen] = map(np.stack, zip(*numbers, strict=True))
        left = {name: values for name, values in batch.items() if name != 'pixels'}
        return left | {'vector': vectors, 'look': looks}


class Writer:
    """Vectors -> a fragment; what it holds, and what the driver has to do, comes back as JSON."""

    def __init__(self, task: Task, key: str):
        self._task, self._key = task, key

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        own = [place for place, what in enumerate(batch['what']) if what in (EMBEDDED, UNUSABLE)]
        with _named():
            rows = [row_of(batch, place) for place in own]
            done = fragments.write(self._task.uri, self._key, rows) if rows else fragments.Fragment([], [])
        others = [
            [*_file(batch, place), str(batch['sha256'][place]), int(batch['what'][place])]
            for place, what in enumerate(batch['what'])
            if what not in (EMBEDDED, UNUSABLE)
        ]
        told = {
            'fragment': done,
            'unusable': [(row.path, row.status) for row in rows if row.vector is None],
            'hashes': [row.sha256 for row in rows],
            'others': others,
        }
        return {'told': np.array([json.dumps(told)], object)}


def model_of(task: Task) -> ingest.Encoder:
    """The index's model, on this node. Raises SearchError: it is not there, or another one is."""
    from lcr2s_jax import model as models  # JAX, which readers and writers do without

    folder = storage.model_folder(task.uri)
    if folder is None:
        raise SearchError(
            f'found no model in {task.uri}; expected the index on a disk that every node has under the same name, or '
            'in an object store'
        )
    found = models.open_model(folder)
    if found.hash != task.model:
        raise SearchError(
            f'found the model {found.hash[:16]} in {task.uri}, expected {task.model[:16]} of the driver; give every '
            'node the same disk'
        )
    return found


def row_of(batch: dict[str, np.ndarray], place: int) -> Row:
    numbers = ingest.Numbers(*(np.asarray(batch[name][place], np.float32) for name in ('vector', 'look')))
    return ingest.row(_picture(batch, place), numbers if batch['what'][place] == EMBEDDED else None)


def _picture(batch: dict[str, np.ndarray], place: int) -> Picture:
    pixels = batch['pixels'][place] if 'pixels' in batch else None
    return Picture(_file(batch, place), str(batch['sha256'][place]), pixels, str(batch['fault'][place]))


def _file(batch: dict[str, np.ndarray], place: int) -> File:
    return File(str(batch['path'][place]), int(batch['size'][place]), int(batch['modified'][place]))
