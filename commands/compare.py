"""python main.py compare: rows of a file by seeds on any config's data, or finished runs, in one table.

The training split lies on the device, decoded once, and is augmented there: random numbers differ from `train`'s.
"""

import json
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from commands import rows as row_files
from commands.comparison import Comparison
from lcr2s_jax import files
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import compare as tables
from lcr2s_jax.training.resident import ResidentSplit
from lcr2s_jax.training.run import alone_in

# of rows that are a fusion on trained encoders
_FUSION = {'align': 'sdm', 'scale': 50.0, 'support_views': 4, 'wrong_supports': 0.0}


def compare(config, rows_file: pathlib.Path, out: pathlib.Path, seeds: Sequence[int], *, against: str = '') -> str:
    """Train the rows of a file on the config's data and return their table; what is in `out` is not done again.

    Args:
      out: the folder of all results: <row>-<seed>.json and .npz, table.md, table.json, plot.png.
      against: the row that differences are taken to; '' for the first.
    """
    rows = row_files.read(rows_file)
    given = json.loads(config.to_json()) | {'fusion': _FUSION}
    given['baseline'].setdefault('others_weight', 0.0)
    row_files.check(rows_file, rows, given)
    against = against or next(iter(rows))
    check_against(against, rows)
    with alone_in(out):
        return _compared(config, given, rows, out, seeds, against)


def _compared(
    config, given: dict, rows: Mapping[str, row_files.Row], out: pathlib.Path, seeds: Sequence[int], against: str
) -> str:
    import jax

    from commands.inputs import open_inputs
    from lcr2s_jax.weights import pretrained

    inputs = open_inputs(config, ('train', 'val', 'test'))
    if 'val' not in inputs.splits:
        raise ConfigError(
            f'compare: found no val in {config.data.dataset}, expected one: steps and weights are chosen there. Give '
            'it some identities, or train runs and compare them: python main.py compare RUN RUN ...'
        )
    words = inputs.encoder.tokenizer
    given['masking'] |= {'mask_token': words.mask_token, 'ordinary': words.ordinary}
    given['made_of'] = {name: inputs.made_of[name] for name in ('data', 'weights')}

    def load(wanted: Mapping) -> tuple:
        if wanted == given['model']:
            return inputs.encoder.clip, inputs.encoder.params
        return pretrained.load(**wanted)

    splits = {name: resident_split(inputs, name) for name in inputs.splits}
    together = jax.default_backend() != 'cpu' and len(seeds) > 1 and given['model']['pretrained'] == ''
    comparison = Comparison(splits, given, rows, out, load, together=together)
    comparison.check(list(rows), seeds)
    if together:
        comparison.prepare(list(rows), seeds)
    clock = time.perf_counter()
    comparison.run(list(rows), seeds)
    for name in (name for name, row in rows.items() if row.test):
        comparison.test(name, seeds)  # that it is tested may be said later
    made = {'config': given, 'regime': _regime(out, rows, inputs.oracle()), 'seconds': time.perf_counter() - clock}
    return write_tables(tables.read(out), rows, against, made, out)


def check_against(name: str, there: Iterable[str]) -> None:
    """Raise ConfigError unless a row of that name is there."""
    if name not in there:
        raise ConfigError(f"--against: found '{name}', expected one of {', '.join(there)}")


def resident_split(inputs, name: str) -> ResidentSplit:
    """A split with all of its images decoded and resized, in memory."""
    from data import pipeline

    split, size = inputs.splits[name], inputs.config.evaluate.batch_size
    batches = list(pipeline.gallery_batches(split, inputs.encoder.clip.image_size, size))
    image = np.concatenate(batches)[: len(split.image_pid)]
    return ResidentSplit(image, split.tokens.astype(np.int32), split.image_pid, split.caption_image)


def _regime(out: pathlib.Path, rows: Mapping[str, row_files.Row], oracle: Mapping) -> dict:
    """Start, training, val and ceiling of the first row that is trained, mean of its seeds."""
    results = tables.read(out)
    first = next((name for name, row in rows.items() if row.stage != 'start'), next(iter(rows)))
    started = [run for name, row in rows.items() if row.stage == 'start' for run in results.get(name, {}).values()]
    found = {'zero_shot': float(np.mean([run['val']['single']['R1'] for run in started]))} if started else {}
    return found | regime_of(results[first].values()) | ({'ceiling': oracle['val']['t2i']['R1']} if oracle else {})


def regime_of(runs: Iterable[Mapping]) -> dict:
    """Training and val R@1 of results, as far as they have them."""
    runs = list(runs)
    found = {
        'train': [run['train']['R1'] for run in runs if 'train' in run],
        'val': [run['val']['single']['R1'] for run in runs if 'val' in run],
    }
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def tabulate(out: pathlib.Path, rows_file: pathlib.Path | None, against: str) -> str:
    """`write_tables` of a folder of results alone, such as a compare.zip unpacked; rows in the order of the file.

    The regime is that of the testbed's chosen candidate, where regime.json (`benchmarks.testbed`) lies there, or what
    table.json said before.
    """
    results = tables.read(out)
    order = list(row_files.read(rows_file)) if rows_file else list(results)
    made = {}
    if (out / 'table.json').exists():
        kept = files.read_json(out / 'table.json', ConfigError, 'delete it', {'regime?': {str: (float, bool)}})
        made = {name: kept[name] for name in ('config', 'regime') if name in kept}
    if (out / 'regime.json').exists():
        made['regime'] = _chosen_regime(out / 'regime.json')
    if against:
        check_against(against, results)
    first = next((name for name in order if name in results), next(iter(results)))
    return write_tables(results, order, against or first, made, out)


def _chosen_regime(path: pathlib.Path) -> dict:
    row = {'fits': (bool, int), 'train': float, str: (float, bool, str, None)}
    found = files.read_json(path, ConfigError, 'restore it from a copy, or delete it', [row])
    if not found:
        raise ConfigError(f'{path}: found an empty list, expected a row for each candidate; delete it')
    return max(found, key=lambda one: (one['fits'], one['train']))


def write_tables(
    results: Mapping, order: Iterable[str], against: str, made: Mapping, out: pathlib.Path | None = None
) -> str:
    """The tables of results in Markdown; with `out`, table.md, table.json and plot.png there too."""
    content, text = dict(made), [tables.regime_line(made.get('regime', {}))]
    for split in ('test', 'val'):
        lines = content[split] = tables.summarise(results, split, [against], order)
        if lines:
            text += ['', f'## {split}', '', tables.markdown(lines, [against], {against: _label(results, against)})]
    text = '\n'.join(text).strip() + '\n'
    if out:
        files.write(out / 'table.md', text)
        files.write(out / 'table.json', json.dumps(content, indent=1) + '\n')
        tables.plot(content['test'] or content['val'], out / 'plot.png', against)
    return text


def _label(results: Mapping, name: str) -> str:
    return next(iter(results[name].values())).get('label', name) if name in results else name
