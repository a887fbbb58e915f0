"""A large gallery from its first row to its last:  python -m benchmarks.large_gallery [--counts 100000 1000000]

For each count of rows of 128 numbers: written, approximate index built, searched from the disk, grown by a hundredth,
the hundredth deleted again. Rows a second, milliseconds of a query (median, 99th percentile), recall@10 against all
products, bytes on disk, the peak of memory of the process that does it; recall and time again for fewer and more
candidates that get exact scores. `grown` is over the first count, `theory` what the number of rows alone would make
it. Vectors are made piece by piece, as those of benchmarks/search.py lie.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import common

WIDTH, TOP, QUERIES, PIECE = 128, 10, 200, 65_536
REFINE = (5, 10, 20, 40)  # candidates, in units of TOP


def piece(number: int, size: int) -> np.ndarray:
    """Unit float32 [size, WIDTH]: views of people of this piece alone, 20 of each."""
    shape = np.random.default_rng(0)
    spectrum = (1 / np.sqrt(1 + np.arange(WIDTH))).astype(np.float32)
    turn = np.linalg.qr(shape.standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)
    outfit = shape.standard_normal((512, WIDTH), np.float32) * spectrum
    rng = np.random.default_rng((1, number))
    people = max(size // 20, 1)
    person = outfit[rng.integers(512, size=people)] + 0.6 * rng.standard_normal((people, WIDTH), np.float32) * spectrum
    x = person[np.arange(size) % people] + 0.5 * rng.standard_normal((size, WIDTH), np.float32) * spectrum
    return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ turn


def pieces(count: int):
    """(first row, vectors) of a gallery of `count` rows."""
    for start in range(0, count, PIECE):
        yield start, piece(start // PIECE, min(PIECE, count - start))


def queries(count: int) -> np.ndarray:
    """Vectors near rows that are spread over the gallery."""
    rng, step = np.random.default_rng(2), max(count // QUERIES, 1)
    near = [part[(-start) % step :: step] for start, part in pieces(count)]
    chosen = np.concatenate(near)[:QUERIES]
    noisy = chosen + 0.5 / np.sqrt(WIDTH) * rng.standard_normal(chosen.shape).astype(np.float32)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


def truth(count: int, query_QE: np.ndarray) -> np.ndarray:
    """Numbers of the ten best rows of each query, by all products."""
    best, place = np.full((len(query_QE), TOP), -np.inf, np.float32), np.zeros((len(query_QE), TOP), np.int64)
    for start, part in pieces(count):
        score = np.concatenate([best, query_QE @ part.T], axis=1)
        number = np.concatenate([place, np.broadcast_to(start + np.arange(len(part)), (len(query_QE), len(part)))], 1)
        kept = np.argpartition(-score, TOP - 1, axis=1)[:, :TOP]
        best, place = np.take_along_axis(score, kept, 1), np.take_along_axis(number, kept, 1)
    return place


def put(gallery, root: str, first: int, count: int) -> None:
    """Commit rows `first` .. `first + count` in commits of PIECE, each named by its number."""
    from lcr2s_jax.search.gallery import OK, Row

    for start in range(first, first + count, PIECE):
        part = piece(start // PIECE, min(PIECE, first + count - start))
        rows = [Row(f'{start + i:010d}.jpg', f'{start + i:064x}', 0, 0, OK, x) for i, x in enumerate(part)]
        gallery.put(root, rows, new=True)


def searched(gallery, query_QE: np.ndarray, right: np.ndarray, **options) -> dict:
    """One query after the other: time and recall."""
    from lcr2s_jax.search import approximate

    each, hits = [], 0
    for query_E, best in zip(query_QE, right, strict=True):
        clock = time.perf_counter()
        row_K = approximate.nearest(gallery, query_E[None], TOP, **options)[1][0]
        each.append(time.perf_counter() - clock)
        hits += len({int(one['path'][:10]) for one in gallery.facts(row_K[row_K >= 0], ['path'])} & set(best.tolist()))
    return {
        'query, ms': 1e3 * float(np.median(each)),
        'query, p99 ms': 1e3 * float(np.percentile(each, 99)),
        'recall@10': hits / (TOP * len(each)),
    }


def measured(count: int, folder: str) -> dict:
    """One gallery, all that is done with it; the row of the table."""
    from lcr2s_jax.search import approximate, retention
    from lcr2s_jax.search.gallery import Gallery

    seconds: dict[str, float] = {}

    def timed(name, call, *given):
        clock = time.perf_counter()
        result = call(*given)
        seconds[name] = time.perf_counter() - clock
        print(f'{count:,}: {name} {seconds[name]:.1f} s', file=sys.stderr, flush=True)
        return result

    gallery = Gallery(folder, WIDTH)
    timed('write', put, gallery, 'crops', 0, count)
    timed('tidy', gallery.tidy)
    timed('build', approximate.build, gallery)
    query_QE = queries(count)
    right = truth(count, query_QE)
    asked = searched(gallery, query_QE, right)
    for refine in REFINE:
        of_these = searched(gallery, query_QE, right, refine=refine)
        asked |= {f'{name}, {refine * TOP} candidates': of_these[name] for name in ('query, ms', 'recall@10')}
    size = sum(path.stat().st_size for path in pathlib.Path(folder).rglob('*') if path.is_file())
    more = count // 100
    timed('grow', put, gallery, 'later', -(-count // PIECE) * PIECE, more)
    forgotten = timed('delete', retention.delete, gallery, "root = 'later'")
    assert gallery.count() == count, forgotten
    return {
        'rows': count,
        'write, rows/s': count / seconds['write'],
        'build, s': seconds['build'],
        **asked,
        'bytes a row': size / count,
        'grow by 1 %, rows/s': more / seconds['grow'],
        'delete 1 %, s': seconds['delete'],
        'memory, MiB': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Each count in a process of its own, which alone says how much memory it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--counts', type=int, nargs='+', default=[100_000, 1_000_000], help='numbers of rows, a process each'
    )
    parser.add_argument('--folder', help='where the galleries lie; the system’s temporary folder by default')
    parser.add_argument('--one', type=int, help='be the process that measures so many rows, and print its row')
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.one, args.folder)))
        return
    rows = []
    for count in args.counts:
        with tempfile.TemporaryDirectory(dir=args.folder, ignore_cleanup_errors=True) as folder:
            command = [sys.executable, '-m', 'benchmarks.large_gallery', '--one', str(count), '--folder', folder]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, env=os.environ | {'JAX_PLATFORMS': 'cpu'}
            )
        row = json.loads(done.stdout.splitlines()[-1])
        first = rows[0] if rows else row
        rows.append(row | {'query grown': row['query, ms'] / first['query, ms'], 'theory': count / first['rows']})
    common.write('large_gallery', rows)


if __name__ == '__main__':
    main()
