"""An index made by a cluster: Ray Data reads, embeds and writes in many processes; the driver commits.

list -> read and decode (actors) -> embed (actors, one model each) -> write fragments (tasks) -> one commit.
"""

import contextlib
import json
import logging
import os
import pathlib
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from lcr2s_jax.errors import ConfigError, SearchError, UserError
from lcr2s_jax.model import Model
from lcr2s_jax.search import fragments, ingest, stores, workers
from lcr2s_jax.search.folder import File, Picture
from lcr2s_jax.search.gallery import Gallery

_PATIENCE = 5  # seconds until a cluster that does not answer is not there
_COMMIT = 30  # seconds from commit to commit, about: what a killed driver can cost
_PASSES = 3  # over files whose rows another call has erased before they were committed
_BLOCK = 1024  # files that a reader is given at once, at most


class Processes(NamedTuple):
    embedders: int  # each has a model
    gpus: int  # GPUs of each; 0 for a core instead
    readers: int  # at most


@contextlib.contextmanager
def engine(address: str = '', embedders: int = 0) -> Iterator[Callable]:
    """A cluster as an engine of `index.bring_up_to_date`: joined, or started on this machine, and left at the end.

    `address` is HOST:PORT, ray://HOST:PORT, or auto for that of this machine; '' starts one. `embedders` 0 are one a
    GPU, or where there is none half of the cores. Raises ConfigError where Ray is not installed, or there is no
    cluster.
    """
    ray = _ray()
    fragments.lance()
    if address:
        _check_there(address)
    quiet = dict(log_to_driver=False, logging_level=logging.CRITICAL, include_dashboard=None if address else False)
    cores = max(os.cpu_count() or 1, 2 * embedders)
    try:
        with _silenced():
            ray.init(address=address or 'local', num_cpus=None if address else cores, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        said = (str(error).strip().splitlines() or [''])[0][:200]
        raise ConfigError(f'--ray-address: {address or "this machine"}: {said}') from None
    try:
        processes = _processes(ray.cluster_resources(), embedders)
        yield lambda gallery, model, work, tell: _run(ray, processes, gallery, model, work, tell)
    finally:
        ray.shutdown()


def _ray():
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # nothing is sent anywhere
    os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')  # a coming default of Ray, which warns without it
    os.environ.setdefault('RAY_BACKEND_LOG_LEVEL', 'fatal')  # what fails is raised, and told once
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("--engine=ray: found no Ray; pip install 'lcr2s-jax[cluster]'") from None
    for name in ('ray', 'ray.data'):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # or a worker's message does not come back
    return ray


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Nothing on stderr: warnings of a fork, though another program follows at once, and Ray's word on its own log."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _check_there(address: str) -> None:
    if address in ('auto', 'local'):
        return
    parts = urlsplit(address if '://' in address else f'//{address}')
    try:
        port = parts.port or 10001
        socket.create_connection((parts.hostname, port), _PATIENCE).close()
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f'--ray-address: found no cluster at {address} ({getattr(error, "strerror", None) or error}); expected '
            'HOST:PORT of a head node, such as 10.0.0.5:6379, ray://HOST:10001, or auto; `ray status` there says if it '
            'runs'
        ) from None


