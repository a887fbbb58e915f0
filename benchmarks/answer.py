"""What a search and a small index cost from the command line:  python -m benchmarks.answer [--rounds 5]

Processor seconds (of all threads, user and system) and seconds by the clock, of new processes, medians: an index of 4
and of 300 drawn crops, and a search among them, each with the programs that JAX compiled before kept, and with a cache
folder that is new. Then the parts of such a search, measured within a process that makes the same calls.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import tempfile

from benchmarks import common, startup
from data.demo import synthetic

WORDS = 'a man in a red coat'
WEIGHTS = 'lcr2s_jax/weights/demo_clip'
_PARTS = """
import json, sys, time
said, before = {}, time.process_time()
def part(name):
    global before
    now = time.process_time()
    said[name], before = now - before, time.process_time()
said['Python'], before = before, time.process_time()
from lcr2s_jax.cli import program, search
program._keep_programs()
program._collect_seldom()
import numpy
part('import numpy and the command')
import jax
part('import jax')
import lcr2s_jax.model
part('import flax and the model')
from lcr2s_jax.search import lance
lance.without_pandas()
lance.lancedb()
part('import pyarrow and LanceDB')
from lcr2s_jax.search import audit, html, index
from lcr2s_jax.search.query import Query
part('import the search')
opened = index.open_search(sys.argv[1])
opened.model.params('text'), opened.tokenizer
part('open')
opened.embed(Query((sys.argv[2],)), [])
part('encode: trace, load the program, run')
opened([Query((sys.argv[2],))], top=10, false_alarms=0.05)
part('search')
said['all of these'] = sum(said.values())
print(json.dumps(said))
"""


def main() -> None:
    """Measure and write docs/evidence/answer.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--out', type=pathlib.Path, default=common.OUT, help='folder of the results')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for count in (4, 300):
            draw(folder / f'crops{count}', count)
        calls = commands(folder)
        found: dict[str, list[tuple]] = {name: [] for name in calls}
        before = os.getloadavg()[1]
        parts: list[dict] = []
        for _ in range(args.rounds + 1):  # the first fills caches of files and programs
            for name, call in calls.items():
                found[name].append(call())
            said = startup.output(['-c', _PARTS, f'{folder}/index300', WORDS], f'{folder}/kept')
            parts.append(json.loads(said))
    rows = [{'what': name, **_medians(values[1:])} for name, values in found.items()]
    rows += [{'what': f'part: {name}', 'cpu_s': statistics.median(one[name] for one in parts[1:])} for name in parts[0]]
    loads = {'before': before, 'after': os.getloadavg()[1]}
    rows.append({'what': 'load of the machine, five minutes: other work beside it', **loads})
    common.write('answer', rows, args.out)


def commands(folder: pathlib.Path) -> dict:
    """Name -> what starts it; gives (seconds, processor seconds)."""

    def index(count: int, kept: str):
        made, fresh = folder / f'index{count}', folder / 'fresh'
        for gone in (made, fresh):
            shutil.rmtree(gone, ignore_errors=True)
        given = [f'--index={made}', f'--images={folder}/crops{count}', f'--weights={WEIGHTS}']
        return startup.started(['main.py', 'index', *given], str(folder / kept))

    def search(kept: str):
        shutil.rmtree(folder / 'fresh', ignore_errors=True)
        return startup.started(['main.py', 'search', f'--index={folder}/index300', WORDS], str(folder / kept))

    return {
        'index of 4 crops, programs kept': lambda: index(4, 'kept'),
        'index of 4 crops, new cache': lambda: index(4, 'fresh'),
        'index of 300 crops, new cache': lambda: index(300, 'fresh'),
        'index of 300 crops, programs kept': lambda: index(300, 'kept'),
        'search among 300, programs kept': lambda: search('kept'),
        'search among 300, new cache': lambda: search('fresh'),
    }


def draw(folder: pathlib.Path, count: int) -> None:
    """So many drawn crops."""
    folder.mkdir()
    records = synthetic.records(0, {'test': count // 3 + 1}, cameras=True)
    for number, record in enumerate(list(records)[:count]):
        (folder / f'{number:03}.jpg').write_bytes(record.jpeg)


def _medians(values: list[tuple[float, float]]) -> dict:
    wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
    return {'cpu_s': cpu, 'wall_s': wall}


if __name__ == '__main__':
    main()
