"""Intervals that are as wide as they should be, and a table that says what lies in a folder."""

import json

import numpy as np
import pytest

from lcr2s_jax.errors import UserError
from lcr2s_jax.evaluation import compare


def write(folder, name, seed, right_Q, label='a row'):
    metrics = {m: 100 * float(np.mean(right_Q)) for m in compare.METRICS}
    result = {'label': label, 'seconds': 3.0, 'train': metrics, 'val': {'single': metrics}}
    (folder / f'{name}-{seed}.json').write_text(json.dumps(result))
    np.savez(folder / f'{name}-{seed}.npz', **{f'val/single/{m}': right_Q for m in ('R1', 'mAP')})


def test_the_interval_of_noise_holds_zero_and_that_of_a_difference_does_not():
    noise_SQ = np.random.default_rng(0).normal(0, 0.5, (3, 2000))
    mean, low, high = compare.interval(noise_SQ, 500)
    assert low < 0 < high and abs(mean) < 0.05
    _, low, _ = compare.interval(noise_SQ + 0.2, 500)
    assert low > 0.1
    apart = np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, 500))  # seeds that differ: only they are uncertain
    _, low, high = compare.interval(apart, 2000)
    assert (low, high) == pytest.approx((0.0, 2.0))


def test_a_table_pairs_the_same_seed_and_query(tmp_path):
    rng = np.random.default_rng(1)
    for seed in range(3):
        base = rng.random(400) < 0.4
        write(tmp_path, 'base', seed, base, 'base')
        write(tmp_path, 'better', seed, base | (rng.random(400) < 0.1), 'better')
    lines = compare.summarise(compare.read(tmp_path), 'val', ['base'], ['base'])
    assert [line['row'] for line in lines] == ['base', 'better']
    mean, low, high = lines[1]['R1 to base']
    assert 3 < low < mean < high < 9
    assert lines[1]['R1 sd'] > 0 and 'R1 to base' not in lines[0]
    text = compare.markdown(lines, ['base'])
    assert '| better | ' in text and f'{mean:+.1f} [{low:+.1f}, {high:+.1f}]' in text
    compare.plot(lines, tmp_path / 'plot.png', 'base')
    assert (tmp_path / 'plot.png').stat().st_size > 5000


def test_a_row_without_its_split_is_left_out_and_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match='found no result'):
        compare.read(tmp_path)
    write(tmp_path, 'base', 0, np.array([True, False]))
    assert compare.summarise(compare.read(tmp_path), 'test') == []


def test_the_regime_is_one_sentence():
    line = compare.regime_line({'zero_shot': 11.5, 'train': 92, 'val': 24})
    assert line == 'Regime of the baseline, R@1: start 11.5, training 92.0, val 24.0.'


def test_a_way_in_which_some_seeds_alone_were_evaluated_has_those_seeds():
    metric = dict.fromkeys(compare.METRICS, 1.0)
    runs = {
        0: {'seconds': 1.0, 'val': {'single': metric, 'neighbours-2': metric}},
        1: {'seconds': 1.0, 'val': {'single': metric}},
    }
    seeds = {line['way']: line['seeds'] for line in compare.summarise({'row': runs}, 'val')}
    assert seeds == {'single': [0, 1], 'neighbours-2': [0]}
