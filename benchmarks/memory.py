"""What a training step needs of memory:  python -m benchmarks.memory [--rows 64] [--topologies cpu v5p:2x2x1]

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
from lcr2s_jax import optim, stages, train
from lcr2s_jax.arrays import Batch
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP
from lcr2s_jax.parallel import Axis

MODEL, VIEWS, GIB = 'vit-b16', 4, 2**30
VARIANTS = ({}, {'remat': True}, {'chunks': 4}, {'chunks': 16})


def main() -> None:
    """Compile what the arguments ask for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=64)
    parser.add_argument('--topologies', nargs='+', default=['cpu'], help="'cpu', or a TPU's such as v5p:2x2x1")
    parser.add_argument('--dtypes', nargs='+', default=['float32'], choices=['float32', 'bfloat16'])
    args = parser.parse_args()
    rows: list[dict] = []
    for topology in args.topologies:
        for dtype in args.dtypes:
            rows += measured(topology, args.rows, dtype)
    command = f'--rows {args.rows} --topologies {" ".join(args.topologies)} --dtypes {" ".join(args.dtypes)}'
    common.write('memory', rows, f'python -m benchmarks.memory {command}')


def measured(topology: str, rows: int, dtype: str) -> list[dict]:
    """One row for each of VARIANTS."""
    found: list[dict] = []
    for changes in VARIANTS:
        step, kept, state, batch = programs(rows, dtype, **changes)
        clock = time.perf_counter()
        used = step.lower(*placed((state, batch), topology)).compile().memory_analysis()
        seconds = time.perf_counter() - clock
        temporary = used.temp_size_in_bytes / GIB
        found.append(
            {
                'device': topology,
                'dtype': dtype,
                'rows': rows,
                'step': ', '.join(f'{name}={value}' for name, value in changes.items()) or 'plain',
                'temporary_gib': temporary,
                'of_plain': temporary / found[0]['temporary_gib'] if found else 1.0,
                'kept_gib': size(jax.eval_shape(kept, state.params, batch)) / GIB,
                'arguments_gib': used.argument_size_in_bytes / GIB,
                'compile_seconds': seconds,
            }
        )
    return found


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
        *(jax.ShapeDtypeStruct(x, jnp.int32) for x in (tokens, shape[:1], shape)),
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
