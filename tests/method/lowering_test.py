"""The train steps and the exact search as programs for devices that are not here, and what they need, beside paper."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from benchmarks import flops, step
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.search import topk
from lcr2s_jax.training import optim, train
from lcr2s_jax.training.parallel import Parallel
from tests import tiny, tiny_runs

VIEWS = 3
KINDS = ('baseline', 'teacher', 'student, teacher cached', 'student')


def lowered(kind, rows=24, **changes):
    """(the jitted step, what it takes) of a stage whose matrices are wide enough to be nearly all of its operations."""
    sizes = dict(vision_width=64, vision_layers=2, text_width=64, text_layers=2, embed_dim=64)
    clip = tiny.clip(**sizes | changes)
    batch = tiny.batch(identities=rows // VIEWS, views=VIEWS)
    cached = np.zeros((rows, clip.embed_dim), np.float32)
    with_cache = kind == 'student, teacher cached'
    cache = Embeddings(cached, cached, None, None, None, None) if with_cache else None
    stage = tiny.stage(kind.split(',')[0], clip, cache, **({'cache_teacher': True} if with_cache else {}))
    tx, parallel = optim.adam(steps=10, **tiny_runs.OPTIM), Parallel('jit', 1, fsdp=False)
    state = train.shaped_state(stage, tx, parallel, seed=0)
    given = state, parallel.put_state(stage.frozen), parallel.put(batch)
    return clip, step.jitted(stage, tx, parallel), given


def nbytes(tree):
    """Of all leaves, shapes or arrays."""
    return sum(np.prod(x.shape, dtype=int) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.parametrize('kind', KINDS[:3])
def test_every_train_step_lowers_for_cuda_and_tpu(kind):
    _, run, given = lowered(kind, dtype='bfloat16', scan=True, vision_layers=3, text_layers=3)
    program = export.export(run, platforms=['cuda', 'tpu'])(*given)
    assert program.platforms == ('cuda', 'tpu')
    text = program.mlir_module()
    assert 'dot_general' in text and 'bf16' in text and 'while' in text
    assert nbytes(program.in_avals) == nbytes(given)
    assert nbytes(program.out_avals) >= nbytes(given[0]), 'the next state comes out'


@pytest.mark.parametrize('queries', [1, 8])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_the_exact_search_lowers_for_cuda_and_tpu(dtype, queries):
    exact = topk.Exact(np.zeros((4096, 32), dtype), jax.devices()[:1])
    run, query = topk._search(exact._mesh, exact._block, 16), np.zeros((queries, 32), np.float32)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (exact._vector_GE, exact._all, query)]
    program = export.export(run, platforms=['cuda', 'tpu'])(*shapes)
    assert [x.shape for x in program.out_avals] == [(queries, 16), (queries, 16)]
    copied = re.search(r'convert .*4096.*xbf16>\) -> tensor<.*4096.*xf32>', program.mlir_module()) is not None
    assert copied == (dtype == jnp.bfloat16 and queries == 1), 'many queries meet vectors of two bytes as they are'


@pytest.mark.parametrize(
    'kind', ['student, teacher cached', *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[:2] + KINDS[3:])]
)
def test_operations_and_memory_of_a_compiled_step_are_those_on_paper(kind):
    clip, run, (state, frozen, batch) = lowered(kind)
    program = run.lower(state, frozen, batch).compile()
    counted, used = program.cost_analysis()['flops'], program.memory_analysis()
    paper = batch.rows * (flops.train_pair(clip) + flops.method_pair(kind, clip, VIEWS))
    assert 0.85 * counted < paper < counted  # the compiler also counts what is no matrix product
    assert nbytes(state) == pytest.approx(3 * nbytes(state.params), rel=0.02), 'parameters and two moments'
    taken = nbytes(state) + nbytes(frozen) + nbytes(batch)
    assert taken == pytest.approx(used.argument_size_in_bytes, rel=0.05)
    assert used.alias_size_in_bytes == pytest.approx(nbytes(state), rel=0.05), 'the next state takes its place'
    activations = batch.rows * 4 * layers_kept(clip)
    assert activations < used.temp_size_in_bytes < 2 * activations + 2 * nbytes(state.params)


def layers_kept(clip):
    """Numbers that the gradient needs of a pair: of a token 18 of a layer's width and its row of the weights, twice."""
    rows, columns = clip.grid
    towers = (
        (rows * columns + 1, clip.vision_width, clip.vision_heads, clip.vision_layers),
        (clip.context_length, clip.text_width, clip.text_heads, clip.text_layers),
    )  # the last layer has one query a tower
    return sum((layers - 1) * tokens * (18 * width + 2 * heads * tokens) for tokens, width, heads, layers in towers)
