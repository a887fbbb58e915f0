"""The train steps and the exact search as programs for devices that are not here, and what they need, beside paper."""

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
    clip = tiny.clip(vision_width=64, text_width=64, embed_dim=64, **changes)
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


@pytest.mark.parametrize('kind', KINDS)
def test_every_train_step_lowers_for_cuda_and_tpu(kind):
    _, run, given = lowered(kind, dtype='bfloat16', scan=True)
    program = export.export(run, platforms=['cuda', 'tpu'])(*given)
    assert program.platforms == ('cuda', 'tpu') and len(program.mlir_module_serialized) > 10_000
    text = program.mlir_module()
    assert 'dot_general' in text and 'bf16' in text and 'while' in text
    taken = jax.tree.unflatten(program.in_tree, program.in_avals)[0][0]
    assert nbytes(taken) == nbytes(given[0]), 'a state goes in'


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_the_exact_search_lowers_for_cuda_and_tpu(dtype):
    exact = topk.Exact(np.zeros((4096, 32), dtype), jax.devices()[:1])
    run = topk._search(exact._mesh, exact._block, 16)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (exact._vector_GE, exact._all, np.zeros((8, 32), 'f'))]
    program = export.export(run, platforms=['cuda', 'tpu'])(*shapes)
    assert [x.shape for x in program.out_avals] == [(8, 16), (8, 16)]
    converted = 'tensor<4096x32xbf16>) -> tensor<4096x32xf32>' in program.mlir_module()
    assert not converted, 'vectors of two bytes are read as they are'


@pytest.mark.parametrize('kind', KINDS)
def test_operations_and_memory_of_a_compiled_step_are_those_on_paper(kind):
    small, large = (lowered(kind, rows) for rows in (24, 48))
    clip = small[0]
    compiled = [run.lower(*given).compile() for _, run, given in (small, large)]
    counted = [program.cost_analysis()['flops'] for program in compiled]
    paper = flops.train_pair(clip) + flops.method_pair(kind, clip, VIEWS)
    a_pair = (counted[1] - counted[0]) / 24  # what does not grow with the rows, the optimiser's, falls away
    assert 0.8 * a_pair < paper < 1.02 * a_pair  # the compiler also counts what is no matrix product
    for program, (_, _, (state, frozen, batch)) in zip(compiled, (small, large), strict=True):
        used = program.memory_analysis()
        assert nbytes(state) == pytest.approx(12 * nbytes(state.params) / 4, rel=0.02), 'parameters and two moments'
        paper_bytes = nbytes(state) + nbytes(frozen) + nbytes(batch)
        assert paper_bytes == pytest.approx(used.argument_size_in_bytes, rel=0.05)
        assert used.alias_size_in_bytes == pytest.approx(nbytes(state), rel=0.05), 'the next state takes its place'
    temporary = [program.memory_analysis().temp_size_in_bytes for program in compiled]
    assert 1.5 < temporary[1] / temporary[0] < 2.1, 'activations grow with the rows, and nothing faster'