def _processes(resources: dict[str, float], embedders: int) -> Processes:
    cores, gpus = int(resources.get('CPU', 1)), int(resources.get('GPU', 0))
    many = embedders or gpus or max(1, cores // 2)
    if gpus and many > gpus:
        raise ConfigError(f'--workers: found {many}, the cluster has {gpus} GPUs; expected one each, or fewer workers')
    if not gpus and many >= cores:
        raise ConfigError(
            f'--workers: found {many}, the cluster has {cores} cores; expected fewer, as a core must be left to read'
        )
    return Processes(many, int(bool(gpus)), max(1, cores if gpus else cores - many))


def _run(ray, processes: Processes, gallery: Gallery, model: Model, work: ingest.Work, tell) -> ingest.Done:
    uri = gallery.uri if stores.is_remote(gallery.uri) else str(pathlib.Path(gallery.uri).resolve())
    task = workers.Task(uri, model.hash, tuple(model.image_size), gallery.width, 0 if processes.gpus else 1)
    known = ray.put(work._replace(files=()))  # hashes of a large index travel once a node
    done, left = ingest.Done(), list(work.files)
    for _ in range(_PASSES):
        if not left:  # from the first: all were deleted once
            break
        driver = _Driver(gallery, work, done, tell)
        with _raised(), driver:
            for batch in _batches(ray, processes, task, known, work, left):
                driver.take(batch)
        there = gallery.known_paths(work.key) if driver.left else ()
        left = [file for file in left if file.path in driver.left and file.path not in there]
    if left:
        raise SearchError(
            f'{gallery.uri}: other calls erase rows again and again; wait for them, and give the same command again'
        )
    return done


def _batches(
    ray, processes: Processes, task: workers.Task, known, work: ingest.Work, files: Sequence[File]
) -> Iterator[dict]:
    """What the last workers give back, as it comes."""
    import pyarrow as pa

    size = min(_BLOCK, max(1, -(-len(files) // (4 * processes.readers))))
    columns = {name: [getattr(file, name) for file in files] for name in File._fields}
    table = pa.table(columns)
    blocks = [table.slice(start, size) for start in range(0, len(files), size)]
    pool = ray.data.ActorPoolStrategy
    found = ray.data.from_arrow(blocks).map_batches(
        workers.Reader,
        fn_constructor_args=(task, ray.cloudpickle.dumps(known)),
        batch_size=ingest.BATCH,
        compute=pool(min_size=1, max_size=processes.readers),
        num_cpus=1,
    )
    found = found.map_batches(
        workers.Embedder,
        fn_constructor_args=(task,),
        batch_size=ingest.BATCH,
        compute=pool(size=processes.embedders),
        **(dict(num_gpus=processes.gpus) if processes.gpus else dict(num_cpus=1)),
    )
    if work.new:  # rows that are there already are changed by the driver: they are few
        found = found.map_batches(
            workers.Writer,
            fn_constructor_args=(task, work.key),
            batch_size=ingest.COMMIT,
            compute=pool(min_size=1, max_size=processes.embedders),
            num_cpus=0,
        )
    yield from found.iter_batches(batch_size=None, batch_format='numpy', prefetch_batches=0)


class _Driver:
    """Commits what comes back from the workers; as a context, also what has come before something failed."""

    def __init__(self, gallery: Gallery, work: ingest.Work, done: ingest.Done, tell: Callable[[int], None]):
        self._gallery, self._work, self._done, self._tell = gallery, work, done, tell
        self._waiting: list[fragments.Fragment] = []
        self._since = time.monotonic()
        self.left: set[str] = set()  # paths whose fragments could not be taken

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._commit()

    def take(self, batch: dict) -> None:
        if 'told' not in batch:
            self._change(batch)
            return
        for text in batch['told']:
            told = json.loads(text)
            self._waiting += [fragments.Fragment(*told['fragment'])] * bool(told['fragment'][0])
            self._done.unusable.extend(map(tuple, told['unusable']))
            self._done.hashes.extend(told['hashes'] * self._work.readmit)
            self._copy([(File(*one[:3]), *one[3:]) for one in told['others']])
            self._done.embedded += len(told['fragment'][1]) - len(told['unusable'])
            self._tell(len(told['fragment'][1]))
            if time.monotonic() - self._since > _COMMIT:
                self._commit()

    def _copy(self, others: Sequence[tuple]) -> None:
        """Files whose bytes the index has, or had."""
        self._done.met.extend(file for file, _, what in others if what == workers.FORGOTTEN)
        copies = [Picture(file, sha256, None, '') for file, sha256, what in others if what == workers.KNOWN]
        if copies:
            self._done.hashes.extend([one.sha256 for one in copies] * self._work.readmit)
            self._done.copied += ingest.put(self._gallery, self._work, copies, {})
            self._tell(len(copies))

    def _change(self, batch: dict) -> None:
        rows = [(workers.row_of(batch, place), int(what)) for place, what in enumerate(batch['what'])]
        self._copy([(File(row.path, row.bytes, row.modified), row.sha256, what) for row, what in rows])
        own = [row for row, what in rows if what in (workers.EMBEDDED, workers.UNUSABLE)]
        if own:
            self._gallery.put(self._work.key, own, new=False)
        self._done.unusable.extend((row.path, row.status) for row in own if row.vector is None)
        self._done.hashes.extend([row.sha256 for row in own] * self._work.readmit)
        self._done.embedded += sum(row.vector is not None for row in own)
        self._tell(len(own))

    def _commit(self) -> None:
        waiting, self._waiting, self._since = self._waiting, [], time.monotonic()
        for one in fragments.commit(self._gallery, self._work.key, waiting):
            self.left |= set(one.paths)


@contextlib.contextmanager
def _raised() -> Iterator[None]:
    """Raise a worker's own mistake in place of Ray's report of it."""
    from ray import exceptions

    try:
        yield
    except exceptions.RayError as error:
        cause = getattr(error, 'cause', None) or error
        said = (str(cause).strip().splitlines() or [''])[0]  # Ray writes its own advice below
        if isinstance(cause, UserError):
            raise type(cause)(said) from None
        raise SearchError(
            f'a worker failed ({type(cause).__name__}: {said[:300]}); what was committed is whole, and the same '
            'command goes on'
        ) from error
