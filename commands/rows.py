"""What `compare` trains, from a file of rows: each a stage, and what is other than in the config.

[row.NAME] with label, stage, and tables of changes, such as  set.student.feature_weight = 0.3
"""

import collections
import dataclasses
import difflib
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from commands import limits
from lcr2s_jax import files, texts
from lcr2s_jax.errors import ConfigError

STAGES = ('start', 'baseline', 'teacher', 'fusion', 'student')
_NAME = re.compile(r'[\w-][\w .,+=%()-]{0,59}')  # of a row: its files have it
KEEP = ('true', 'pair', 'consensus')
COMBINE = ('relation', 'mean', 'cross')
_KINDS = {
    'label?': str, 'stage?': str, 'teacher?': str, 'set?': {str: dict}, 'test?': bool, 'family?': str,
    'noise?': (float, str), 'half?': int, 'left_out?': [int], 'keep?': str, 'judges?': [str],
    'teachers?': [str], 'combine?': str, 'neighbours_by?': [str],
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    label: str
    stage: str  # 'start' (the encoders as they are), 'baseline', 'teacher', 'fusion' (on a row's encoders) or 'student'
    teacher: str = ''  # the row that a student learns from, or whose encoders a fusion takes
    # changes to the config, group by group
    set: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    test: bool = False  # whether it is evaluated on test, once; otherwise it is read on val alone
    family: str = ''  # rows of one family differ in a weight; the best of them on val stands for it on test
    # share of the training captions that stand at an image of someone else, 0..1, or RDE's index file (.npy)
    noise: float | str = 0.0
    half: int | None = None  # 0 or 1 trains on the images' even or odd captions alone
    # [i, n] trains without fold i of n: without identities whose number leaves the remainder i
    left_out: tuple[int, ...] = ()
    teachers: tuple[str, ...] = ()  # further rows that teach a student with it
    # how the teachers are joined: 'relation', the mean of their relations; 'mean', of their features; or 'cross', of
    # the features of those that a person was `left_out` of: rows of every fold, equally many
    combine: str = ''
    # captions that stay: 'true' (an oracle's), those that fit their own image ('pair'), or those that fit the *other*
    # images of their identity ('consensus'), as the judges see it; '' for all
    keep: str = ''
    # rows whose encoders judge; of two, each judges the captions that it was not trained on
    judges: tuple[str, ...] = ()
    # rows by whose image features, all of them together, this row's gallery is enriched a second time
    neighbours_by: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return self.taught_by + self.judges + self.neighbours_by

    @property
    def taught_by(self) -> tuple[str, ...]:
        return (self.teacher,) * bool(self.teacher) + self.teachers

    @property
    def beside(self) -> int:
        """How many teachers' features stand beside one another in what it is told."""
        return len(self.taught_by) if self.combine == 'relation' else 1


def read(path: pathlib.Path) -> dict[str, Row]:
    """The rows of a TOML file in its order; `like = NAME` starts from an earlier row, and `set` is merged into its.

    Raises ConfigError: no TOML, an unknown field, stage or row. DataError: no such file.
    """
    try:
        tables = tomllib.loads(texts.read_text(path, '--rows')).get('row', {})
    except ValueError as error:
        raise ConfigError(f'{path}: cannot be read as rows ({error}); expected TOML with tables [row.NAME]') from None
    if not tables or not isinstance(tables, dict):
        raise ConfigError(f'{path}: found no [row.NAME], expected one or more')
    raw: dict[str, dict] = {}
    rows: dict[str, Row] = {}
    for name, table in tables.items():
        raw[name] = _filled(path, name, table, raw)
        rows[name] = _row(path, name, raw[name], rows)
    return rows


def _filled(path: pathlib.Path, name: str, table: Mapping, raw: Mapping[str, dict]) -> dict:
    """The table with what it does not say taken from the row that it is like."""
    if fault := files.misfit(table, _KINDS):
        raise ConfigError(f'{path}, row {name}: {fault.replace("a JSON object", "a table")}')
    table = dict(table)
    like = table.pop('like', None)
    if like is None:
        return table
    if like not in raw:
        raise ConfigError(f"{path}, row {name}: found like = '{like}', expected an earlier row: {', '.join(raw)}")
    changes = merged(raw[like].get('set', {}), table.get('set', {}))
    # a label is a row's own: two of one label are one in the table
    return {key: value for key, value in raw[like].items() if key != 'label'} | table | {'set': changes}


def _row(path: pathlib.Path, name: str, table: Mapping, rows: Mapping[str, Row]) -> Row:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: found the row '{name[:80]}', expected a name that files can have: letters, digits and .,+=%()- "
            'alone, 60 of them at most'
        )
    fields = {field.name for field in dataclasses.fields(Row)} - {'name'}
    if unknown := set(table) - fields:
        known = ', '.join(sorted(fields))
        raise ConfigError(f'{path}, row {name}: found {", ".join(sorted(unknown))}; expected {known}')
    if 'stage' not in table:
        raise ConfigError(f'{path}, row {name}: found no stage, expected one of {", ".join(STAGES)}')
    lists = {key: tuple(table.get(key, ())) for key in ('judges', 'teachers', 'left_out', 'neighbours_by')}
    row = Row(name, **{'label': name} | dict(table) | lists)
    if row.stage not in STAGES or row.keep not in ('', *KEEP):
        raise ConfigError(
            f"{path}, row {name}: found stage '{row.stage}', keep '{row.keep}'; expected a stage of "
            f'{", ".join(STAGES)}, and keep of {", ".join(KEEP)} or none'
        )
    if lost := [other for other in row.needs if other not in rows]:
        raise ConfigError(f'{path}, row {name}: found {lost[0]} among the rows that it needs, expected an earlier row')
    if (row.stage in ('student', 'fusion')) != bool(row.teacher):
        raise ConfigError(f'{path}, row {name}: a student or fusion names its teacher, another stage has none')
    if fault := _fault_of_teachers(row, rows) or _fault_of_judges(row, rows):
        raise ConfigError(f'{path}, row {name}: {fault}')
    return row


