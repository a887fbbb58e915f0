"""Rows by seeds: what is trained side by side is what is trained alone, and what is done is not done again."""

import dataclasses
import errno

import numpy as np
import pytest

from benchmarks import testbed
from commands.comparison import Comparison
from commands.rows import Row, merged
from lcr2s_jax import files
from lcr2s_jax.errors import ConfigError, DataError
from lcr2s_jax.evaluation import compare
from lcr2s_jax.training.resident import ResidentSplit
from tests import tiny

ROWS = {
    'sdm': Row('sdm', 'SDM', 'baseline'),
    'fusion': Row('fusion', 'fusion', 'fusion', 'sdm'),
    'rich': Row('rich', 'enriched', 'student', 'fusion', test=True),
    'rich-3': Row('rich-3', 'enriched, 3', 'student', 'fusion', set={'student': {'feature_weight': 3.0}}),
    'even': Row('even', 'half', 'baseline', left_out=(1, 2)),
    'odd': Row('odd', 'half', 'baseline', left_out=(0, 2)),
    'cross': Row(
        'cross',
        'crossed',
        'student',
        'even',
        teachers=('odd',),
        combine='cross',
        set={'student': {'target_share': 0.0}},
    ),
    'three': Row(
        'three',
        'mean relation',
        'student',
        'sdm',
        teachers=('even', 'odd'),
        combine='relation',
        set={'student': {'target_share': 0.0, 'feature_weight': 0.0, 'relation_weight': 1.0}},
    ),
    'kept': Row('kept', 'kept', 'baseline', noise=0.5, keep='consensus', judges=('sdm',)),
}


def split(seed: int, people: int = 12, views: int = 3) -> ResidentSplit:
    batch = tiny.batch(seed, people, views, repeats=False)
    pid = np.repeat(np.arange(people, dtype=np.int32), views)
    image, tokens = (x.reshape(-1, *x.shape[2:]) for x in (batch.image_BKhwc, batch.tokens_BKL))
    return ResidentSplit(image, tokens, pid, np.arange(people * views, dtype=np.int32))


def comparison(out, together: bool, said: list) -> Comparison:
    changes = {
        'train': {'steps': 4, 'eval_every': 2}, 'batch': {'identities': 4}, 'teacher': {'heads': 2},
        'fusion': {'support_views': 3}, 'student': {'support_views': 3},
    }  # fmt: skip
    config = merged(testbed.CONFIG, changes)
    clip = tiny.clip()
    splits = {name: split(seed) for seed, name in enumerate(('train', 'val', 'test'))}
    return Comparison(
        splits, config, ROWS, out, lambda model: (clip, tiny.clip_params(clip)), together=together, say=said.append
    )


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    said: list[str] = []
    one = comparison(tmp_path_factory.mktemp('out'), False, said)
    one.run(['sdm'], [0])
    return one, said


@pytest.mark.slow
def test_seeds_and_rows_trained_side_by_side_are_those_trained_alone(tmp_path):
    together, alone = (comparison(tmp_path / name, name == 'together', []) for name in ('together', 'alone'))
    together.prepare(['rich', 'rich-3'], [0, 1])
    together.run(['rich', 'rich-3'], [0, 1])
    alone.run(['rich'], [0])
    for name in ('sdm', 'fusion', 'rich'):
        ours, theirs = ([h['loss'] for h in compare.read(one.out)[name][0]['history']] for one in (together, alone))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    results = compare.read(together.out)
    assert set(results) == {'sdm', 'fusion', 'rich', 'rich-3'}
    assert all(set(runs) == {0, 1} for runs in results.values())
    assert results['rich'][0]['history'] != results['rich-3'][0]['history'], 'a weight of its own'
    assert set(results['fusion'][0]['val']) == {'single', 'supports'}
    assert set(results['rich'][0]['test']) == {'single', 'neighbours-2', 'neighbours-8'}


def test_what_is_done_is_not_done_again_and_test_is_for_those_who_are_asked(alone):
    one, said = alone
    before = len(said)
    one.run(['sdm'], [0])
    assert len(said) == before and 'test' not in compare.read(one.out)['sdm'][0]
    one.test('sdm', [0])
    assert set(compare.read(one.out)['sdm'][0]['test']) == {'single', 'neighbours-2', 'neighbours-8'}


