"""`compare` as it is typed: rows of a file on a config's data, taken up again after a kill, and finished runs."""

import json
import shutil

import numpy as np
import pytest

from commands.rows import merged
from lcr2s_jax.training.run import alone_in
from tests import folders, road

ROWS = """
[row.sdm]
stage = "baseline"
test = true

[row.wrong]
label = "a fifth of the captions wrong"
like = "sdm"
test = false
noise = "NOISE"
"""
SMALL = {
    'tokenizer': folders.WORDS, 'train.steps': 2, 'train.eval_every': 2, 'train.save_every': 2, 'batch.identities': 8,
    'batch.views': 2, 'evaluate.batch_size': 16, 'stages': "('baseline',)", 'parallel.devices': 1,
    'model.image_size': '(96,48)',
}  # fmt: skip


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A folder with a table of captions by models, an index file of wrong captions, and rows that name it."""
    root = tmp_path_factory.mktemp('compare')
    folders.published_json(root, 'interactive')
    wrong = np.arange(24)
    wrong[[3, 7, 11, 15]] = [7, 11, 15, 3]
    np.save(root / '0.2.npy', wrong)
    (root / 'rows.toml').write_text(ROWS.replace('NOISE', str(root / '0.2.npy')))
    return root


def typed(root, *words, **changes):
    data = {'data.dataset': 'folder', 'data.root': str(root), 'data.folder.table': 'interactive.json'}
    given = SMALL | data | {'data.cache': str(root / 'cache'), 'model.pretrained': road.tiny_clip()} | changes
    return road.run_here(road.line(*words, config='configs/smoke.py', **given))


def test_rows_are_trained_once_and_killed_in_between_go_on(made):
    words = ('compare', f'--rows={made / "rows.toml"}', f'--out={made / "out"}', '--seeds=2')
    first = typed(made, *words)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count('2/2') == 4, 'two rows of two seeds'
    (made / 'out' / 'wrong-1.json').unlink()  # it is written last: killed before
    again = typed(made, *words)
    assert again.returncode == 0 and again.stdout.count('2/2') == 1, again.stderr
    table = (made / 'out' / 'table.md').read_text()
    assert table.startswith('Regime of the baseline, R@1: training ') and '## test' in table
    assert '| a fifth of the captions wrong |' in table and ' ± ' in table and '] |' in table
    content = json.loads((made / 'out' / 'table.json').read_text())
    assert [line['row'] for line in content['val'] if line['way'] == 'single'] == ['sdm', 'wrong']
    assert (made / 'out' / 'plot.png').stat().st_size > 5000
    road.fails(typed(made, *words, **{'optim.b1': 0.5}), 1, 'made otherwise', 'optim.b1: 0.9 there, 0.5 now')
    with alone_in(made / 'out'):
        road.fails(typed(made, *words), 1, f'{made / "out"}: another process is running in it', 'choose another folder')
    (made / 'out' / 'notes-2024a.json').write_text('of somebody else')
    alone = road.typed('compare', f'--out={made / "out"}')
    assert alone.stdout.startswith('Regime of the baseline'), 'as it was told before'
    tested = (made / 'rows.toml').read_text().replace('test = false', 'test = true')
    (made / 'tested.toml').write_text(tested)
    later = typed(made, 'compare', f'--rows={made / "tested.toml"}', *words[2:])
    assert '2/2' not in later.stdout and '| a fifth of the captions wrong |' in later.stdout.partition('## val')[0]


def test_what_is_asked_for_wrongly_is_told(made):
    words = ('compare', f'--rows={made / "rows.toml"}', f'--out={made / "other"}')
    road.fails(typed(made, *words, '--against=nobody'), 1, "--against: found 'nobody', expected one of sdm, wrong")
    road.fails(typed(made, *words, '--seeds=0'), 2, '--seeds: found 0')
    road.fails(road.typed('compare', 'a', f'--rows={made / "rows.toml"}'), 2, 'compare takes finished runs')
    assert not (made / 'other').exists()
    for given in ((f'--rows={made / "rows.toml"}', '--config=configs/smoke.py'), (made / 'one',)):
        run = road.typed('compare', *given, f'--out={made / "rows.toml"}')
        road.fails(run, 1, 'rows.toml: found a file, expected a folder')


def copied(made, name: str, made_of: str = '', **changes) -> None:
    """The run 'one' as it would be of another config."""
    shutil.copytree(made / 'one', made / name)
    config = json.loads((made / name / 'config.json').read_text())
    config = merged(config, changes)
    config['made_of']['data'] = made_of or config['made_of']['data']
    (made / name / 'config.json').write_text(json.dumps(config))


@pytest.mark.slow
def test_finished_runs_of_one_dataset_are_one_table_and_others_are_refused(made):
    run = typed(made, f'--workdir={made / "one"}')
    assert run.returncode == 0, run.stderr
    copied(made, 'two', seed=1)
    found = road.typed('compare', made / 'one', made / 'two', f'--out={made / "runs"}')
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith('Regime of the baseline, R@1: training ')
    assert '| baseline | ' in found.stdout and ' ± ' in found.stdout
    assert {path.name for path in (made / 'runs').iterdir()} == {'table.md', 'table.json', 'plot.png'}
    fields = folders.USUAL | {'caption': 'vague_caption'}
    source = folders.open_source('folder', made, 50_000_000, table='interactive.json', fields=fields)
    copied(made, 'other', source.fingerprint, data={'folder': {'fields': fields}})
    road.fails(road.typed('compare', made / 'one', made / 'other'), 1, 'found other images or captions in test')
    road.fails(road.typed('compare', made / 'one', made / 'one'), 1, 'found seed 0 of a config that an earlier run has')
    copied(made, 'stopped', train={'steps': 4})
    road.fails(road.typed('compare', made / 'one', made / 'stopped'), 1, 'at step 2 of 4, expected a finished one')