def _fault_of_teachers(row: Row, rows: Mapping[str, Row]) -> str:
    """What is wrong with several teachers, or with a half, in words."""
    if not isinstance(row.noise, str) and not 0 <= row.noise <= 1:
        return f'found noise = {row.noise}, expected a share of the captions, 0 to 1, or an index file'
    if row.half not in (None, 0, 1):
        return f'found half = {row.half}, expected 0 or 1'
    if row.left_out and not (len(row.left_out) == 2 and 0 <= row.left_out[0] < row.left_out[1] > 1):
        return f'found left_out = {list(row.left_out)}, expected [i, n]: fold i of n, counted from 0, such as [0, 4]'
    if bool(row.teachers) != (row.combine in COMBINE) or (row.teachers and row.stage != 'student'):
        return (
            f"found teachers = {list(row.teachers)} with combine = '{row.combine}' in a {row.stage}; expected both, of "
            f'a student, and combine one of {", ".join(COMBINE)}'
        )
    if row.combine == 'cross':
        count = collections.Counter(tuple(rows[name].left_out) for name in row.taught_by)
        if set(count) != {(i, len(count)) for i in range(len(count))} or len(set(count.values())) > 1:
            found = ', '.join(str(list(rows[name].left_out)) for name in row.taught_by)
            return (
                f'found teachers with left_out {found}; expected equally many for each fold: [0, n], [1, n], ... '
                '[n - 1, n]'
            )
    return ''


def _fault_of_judges(row: Row, rows: Mapping[str, Row]) -> str:
    """What is wrong with who judges a row's captions, or finds its neighbours, in words."""
    halves = [rows[name].half for name in row.judges]
    if bool(halves) != (row.keep in ('pair', 'consensus')) or (halves[1:] and set(halves) != {0, 1}) or halves[2:]:
        return (
            f"found judges = {list(row.judges)} with keep = '{row.keep}'; expected both, keep 'pair' or 'consensus', "
            'and one judge, or two that were trained on half = 0 and half = 1'
        )
    if row.neighbours_by and not row.test:
        return 'found neighbours_by in a row that is not tested; expected test = true, as neighbours are tried there'
    return ''


def merged(config: Mapping, changes: Mapping) -> dict:
    """`config` with a nested table of changes; groups are merged, values replaced."""
    found = dict(config)
    for key, value in changes.items():
        mergeable = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if mergeable else value
    return found


def check(path: pathlib.Path, rows: Mapping[str, Row], config: Mapping) -> None:
    """Raise ConfigError for changes of what the config has not, or to another kind of value, first of all."""
    for row in rows.values():
        _check(f'{path}, row {row.name}: found set', row.set, config)
        limits.check(merged(config, row.set), f'{path}, row {row.name}: set.')


def _check(found: str, changes: Mapping, there: Mapping) -> None:
    for key, value in changes.items():
        if key not in there:
            near = ''.join(f', such as {name}' for name in difflib.get_close_matches(key, there, 1))
            raise ConfigError(f'{found}.{key}; expected a field of the config{near}: {", ".join(there)}')
        if isinstance(there[key], Mapping) and isinstance(value, Mapping):
            _check(f'{found}.{key}', value, there[key])
        elif fault := files.misfit(value, list if isinstance(there[key], tuple) else type(there[key])):
            raise ConfigError(f'{found}.{key} = {value!r}; {fault.rpartition(", ")[2]}, as {there[key]!r} is')