def test_captions_at_the_wrong_picture_are_left_to_a_row_that_keeps_those_that_fit(alone):
    one, _ = alone
    kept = one._kept_captions(ROWS['kept'], 0)
    assert 6 <= len(kept) < 36
    true = one._kept_captions(Row('t', '', 'baseline', noise=0.5, keep='true'), 0)
    source = one._source(ROWS['kept'])
    assert (source[true] // 3 == true // 3).all()


def test_a_teacher_tells_of_the_words_that_a_student_is_given_and_not_of_the_right_ones(alone):
    one, _ = alone
    row = Row('noisy', '', 'student', 'sdm', noise=0.5, set={'student': {'target_share': 0.0}})
    text_QE, source = one.features('sdm', 0, 'train').text_QE, one._source(row)
    assert (source != np.arange(len(source))).any()
    np.testing.assert_array_equal(one._taught(row, 0)[1].text_QE, text_QE[source])


def test_of_crossed_teachers_no_one_tells_of_people_it_was_trained_on(alone):
    one, _ = alone
    one.run(['cross', 'three'], [0])
    pid_G = one._host['train'].image_pid_G
    for name, half in (('even', 0), ('odd', 1)):
        member = one._member(ROWS[name], 0)
        batches = one.index(member, 0, 50)
        assert set(pid_G[batches[0]].ravel() % 2) == {half}, 'all that it ever sees'
    _, told = one._taught(ROWS['cross'], 0)
    even, odd = (one.features(name, 0, 'train').image_GE for name in ('even', 'odd'))
    unit = even / np.linalg.norm(even, axis=1, keepdims=True)
    np.testing.assert_allclose(told.image_GE[pid_G % 2 == 1], unit[pid_G % 2 == 1], atol=1e-5)
    assert not np.allclose(told.image_GE[pid_G % 2 == 0], unit[pid_G % 2 == 0], atol=1e-2)
    both = one._joined(dataclasses.replace(ROWS['cross'], name='mean', combine='mean'), 0)
    moved_G = np.abs(both.image_GE - told.image_GE).max(axis=1)
    assert (moved_G > 1e-4).all(), 'of everybody both tell'
    results = compare.read(one.out)
    assert np.isfinite(results['cross'][0]['val']['single']['R1'])
    width = one._taught(ROWS['three'], 0)[1].image_GE.shape[1]
    assert width == 3 * told.image_GE.shape[1] and results['three'][0]['history']


def test_results_of_another_config_or_another_row_are_not_mixed_in(alone):
    one, said = alone
    changed = Comparison.__new__(Comparison)
    changed.__dict__ |= one.__dict__
    changed.config = merged(one.config, {'optim': {'b1': 0.8}})
    with pytest.raises(
        ConfigError, match='sdm-0.json: found a result that was made otherwise .optim.b1: 0.9 there, 0.8'
    ):
        changed.run(['sdm'], [0])
    changed.config, changed.rows = one.config, ROWS | {'sdm': Row('sdm', 'another label', 'baseline', noise=0.5)}
    with pytest.raises(ConfigError, match='noise: 0.0 there, 0.5 now'):
        changed.run(['sdm'], [0])
    changed.rows = ROWS | {'sdm': Row('sdm', 'another label', 'baseline', test=True)}
    changed.config = merged(one.config, {'model': {'chunks': 2}})
    changed.run(['sdm'], [0])
    path = one.out / 'sdm-0.json'
    one.run(['rich'], [0])
    changed.rows = ROWS | {'fusion': Row('fusion', 'fusion', 'fusion', 'sdm', set={'fusion': {'scale': 40.0}})}
    (one.out / 'fusion-0.json').unlink()  # as one is told to do, so that it is made again
    with pytest.raises(ConfigError, match='rich-0.json: .* otherwise .the row fusion before it: '):
        changed.run(['rich'], [0])
    older = compare.read_result(path)
    del older['made_with']  # those of earlier versions
    files.write(one.out / 'sdm-0.json', files.to_json(older))
    one.run(['sdm'], [0])


def test_a_row_that_fails_is_told_and_those_that_need_it_are_left_out(tmp_path):
    said: list[str] = []
    one = comparison(tmp_path, False, said)
    one.rows = ROWS | {'sdm': Row('sdm', 'SDM', 'baseline', set={'batch': {'identities': 400}})}
    with pytest.raises(ConfigError, match='found 3 rows left undone: fusion, rich, sdm'):
        one.run(['rich'], [0])
    assert any('sdm failed: DataError' in line for line in said)
    one.rows |= {'two': Row('two', '', 'baseline', noise=str(tmp_path / 'none.npy')), 'sdm': ROWS['sdm']}
    with pytest.raises(ConfigError, match='found 1 row left undone: two'):
        one.run(['sdm', 'two'], [0])  # one program, of which the second fails
    assert said[-1].startswith('two failed'), 'by its own name'


def test_a_full_disk_stops_the_table_and_no_other_row_is_trained_for_nothing(tmp_path, monkeypatch):
    one = comparison(tmp_path, False, said := [])
    monkeypatch.setattr(one, '_train', lambda members: said.append('trained'))

    def full(row, *given):
        raise OSError(errno.ENOSPC, 'No space left on device', f'{row.name}-0.npz')

    monkeypatch.setattr(one, '_write', full)
    monkeypatch.setattr(one, 'embed', lambda *given: full(given[0]))
    with pytest.raises(OSError, match='sdm-0.npz'):
        one.run(['rich'], [0])
    assert said == ['trained']


def test_a_mistake_in_the_last_row_is_told_before_the_first_is_trained(tmp_path):
    one = comparison(tmp_path, False, said := [])
    one.rows = ROWS | {
        'pupil': Row('pupil', 'of a teacher without a fusion', 'student', 'sdm'),
        'uneven': Row('uneven', 'steps', 'baseline', set={'train': {'steps': 5}}),
    }
    with pytest.raises(ConfigError, match="row pupil: config.student.target: found 'fusion' of a teacher without one"):
        one.check(['sdm', 'pupil'], [0])
    with pytest.raises(
        ConfigError, match='row uneven: config.train.steps: found 5, expected a multiple of eval_every, 2'
    ):
        one.check(['sdm', 'uneven'], [0])
    one.rows |= {'many': Row('many', 'batches', 'baseline', set={'batch': {'identities': 400}})}
    with pytest.raises(DataError, match='row many: config.batch'):
        one.check(['sdm', 'many'], [0])
    one.check(list(ROWS), [0, 1])
    assert not said and not any(tmp_path.iterdir())
