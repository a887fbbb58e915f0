"""What benchmarks share: interleaved timing, the machine in words, a table, a JSON file."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import sys
import time

OUT = pathlib.Path('docs/evidence')


def interleaved(calls: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, one of each a round, in turns: noise hits all alike; the first round is dropped."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            clock = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - clock)
    return {name: values[1:] for name, values in seconds.items()}


def ratio(seconds: dict[str, list[float]], name: str, to: str) -> float:
    """Median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def machine() -> dict:
    """Date, processor, cores, accelerator and the versions that matter."""
    import jax

    model = platform.processor()
    if os.path.exists('/proc/cpuinfo'):
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
        model = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), model)
    versions = {}
    for package in ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'transformers', 'tensorflow-cpu', 'numpy', 'pillow'):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        'date': datetime.date.today().isoformat(),
        'processor': model,
        'cores': os.cpu_count(),
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'versions': versions,
        'GLIBC_TUNABLES': os.environ.get('GLIBC_TUNABLES', ''),  # XLA's speed on a CPU hangs on it
    }


def write(name: str, rows: list[dict], folder: pathlib.Path | None = None) -> None:
    """Print the rows as a table and `save` them."""
    columns = list(dict.fromkeys(column for row in rows for column in row if column != 'made'))
    cells = [columns] + [[_cell(row.get(column, '')) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print('  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f'written: {save(name, rows, folder)}')


def save(name: str, rows: list[dict], folder: pathlib.Path | None = None) -> pathlib.Path:
    """Write <name>.json into the folder, docs/evidence by default, with the command that was really typed; the path.

    Those of an accelerator stand beside the CPU's: <name>-<device>.json.
    """
    folder = folder or OUT
    folder.mkdir(parents=True, exist_ok=True)
    content = {'command': ' '.join(['python', *sys.orig_argv[1:]]), 'machine': machine(), 'rows': rows}
    path = folder / _file(name, content['machine']['device'])
    path.write_text(json.dumps(content, indent=2) + '\n')
    return path


def kept(name: str, column: str, again: list[str]) -> list[dict]:
    """Rows of an earlier run on such a device whose `column` is none of those that are measured again.

    `made` says of each by which command, when and on what, as the head of the file will say it of the new ones.
    """
    path = OUT / _file(name, machine()['device'])
    if not path.exists():
        return []
    before = json.loads(path.read_text())
    made = {'command': before['command'], 'machine': before['machine']}
    return [{'made': made} | row for row in before['rows'] if row[column] not in again]


def _file(name: str, device: str) -> str:
    return f'{name}.json' if device == 'cpu' else f'{name}-{device.lower().replace(" ", "-")}.json'


def _cell(value) -> str:
    return f'{value:.3f}' if isinstance(value, float) else str(value)
