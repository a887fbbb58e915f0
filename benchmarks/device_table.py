"""The figures of benchmarks.device as Markdown, from its files alone."""

import json
import pathlib

PARTS = ('peak', 'step', 'torch', 'search', 'gallery', 'profile', 'compare')
AIMS = (0.5, 1.5, 1.03, 1.06)  # share of the peak, times torch's best, teacher and cached student over the baseline
PEAKS = {'bfloat16': 'bfloat16', 'float32': 'float32, TF32'}  # what a product of that type runs at by default


def text(folder: pathlib.Path) -> str:
    """Everything that is in the folder's files; says what failed, and what was left out."""
    parts = {path.stem: json.loads(path.read_text()) for name in PARTS if (path := folder / f'{name}.json').is_file()}
    if not parts:
        return f'found no results in {folder}; python -m benchmarks.device --out {folder} writes them\n'
    rows = {name: part.get('rows', []) for name, part in parts.items()}
    peaks = {row['what']: row['tflops'] for row in rows.get('peak', []) if 'tflops' in row}
    bandwidth = next((row['gb_per_s'] for row in rows.get('peak', []) if 'gb_per_s' in row), None)
    lines = [_about(parts), *_peak(rows.get('peak', [])), *_steps(rows, peaks), *_aims(rows, peaks)]
    lines += [*_search(rows.get('search', []), bandwidth), *_gallery(rows.get('gallery', []), peaks)]
    lines += [*_profile(rows.get('profile', [])), *_gone_wrong(parts)]
    if said := parts.get('compare', {}).get('said'):
        lines += ['', f'`{parts["compare"]["command"]}`', '', '```', *said, '```']
    return '\n'.join(lines) + '\n'


def _about(parts: dict) -> str:
    machines = [part['machine'] for part in parts.values() if 'machine' in part]
    if not machines:
        return 'No part began.'
    about = next((x for x in machines if x['device'] != 'cpu'), machines[0])
    versions = ', '.join(f'{name} {about["versions"][name]}' for name in ('jax', 'flax', 'torch', 'transformers'))
    seconds = ', '.join(f'{name} {part["seconds"]:.0f}' for name, part in parts.items() if 'seconds' in part)
    return f'{about["device"]}, {about["date"]}, {versions}. Seconds: {seconds}.'


def _table(head: str, rows: list[list]) -> list[str]:
    """Lines of a table; no rows, no table."""
    columns = head.split(' | ')
    cells = [[_cell(x) for x in row] for row in rows]
    return (
        ['', f'| {head} |', '|---' * len(columns) + '|', *(f'| {" | ".join(row)} |' for row in cells)] if rows else []
    )


def _cell(value) -> str:
    if isinstance(value, float):
        return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return '' if value is None else str(value)


def _peak(rows: list[dict]) -> list[str]:
    found = [[row['what'], row.get('tflops'), row.get('gb_per_s')] for row in rows]
    return _table('peak | TFLOP/s | GB/s', found)


def _of(row: dict, peaks: dict) -> float | None:
    """Share of the measured peak that a row reaches."""
    peak = peaks.get(PEAKS.get(row.get('dtype', ''), ''))
    return row['tflops'] / peak if peak and 'tflops' in row else None


def _percent(share: float | None) -> str:
    return '' if share is None else f'{100 * share:.0f} %'


def _steps(rows: dict, peaks: dict) -> list[str]:
    found = []
    for row in [*rows.get('step', []), *rows.get('torch', [])]:
        if 'seconds' in row:
            ratio = f'{row["ratio"]:.3f}' if row.get('ratio', 1.0) != 1.0 else None
            how = ', '.join(filter(None, (row['attention'], row['how'])))
            each = [row['what'], row['rows'], row['dtype'], how, 1e3 * row['seconds'], 1 / row['seconds']]
            memory = row.get('planned_gib', row.get('peak_gib'))
            each += [row['pairs_per_s'], _percent(_of(row, peaks)), ratio, memory, row.get('compile_seconds')]
            found.append(each)
    head = 'step | rows | type | how | ms | steps/s | pairs/s | of the peak | over the baseline | GiB | compiled in s'
    return _table(head, found)


