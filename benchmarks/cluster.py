"""An index by Ray's workers beside one process, rows a second:  python -m benchmarks.cluster [--pictures N]

Crops are drawn noise of 384 x 128, JPEG; the model is the built-in CLIP unless --weights names another. Everybody
embeds all of them into an index of its own. The time from the first file to the last commit counts, with the workers'
own start (imports, model, compiling); that of Ray stands beside it.
"""

import argparse
import io
import os
import pathlib
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import common
from lcr2s_jax import api
from lcr2s_jax.search import cluster, index
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.model import open_model


def draw(folder: pathlib.Path, count: int) -> None:
    """Crops that all differ, a thousand a folder."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f'{number // 1000:03}' / f'{number:06}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (24, 8, 3), np.uint8)
        out = io.BytesIO()
        Image.fromarray(small).resize((128, 384)).save(out, 'JPEG', quality=85)
        path.write_bytes(out.getvalue())


def measure(uri: str, model, pictures: pathlib.Path, workers: int) -> dict:
    """Index everything with so many embedders, 0 for this process alone."""
    opened = open_model(uri, model)
    began = time.perf_counter()
    if not workers:
        opened.embed_image(np.zeros((64, *opened.image_size, 3), np.uint8))  # compiled before, as Ray's start is apart
        started = time.perf_counter()
        told = index.bring_up_to_date(uri, opened, str(pictures))
    else:
        with cluster.engine(embedders=workers) as engine:
            started = time.perf_counter()
            told = index.bring_up_to_date(uri, opened, str(pictures), engine=engine)
    seconds = time.perf_counter() - started
    return {
        'what': f'Ray, {workers} workers' if workers else 'one process',
        'rows': told['pictures'],
        'start_s': round(started - began, 1),
        'index_s': round(seconds, 1),
        'rows_per_s': round(told['embedded'] / seconds, 1),
        'commits': Gallery(uri).version - 1,
    }


def apart(ours: str, theirs: str) -> float:
    """Largest difference of a number in the vectors of two indexes of the same pictures."""
    found = [
        {one['path']: one['vector'] for one in Gallery(uri).rows('', ['path', 'vector']).to_pylist()}
        for uri in (ours, theirs)
    ]
    assert found[0].keys() == found[1].keys()
    return max(float(np.abs(np.subtract(found[0][path], found[1][path])).max()) for path in found[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--pictures', type=int, default=5000, help='synthetic crops to index')
    parser.add_argument('--workers', type=int, nargs='*', default=[1, 2, 4], help='numbers of embedding workers to try')
    parser.add_argument('--weights', default='synthetic-pedestrians', help='what embeds, as of `lcr2s index`')
    args = parser.parse_args()
    model, rows = api.load(args.weights), []
    with tempfile.TemporaryDirectory() as aside:
        folder = pathlib.Path(aside)
        draw(folder / 'crops', args.pictures)
        for workers in [0, *args.workers]:
            row = measure(str(folder / f'i{workers}'), model, folder / 'crops', workers)
            row['load'] = round(os.getloadavg()[0], 1)
            if workers:
                row['ratio'] = round(row['rows_per_s'] / rows[0]['rows_per_s'], 2)
                row['vectors_apart'] = apart(str(folder / 'i0'), str(folder / f'i{workers}'))
            rows.append(row)
            print(row, flush=True)
    common.write('cluster', rows)


if __name__ == '__main__':
    main()
