"""Many devices, one step: the collective axis, the mesh, and the two drivers that run the same per-device function.

Under `jit` the arrays are global and the compiler places the communication; under `pmap` each device holds its rows
and `Axis` does it by name. Gradients agree because the loss is averaged *inside* the differentiated function.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lcr2s_jax.errors import ConfigError

AXIS = 'data'


@dataclasses.dataclass(frozen=True)
class Axis:
    """The batch axis as a step sees it.

    Attributes:
      name: of the pmap axis; None where arrays are global already and nothing is to be done.
    """

    name: str | None = None

    def gather(self, x: jax.Array) -> jax.Array:
        """Rows of this device -> rows of the global batch, on axis 0, in device order."""
        return x if self.name is None else jax.lax.all_gather(x, self.name, axis=0, tiled=True)

    def mean(self, tree):
        """Mean over devices of every leaf."""
        return tree if self.name is None else jax.lax.pmean(tree, self.name)

    def slots(self, count: int) -> jax.Array:
        """Where this device's `count` rows stand globally: draw by it, and any device count draws the same."""
        first = 0 if self.name is None else jax.lax.axis_index(self.name) * count
        return first + jnp.arange(count)


class Parallel:
    """Where arrays live and how a step is compiled.

    Args:
      driver: 'jit' (global arrays with shardings) or 'pmap' (one program a device, named axis).
      devices: how many of the devices to use; 0 for all.
    """

    def __init__(self, driver: str, devices: int):
        if driver not in ('jit', 'pmap'):
            raise ConfigError(f"config.parallel.driver: found '{driver}', expected 'jit' or 'pmap'")
        if driver == 'pmap' and jax.process_count() > 1:
            raise ConfigError("config.parallel.driver: found 'pmap' on several hosts, expected 'jit' there")
        found = jax.devices()
        if devices > len(found):
            raise ConfigError(f'config.parallel.devices: found {len(found)} devices, {devices} are asked for')
        self.driver = driver
        self.devices = found[: devices or None]
        self.mesh = jax.sharding.Mesh(np.asarray(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.sharded = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def put(self, batch):
        """This host's rows (axis 0 of every leaf) -> the global batch, sharded over the devices.

        Raises ConfigError when the rows cannot be divided among the devices.
        """
        local = sum(d.process_index == jax.process_index() for d in self.devices)
        rows = jax.tree.leaves(batch)[0].shape[0]
        if rows % local:
            raise ConfigError(
                f'found {rows} identities or rows on a host, expected a multiple of its {local} devices; change '
                'config.batch.identities, config.evaluate.batch_size or config.parallel.devices'
            )
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.sharded, np.asarray(x)), batch)

    def put_state(self, tree):
        """Any tree -> the same on every device."""
        return jax.device_put(tree, self.replicated)

    def compile(self, step: Callable) -> Callable:
        """`step(state, frozen, batch, axis) -> (state, metrics)` -> a compiled `(state, frozen, batch) -> same`.

        `state` is donated: its buffers become the next state's. `frozen` never is.
        """
        if self.driver == 'jit':
            return jax.jit(
                lambda state, frozen, batch: step(state, frozen, batch, Axis()),
                in_shardings=(self.replicated, self.replicated, self.sharded),
                out_shardings=self.replicated,
                donate_argnums=0,
            )
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
        return jax.jit(forward, in_shardings=(self.replicated, self.sharded), out_shardings=self.replicated)
