"""The parts of benchmarks.device; each yields rows, in a process of its own:

    python -m benchmarks.device_parts --part search --out DIR --seconds 30 [--tiny]

What it needs is imported first; then it waits for a line on its standard input, so that imports cost no one's turn.
"""

import argparse
import functools
import gc
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import batches, common, device_steps, flops, profile, step, torch_step
from benchmarks.device_tools import (
    FULL,
    GIB,
    SMALL,
    attention_kernel,
    draw,
    first_line,
    model,
    peak_gib,
    repeated,
    timed,
    told_in,
)  # fmt: skip
from lcr2s_jax import files
from lcr2s_jax.search import topk
from lcr2s_jax.training.parallel import Parallel

K = 10  # of the search
COMPILED_AGAIN = 45.0  # seconds that torch takes to compile a step, about


def peak(tiny: bool, left: Callable[[], float]) -> Iterator[dict]:
    """Matrix products in every precision a step may have, and the bandwidth of a copy."""
    side = (SMALL if tiny else FULL).side
    for name, dtype, precision in (
        ('bfloat16', jnp.bfloat16, 'default'),
        ('float32, TF32', jnp.float32, 'default'),
        ('float32, full', jnp.float32, 'highest'),
    ):
        a, b = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in (0, 1))
        product = jax.jit(functools.partial(jnp.matmul, precision=precision))
        found = timed(repeated(lambda a=a, b=b, product=product: product(a, b)))
        yield {'what': name, 'side': side, 'tflops': 2e-12 * side**3 / found['fastest']}
    x = jnp.ones((16 * side, side), jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    found = timed(repeated(lambda: copy(x)))
    yield {'what': 'copy, read and written', 'bytes': x.nbytes, 'gb_per_s': 2e-9 * x.nbytes / found['fastest']}


def torch_steps(tiny: bool, left: Callable[[], float]) -> Iterator[dict]:
    """transformers' CLIPModel: eager and compiled; InfoNCE, where ours also has the identity classifier."""
    import torch

    few, usual, many = (SMALL if tiny else FULL).rows
    for rows, dtype, compiled, checkpoints in (
        (usual, 'bfloat16', False, False),
        (usual, 'bfloat16', True, False),
        (many, 'bfloat16', False, False),
        (many, 'bfloat16', False, True),
        (few, 'bfloat16', False, False),
        (usual, 'float32', False, False),
        (usual, 'float32', True, False),
        (few, 'bfloat16', True, False),
        (few, 'float32', False, False),
    ):
        how = ('compiled' if compiled else 'eager') + ', checkpointing' * checkpoints
        row = {'what': 'torch CLIPModel', 'rows': rows, 'dtype': dtype, 'attention': 'sdpa', 'how': how}
        first = (rows, dtype) == (usual, 'bfloat16')
        if left() < (0 if first or not compiled else COMPILED_AGAIN):
            yield row | {'left_out': device_steps.LEFT_OUT}
            continue
        clip, clock = model(tiny, dtype=dtype), time.perf_counter()
        with told_in(row):
            batch = batches.random_batch(clip, rows // step.VIEWS, step.VIEWS)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            call = torch_step.stepper(clip, batch, step.OPTIM, compiled, checkpoints)
            call()
            row['compile_seconds'] = time.perf_counter() - clock
            found = timed(call)
            row |= {name: found[name] for name in ('seconds', 'fastest', 'slowest')}
            row |= {'pairs_per_s': rows / found['seconds'], 'teraflop': rows * flops.train_pair(clip) / 1e12}
            row['tflops'] = row['teraflop'] / found['seconds']
        call = None
        gc.collect()
        if torch.cuda.is_available():
            row['peak_gib'] = torch.cuda.max_memory_allocated() / GIB
            torch.cuda.empty_cache()
        yield row


def search(tiny: bool, left: Callable[[], float]) -> Iterator[dict]:
    """Exact search of bfloat16 unit vectors that lie on the device: latency of single queries and of 64 together."""
    size = SMALL if tiny else FULL
    vector_GE = unit_vectors(size.vectors, size.width)
    rng = np.random.default_rng(0)
    plain = plain_best(vector_GE, query := rng.normal(size=(1, size.width)).astype(np.float32))
    exact = topk.Exact(vector_GE)
    for queries in (1, 64):
        row = {'vectors': size.vectors, 'width': size.width, 'queries': queries}
        with told_in(row):
            clock = time.perf_counter()
            rows_K = exact(np.repeat(query, queries, axis=0), K)[1][-1]
            row['compile_seconds'] = time.perf_counter() - clock
            row['rows_as_by_a_plain_product'] = f'{len(set(rows_K.tolist()) & plain)} of {K}'
            seconds: list[float] = []
            while len(seconds) < size.answers and left() > 0:
                asked = rng.normal(size=(queries, size.width)).astype(np.float32)
                clock = time.perf_counter()
                exact(asked, K)
                seconds.append(time.perf_counter() - clock)
            p50, p99 = (float(x) for x in np.percentile(seconds, (50, 99)))
            row |= {'answers': len(seconds), 'p50_ms': 1e3 * p50, 'p99_ms': 1e3 * p99}
            row |= {'queries_per_s': queries / p50, 'bytes': vector_GE.nbytes, 'peak_gib': peak_gib()}
        yield row


def unit_vectors(count: int, width: int) -> jax.Array:
    """bfloat16 [count, width] of length 1, drawn on the device, part by part."""
    part = min(count, 2**14)

    def some(key):
        x = jax.random.normal(key, (part, width))
        return (x / jnp.linalg.norm(x, axis=1, keepdims=True)).astype(jnp.bfloat16)

    draw_all = jax.jit(lambda key: jax.lax.map(some, jax.random.split(key, count // part)).reshape(count, width))
    return jax.block_until_ready(draw_all(jax.random.key(1)))


def plain_best(vector_GE: jax.Array, query_1E: np.ndarray) -> set[int]:
    """The K best rows by a product in float32 and a sort, on the host."""
    part = min(len(vector_GE), 2**14)
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    score = jax.jit(lambda v, q: jax.lax.map(lambda x: product(x.astype(jnp.float32), q), v.reshape(-1, part, q.size)))
    return set(np.argsort(-np.asarray(score(vector_GE, query_1E[0])).ravel())[:K].tolist())


def gallery(tiny: bool, left: Callable[[], float]) -> Iterator[dict]:
    """Images and captions embedded in bfloat16: resident, and from the host's memory as evaluation does it."""
    size, parallel = SMALL if tiny else FULL, Parallel('jit', 1, fsdp=False)
    kernel, _ = attention_kernel()
    clip = model(tiny, dtype='bfloat16', kernel=kernel)
    params = parallel.put_state(draw(jax.eval_shape(lambda key: clip.init_params(key), jax.random.key(0))))
    batch = batches.random_batch(clip, size.batch // step.VIEWS, step.VIEWS)
    for scan in (True, False):
        for what, rows, method, operations in (
            ('images', batch.image_BKhwc, 'encode_image', flops.embed_image(clip)),
            ('captions', batch.tokens_BKL, 'encode_text', flops.embed_text(clip)),
        ):
            row = {'what': what, 'rows': size.batch, 'dtype': 'bfloat16', 'attention': kernel, 'how': 'scan' * scan}
            if left() <= 0:
                yield row | {'left_out': device_steps.LEFT_OUT}
                continue
            with told_in(row):
                row |= embedding_rates(clip.copy(scan=scan), method, params, rows, size.batches, parallel)
                row |= {'tflops': row['resident_per_s'] * operations / 1e12, 'peak_gib': peak_gib()}
            yield row


def embedding_rates(clip, method: str, params, rows_BK: np.ndarray, batches: int, parallel: Parallel) -> dict:
    """Rows a second, resident on the device and from the host."""
    rows = rows_BK.reshape(-1, *rows_BK.shape[2:])
    forward = parallel.compile_forward(lambda params, rows: clip.apply({'params': params}, rows, method=method))
    clock, resident = time.perf_counter(), parallel.put(rows)
    jax.block_until_ready(forward(params, resident))
    compile_seconds = time.perf_counter() - clock

    def from_host(n: int) -> None:
        for _ in range(n):
            [np.asarray(x) for x in [forward(params, parallel.put(rows)) for _ in range(batches)]]

    return {
        'compile_seconds': compile_seconds,
        'resident_per_s': len(rows) / timed(repeated(lambda: forward(params, resident)))['seconds'],
        'from_host_per_s': len(rows) * batches / timed(from_host, 3)['seconds'],
    }


def profiled(tiny: bool, left: Callable[[], float]) -> Iterator[dict]:
    """Where the time of the first of the training steps goes: kernels by name."""
    steps = device_steps.Steps(tiny)
    case = device_steps.waves(attention_kernel()[0], steps.size.rows)[0][0]
    steps.lower(case)()
    call = steps.running(case)
    call(2)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            clock = time.perf_counter()
            call(profile.STEPS)
            seconds = (time.perf_counter() - clock) / profile.STEPS
        newest = max(pathlib.Path(folder).rglob('*.xplane.pb'), key=lambda path: path.stat().st_mtime)
        spent = profile.operations(jax.profiler.ProfileData.from_file(str(newest)))
    busy = sum(seconds for seconds, _ in spent.values()) / profile.STEPS
    yield device_steps.about(case) | {'what': 'step', 'seconds': seconds, 'busy_seconds': busy}
    for name, (total, count) in sorted(spent.items(), key=lambda item: -item[1][0])[:30]:
        each = {'ms_a_step': 1e3 * total / profile.STEPS, 'calls_a_step': count / profile.STEPS}
        yield {'what': name, **each, 'share': total / profile.STEPS / busy}


PARTS = {
    'peak': peak,
    'step': device_steps.train_steps,
    'torch': torch_steps,
    'search': search,
    'gallery': gallery,
    'profile': profiled,
}


def main() -> int:
    """Measure one part; its file is written anew with every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--part', required=True, choices=list(PARTS), help='what is measured')
    parser.add_argument('--out', type=pathlib.Path, required=True, help='folder of the results')
    parser.add_argument('--seconds', type=float, required=True, help='begin nothing new after so many')
    parser.add_argument(
        '--waves', nargs='*', type=int, default=[], help='of training steps these alone, see device_steps'
    )
    parser.add_argument('--tiny', action='store_true', help='sizes that say nothing, to test the program itself')
    args = parser.parse_args()
    if args.part == 'torch':
        import torch
        import transformers  # noqa: F401
    sys.stdin.readline()
    clock, rows, path = time.perf_counter(), [], args.out / f'{args.part}.json'
    found: dict = {'part': args.part, 'rows': rows, 'error': None, 'done': False}
    try:
        found['machine'] = common.machine()
        if args.part == 'torch' and torch.cuda.is_available():
            found['machine']['device'] = torch.cuda.get_device_name()  # JAX is kept away from it here
        more = {'chosen': args.waves} if args.part == 'step' else {}
        for row in PARTS[args.part](args.tiny, lambda: args.seconds - (time.perf_counter() - clock), **more):
            rows.append(row)
            files.write(path, files.to_json(found | {'seconds': time.perf_counter() - clock}))
        found['done'] = True
    except Exception as error:
        found['error'] = first_line(error)
        raise
    finally:
        files.write(path, files.to_json(found | {'seconds': time.perf_counter() - clock}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
