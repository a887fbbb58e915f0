"""Attributes that two models get wrong, shown by an image or hidden: python -m benchmarks.attributes --workdir=RUN

    python -m benchmarks.attributes --workdir=runs/three --stages baseline student [--split=test] [--plot]

The table is written into the workdir, explain/attributes.json.

A caption that names a red bag is contradicted by a first-ranked image of a person whose bag is not red, whether or not
that image shows the bag. Of an image that hides it, only what usually goes with it can tell: what one view does not
show and a teacher of many views may have taught. Of drawn people, whose truth is known. All of it is ours.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.common import write
from data.demo.synthetic import Seen, seen
from lcr2s_jax.arrays import Embeddings, unit

RESAMPLES = 2000
PLOT = pathlib.Path('docs/images/attributes.png')


def breakdown(
    embeddings_by_name: Mapping[str, Embeddings | Sequence[Embeddings]],
    seed: int,
    people: Mapping[str, int],
    split: str,
) -> list[dict]:
    """Percent of queries that the first-ranked image's person contradicts, attribute by attribute, of two models.

    Args:
      embeddings_by_name: two models, the one to compare with first; images and captions in the order of
        `data.demo.synthetic.records`. Several runs of a model (training seeds) are averaged, query by query.
      seed, people, split: of the drawn people (config.data.demo), as of `data.demo.synthetic.oracle_scores`.

    Returns:
      Four rows of every attribute that a caption names, with `queries`, the captions that name it:
      `gallery` 'all', `first` 'shows' or 'hides': the whole gallery is ranked, and only those queries count whose first
        image shows (hides) the attribute: not the same queries for both models.
      `gallery` 'showing' or 'hiding': only the images that show (hide) it are ranked, for every query: paired.
      Of each model its percentage, under its name, and the number of queries that it is of, under `<name> queries`;
      `difference`, the second less the first, with `low` and `high`, a 95 % interval of it: percentiles of a bootstrap
      that draws queries with replacement, the same for both models. It takes queries as independent and models as they
      are, so it is too narrow for what another draw of people or of training seeds would give, and of twenty attributes
      one is expected to lie outside by chance. `chance` is what an image of that gallery, drawn at random, would get.
      What no query counts for is None.

    Raises:
      ValueError: not two models, or features of other images and captions.
    """
    if len(embeddings_by_name) != 2:
        raise ValueError(f'found the models {list(embeddings_by_name)}, expected two')
    truth = seen(seed, people, split)
    runs = {name: [e] if isinstance(e, Embeddings) else list(e) for name, e in embeddings_by_name.items()}
    similarity = {name: [_similarity(e, truth, name) for e in several] for name, several in runs.items()}
    keys = sorted({key for names in truth.named for key in names})
    rng = np.random.default_rng(0)
    return [row for key in keys for row in _attribute(key, truth, similarity, rng)]


def _attribute(key: str, truth: Seen, similarity: Mapping[str, list[np.ndarray]], rng) -> list[dict]:
    asked_Q = np.flatnonzero([key in names for names in truth.named])
    value_Q = np.array([truth.named[q][key] for q in asked_Q])
    value_G = np.array([who[key] for who in truth.traits])[truth.image_person]
    wrong_QG = value_Q[:, None] != value_G
    shows_G = np.array([key in image for image in truth.shown])
    drawn_RQ = rng.multinomial(len(asked_Q), np.full(len(asked_Q), 1 / len(asked_Q)), size=RESAMPLES)
    rows = []
    for gallery, first, ranked_G, counted_G in (
        ('all', 'shows', np.ones_like(shows_G), shows_G),
        ('all', 'hides', np.ones_like(shows_G), ~shows_G),
        ('showing', 'shows', shows_G, shows_G),
        ('hiding', 'hides', ~shows_G, ~shows_G),
    ):
        row = {'attribute': key, 'gallery': gallery, 'first': first, 'queries': len(asked_Q)}
        row['chance'] = 100 * float(wrong_QG[:, counted_G].mean()) if counted_G.any() else None
        found = {
            name: _wrong_and_counted([s_QG[asked_Q] for s_QG in several], wrong_QG, ranked_G, counted_G)
            for name, several in similarity.items()
        }
        rows.append(row | _compare(found, drawn_RQ))
    return rows


def _wrong_and_counted(several: list[np.ndarray], wrong_QG, ranked_G, counted_G) -> tuple[np.ndarray, np.ndarray]:
    """Of each query the share of runs whose first image counts and is wrong, and of those whose first image counts."""
    if not ranked_G.any():
        return np.zeros(len(wrong_QG)), np.zeros(len(wrong_QG))
    wrong, counted = [], []
    for sim_QG in several:
        first_Q = np.where(ranked_G, sim_QG, -np.inf).argmax(axis=1)
        counted.append(counted_G[first_Q])
        wrong.append(counted[-1] & wrong_QG[np.arange(len(first_Q)), first_Q])
    return np.mean(wrong, axis=0), np.mean(counted, axis=0)


def _compare(found: Mapping[str, tuple[np.ndarray, np.ndarray]], drawn_RQ: np.ndarray) -> dict:
    row, rates_R = {}, []
    for name, (wrong_Q, counted_Q) in found.items():
        total = counted_Q.sum()
        row[name] = 100 * float(wrong_Q.sum() / total) if total else None
        row[f'{name} queries'] = round(float(total), 2)
        with np.errstate(invalid='ignore'):  # a resample without a query that counts is left out below
            rates_R.append(100 * (drawn_RQ @ wrong_Q) / (drawn_RQ @ counted_Q))
    (first, second), difference_R = found, rates_R[1] - rates_R[0]
    if row[first] is None or row[second] is None:
        return row | dict(difference=None, low=None, high=None)
    low, high = np.nanpercentile(difference_R, [2.5, 97.5])
    return row | dict(difference=row[second] - row[first], low=float(low), high=float(high))


def _similarity(e: Embeddings, truth: Seen, name: str) -> np.ndarray:
    ours = (np.asarray(e.image_pid_G), np.asarray(e.text_pid_Q))
    if not all(map(np.array_equal, ours, (truth.image_person, truth.caption_person))):
        raise ValueError(
            f'{name}: found features of {len(ours[0])} images and {len(ours[1])} captions, perhaps of other people; '
            f'expected those of the {len(truth.image_person)} and {len(truth.caption_person)} that seed, people and '
            'split name, in their order'
        )
    return unit(np.asarray(e.text_QE)) @ unit(np.asarray(e.image_GE)).T


def plot(rows: list[dict], path: pathlib.Path) -> None:
    """The paired differences as a PNG: a line an attribute, where images show it and where they hide it."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    fixed = ('attribute', 'gallery', 'first', 'queries', 'chance')
    first, second = [name for name in rows[0] if name not in fixed and not name.endswith(' queries')][:2]
    paired = {'showing': 'among images that show it', 'hiding': 'among images that hide it'}
    keys = list(dict.fromkeys(row['attribute'] for row in rows))
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.4 + 0.27 * len(keys)), sharey=True, layout='constrained')
    for axis, (gallery, title) in zip(axes, paired.items(), strict=True):
        for row in rows:
            y = keys.index(row['attribute'])
            if row['gallery'] == gallery and row['difference'] is None:
                axis.text(0, y, ' no such image', va='center', fontsize=8, color='#9a9a9a')
            elif row['gallery'] == gallery:
                clear = row['low'] > 0 or row['high'] < 0
                axis.plot([row['low'], row['high']], [y, y], color='#144f9a' if clear else '#9a9a9a', linewidth=2)
                axis.plot(row['difference'], y, 'o', color='#144f9a' if clear else '#9a9a9a')
        axis.axvline(0, color='black', linewidth=0.8)
        axis.set(title=title, xlabel=f'points of error, {second} less {first} (left: {second} errs less)')
        axis.grid(alpha=0.3)
    asked = {row['attribute']: row['queries'] for row in rows}
    axes[0].set_yticks(range(len(keys)), [f'{key.replace("_", " ")} ({asked[key]})' for key in keys])
    axes[0].invert_yaxis()
    figure.suptitle(
        'How often the first-ranked person contradicts the attribute, of the queries that name it (in brackets)\n'
        'Difference of the models and its 95 % interval over queries; blue: clear of 0'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def of_run(workdir: pathlib.Path, names: Sequence[str], split: str) -> tuple[dict, dict]:
    """Features of two stages of a workdir; the config of the data. Raises SystemExit for data of unknown attributes."""
    from commands.workdir import open_finished

    run = open_finished(workdir, names, (split,))
    data = run.config.data
    if data.dataset != 'demo':
        raise SystemExit(f"{workdir}: found the dataset '{data.dataset}', expected 'demo', whose attributes are known")
    return {name: run.features(name, split) for name in names}, data.demo.to_dict()


def main() -> None:
    """Compare two stages of a workdir."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workdir', type=pathlib.Path, required=True, help='of a run on the drawn people')
    parser.add_argument('--stages', nargs=2, default=['baseline', 'student'], help='the one to compare with first')
    parser.add_argument('--split', default='test', choices=('val', 'test'), help='split whose captions search')
    parser.add_argument('--plot', action='store_true', help=f'write {PLOT}')
    args = parser.parse_args()
    features, drawn = of_run(args.workdir, args.stages, args.split)
    rows = breakdown(features, drawn['seed'], drawn['people'], args.split)
    told = [{key: value for key, value in row.items() if value is not None} for row in rows]
    write('attributes', told, args.workdir / 'explain')
    if args.plot:
        plot(rows, PLOT)
        print(f'written: {PLOT}')


if __name__ == '__main__':
    main()
