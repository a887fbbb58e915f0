"""The k best of many vectors, exactly: in blocks, on every device, then merged; equal scores rank by row number.

A block's rows are cut into short runs, and only the runs with the k best maxima can hold one of its k best: a maximum
is far cheaper than a sort. Ours, and exact, ties included: if k runs come before a run, by maximum and then by place,
so do k rows come before each of its rows.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

BLOCK = 16_384  # rows compared at a time, a power of two: what a CPU's caches like
_LARGE_BLOCK = 2**20  # on other devices, where every block costs a dozen launches
_SCORES = 2**27  # numbers held at a time
_RUN = 64  # rows of a run
_AXIS = 'rows'


class Exact:
    """Vectors on the devices, ready to be compared; devices None are all of this host.

    vector_GE is float32, or bfloat16 for half the memory and the same scores of what it holds; unit vectors make the
    scores cosines.
    """

    def __init__(self, vector_GE: np.ndarray, devices=None):
        chex.assert_rank(vector_GE, 2)
        self.count, self.width = vector_GE.shape
        devices = np.asarray(devices or jax.local_devices())
        mesh = jax.sharding.Mesh(devices, (_AXIS,), axis_types=(AxisType.Auto,))
        self._mesh, self._whole = mesh, NamedSharding(mesh, PartitionSpec())
        self._by_row = NamedSharding(mesh, PartitionSpec(_AXIS))
        # a function of the number of rows alone, so that any number of devices adds up in the same order
        block = BLOCK if devices.flat[0].platform == 'cpu' else _LARGE_BLOCK
        self._block = min(block, max(_RUN, _power(self.count)))
        blocks = -(-max(self.count, 1) // self._block)
        self._rows = -(-blocks // len(devices)) * len(devices) * self._block
        self._vector_GE = jax.make_array_from_callback(
            (self._rows, self.width), self._by_row, lambda index: _filled(vector_GE, index[0], self._rows)
        )
        self._all = jax.device_put(np.arange(self._rows) < self.count, self._by_row)

    def __call__(self, query_QE: np.ndarray, k: int, allowed_G: np.ndarray | None = None):
        """score_QK float32, falling, and row_QK int32, the best rows of every query; -inf and -1 behind the last row.

        query_QE is float32, allowed_G bool, the rows that may be found, None for all. Fewer than k come where there are
        fewer rows.
        """
        chex.assert_shape(query_QE, (None, self.width))
        queries, k = len(query_QE), min(k, self._rows)
        wide, deep = _power(queries), min(_power(k), self._rows)  # few sizes, so few programs
        query_QE = np.pad(np.asarray(query_QE, np.float32), ((0, wide - queries), (0, 0)))
        allowed = self._all
        if allowed_G is not None:
            chex.assert_shape(allowed_G, (self.count,))
            allowed = jax.device_put(np.pad(allowed_G, (0, self._rows - self.count)), self._by_row)
        block = max(min(self._block, _power(_SCORES // wide)), min(self._block, BLOCK))
        found = _search(self._mesh, block, deep)(self._vector_GE, allowed, jax.device_put(query_QE, self._whole))
        score_QK, row_QK = (np.asarray(x)[:queries, :k] for x in found)
        return score_QK, np.where(np.isneginf(score_QK), -1, row_QK)

    def scores(self, query_QE: np.ndarray, row_QK: np.ndarray) -> np.ndarray:
        """The scores [Q, K] of some rows of each query; -inf for a row of -1."""
        chex.assert_shape(query_QE, (None, self.width))
        chex.assert_shape(row_QK, (len(query_QE), None))
        shape = _power(row_QK.shape[0]), _power(row_QK.shape[1])
        query_QE = np.pad(np.asarray(query_QE, np.float32), ((0, shape[0] - len(query_QE)), (0, 0)))
        rows = np.pad(row_QK, [(0, wide - size) for wide, size in zip(shape, row_QK.shape, strict=True)])
        put = (jax.device_put(x, self._whole) for x in (query_QE, np.asarray(rows, np.int32)))
        found = np.asarray(_scores(self._mesh)(self._vector_GE, *put))[: row_QK.shape[0], : row_QK.shape[1]]
        return np.where(row_QK < 0, -np.inf, found)


@functools.cache
def _scores(mesh):
    def shard(vector_GE, query_QE, row_QK):
        row_QK = row_QK - jax.lax.axis_index(_AXIS) * vector_GE.shape[0]
        here = (row_QK >= 0) & (row_QK < vector_GE.shape[0])
        some_QKE = jnp.take(vector_GE, jnp.where(here, row_QK, 0), axis=0)
        score_QK = jnp.einsum('qe,qke->qk', query_QE, some_QKE, precision=jax.lax.Precision.HIGHEST)
        return jax.lax.psum(jnp.where(here, score_QK, 0.0), _AXIS)  # each row is on one device

    rows, whole = PartitionSpec(_AXIS), PartitionSpec()
    return jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=(rows, whole, whole), out_specs=whole, check_vma=False))


@functools.cache
def _search(mesh, block: int, k: int):
    def shard(vector_GE, allowed_G, query_QE):
        blocks = vector_GE.shape[0] // block
        offset = jax.lax.axis_index(_AXIS) * vector_GE.shape[0]

        def one(best, number):
            start = number * block
            rows = jax.lax.dynamic_slice_in_dim(vector_GE, start, block)
            allowed = jax.lax.dynamic_slice_in_dim(allowed_G, start, block)
            score_QG = _product(query_QE, rows)
            score_QK, row_QK = _best(jnp.where(allowed, score_QG, -jnp.inf), min(k, block))
            return _merge(best, (score_QK, row_QK + start + offset), k), None

        queries = query_QE.shape[0]
        none = jnp.full((queries, k), -jnp.inf), jnp.full((queries, k), jnp.iinfo(jnp.int32).max, jnp.int32)
        best, _ = jax.lax.scan(one, none, jnp.arange(blocks))
        every = (jax.lax.all_gather(x, _AXIS, axis=1, tiled=True) for x in best)
        return _take(*every, k)

    rows, whole = PartitionSpec(_AXIS), PartitionSpec()
    return jax.jit(
        jax.shard_map(shard, mesh=mesh, in_specs=(rows, rows, whole), out_specs=(whole, whole), check_vma=False)
    )


def _product(query_QE: jax.Array, vector_GE: jax.Array) -> jax.Array:
    """Scores in full float32.

    Vectors in bfloat16 stay as they are: a float32 number is the sum of three in bfloat16, whose products with them are
    exact, so that matrix units multiply and no float32 copy of the vectors is made.
    """
    if vector_GE.dtype != jnp.bfloat16 or len(query_QE) == 1:  # one query alone: bound by reading either way
        return jnp.matmul(query_QE, vector_GE.T, precision=jax.lax.Precision.HIGHEST)
    parts, rest = [], query_QE
    for _ in range(3):
        parts.append(jax.lax.reduce_precision(rest, exponent_bits=8, mantissa_bits=7))
        rest = rest - parts[-1]
    stacked = jnp.concatenate(parts).astype(jnp.bfloat16)
    found = jnp.matmul(stacked, vector_GE.T, preferred_element_type=jnp.float32)
    return found.reshape(3, *query_QE.shape[:1], -1).sum(axis=0)


def _best(score_QG: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k best of a block and their places; the lower place first where scores are equal."""
    queries, block = score_QG.shape
    runs = block // _RUN
    if k >= runs:
        return jax.lax.top_k(score_QG, k)
    run_QRr = score_QG.reshape(queries, runs, _RUN)
    _, run_QK = jax.lax.top_k(run_QRr.max(axis=2), k)
    run_QK = jnp.sort(run_QK, axis=1)  # so that places rise within what is compared
    some = jnp.take_along_axis(run_QRr, run_QK[:, :, None], axis=1).reshape(queries, -1)
    score_QK, place_QK = jax.lax.top_k(some, k)
    return score_QK, jnp.take_along_axis(run_QK, place_QK // _RUN, axis=1) * _RUN + place_QK % _RUN


def _merge(one, other, k: int):
    """Two lists, each falling, the rows of `one` before those of `other`."""
    return _take(*(jnp.concatenate(pair, axis=1) for pair in zip(one, other, strict=True)), k)


def _take(score, row, k: int):
    score, place = jax.lax.top_k(score, k)
    return score, jnp.take_along_axis(row, place, axis=1)


def _filled(vector_GE: np.ndarray, rows: slice, total: int) -> np.ndarray:
    """Some rows of the vectors, zeros behind the last."""
    start, stop, _ = rows.indices(total)
    part = vector_GE[start:stop]
    return np.pad(part, ((0, stop - start - len(part)), (0, 0))) if len(part) < stop - start else part


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()
