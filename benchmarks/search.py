"""Exact and approximate search beside faiss:  python -m benchmarks.search [--count=1000000] [--only=exact]

Claims: exact search is no slower than faiss's IndexFlatIP; the approximate one is ten times faster than exact at
recall@10 >= 0.95. Vectors lie as embeddings of people do: alike outfits, people, views, a falling spectrum; queries are
other views of the same people. Contestants take turns, on all cores. The approximate ones run at the cheapest of some
settings that reaches the recall on other queries than those that are timed.
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
from lcr2s_jax.retrieval.topk import Exact

WIDTH, TOP, RECALL = 512, 10, 0.95
TUNING, TIMED = 128, 256  # queries
PROBES = (1, 2, 4, 8, 16, 32, 64, 128)


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
    """Name -> (search, settings), flat and inverted."""
    import faiss

    faiss.omp_set_num_threads(os.cpu_count())
    lists = max(1, min(4096, len(vector_GE) // 256))
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(vector_GE)
    indexes = {'faiss IndexFlatIP': (lambda q: flat.search(q, TOP)[1], None)}
    for name, kind in (('faiss IndexIVFFlat', f'IVF{lists},Flat'), ('faiss IndexIVFPQ', f'IVF{lists},PQ64,RFlat')):
        clock = time.perf_counter()
        index = faiss.index_factory(WIDTH, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(vector_GE[:: max(1, len(vector_GE) // (64 * lists))])
        index.add(vector_GE)
        print(f'{name}: built in {time.perf_counter() - clock:.0f} s', flush=True)

        def search(query_QE, setting, index=index):
            probes, refine = setting
            inverted = faiss.extract_index_ivf(index)
            inverted.nprobe = probes
            if refine:
                index.k_factor = refine
            return index.search(query_QE, TOP)[1]

        indexes[name] = search, [(probes, 20 if 'PQ' in kind else 0) for probes in PROBES]
    return indexes


def lance_index(vector_GE: np.ndarray, folder: str):
    """(search, settings) of lcr2s_jax.retrieval.approximate, over a table of the kind that an index has."""
    from lcr2s_jax.retrieval import approximate
    from lcr2s_jax.retrieval.gallery import OK, Gallery, Row

    clock, gallery = time.perf_counter(), Gallery(folder, WIDTH)
    for start in range(0, len(vector_GE), 65_536):
        part = vector_GE[start : start + 65_536]
        gallery.put('r', [Row(str(start + i), '', 0, 0, OK, x) for i, x in enumerate(part)], new=True)
    gallery.tidy()
    print(f'lancedb: written in {time.perf_counter() - clock:.0f} s', flush=True)
    clock = time.perf_counter()
    approximate.build(gallery)
    print(f'lancedb: index built in {time.perf_counter() - clock:.0f} s', flush=True)
    row_G = gallery.vectors()[1]
    place = {int(row): int(one['path']) for row, one in zip(row_G, gallery.facts(row_G, ['path']), strict=True)}

    def search(query_QE, setting):
        probes, refine = setting
        row_QK = approximate.nearest(gallery, query_QE, TOP, probes=probes, refine=refine)[1]
        return np.vectorize(lambda row: place.get(int(row), -1))(row_QK)

    return search, [(probes, refine) for probes in PROBES for refine in (5, 20)]


def main() -> None:
    """Print the table and write docs/evidence/search.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=1_000_000)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only', choices=('exact',), help='our exact search alone, such as on an accelerator')
    args = parser.parse_args()
    vector_GE, query_QE = vectors(args.count, TUNING + TIMED)
    tuning_QE, timed_QE = query_QE[:TUNING], query_QE[TUNING:]
    exact = Exact(vector_GE)
    truth = np.concatenate([exact(part, TOP)[1] for part in np.array_split(tuning_QE, TUNING // 64)])
    on_device, total = exact._vector_GE, jax.jit(jnp.sum)
    contestants = {'exact': (lambda q: exact(q, TOP), '', 1.0)}
    with tempfile.TemporaryDirectory() as folder:
        if args.only != 'exact':
            others = faiss_indexes(vector_GE) | {
                'lancedb IVF_PQ': lance_index(vector_GE, str(pathlib.Path(folder) / 'i'))
            }
            for name, (search, settings) in others.items():
                contestants[name] = tuned(name, search, settings, tuning_QE, truth) if settings else (search, '', 1.0)
        rows = []
        for batch in (1, 64):
            calls = {name: rotating(one[0], timed_QE, batch) for name, one in contestants.items()}
            calls['reading every vector once'] = lambda: total(on_device).block_until_ready()
            seconds = common.interleaved(calls, args.rounds)
            for name in calls:
                _, setting, reached = contestants.get(name, (None, '', None))
                row = {'search': name, 'vectors': args.count, 'batch': batch, 'probes, refine': setting}
                row |= {'recall@10': reached, 'ms a batch': 1e3 * statistics.median(seconds[name])}
                rows.append(row | {'times as fast as exact': common.ratio(seconds, 'exact', name)})
    common.write('search', rows)


if __name__ == '__main__':
    main()