def _aims(rows: dict, peaks: dict) -> list[str]:
    """What was aimed at, beside what was found, at the number of rows that was measured first."""
    done = [row for row in rows.get('step', []) if 'seconds' in row]
    if not done:
        return []
    same = [row for row in done if (row['rows'], row['dtype']) == (done[0]['rows'], done[0]['dtype'])]
    theirs = [x for x in rows.get('torch', []) if 'seconds' in x and _key(x) == _key(done[0])]
    ours = min((row for row in same if row['what'] == 'baseline'), key=lambda row: row['seconds'], default=None)
    found = []
    if ours:
        found.append(['share of the matrix peak', _percent(_of(ours, peaks)), f'at least {AIMS[0]:.0%}'])
    if ours and theirs:
        best = min(theirs, key=lambda row: row['seconds'])
        found.append([f"pairs/s over torch's best ({best['how']})", best['seconds'] / ours['seconds'], AIMS[1]])
    for name, aim in (('teacher', AIMS[2]), ('student', AIMS[3])):
        ratios = [row['ratio'] for row in same if row['what'] == name]
        if ratios:
            found.append([f'{name} over baseline', f'{ratios[0]:.3f}', f'at most {aim}'])
    return _table(f'{done[0]["rows"]} rows, {done[0]["dtype"]} | found | aim', found)


def _key(row: dict) -> tuple:
    return row['rows'], row['dtype']


def _search(rows: list[dict], bandwidth: float | None) -> list[str]:
    found = []
    for row in rows:
        if 'p50_ms' in row:
            floor = 1e-6 * row['bytes'] / bandwidth if bandwidth else None
            size = f'{row["vectors"]:,} x {row["width"]}'
            each = [size, row['queries'], row['answers'], row['p50_ms'], row['p99_ms'], floor, row['queries_per_s']]
            found.append([*each, row.get('peak_gib'), row['rows_as_by_a_plain_product']])
    head = 'exact search | queries | answers | p50 ms | p99 ms | reading it, ms | queries/s | GiB | as a plain product'
    return _table(head, found)


def _gallery(rows: list[dict], peaks: dict) -> list[str]:
    found = [
        [
            row['what'], row['rows'], ', '.join(filter(None, (row['attention'], row['how']))), row['resident_per_s'],
            row['from_host_per_s'], _percent(_of(row, peaks)), row['compile_seconds'],
        ]
        for row in rows if 'resident_per_s' in row
    ]  # fmt: skip
    return _table('embedded | rows | how | resident, a second | from the host | of the peak | compiled in s', found)


def _profile(rows: list[dict], top: int = 12) -> list[str]:
    if not rows or 'seconds' not in rows[0]:
        return []
    first = rows[0]
    about = f'{first["rows"]} rows, {1e3 * first["seconds"]:.1f} ms, busy {1e3 * first["busy_seconds"]:.1f} ms'
    kernels = [[f'`{row["what"]}`', row['ms_a_step'], row['calls_a_step'], _percent(row['share'])] for row in rows[1:]]
    return _table(f'profile ({about}) | ms a step | calls | share', kernels[:top])


def _gone_wrong(parts: dict) -> list[str]:
    found = []
    for name, part in parts.items():
        if part.get('error'):
            found.append([name, '', part['error']])
        for row in part.get('rows', []):
            told = row.get('failed') or row.get('left_out') or row.get('not_cudnn')
            if told:
                columns = (row.get(x) for x in ('what', 'rows', 'dtype', 'attention', 'how', 'queries'))
                found.append([name, ' '.join(str(x) for x in columns if x), told])
    return _table('not measured | what | why', found)
