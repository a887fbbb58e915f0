"""python main.py compare RUN RUN ...: finished runs in one table; runs that differ in their seed alone share a row."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from commands.compare import check_against, regime_of, write_tables
from commands.material import SEEN
from commands.workdir import Finished, open_finished
from lcr2s_jax import files
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import evaluate, metrics
from lcr2s_jax.training.run_files import read_facts

_NO_MATTER = ('root', 'images', 'cache', 'in_memory')  # of config.data: where it lies


def compare_runs(
    workdirs: Sequence[pathlib.Path],
    split: str = 'test',
    stage: str = '',
    against: str = '',
    out: pathlib.Path | None = None,
) -> str:
    """A table of finished runs, each stage ('' for all) a row; with `out`, table.md, table.json and plot.png.

    Differences are taken to the row `against`; '' for the first. Raises ConfigError: a run that is not finished, of
    other queries, or twice the same.
    """
    if out:
        files.check_writable(out / 'table.md', '--out')
    results: dict[str, dict[int, dict]] = {}
    labels: dict[str, str] = {}
    queries, ceiling = '', {}
    for workdir in workdirs:
        wanted = (stage,) if stage else tuple(read_facts(workdir)['stages'])
        run = open_finished(workdir, wanted, tuple(dict.fromkeys(('train', 'val', split))))
        if split not in run.inputs.splits:
            raise ConfigError(f'{workdir}: found no {split} in its dataset, expected one; --split=test compares there')
        before, queries = queries, _queries(run, split)
        if before not in ('', queries):
            raise ConfigError(
                f'{workdir}: found other images or captions in {split} than in {workdirs[0]}, expected those of one '
                'dataset. Compare runs of one dataset at a time'
            )
        run = _with_seen(run)
        ceiling = run.inputs.oracle().get('val', ceiling)
        config = json.loads(run.config.to_json())
        seed = config.pop('seed')
        config['data'] = {name: value for name, value in config['data'].items() if name not in _NO_MATTER}
        for name in wanted:
            kind = f'{name} {json.dumps(config, sort_keys=True)}'
            if kind not in labels:
                taken = labels.values()
                free = [name, f'{name} of {workdir.name}', f'{name} of {workdir}']
                labels[kind] = next((one for one in free if one not in taken), f'{name} {len(labels)}')
            row = results.setdefault(labels[kind], {})
            if seed in row:
                raise ConfigError(
                    f'{workdir}: found seed {seed} of a config that an earlier run has, expected each once. Leave one '
                    'out, or train another --config.seed'
                )
            row[seed] = _scored(run, name, split, labels[kind])
    against = against or next(iter(results))
    check_against(against, results)
    regime = regime_of(results[against].values()) | ({'ceiling': ceiling['t2i']['R1']} if ceiling else {})
    if out:
        out.mkdir(parents=True, exist_ok=True)
    return write_tables(results, results, against, {'regime': regime, 'runs': [*map(str, workdirs)]}, out)


def _queries(run: Finished, split: str) -> str:
    """Hash of the images, captions and identities of a split, in order: what paired differences pair."""
    from data import people

    there = run.inputs.splits[split]
    digest = hashlib.sha256(people.digest(there).encode())
    digest.update(np.asarray(there.caption_image, np.int64).tobytes())
    for caption in there.captions:
        digest.update(f'{caption}\n'.encode())
    return digest.hexdigest()


def _with_seen(run: Finished) -> Finished:
    """The run with one more split, 'seen': the first training people, whose R@1 tells how much was learnt by heart."""
    train = run.inputs.splits['train']
    image_G = np.flatnonzero(train.image_pid < SEEN)
    place_G = np.full(len(train.image_pid), -1)
    place_G[image_G] = np.arange(len(image_G))
    caption_Q = np.flatnonzero(place_G[train.caption_image] >= 0)
    seen = dataclasses.replace(
        train,
        name='seen',
        jpegs=[train.jpegs[place] for place in image_G],
        file_names=[train.file_names[place] for place in image_G],
        image_pid=train.image_pid[image_G],
        captions=[train.captions[place] for place in caption_Q],
        tokens=np.asarray(train.tokens[caption_Q]),
        caption_image=place_G[train.caption_image[caption_Q]].astype(np.int32),
    )
    splits: Mapping = run.inputs.splits | {'seen': seen}
    return dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, splits=splits))


def _scored(run: Finished, name: str, split: str, label: str) -> dict:
    """The result of a stage on the split asked for and, where there is one, on val."""
    result: dict = {'label': label, 'seconds': 0.0, 'train': _t2i(run.features(name, 'seen')), 'queries': {}}
    for there in dict.fromkeys((split, 'val')):
        if there in run.inputs.splits:
            e = run.features(name, there)
            each_Q5 = metrics.each(metrics.cosine(e.text_QE, e.image_GE), e.text_pid_Q, e.image_pid_G)
            result[there] = {'single': _t2i(e)}
            result['queries'] |= {f'{there}/single/R1': each_Q5[:, 0], f'{there}/single/mAP': each_Q5[:, 3]}
    return result


def _t2i(e: Embeddings) -> dict:
    return evaluate.retrieval_metrics(e)['t2i']
