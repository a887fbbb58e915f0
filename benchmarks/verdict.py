"""Tables, intervals and a plot of what `benchmarks.ablation` trained:  python -m benchmarks.verdict [--out FOLDER]

Writes docs/evidence/NAME.json and NAME.md and docs/images/NAME.png, NAME being that of the folder. A difference to the
matched baseline is a mean over seeds and queries of the paired differences (same seed, same query); its 95 % interval
is a bootstrap's with seeds and queries both drawn anew 10,000 times. Three seeds are few: the interval is as honest as
they allow.
"""

import argparse
import json
import pathlib

import numpy as np

from benchmarks import common
from benchmarks.rows import BASELINE, ROWS
from lcr2s_jax import files
from lcr2s_jax.evaluation.metrics import NAMES

RESAMPLES = 10_000
WAYS = {'single': ', single view', 'supports': ', with supports (oracle)'}  # of a teacher
PICTURES = pathlib.Path('docs/images')


def main() -> None:
    """Read every finished row and write all that is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/ablation'))
    parser.add_argument('--baseline', default=BASELINE, choices=list(ROWS), help='the row that differences are to')
    args = parser.parse_args()
    made = json.loads((args.out / 'machine.json').read_text())
    runs = {
        name: {int(path.parent.name.rpartition('-')[2]): read(path.parent) for path in found}
        for name in ROWS
        if (found := sorted(args.out.glob(f'{name}-[0-9]*/result.json')))
    }
    # a claim needs seeds; where there is one, test is not looked at
    claims = [
        row
        for name, of in runs.items()
        if len(of) > 1 and all('test' in result for result in of.values())
        for row in summaries(name, runs, 'test', args.baseline)
    ]
    tried = [row for name in runs for row in summaries(name, runs, 'val', args.baseline, seeds=[0])]
    text = markdown(claims, tried, made)
    print(text)
    common.OUT.mkdir(parents=True, exist_ok=True)
    files.write(common.OUT / f'{args.out.name}.md', text)
    content = made | {
        'verdict': f'python -m benchmarks.verdict --out={args.out} --baseline={args.baseline}',
        'test': claims,
        'val': tried,
    }
    files.write(common.OUT / f'{args.out.name}.json', json.dumps(content, indent=1) + '\n')
    if claims:
        plot(claims, args.baseline, PICTURES / f'{args.out.name}.png')


def read(folder: pathlib.Path) -> dict:
    """A row and seed: its result and, of every split, the metrics of every query."""
    result = json.loads((folder / 'result.json').read_text())
    for split in ('val', 'test'):
        if (folder / f'{split}.npz').exists():
            with np.load(folder / f'{split}.npz') as queries:
                result[f'{split}_queries'] = dict(queries)
    return result


def summaries(name: str, runs: dict, split: str, baseline: str, seeds: list[int] | None = None) -> list[dict]:
    """One row a way of embedding ('single', and 'supports' where there is a fusion): means, deviations, differences."""
    found = []
    of = [seed for seed in runs[name] if seeds is None or seed in seeds]
    base = [seed for seed in runs.get(baseline, {}) if seed in of]
    for way in runs[name][of[0]][split] if of else ():
        scores = {m: np.array([runs[name][seed][split][way]['t2i'][m] for seed in of]) for m in NAMES}
        row = {
            'row': name,
            'label': ROWS[name].label + WAYS[way] * (ROWS[name].stage == 'teacher'),
            'way': way,
            'seeds': of,
        }
        row |= {m: float(x.mean()) for m, x in scores.items()}
        row |= {f'{m} sd': float(x.std(ddof=1)) for m, x in scores.items() if len(of) > 1}
        for metric in ('R1', 'mAP') if base and (name, way) != (baseline, 'single') else ():
            ours, theirs = (
                np.stack([runs[which][seed][f'{split}_queries'][w][:, NAMES.index(metric)] for seed in base])
                for which, w in ((name, way), (baseline, 'single'))
            )
            row[f'{metric} difference'] = [100 * x for x in interval(ours - theirs)]
        row |= {k: float(np.mean([runs[name][seed][k] for seed in of])) for k in ('step', 'seconds', 'parameters')}
        found.append(row)
    return found


def interval(difference_SQ: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval of paired differences, by a bootstrap over seeds (rows) and queries (columns).

    Queries are drawn as counts: a resample is a weighting of queries times a weighting of seeds.
    """
    rng = np.random.default_rng(seed)
    seeds, queries = difference_SQ.shape
    means = np.empty(resamples)
    for i in range(resamples):
        weight_S = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds) / seeds
        weight_Q = np.bincount(rng.integers(queries, size=queries), minlength=queries) / queries
        means[i] = weight_S @ difference_SQ @ weight_Q
    low, high = np.percentile(means, [2.5, 97.5])
    return float(difference_SQ.mean()), float(low), float(high)


