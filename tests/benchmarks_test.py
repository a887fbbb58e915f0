"""Benchmarks have the structure that their readers rely on; how fast anything is, no test says."""

import ast
import importlib
import sys

import jax
import numpy as np
import pytest

from benchmarks import __main__ as index
from benchmarks import common, flops, growth, ranking, step
from tests import tiny
from tests.road import ROOT


def test_every_benchmark_says_in_a_line_what_it_is_for_and_how_to_run_it():
    for name in index.names():
        assert f'python -m benchmarks.{name}' in index.summary(name)


def test_every_benchmark_can_be_started():
    for name in index.names():
        module = importlib.import_module(f'benchmarks.{name}')
        assert callable(module.main), name
    assert callable(importlib.import_module('benchmarks.demo_clip').main), 'which `make demo-clip` runs'


def test_every_flag_of_a_benchmark_says_what_it_is():
    calls = [
        (path.name, node.args[0].value, {keyword.arg for keyword in node.keywords})
        for path in (ROOT / 'benchmarks').glob('*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'add_argument'
    ]
    assert len(calls) > 80 and not [call[:2] for call in calls if 'help' not in call[2]]


def test_a_ratio_is_taken_within_a_round():
    seconds = {'a': [1.0, 20.0, 3.0], 'b': [2.0, 40.0, 3.0]}
    assert common.ratio(seconds, 'a', 'b') == 0.5


def test_a_contestant_that_cannot_run_is_told_and_the_others_are_timed():
    def too_large():
        raise RuntimeError('RESOURCE_EXHAUSTED: out of memory\nand so on')

    rows = step.measured({'plain': lambda: lambda: None, 'large': lambda: too_large}, 3, rows=8, pair_seconds=0.0)
    assert [row['what'] for row in rows] == ['plain', 'large']
    assert (rows[0]['ratio'], rows[0]['to']) == (1.0, 'plain') and rows[0]['pairs_per_s'] > 0
    assert rows[1] == {'what': 'large', 'failed': 'RESOURCE_EXHAUSTED: out of memory'}


def test_rows_that_are_not_measured_again_say_how_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(common, 'OUT', tmp_path)
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'benchmarks.growth', '--rounds', '5'])
    common.save('growth', [{'table': 'rows', 'seconds': 1.0}, {'table': 'views', 'seconds': 2.0}])
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'benchmarks.growth', '--tables', 'views'])
    for _ in range(2):
        (old,) = common.kept('growth', 'table', ['views'])
        common.write('growth', [old, {'table': 'views', 'seconds': 3.0}])
        assert old['seconds'] == 1.0
        assert old['made']['command'] == 'python -m benchmarks.growth --rounds 5'
    monkeypatch.setattr(common, 'machine', lambda: {'device': 'NVIDIA H100'})
    assert common.kept('growth', 'table', []) == [], 'rows of another device are in a file of their own'


def test_growth_stands_beside_its_theory():
    sizes = {'1': (lambda: None, {'step_mib': 2.0}), '3': (lambda: None, {'step_mib': 5.0})}
    rows = growth.table(sizes, {'1': 10, '3': 30}, 3, {'1': 1, '3': 3})
    assert [(row['size'], row['theory'], row['memory_grown'], row['memory_theory']) for row in rows] == [
        ('1', 1.0, 1.0, 1.0),
        ('3', 3.0, 2.5, 3.0),
    ]
    assert rows[0]['grown'] == 1.0 and rows[1]['grown'] > 0


def test_operations_on_paper_are_those_that_the_compiler_counts():
    clip = tiny.clip(vision_width=64, text_width=64)
    params = tiny.clip_params(clip)

    def counted(rows):
        image, tokens = np.zeros((rows, 16, 8, 3), np.uint8), np.zeros((rows, tiny.LENGTH), np.int32)
        return jax.jit(clip.apply).lower({'params': params}, image, tokens).compile().cost_analysis()['flops']

    pair = (counted(9) - counted(1)) / 8  # the compiler also counts the little that is no matrix product
    assert 0.85 * pair < flops.embed_pair(clip) < pair
    assert flops.train_pair(clip) == 3 * flops.embed_pair(clip)


def test_both_ways_of_ranking_find_the_same():
    query, gallery, pid = (x[:300] for x in ranking.features(1200))
    ours, usual = ranking.ours(query, gallery, pid), ranking.usual(query, gallery, pid)
    assert {name: pytest.approx(value, abs=1e-3) for name, value in ours.items()} == usual
