"""Results as a table: every stage that a run has, between a random ranking and the oracles."""

import io
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from lcr2s_jax.evaluation.metrics import NAMES

_LABELS = {
    'random': 'random ranking',
    'weights': 'zero-shot',
    'baseline': 'baseline (no fusion)',
    'teacher': 'teacher, single view',
}
_ORACLE = 'attribute oracle (one view, seen perfectly)'


def table(results: Mapping, split: str) -> str:
    """The results of `split` as plain text, text to image and image to text, percent."""
    return _drawn(f'{split}: percent, text to image | image to text', result_rows(results, split))


def gallery_table(results: Mapping, split: str) -> str:
    """The same of what neighbours in the gallery add to each stage; '' where that was not asked for."""
    rows, right = [], []
    for stage, told in results.items():
        ways = told.get('gallery_side', {}).get(split, {})
        share = ways.get('first neighbours')
        right += [] if share is None else [f'{stage} {share:.1f} %']
        rows += [(f'{stage}, {way}', row) for way, row in ways.items() if way != 'first neighbours']
    if not rows:
        return ''
    title = f'{split}: with neighbours in the gallery, no labels, apart as re-ranking is'
    return f'{_drawn(title, rows)}\nfirst neighbours that are the same person: {", ".join(right)}'


def _drawn(title: str, rows: Iterable[tuple[str, Mapping]]) -> str:
    shown = Table(title=title, title_justify='left')
    shown.add_column('')
    for way in ('t2i', 'i2t'):
        for name in NAMES:
            shown.add_column(name if way == 't2i' else f'{name} i2t', justify='right')
    for label, row in rows:
        cells = [f'{row[way][n]:.1f}' if n in row.get(way, {}) else '' for way in ('t2i', 'i2t') for n in NAMES]
        shown.add_row(label, *cells)
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(shown)
    return console.export_text().rstrip()


def result_rows(results: Mapping, split: str) -> Iterator[tuple[str, dict]]:
    """(label, {'t2i': metrics, 'i2t': metrics}) of every row that has `split`, the least informed first."""
    stages = [name for name in results if name not in ('random', 'weights', 'oracle', 'seconds')]
    for name in ('random', 'weights', *stages):
        if split in results.get(name, {}):
            yield _LABELS.get(name, name), results[name][split]
    for name in stages:
        rich = results[name].get('with_supports_oracle', {})
        if split in rich:
            yield f'{name} with supports (oracle: needs identity labels)', rich[split]
    if split in results.get('oracle', {}):
        yield _ORACLE, results['oracle'][split]
