"""What a training step needs of memory:  python -m benchmarks.memory [--on cpu/float32 v5p:2x2x1/bfloat16]

XLA's own count of the temporary buffers of a baseline step, ViT-B/16 at 384 x 128, update included: plain, with
config.model.remat and with config.model.chunks. Programs are compiled and not run; no weights and no data are needed.
A TPU needs none either, but its compiler: the libtpu that jax[tpu] names. XLA for the CPU undoes remat (it drops the
barriers and joins what is computed twice), so `kept_gib` shows besides what JAX keeps for the gradient.
"""

import argparse
import math
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks import common
from benchmarks.step import BASE, MODELS, OPTIM, PEOPLE
from lcr2s_jax.arrays import Batch
from lcr2s_jax.method import stages
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP
from lcr2s_jax.training import optim, train
from lcr2s_jax.training.parallel import Axis

MODEL, VIEWS, GIB = 'vit-b16', 4, 2**30
VARIANTS = ({}, {'scan': True}, {'remat': True}, {'remat': True, 'scan': True}, {'chunks': 4}, {'chunks': 16})


def main() -> None:
    """Compile what the arguments ask for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=64, help='rows of a batch')
    parser.add_argument('--on', nargs='+', default=['cpu/float32'], help="device/dtype: 'cpu' or a TPU's topology")
    args = parser.parse_args()
    rows: list[dict] = []
    for place in args.on:
        topology, dtype = place.rsplit('/', 1)
        plain = 0.0
        for changes in VARIANTS:
            row = measured(topology, args.rows, dtype, **changes)
            plain = plain or row['temporary_gib']
            rows.append(row | {'of_plain': row['temporary_gib'] / plain})
            print(*(f'{name}={value}' for name, value in rows[-1].items()), flush=True)
    common.write('memory', rows)


def measured(topology: str, rows: int, dtype: str, **changes) -> dict:
    """What one program needs; `changes` are of the CLIP."""
    step, kept, state, batch = programs(rows, dtype, **changes)
    clock = time.perf_counter()
    used = step.lower(*placed((state, batch), topology)).compile().memory_analysis()
    return {
        'device': topology,
        'dtype': dtype,
        'rows': rows,
        'step': ', '.join(f'{name}={value}' for name, value in changes.items()) or 'plain',
        'temporary_gib': used.temp_size_in_bytes / GIB,
        'arguments_gib': used.argument_size_in_bytes / GIB,
        'kept_gib': size(jax.eval_shape(kept, state.params, batch)) / GIB,
        'compile_seconds': time.perf_counter() - clock,
    }


def programs(rows: int, dtype: str, **changes):
    """The jitted step, (params, batch) -> what the gradient needs, and the shapes of state and batch."""
    sizes = {name: value for name, value in MODELS[MODEL].items() if name != 'architecture'}
    clip = CLIP(**ARCHITECTURES[MODELS[MODEL]['architecture']], **sizes, dtype=dtype, **changes)
    tx = optim.adam(steps=1000, **OPTIM)

    def fresh(key):
        params = stages.baseline_stage(clip, clip.init_params(key), PEOPLE[MODEL], **BASE).init(key)
        return train.State(jnp.zeros((), jnp.int32), params, tx.init(params))

    # the loss takes its parameters from the state; the stage's own would be made for nothing
    loss = stages.baseline_stage(clip, None, PEOPLE[MODEL], **BASE).loss
    step = jax.jit(
        lambda state, batch: train.train_step(state, None, batch, Axis(), loss=loss, tx=tx, seed=0), donate_argnums=0
    )

    def kept(params, batch):
        return jax.vjp(lambda params: loss(params, None, batch, jax.random.key(0), Axis())[0], params)[1]

    shape = (rows // VIEWS, VIEWS)
    image, tokens = (*shape, *clip.image_size, 3), (*shape, clip.context_length)
    batch = Batch(
        jax.ShapeDtypeStruct(image, jnp.uint8),
        *(jax.ShapeDtypeStruct(x, jnp.int32) for x in (tokens, shape[:1], shape, shape)),
    )
    return step, kept, jax.eval_shape(fresh, jax.random.key(0)), batch


def placed(shapes, topology: str):
    """The shapes as they lie on one device of `topology`."""
    if topology == 'cpu':
        return shapes
    device = topologies.get_topology_desc(topology, platform='tpu').devices[0]
    place = SingleDeviceSharding(device)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)


def size(shapes) -> int:
    """Bytes of a tree of shapes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))


if __name__ == '__main__':
    main()