def markdown(claims: list[dict], tried: list[dict], made: dict) -> str:
    """Both tables."""
    seeds = sorted({seed for row in claims for seed in row['seeds']})
    chosen = {'R1': 'R@1'}.get(made.get('chosen_by', 'R1'), 'mAP')
    lines = [f'Trained on {made["people"]:,} people for {made["steps"]:,} steps; steps chosen by val {chosen}.', '']
    lines += claims and [
        f'Test, {len(seeds)} seeds; mean ± standard deviation over seeds; differences to the matched baseline with a '
        'paired bootstrap 95 % interval.',
        '',
        '| row | R@1 | R@5 | R@10 | mAP | mINP | R@1 to baseline | mAP to baseline | training, s |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for row in claims:
        scores = [f'{row[m]:.1f}' + (f' ± {row[f"{m} sd"]:.1f}' if f'{m} sd' in row else '') for m in NAMES]
        apart = [signed(row.get(f'{m} difference')) for m in ('R1', 'mAP')]
        lines.append('| ' + ' | '.join([row['label'], *scores, *apart, f'{row["seconds"]:.0f}']) + ' |')
    lines += [
        '',
        'Val, seed 0 alone: what was tried, in the order of benchmarks/rows.py. Intervals are over queries only.',
        '',
        '| row | R@1 | R@5 | mAP | R@1 to baseline | mAP to baseline |',
        '|---|---|---|---|---|---|',
    ]
    for row in tried:
        cells = [row['label'], *(f'{row[m]:.1f}' for m in ('R1', 'R5', 'mAP'))]
        cells += [signed(row.get(f'{m} difference')) for m in ('R1', 'mAP')]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def signed(found: list[float] | None) -> str:
    """'+1.2 [0.3, 2.1]'."""
    return '' if found is None else f'{found[0]:+.1f} [{found[1]:+.1f}, {found[2]:+.1f}]'


def plot(claims: list[dict], baseline: str, path: pathlib.Path) -> None:
    """R@1 and mAP of every row with the spread of its seeds, and the matched baseline as a line."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 0.4 * len(claims) + 1.2), sharey=True, layout='constrained')
    places = np.arange(len(claims))[::-1]
    for axis, metric, name in zip(axes, ('R1', 'mAP'), ('R@1', 'mAP'), strict=True):
        colours = ['#b2661f' if row['way'] == 'supports' else '#1f5f9e' for row in claims]
        axis.barh(places, [row[metric] for row in claims], color=colours, height=0.62)
        spread = [row.get(f'{metric} sd', 0.0) for row in claims]
        axis.errorbar([row[metric] for row in claims], places, xerr=spread, fmt='none', ecolor='black', capsize=3)
        for place, row in zip(places, claims, strict=True):
            axis.text(
                row[metric] + row.get(f'{metric} sd', 0.0) + 0.6, place, f'{row[metric]:.1f}', va='center', size=8
            )
        for row in claims:
            if (row['row'], row['way']) == (baseline, 'single'):
                axis.axvline(row[metric], color='black', linewidth=0.8, linestyle=':')
        axis.set(xlabel=f'{name}, percent', ylim=(-0.6, len(claims) - 0.4))
        axis.spines[['top', 'right']].set_visible(False)
        axis.set_xlim(0, max(row[metric] for row in claims) * 1.12)
    figure.suptitle('Test; whiskers: standard deviation over seeds; dotted: the matched baseline', fontsize=10)
    axes[0].set_yticks(places, [row['label'] for row in claims])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    main()
