"""Exact and approximate search beside faiss:  python -m benchmarks.search [--count=1000000] [--only=exact]

Claims: exact search is no slower than faiss's IndexFlatIP; the approximate one is ten times faster than exact at
recall@10 >= 0.95. Vectors lie as embeddings of people do: alike outfits, people, views, a falling spectrum; queries
are other views of the same people. Each contestant takes turns with the exact search, on all cores. Approximate ones
run at the cheapest of some settings that reaches the recall on other queries than those that are timed.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from lcr2s_jax.search.topk import Exact

WIDTH, TOP, RECALL = 512, 10, 0.95
TUNING, TIMED = 128, 256  # queries
PROBES = (4, 8, 16, 24, 32, 40, 48, 64, 96, 128)


def vectors(count: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit float32 [count, WIDTH] and [queries, WIDTH]: 500 pictures an outfit, 20 a person."""
    rng = np.random.default_rng(seed)
    spectrum = (1 / np.sqrt(1 + np.arange(WIDTH))).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)

    def noise(rows):
        return rng.standard_normal((rows, WIDTH), np.float32) * spectrum

    people = max(count // 20, 1)
    person = noise(max(people // 25, 1))[rng.integers(max(people // 25, 1), size=people)] + 0.6 * noise(people)
    found = np.empty((count + queries, WIDTH), np.float32)
    for start in range(0, len(found), 65_536):
        part = found[start : start + 65_536]
        x = person[rng.integers(people, size=len(part))] + 0.5 * noise(len(part))
        part[:] = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ turn
    return found[:count], found[count:]


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean share of the true ten that were found."""
    return float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, truth, strict=True)]))


def rotating(search, query_QE: np.ndarray, batch: int):
    """A call that searches for the next `batch` queries each time."""
    place = [0]

    def call():
        rows = np.arange(place[0], place[0] + batch) % len(query_QE)
        place[0] += batch
        return search(query_QE[rows])

    return call


def tuned(name: str, search, settings, tuning_QE: np.ndarray, truth: np.ndarray):
    """The cheapest setting that reaches RECALL: (search with it, setting, recall), or the last one."""
    for setting in settings:
        reached = recall(search(tuning_QE, setting), truth)
        print(f'{name} {setting}: recall@10 {reached:.3f}', flush=True)
        if reached >= RECALL:
            break
    return (lambda query_QE: search(query_QE, setting)), str(setting), reached


def faiss_indexes(vector_GE: np.ndarray) -> dict:
    """Name -> (search, settings), flat and with as many inverted lists as ours."""
    import faiss

    faiss.omp_set_num_threads(os.cpu_count())
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(vector_GE)
    clock, lists = time.perf_counter(), max(1, len(vector_GE) // 1024)
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, lists, faiss.METRIC_INNER_PRODUCT)
    inverted.train(vector_GE[:: max(1, len(vector_GE) // (64 * lists))])
    inverted.add(vector_GE)
    print(f'faiss IndexIVFFlat: built in {time.perf_counter() - clock:.0f} s', flush=True)

    def search(query_QE, probes):
        inverted.nprobe = probes
        return inverted.search(query_QE, TOP)[1]

    return {
        'faiss IndexFlatIP': (lambda query_QE: flat.search(query_QE, TOP)[1], None),
        'faiss IndexIVFFlat': (search, PROBES),
    }


def lance_indexes(vector_GE: np.ndarray, exact: Exact, folder: str):
    """Name, search and settings of lcr2s_jax.search.approximate over a table such as an index has, one at a time."""
    from lcr2s_jax.search import approximate
    from lcr2s_jax.search.gallery import OK, Gallery, Row

    clock, gallery = time.perf_counter(), Gallery(folder, WIDTH)
    for start in range(0, len(vector_GE), 65_536):
        part = vector_GE[start : start + 65_536]
        gallery.put('r', [Row(str(start + i), '', 0, 0, OK, x) for i, x in enumerate(part)], new=True)
    gallery.tidy()
    print(f'lancedb: written in {time.perf_counter() - clock:.0f} s', flush=True)
    row_G = gallery.vectors()[1]  # rows of the table in the order in which they were put
    for codes, name in (('pq', 'lancedb IVF_PQ'), ('rq', 'lancedb IVF_RQ (ours)')):
        clock = time.perf_counter()
        approximate.build(gallery, codes)
        print(f'{name}: built in {time.perf_counter() - clock:.0f} s', flush=True)
        for memory, place in (((exact, row_G), 'memory'), (None, 'disk')):

            def search(query_QE, setting, memory=memory):
                probes, refine = setting
                row_QK = approximate.nearest(gallery, query_QE, TOP, probes=probes, refine=refine, memory=memory)[1]
                return np.searchsorted(row_G, row_QK)

            yield f'{name}, scores from {place}', search, [(probes, 5) for probes in PROBES]


def main() -> None:
    """Print the table and write docs/evidence/search.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=1_000_000, help='vectors to search')
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--only', choices=('exact',), help='our exact search alone, such as on an accelerator')
    args = parser.parse_args()
    vector_GE, query_QE = vectors(args.count, TUNING + TIMED)
    tuning_QE, timed_QE = query_QE[:TUNING], query_QE[TUNING:]
    exact, ours = Exact(vector_GE), ('exact', lambda query_QE: exact(query_QE, TOP), '', 1.0)
    truth = np.concatenate([exact(part, TOP)[1] for part in np.array_split(tuning_QE, TUNING // 64)])
    rows = []
    if args.only != 'exact':
        for name, (search, settings) in faiss_indexes(vector_GE).items():
            made = (name, *tuned(name, search, settings, tuning_QE, truth)) if settings else (name, search, '', 1.0)
            rows += compare([ours, made], timed_QE, args)
        with tempfile.TemporaryDirectory() as folder:
            for name, search, settings in lance_indexes(vector_GE, exact, str(pathlib.Path(folder) / 'i')):
                rows += compare([ours, (name, *tuned(name, search, settings, tuning_QE, truth))], timed_QE, args)
    on_device, total = exact._vector_GE, jax.jit(jnp.sum)
    once = ('adding up every vector', lambda query_QE: total(on_device).block_until_ready(), '', None)
    common.write('search', rows + compare([ours, once], timed_QE, args))


def compare(contestants, timed_QE: np.ndarray, args) -> list[dict]:
    """Rows of the table: the second of two contestants beside the first, in turns, batches of 1 and 64."""
    rows = []
    for batch in (1, 64):
        (first, *_), (name, _, setting, reached) = contestants
        calls = {one: rotating(search, timed_QE, batch) for one, search, *_ in contestants}
        seconds = common.interleaved(calls, args.rounds * (1 if batch > 1 else 4))
        row = {'search': name, 'vectors': args.count, 'batch': batch, 'probes, refine': setting, 'recall@10': reached}
        row |= {f'ms, {first}': 1e3 * statistics.median(seconds[first]), 'ms': 1e3 * statistics.median(seconds[name])}
        row |= {f'times as fast as {first}': common.ratio(seconds, first, name)}
        print(row, flush=True)
        rows.append(row)
    return rows


if __name__ == '__main__':
    main()
