"""Many devices, one step: the collective axis, the mesh, and the two drivers that run the same per-device function.

Under `jit` the arrays are global and the compiler places the communication; under `pmap` each device holds its rows
and `Axis` does it by name. Gradients agree because the loss is averaged *inside* the differentiated function.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lcr2s_jax.errors import ConfigError, UserError

AXIS = 'data'
_WORTH_CUTTING = 4096  # numbers; a smaller array costs more to bring together than to keep whole [ours]


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Make this process one of several; does nothing where it is alone. Before any device is touched.

    `coordinator` is 'host:port' of the first process; None where a launcher's variables name the others (srun, mpirun,
    TPU pods on GKE); 'auto' where JAX has to ask for them (TPU pods that gcloud made). The numbers are None where it is
    no address. Raises ConfigError: only some of them are given, or the others were not met.
    """
    given, unknown = (coordinator, num_processes, process_id), (None, None, None)
    if given == unknown and not _launched_with_others(os.environ):
        return
    if given == ('auto', None, None):
        coordinator = None
    elif None in given and given != unknown:
        raise ConfigError(
            f'found --coordinator={coordinator} --num_processes={num_processes} --process_id={process_id}; expected '
            'all three, --coordinator=auto alone on a TPU pod, or none of them under srun or mpirun'
        )
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f'found no way to join the other processes ({error}); expected {num_processes or "all"} processes that '
            f'reach {coordinator or "the first one"}. Start them all, with one --coordinator=host:port and '
            '--process_id=0, 1, ...'
        ) from error


def _launched_with_others(environ: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows started several processes, this one among them."""
    counts = (environ.get(name, '1') for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE'))
    return ',' in environ.get('TPU_WORKER_HOSTNAMES', '') or any(n.isdigit() and int(n) > 1 for n in counts)


def is_primary() -> bool:
    """Whether this process is the one that writes what all have in common."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Every process waits here for every other; nothing to wait for where there is one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def agreed(what: str):
    """A block that succeeds on every process or on none: all wait for all at its end, and one that fails stops all.

    Raises UserError: it went well here and not elsewhere, where its own error is told.
    """
    error = None
    try:
        yield
    except Exception as mistake:
        error = mistake
    if jax.process_count() > 1:
        failed = np.flatnonzero(multihost_utils.process_allgather(np.array(error is not None)))
        if error is None and failed.size:
            raise UserError(f'stopped, {what} failed on process {", ".join(map(str, failed))}, which says why')
    if error is not None:
        raise error


def replicated(params) -> NamedSharding | None:
    """Whole on every device that holds `params`, for results that every host reads; None where they are on no mesh."""
    placed = (getattr(leaf, 'sharding', None) for leaf in jax.tree.leaves(params))
    meshes = [sharding.mesh for sharding in placed if isinstance(sharding, NamedSharding)]
    return NamedSharding(meshes[0], PartitionSpec()) if meshes else None


def fetch(x) -> np.ndarray:
    """An array on this host, also where its parts lie on several hosts; all of them have to ask."""
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)


def fingerprint(params) -> str:
    """SHA-256 in hex of all numbers of a tree of parameters, in its order; the same on every host."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(fetch(leaf)))
    return digest.hexdigest()


def same_everywhere(what: Mapping[str, str]) -> None:
    """Compare by name what every process must have alike; the names are the same on all.

    Raises UserError, on every process, where one has something else.
    """
    if jax.process_count() == 1:
        return
    mine = [np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8) for value in what.values()]
    found = multihost_utils.process_allgather(np.stack(mine))
    others = (found != found[0]).any(axis=-1)  # [processes, names]
    if others.any():
        named = zip(what.items(), others.any(axis=0), strict=True)
        here = ', '.join(f'{name} ({value})' for (name, value), differs in named if differs)
        where = ', '.join(map(str, np.flatnonzero(others.any(axis=1))))
        raise UserError(
            f'found something else on process {where} than on process 0; here it is {here}, expected the same. Give '
            'all processes the same files and, where no disk is shared, delete what was built in config.data.cache of '
            'those with other images.'
        )


@dataclasses.dataclass(frozen=True)
class Axis:
    """The batch axis as a step sees it: the name of pmap's, or None where arrays are global: nothing is to be done."""

    name: str | None = None

    def gather(self, x: jax.Array) -> jax.Array:
        """Rows of this device -> rows of the global batch, on axis 0, in device order."""
        return x if self.name is None else jax.lax.all_gather(x, self.name, axis=0, tiled=True)

    def mean(self, tree):
        """Mean over devices of every leaf."""
        return tree if self.name is None else jax.lax.pmean(tree, self.name)

    def slots(self, count: int) -> jax.Array:
        """Where this device's `count` rows stand globally: draw by it, and any device count draws the same."""
        before = 0 if self.name is None else jax.lax.axis_index(self.name) * count
        return before + jnp.arange(count)


