"""Rows by seeds into one table: means, deviations, paired intervals, a plot. NumPy only, from finished results.

difference = mean over seeds and queries of (row - reference), same seed, same query; its 95 % interval is a
bootstrap's, with seeds and queries both drawn anew.
"""

import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lcr2s_jax.errors import UserError
from lcr2s_jax.evaluation.figures import pyplot, save
from lcr2s_jax.files import read_arrays, read_json

RESAMPLES = 2000
METRICS = ('R1', 'R5', 'R10', 'mAP', 'mINP')
_SCORES = {name: float for name in METRICS}
_RESULT = {  # of a row and seed
    'label?': str,
    'seconds': float,
    'made_with?': dict,
    'train?': {'R1': float},
    'val?': {'single': _SCORES, str: _SCORES},
    'test?': {'single': _SCORES, str: _SCORES},
}
_WORDS = {'R1': 'R@1', 'R5': 'R@5', 'R10': 'R@10'}


def interval(difference_SQ: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval of paired differences [seeds, queries]; a resample weighs seeds and queries anew."""
    seeds, queries = difference_SQ.shape
    weight_RS, weight_RQ = _weights(seeds, queries, resamples, seed)
    means_SR = np.asarray(difference_SQ, np.float32) @ weight_RQ.T
    low, high = np.percentile(np.einsum('SR,RS->R', means_SR, weight_RS), [2.5, 97.5])
    return float(difference_SQ.mean()), float(low), float(high)


@functools.lru_cache(maxsize=8)
def _weights(seeds: int, queries: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each resample draws each seed and each query, as shares: [R, S] and [R, Q]."""
    rng = np.random.default_rng(seed)
    return tuple(
        (rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n).astype(np.float32) for n in (seeds, queries)
    )


def read(folder: pathlib.Path) -> dict[str, dict[int, dict]]:
    """row -> seed -> its result, as `commands.comparison` left them: <row>-<seed>.json with <row>-<seed>.npz.

    Raises UserError: nothing finished there.
    """
    found: dict[str, dict[int, dict]] = {}
    for path in sorted(folder.glob('*-[0-9]*.json')):
        name, _, seed = path.stem.rpartition('-')
        if not seed.isdecimal():  # somebody else's
            continue
        result = read_result(path)
        if path.with_suffix('.npz').exists():
            advice = f'delete it and {path.name}, and let `compare` make that row again'
            queries = read_arrays(path.with_suffix('.npz'), UserError, advice)
            result['queries'] = {key: values.astype(np.float32) for key, values in queries.items()}
        found.setdefault(name, {})[int(seed)] = result
    if not found:
        raise UserError(f'{folder}: found no result (<row>-<seed>.json); expected a finished row of `compare`')
    return found


def read_result(path: pathlib.Path) -> dict:
    """The result of one row and seed, without its queries. Raises UserError."""
    return read_json(path, UserError, 'delete it, and let `compare` make that row again', _RESULT)


def summarise(
    results: Mapping[str, Mapping[int, Mapping]], split: str, against: Sequence[str] = (), order: Iterable[str] = ()
) -> list[dict]:
    """A line a row and way of embedding ('single', 'supports', 'neighbours-k').

    Args:
      split: 'val' or 'test'; rows that were not evaluated there are left out.
      against: rows that differences are taken to, in single views.
      order: names first, in this order.
    """
    lines = []
    for name in [*(n for n in order if n in results), *(n for n in results if n not in set(order))]:
        there = {seed: run for seed, run in results[name].items() if split in run}
        for way in dict.fromkeys(way for run in there.values() for way in run[split]):
            runs = {seed: run for seed, run in there.items() if way in run[split]}  # some seeds may have more ways
            values = {m: np.array([run[split][way][m] for run in runs.values()]) for m in METRICS}
            first = next(iter(runs.values()))
            line = {'row': name, 'label': first.get('label', name), 'way': way, 'seeds': sorted(runs)}
            line |= {m: float(x.mean()) for m, x in values.items()}
            line |= {f'{m} sd': float(x.std(ddof=1)) for m, x in values.items() if len(runs) > 1}
            if 'train' in first:
                line['train R1'] = float(np.mean([run['train']['R1'] for run in runs.values()]))
            line['seconds'] = float(np.mean([run['seconds'] for run in runs.values()]))
            for other in against:
                if (name, way) != (other, 'single'):
                    line |= _differences(runs, results.get(other, {}), split, way, other)
            lines.append(line)
    return lines


def _differences(runs: Mapping, reference: Mapping, split: str, way: str, other: str) -> dict:
    """{'R1 to <other>': [mean, low, high], 'mAP to <other>': ...} in points, over the seeds that both have."""
    both = [seed for seed in runs if split in reference.get(seed, {}) and 'queries' in runs[seed]]
    if not both:
        return {}
    found = {}
    for metric in ('R1', 'mAP'):
        ours, theirs = (
            np.stack([of[seed]['queries'][f'{split}/{w}/{metric}'] for seed in both])
            for of, w in ((runs, way), (reference, 'single'))
        )
        found[f'{metric} to {other}'] = [100 * x for x in interval(ours - theirs)]
    return found


def markdown(lines: Sequence[Mapping], against: Sequence[str] = (), labels: Mapping[str, str] = {}) -> str:
    if not lines:
        return ''
    heads = ['row', 'training R@1', *(_WORDS.get(m, m) for m in METRICS)]
    heads += [f'{_WORDS.get(m, m)} to {labels.get(o, o)}' for o in against for m in ('R1', 'mAP')]
    rows = ['| ' + ' | '.join(heads) + ' |', '|' + '---|' * len(heads)]
    for line in lines:
        label = line['label'] + ('' if line['way'] == 'single' else f', {line["way"].replace("-", " ")}')
        cells = [label, f'{line["train R1"]:.0f}' if 'train R1' in line and line['way'] == 'single' else '']
        cells += [f'{line[m]:.1f}' + (f' ± {line[f"{m} sd"]:.1f}' if f'{m} sd' in line else '') for m in METRICS]
        cells += [signed(line.get(f'{m} to {o}')) for o in against for m in ('R1', 'mAP')]
        rows.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(rows) + '\n'


def signed(found: Sequence[float] | None) -> str:
    """'+1.2 [+0.3, +2.1]'; nothing for None."""
    return '' if found is None else f'{found[0]:+.1f} [{found[1]:+.1f}, {found[2]:+.1f}]'


def regime_line(regime: Mapping[str, float]) -> str:
    """What can be gained at all, in one sentence on top of every table."""
    words = {
        'zero_shot': 'start', 'train': 'training', 'val': 'val', 'ceiling': 'ceiling (attribute oracle, val)',
    }  # fmt: skip
    told = [f'{word} {regime[key]:.1f}' for key, word in words.items() if regime.get(key) is not None]
    return f'Regime of the baseline, R@1: {", ".join(told)}.' if told else ''


def plot(lines: Sequence[Mapping], path: pathlib.Path, reference: str = '') -> None:
    """R@1 and mAP of every line with the spread of its seeds; the reference row is a dotted line."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.32 * len(lines) + 1.2), sharey=True, layout='constrained')
    places = np.arange(len(lines))[::-1]
    colours = ['#1f5f9e' if line['way'] == 'single' else '#b2661f' for line in lines]
    for axis, metric in zip(axes, ('R1', 'mAP'), strict=True):
        values = [line[metric] for line in lines]
        spread = [line.get(f'{metric} sd', 0.0) for line in lines]
        axis.barh(places, values, color=colours, height=0.62)
        axis.errorbar(values, places, xerr=spread, fmt='none', ecolor='black', capsize=3)
        for place, value, sd in zip(places, values, spread, strict=True):
            axis.annotate(f'{value:.1f}', (value + sd, place), (4, 0), textcoords='offset points', va='center', size=8)
        for line in lines:
            if (line['row'], line['way']) == (reference, 'single'):
                axis.axvline(line[metric], color='black', linewidth=0.8, linestyle=':')
        axis.set(xlabel=f'{_WORDS.get(metric, metric)}, percent', ylim=(-0.6, len(lines) - 0.4))
        axis.spines[['top', 'right']].set_visible(False)
        widest = max((value + sd for value, sd in zip(values, spread, strict=True)), default=0.0)
        axis.set_xlim(0, max(widest, 0.1) * 1.18)  # room for the number beside the longest bar
    ways = ['' if line['way'] == 'single' else f' ({line["way"].replace("-", " ")})' for line in lines]
    axes[0].set_yticks(places, [line['label'] + way for line, way in zip(lines, ways, strict=True)])
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
    plt.close(figure)
