"""python main.py compare: rows of a file by seeds on any config's data, or finished runs, in one table.

The training split lies on the device, decoded once, and is augmented there: random numbers differ from `train`'s.
"""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np

from commands import rows as row_files
from commands.comparison import Comparison
from lcr2s_jax import files
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import compare as tables
from lcr2s_jax.evaluation import evaluate, metrics
from lcr2s_jax.training.resident import ResidentSplit

# of rows that are a fusion on trained encoders
_FUSION = {'align': 'sdm', 'scale': 50.0, 'support_views': 4, 'wrong_supports': 0.0}


def compare(
    config, rows_file: pathlib.Path, out: pathlib.Path, seeds: Sequence[int], *, against: str = '', test: bool = True
) -> str:
    """Train the rows of a file on the config's data and return their table; what is in `out` is not done again.

    Args:
      config: an ml_collections.ConfigDict of any file in configs/.
      rows_file: see `commands.rows.read`.
      out: the folder of all results: <row>-<seed>.json and .npz, table.md, table.json, plot.png.
      seeds: of each row.
      against: the row that differences are taken to; '' for the first.
      test: rows with `test = true` are evaluated on test; otherwise all are read on val.

    Raises:
      UserError: what was found, what was expected, what to change.
    """
    import jax

    from commands.inputs import open_inputs
    from lcr2s_jax.weights import pretrained

    rows = row_files.read(rows_file)
    _check_groups(rows_file, rows, config)
    inputs = open_inputs(config, ('train', 'val', 'test') if test else ('train', 'val'))
    if 'val' not in inputs.splits:
        raise ConfigError('compare: found a dataset without val, expected one: steps and weights are chosen there')
    given = json.loads(config.to_json()) | {'fusion': _FUSION}
    words = inputs.encoder.tokenizer
    given['masking'] |= {'mask_token': words.mask_token, 'ordinary': words.ordinary}

    def load(wanted: Mapping) -> tuple:
        if wanted == given['model']:
            return inputs.encoder.clip, inputs.encoder.params
        return pretrained.load(**wanted)

    splits = {name: resident_split(inputs, name) for name in inputs.splits}
    together = jax.default_backend() != 'cpu' and len(seeds) > 1 and given['model']['pretrained'] == ''
    comparison = Comparison(splits, given, rows, out, load, together=together)
    if together:
        comparison.prepare(list(rows), seeds)
    clock = time.perf_counter()
    comparison.run(list(rows), seeds)
    regime = _regime(out, next(iter(rows)), inputs.oracle())
    seconds = time.perf_counter() - clock
    return write_tables(out, rows, against or next(iter(rows)), {'config': given, 'regime': regime, 'seconds': seconds})


def _check_groups(path: pathlib.Path, rows: Mapping[str, row_files.Row], config) -> None:
    """Before minutes are spent: a row may change what there is."""
    for row in rows.values():
        for group, changes in row.set.items():
            known = _FUSION if group == 'fusion' else getattr(config, 'get', {}.get)(group)
            lost = [key for key in changes if known is None or key not in known]
            if lost and (group, lost) != ('baseline', ['others_weight']):
                raise ConfigError(
                    f'{path}, row {row.name}: found set.{group}.{lost[0]}, expected a field of the config'
                )


def resident_split(inputs, name: str) -> ResidentSplit:
    """A split with all of its images decoded and resized, in memory."""
    from data import pipeline

    split, size = inputs.splits[name], inputs.config.evaluate.batch_size
    batches = list(pipeline.gallery_batches(split, inputs.encoder.clip.image_size, size))
    image = np.concatenate(batches)[: len(split.image_pid)]
    return ResidentSplit(image, split.tokens.astype(np.int32), split.image_pid, split.caption_image)


def _regime(out: pathlib.Path, name: str, oracle: Mapping) -> dict:
    """Training, val and ceiling of the first row, mean of its seeds."""
    runs = tables.read(out).get(name, {}).values()
    found = {
        'train': float(np.mean([run['train']['R1'] for run in runs])),
        'val': float(np.mean([run['val']['single']['R1'] for run in runs])),
    }
    return found | ({'ceiling': oracle['val']['t2i']['R1']} if 'val' in oracle else {})


