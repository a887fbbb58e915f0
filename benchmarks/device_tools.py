"""What the parts of benchmarks.device share: sizes, random parameters, timing without waiting in between."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common, step
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP
from lcr2s_jax.models.layers import attend

GIB = 2**30
ROUNDS, ROUND_SECONDS = 5, 0.25  # of a timing: the median of so many rounds, each of about so long
TINY = dict(
    image_size=(16, 8), patch_size=4, vision_width=16, vision_layers=2, vision_heads=2, text_width=16, text_layers=2,
    text_heads=2, context_length=24, vocab_size=50, embed_dim=16,
)  # fmt: skip


class Size(NamedTuple):
    """How large everything is: that of the real figures, or one that a CPU runs in seconds."""

    side: int  # of the matrices
    rows: tuple[int, int, int]  # of a batch: few, usual, many
    people: int
    vectors: int
    width: int  # of a vector
    answers: int  # queries timed one after the other
    batch: int  # rows of an embedding batch
    batches: int


FULL = Size(8192, (64, 256, 1024), step.PEOPLE['vit-b16'], 10 * 2**20, 512, 200, 1024, 8)
SMALL = Size(128, (8, 16, 32), 20, 4096, 16, 5, 16, 2)


def model(tiny: bool, **how) -> CLIP:
    """ViT-B/16 at 384 x 128, or the smallest that has every part."""
    if tiny:
        return CLIP(**TINY, **how)
    sizes = dict(step.MODELS['vit-b16'])
    return CLIP(**ARCHITECTURES[sizes.pop('architecture')], **sizes, **how)


def draw(shapes, seed: int = 0):
    """Random f32 parameters of a tree of shapes, by NumPy: compiling the initialisers would cost the device's time."""
    rng = np.random.default_rng(seed)

    def leaf(path, x):
        noise = 0.02 * rng.standard_normal(x.shape, np.float32)
        return noise + np.float32(path[-1].key == 'scale')

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def attention_kernel() -> tuple[str, str]:
    """The fastest attention that this device has for bfloat16, and why it is not cuDNN's where it is not."""
    if jax.default_backend() != 'gpu':
        return 'xla', f'{jax.default_backend()} is no GPU'
    try:
        q = jnp.ones((2, 194, 2, 64), jnp.bfloat16)  # an image's places, filled up to an even number
        for causal in (False, True):
            kernel = functools.partial(attend, kernel='cudnn', causal=causal, keys=193)
            grad = jax.grad(lambda q, kernel=kernel: kernel(q, q, q).astype(jnp.float32).sum())
            jax.block_until_ready(jax.jit(grad)(q))
        return 'cudnn', ''
    except Exception as error:  # a missing library, an old one, a refused shape: told, and the steps go without
        return 'xla', first_line(error)


def first_line(error: Exception) -> str:
    """What an error says, short."""
    return f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ""}'[:200]


def peak_gib() -> float | None:
    """The most memory that this process held on its device so far; None where JAX does not say."""
    used = jax.devices()[0].memory_stats() or {}
    return used['peak_bytes_in_use'] / GIB if 'peak_bytes_in_use' in used else None


def timed(call: Callable[[int], None], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of one of the things that `call(n)` does n times and waits for; warms up first."""
    return timed_in_turns({'': call}, rounds)['']


def timed_in_turns(calls: dict, rounds: int = ROUNDS) -> dict:
    """The same for several, which take turns; also the median over the rounds of the ratio to each other one."""
    repeats = {}
    for name, call in calls.items():
        call(1)
        clock = time.perf_counter()
        call(1)
        repeats[name] = int(np.clip(ROUND_SECONDS / (time.perf_counter() - clock), 1, 100))
    turns = common.interleaved({name: functools.partial(call, repeats[name]) for name, call in calls.items()}, rounds)
    each = {name: [x / repeats[name] for x in values] for name, values in turns.items()}
    return {
        name: {
            'seconds': float(np.median(values)),
            'fastest': min(values),
            'slowest': max(values),
            'ratios': {other: common.ratio(each, name, other) for other in each},
        }
        for name, values in each.items()
    }


def repeated(run: Callable) -> Callable[[int], None]:
    """n -> None: `run()` n times, the device never waiting for the host, then waited for."""

    def call(n: int) -> None:
        for _ in range(n):
            last = run()  # those before are given up: a hundred large results do not fit on a device
        jax.block_until_ready(last)

    return call


@contextlib.contextmanager
def told_in(row: dict):
    """A block whose error is told in a row."""
    try:
        yield
    except Exception as error:
        row['failed'] = first_line(error)
