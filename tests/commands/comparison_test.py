"""Rows by seeds: what is trained side by side is what is trained alone, and what is done is not done again."""

import numpy as np
import pytest

from benchmarks import testbed
from commands.comparison import Comparison
from commands.rows import Row, merged
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import compare
from lcr2s_jax.training.resident import ResidentSplit
from tests import tiny

ROWS = {
    'sdm': Row('sdm', 'SDM', 'baseline'),
    'fusion': Row('fusion', 'fusion', 'fusion', 'sdm'),
    'rich': Row('rich', 'enriched', 'student', 'fusion', test=True),
    'rich-3': Row('rich-3', 'enriched, 3', 'student', 'fusion', set={'student': {'feature_weight': 3.0}}),
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
    assert set(results['rich'][0]['test']) == {'single', 'neighbours-2', 'neighbours-5'}


def test_what_is_done_is_not_done_again_and_test_is_for_those_who_are_asked(alone):
    one, said = alone
    before = len(said)
    one.run(['sdm'], [0])
    assert len(said) == before and 'test' not in compare.read(one.out)['sdm'][0]
    one.test('sdm', [0])
    assert set(compare.read(one.out)['sdm'][0]['test']) == {'single', 'neighbours-2', 'neighbours-5'}


def test_captions_at_the_wrong_picture_are_left_to_a_row_that_keeps_those_that_fit(alone):
    one, _ = alone
    kept = one._kept_captions(ROWS['kept'], 0)
    assert 6 <= len(kept) < 36
    true = one._kept_captions(Row('t', '', 'baseline', noise=0.5, keep='true'), 0)
    source = one._source(ROWS['kept'])
    assert (source[true] // 3 == true // 3).all()


def test_a_row_that_fails_is_told_and_those_that_need_it_are_left_out(tmp_path):
    said: list[str] = []
    one = comparison(tmp_path, False, said)
    one.rows = ROWS | {'sdm': Row('sdm', 'SDM', 'baseline', set={'batch': {'identities': 400}})}
    with pytest.raises(ConfigError, match='found 3 rows left undone: fusion, rich, sdm'):
        one.run(['rich'], [0])
    assert any('sdm failed: DataError' in line for line in said)
