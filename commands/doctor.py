"""python main.py doctor --config=...: is the dataset's folder fit to train on?"""

import contextlib
import dataclasses
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence

import rich.console
import rich.table
import rich.text
from ml_collections import ConfigDict

from data.doctor import checks
from data.doctor.checks import Finding
from data.doctor.examine import Examination, examine
from lcr2s_jax.errors import printable
from lcr2s_jax.progress import Shown
from lcr2s_jax.texts import counted

_WIDTH = 110  # columns, at most
_COLOURS = {'error': 'bold red', 'warning': 'yellow', 'note': 'cyan', 'good': 'green'}


def doctor(config: ConfigDict, as_json: bool) -> int:
    """Tell what would become of the config's dataset and write nothing; 0 where training would take it, else 1."""
    data = config.data.to_dict()
    # libraries that greet the terminal must not spoil the JSON
    with contextlib.redirect_stdout(sys.stderr):
        found = examine(
            **{name: data[name] for name in ('dataset', 'root', 'images', 'max_pixels', 'folder')},
            room=(data['cache'], data['in_memory']),
            batch=config.batch.to_dict(),
            tokenizer=config.tokenizer or config.model.pretrained,
            context_length=config.model.context_length,
            progress=Shown(),
        )
    if as_json:
        print(json.dumps(dataclasses.asdict(found) | {'usable': found.usable}, indent=2))
    else:
        _show(found, config.batch.views, rich.console.Console(highlight=False))
    return 0 if found.usable else 1


def _show(found: Examination, views: int, console: rich.console.Console) -> None:
    width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    console.print(rich.text.Text(f'{found.dataset}  {found.file}'.rstrip()), soft_wrap=True)
    for table in (_counts(found.counts), _views(found.views, views)):
        if table.row_count:
            console.print()
            console.print(table, width=width)
    for finding in found.findings:
        console.print()
        console.print(_text(finding, width), soft_wrap=True)
    numbers = {level: sum(finding.level == level for finding in found.findings) for level in checks.LEVELS[:-1]}
    told = ', '.join(counted(number, level) for level, number in numbers.items() if number)
    verdict = 'usable' if found.usable else 'not usable'
    console.print()
    console.print(rich.text.Text(verdict + f' ({told})' * bool(told), 'bold green' if found.usable else 'bold red'))


def _counts(counts: Mapping[str, Mapping]) -> rich.table.Table:
    names = ('identities', 'images', 'captions')
    published = any(have['published'] for have in counts.values())
    table = _table('split', *(column for name in names for column in (name, 'published')[: 1 + published]))
    for split, have in counts.items():
        old = have['published'] or {}
        cells = [f'{numbers[name]:,}' if name in numbers else '-' for name in names for numbers in (have, old)]
        table.add_row(split, *cells[:: 1 if published else 2])
    return table


def _views(rows: Sequence[Mapping[str, float]], views: int) -> rich.table.Table:
    table = _table('views K', 'full supports', 'masked repeats', 'images that sit out an epoch')
    for row in rows:
        mark = ' (config)' if row['views'] == views else ''
        table.add_row(f'{row["views"]}{mark}', *(f'{row[name]:.1%}' for name in ('complete', 'repeats', 'idle')))
    return table


def _table(left: str, *right: str) -> rich.table.Table:
    table = rich.table.Table(left, box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style='bold')
    for name in right:
        table.add_column(name, justify='right')
    return table


def _text(finding: Finding, width: int) -> rich.text.Text:
    margin = ' ' * 9
    parts = [f'{finding.level:8} {finding.code}: {finding.found}']
    parts += [margin + words for words in (finding.follows, finding.do and f'Do: {finding.do}') if words]
    parts += [margin + '- ' + example for example in finding.examples]
    lines = [
        # a path is not broken, so that it can be copied
        line
        for part in parts
        for line in textwrap.wrap(part, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
    ]
    text = rich.text.Text('\n'.join(printable(line) for line in lines))
    text.stylize(_COLOURS[finding.level], 0, len(finding.level))
    return text