class Parallel:
    """Where arrays live and how a step is compiled.

    Args:
      driver: 'jit' (global arrays with shardings) or 'pmap' (one program a device, named axis).
      devices: how many of the devices to use; 0 for all.
      fsdp: spread parameters and optimiser state over the devices instead of keeping them whole on each; a layer's
        are brought together while it computes. Needs 'jit'.
    """

    def __init__(self, driver: str, devices: int, fsdp: bool):
        if driver not in ('jit', 'pmap'):
            raise ConfigError(f"config.parallel.driver: found '{driver}', expected 'jit' or 'pmap'")
        if driver == 'pmap' and jax.process_count() > 1:
            raise ConfigError("config.parallel.driver: found 'pmap' on several hosts, expected 'jit' there")
        if driver == 'pmap' and fsdp:
            raise ConfigError("config.parallel.fsdp: found True with the driver 'pmap', expected 'jit' there")
        if jax.process_count() > 1 and not jax.distributed.is_initialized():
            raise ConfigError(
                f'found {jax.process_count()} hosts that have not met; expected --coordinator=auto on a TPU pod'
            )
        # host by host: the rows that a host puts in are those that it gets back
        found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        if not 0 <= devices <= len(found):
            raise ConfigError(
                f'config.parallel.devices: found {len(found)} devices, {devices} are asked for; expected 0 (all) to '
                f'{len(found)}'
            )
        if jax.process_count() > 1 and devices not in (0, len(found)):
            raise ConfigError(
                f'config.parallel.devices: found {devices} of {len(found)} on several hosts, expected 0 (all) there; '
                'start fewer hosts, or show each fewer devices'
            )
        self.driver, self.fsdp = driver, fsdp
        self.devices = found[: devices or None]
        self.mesh = jax.sharding.Mesh(np.asarray(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.sharded = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def check_rows(self, count: int, field: str) -> None:
        """Raise ConfigError, naming the field, unless the devices of all hosts can share `count` rows evenly."""
        if count % len(self.devices):
            raise ConfigError(
                f'{field}: found {count}, expected a multiple of the {len(self.devices)} devices; change it, or '
                'config.parallel.devices'
            )

    def put(self, batch):
        """This host's rows (axis 0 of every leaf) -> the global batch, sharded over the devices.

        Raises ConfigError when the rows cannot be divided among the devices; `check_rows` sees it earlier.
        """
        self.check_rows(jax.tree.leaves(batch)[0].shape[0] * jax.process_count(), 'rows of a batch')
        with jax.transfer_guard('allow'):  # where there are several hosts, JAX does not count this as asked for
            return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.sharded, np.asarray(x)), batch)

    def put_state(self, tree):
        """Any tree -> where the state lives: the same on every device, or spread over them."""
        return jax.device_put(tree, jax.tree.map(self.placement, tree))

    def placement(self, leaf) -> NamedSharding:
        """Of one leaf of the state: whole, or cut along the longest axis that the devices divide."""
        count = len(self.devices)
        shape = np.shape(leaf)
        axes = [axis for axis, size in enumerate(shape) if size % count == 0]
        if not self.fsdp or not axes or np.prod(shape) < _WORTH_CUTTING:
            return self.replicated
        longest = max(axes, key=lambda axis: shape[axis])
        return NamedSharding(
            self.mesh, PartitionSpec(*(AXIS if axis == longest else None for axis in range(len(shape))))
        )

    def compile(self, step: Callable) -> Callable:
        """`step(state, frozen, batch, axis) -> (state, metrics)` -> a compiled `(state, frozen, batch) -> same`.

        `state` is donated: its buffers become the next state's. `frozen` never is. All come from `put` and `put_state`.
        """
        if self.driver == 'jit':

            def whole(state, frozen, batch):
                state, metrics = step(state, frozen, batch, Axis())
                placed = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self.placement(x)), state)
                return placed, metrics

            return jax.jit(whole, donate_argnums=0)
        mapped = jax.pmap(
            lambda state, frozen, batch: step(state, frozen, batch, Axis(AXIS)),
            axis_name=AXIS,
            in_axes=(None, None, 0),
            out_axes=None,
            donate_argnums=0,
            devices=self.devices,
        )
        count = len(self.devices)
        stack = jax.jit(lambda batch: jax.tree.map(lambda x: x.reshape((count, -1) + x.shape[1:]), batch))
        return lambda state, frozen, batch: mapped(state, frozen, stack(batch))

    def compile_forward(self, forward: Callable) -> Callable:
        """`forward(params, rows) -> rows`, compiled with rows sharded over the devices; the same for both drivers."""
        return jax.jit(forward, out_shardings=self.replicated)
