"""What enriching an index costs:  python -m benchmarks.enriching [--count 5000 10000 20000] [--how neighbours fusion]

Rows of 512 random numbers, 2 neighbours each: seconds of making the enriched vectors, of making them again after an
erasure (itself apart), of a call that finds nothing changed, of a first search in either kind of vectors; peak memory
of the process; the folder's size. Every pair of pictures is compared: four times the time for twice as many. Each size
is a process of its own.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from benchmarks import common
from lcr2s_jax.evaluation.gallery_fusion import GalleryFusion
from lcr2s_jax.method.fusion import Fusion
from lcr2s_jax.search import conditions, enrich, retention
from lcr2s_jax.search.gallery import OK, Gallery, Row
from lcr2s_jax.search.nearest import Nearest
from lcr2s_jax.search.rows import ENRICHED, VECTOR

WIDTH, CHUNK = 512, 1024


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--count', type=int, nargs='+', default=[5000, 10_000, 20_000], help='numbers of pictures, a process each'
    )
    parser.add_argument(
        '--how', nargs='+', default=['neighbours', 'fusion'], choices=('neighbours', 'fusion'), help='ways of enriching'
    )
    parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.count[0], args.how[0])))
        return
    rows = []
    for how in args.how:
        for count in args.count:
            words = ['-m', 'benchmarks.enriching', '--child', f'--count={count}', f'--how={how}']
            rows.append(json.loads(subprocess.check_output([sys.executable, *words])))
    common.write('enriching', rows)


def measured(count: int, how: str) -> dict:
    """One size."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(f'{folder}/i', WIDTH)
        for start in range(0, count, CHUNK):
            gallery.put('/r', [row(number) for number in range(start, min(start + CHUNK, count))], new=True)
        told = {'how': how, 'rows': count, 'megabytes_before': size(gallery), 'peak_before': peak()}
        enrich.choose(gallery, how, 2, fusion() if how == 'fusion' else None)
        told['first_seconds'] = timed(enrich.renew, gallery)
        told |= {'peak_megabytes': peak(), 'megabytes': size(gallery)}
        told['unchanged_seconds'] = timed(enrich.renew, gallery)
        told['erase_seconds'] = timed(retention.delete, gallery, "path = '0.png'")
        told['again_seconds'] = timed(enrich.renew, gallery)
        assert gallery.compared == ENRICHED
        for column in (VECTOR, ENRICHED):
            ask, query_QE = Nearest().exact, row(0).vector[None]
            ask(gallery, column, query_QE, 10, conditions.EVERY)
            told[f'search_{column.strip("_")}'] = timed(
                Nearest().exact, gallery, column, query_QE, 10, conditions.EVERY
            )
    return told


def row(number: int) -> Row:
    """A picture of random numbers."""
    x_E = np.random.default_rng(number).normal(size=WIDTH).astype(np.float32)
    return Row(f'{number}.png', f'{number:064x}', 1, 1, OK, x_E / np.linalg.norm(x_E))


def fusion() -> GalleryFusion:
    """MHAF of ViT-B/16's width, untrained."""
    shape = Fusion(8, False, 'float32')
    params = jax.device_get(shape.init(jax.random.key(0), WIDTH))
    return GalleryFusion(shape, {'fusion': {'image': params['image']}}, 10.0)


def timed(call, *args) -> float:
    """Seconds of a call."""
    clock = time.perf_counter()
    call(*args)
    return time.perf_counter() - clock


def peak() -> float:
    """Megabytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def size(gallery: Gallery) -> float:
    """Megabytes of the index."""
    return sum(path.stat().st_size for path in pathlib.Path(gallery.uri).rglob('*') if path.is_file()) / 1e6


if __name__ == '__main__':
    main()