def tabulate(out: pathlib.Path, rows_file: pathlib.Path | None, against: str) -> str:
    """`write_tables` of a folder of results alone, such as a compare.zip unpacked; rows in the order of the file.

    The regime is that of the testbed's chosen candidate, where regime.json (`benchmarks.testbed`) lies there.
    """
    order = list(row_files.read(rows_file)) if rows_file else list(tables.read(out))
    measured = out / 'regime.json'
    made = {}
    if measured.exists():
        made['regime'] = _chosen_regime(measured)
    first = next((name for name in order if name in tables.read(out)), '')
    return write_tables(out, order, against or first, made)


def _chosen_regime(path: pathlib.Path) -> dict:
    row = {'fits': (bool, int), 'train': float, str: (float, bool, str, None)}
    found = files.read_json(path, ConfigError, 'restore it from a copy, or delete it', [row])
    if not found:
        raise ConfigError(f'{path}: found an empty list, expected a row for each candidate; delete it')
    return max(found, key=lambda one: (one['fits'], one['train']))


def write_tables(out: pathlib.Path, order: Sequence[str], against: str, made: Mapping) -> str:
    """table.md, table.json and plot.png of all results in a folder, from them alone; the text of the first."""
    results = tables.read(out)
    content, text = dict(made), [tables.regime_line(made.get('regime', {}))]
    for split in ('test', 'val'):
        lines = content[split] = tables.summarise(results, split, [against], order)
        if lines:
            text += ['', f'## {split}', '', tables.markdown(lines, [against], {against: _label(results, against)})]
    files.write(out / 'table.md', '\n'.join(text).lstrip())
    files.write(out / 'table.json', json.dumps(content, indent=1) + '\n')
    tables.plot(content['test'] or content['val'], out / 'plot.png', against)
    return '\n'.join(text).lstrip()


def _label(results: Mapping, name: str) -> str:
    return next(iter(results[name].values())).get('label', name) if name in results else name


def compare_runs(workdirs: Sequence[pathlib.Path], split: str = 'test', stage: str = '') -> str:
    """A table of finished runs: each stage a row, runs of one config but for its seed the seeds of that row.

    Args:
      workdirs: of runs on one dataset.
      split: 'val' or 'test'.
      stage: of every run; '' for all.
    """
    from commands.finished import open_finished

    results: dict[str, dict[int, dict]] = {}
    labels: dict[str, str] = {}
    queries = None
    for workdir in workdirs:
        run = open_finished(workdir, (stage,) if stage else (), (split,))
        config = json.loads(run.config.to_json())
        seed = config.pop('seed')
        for name in [stage] if stage else run.stages:
            e = run.features(name, split)
            queries = _same_queries(workdir, e, queries)
            kind = f'{name} {json.dumps(config, sort_keys=True)}'
            labels.setdefault(kind, name if name not in labels.values() else f'{name} of {workdir.name}')
            results.setdefault(labels[kind], {})[seed] = _scored(e, split, labels[kind])
    against = next(iter(results))
    return tables.markdown(tables.summarise(results, split, [against], results), [against])


def _same_queries(workdir: pathlib.Path, e: Embeddings, before: np.ndarray | None) -> np.ndarray:
    if before is not None and not np.array_equal(before, e.text_pid_Q):
        raise ConfigError(f'{workdir}: found other queries than in the first run, expected the same dataset and split')
    return e.text_pid_Q


def _scored(e: Embeddings, split: str, label: str) -> dict:
    each_Q5 = metrics.each(metrics.cosine(e.text_QE, e.image_GE), e.text_pid_Q, e.image_pid_G)
    found = evaluate.retrieval_metrics(e)['t2i']
    queries = {f'{split}/single/R1': each_Q5[:, 0], f'{split}/single/mAP': each_Q5[:, 3]}
    return {'label': label, 'seconds': 0.0, split: {'single': found}, 'queries': queries}
