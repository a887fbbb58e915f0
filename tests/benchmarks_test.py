"""Benchmarks have the structure that their readers rely on; how fast anything is, no test says."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import __main__ as index
from benchmarks import ablation, common, flops, growth, prepared, ranking, step, verdict
from benchmarks.rows import ROWS
from tests import tiny
from tests.configs_test import bind, config


def test_every_benchmark_says_in_a_line_what_it_is_for_and_how_to_run_it():
    for name in index.names():
        assert f'python -m benchmarks.{name}' in index.summary(name)


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


@pytest.mark.parametrize('name', sorted(ROWS))
def test_a_row_changes_what_its_stage_takes_and_its_teacher_is_a_teacher(name):
    from data.plan import Plan
    from lcr2s_jax.method import stages

    row, demo = ROWS[name], config('demo')
    stage = {'teacher': stages.teacher_stage, 'student': stages.student_stage}.get(row.stage, stages.baseline_stage)
    group = demo['baseline' if row.stage == 'none' else row.stage].to_dict()
    assert set(row.changes) <= set(group)
    bind(stage, group | row.changes, *range(6 if row.stage == 'student' else 3))
    batch = demo.batch.to_dict() | row.batch
    bind(Plan, batch, 0, 0, seed=0)
    assert 63 <= batch['identities'] * batch['views'] <= 64, 'rows are equal'
    assert (row.stage == 'student') == bool(row.teachers)
    assert {ROWS[teacher].stage for teacher in row.teachers} <= {'teacher'}
    if len(row.teachers) > 1:  # either half is taught by the teacher of the other
        assert {ROWS[teacher].half for teacher in row.teachers} == {0, 1}
        assert row.changes['cache_teacher'] and not row.changes['redraw_supports']


def test_rows_of_another_size_are_kept_apart(tmp_path):
    size = {'steps': 300, 'people': 2000}
    ablation.refuse_another_size(tmp_path / 'machine.json', size)
    (tmp_path / 'machine.json').write_text(json.dumps({'machine': {}, **size}))
    ablation.refuse_another_size(tmp_path / 'machine.json', size)
    with pytest.raises(SystemExit, match='steps 300 there, 600 now.*choose another --out'):
        ablation.refuse_another_size(tmp_path / 'machine.json', size | {'steps': 600})


def test_an_interval_of_a_sure_difference_is_clear_of_zero_and_of_noise_is_not():
    rng = np.random.default_rng(0)
    noise_SQ = rng.choice([-1.0, 0.0, 1.0], size=(3, 2000))
    mean, low, high = verdict.interval(noise_SQ, 500)
    assert low < 0 < high and low < mean < high
    mean, low, high = verdict.interval(noise_SQ + 0.2, 500)
    assert mean == pytest.approx(noise_SQ.mean() + 0.2) and 0 < low < 0.2 + noise_SQ.mean() < high


def test_an_interval_knows_that_seeds_differ():
    apart = np.repeat([[0.3], [0.0], [-0.3]], 5000, axis=1)
    _, low, high = verdict.interval(apart, 500)
    assert low < -0.1 and high > 0.1, 'many queries do not make up for three seeds'


def test_prepared_pictures_are_augmented_by_the_pipelines_recipe():
    from data import transforms

    assert prepared._ERASED == transforms.ERASED
    image = np.random.default_rng(1).integers(1, 256, (96, 48, 3)).astype(np.uint8)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(prepared.augment(image, rng, flip=0.0, pad=0, erase=0.0), image)
    np.testing.assert_array_equal(prepared.augment(image, rng, flip=1.0, pad=0, erase=0.0), image[:, ::-1])
    moved = {prepared.augment(image, rng, flip=0.0, pad=2, erase=0.0).tobytes() for _ in range(200)}
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    assert moved == {padded[i : i + 96, j : j + 48].tobytes() for i in range(5) for j in range(5)}
    erased = [prepared.augment(np.zeros_like(image), rng, flip=0.0, pad=0, erase=1.0) for _ in range(50)]
    shares = [np.mean((x == prepared._ERASED).all(axis=2)) for x in erased]
    assert 0.015 < min(shares) < max(shares) < 0.42


def test_prepared_tokens_are_masked_between_their_ends_only():
    tokens_NL = np.tile(np.array([98, 1, 2, 3, 4, 5, 6, 99, 0, 0], np.int32), (500, 1))
    masking = dict(mask_share=0.8, replace_share=0.1, delete_share=0.0, mask_token=97, ordinary=90)
    found = prepared.mask_tokens(tokens_NL, np.random.default_rng(0), prob=0.5, **masking)
    np.testing.assert_array_equal(found[:, [0, 7, 8, 9]], tokens_NL[:, [0, 7, 8, 9]])
    assert 0.37 < np.mean(found[:, 1:7] == 97) < 0.43
    assert found.max() == 99 and found.dtype == np.int32


def test_some_of_the_people_keep_their_pictures_and_captions():
    pid, caption_image = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 3, 4])
    whole = prepared.Arrays(np.arange(5), np.arange(6), pid, caption_image)
    some = whole.only(np.array([True, False, True]))
    np.testing.assert_array_equal(some.image_Ghwc, [0, 1, 3, 4])
    np.testing.assert_array_equal(some.image_pid, [0, 0, 1, 1])
    np.testing.assert_array_equal(some.tokens_QL, [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(some.image_Ghwc[some.caption_image], [0, 1, 1, 3, 4])


def test_prepared_batches_are_those_of_the_plan_and_a_function_of_their_step():
    from data.plan import Plan

    pid = np.repeat(np.arange(6), 3).astype(np.int32)
    image = np.repeat(np.arange(18, dtype=np.uint8), 16 * 8 * 3).reshape(18, 16, 8, 3)
    tokens = np.tile(np.array([98, 1, 99, 0], np.int32), (36, 1))
    tokens[:, 1] = 1 + np.arange(36)
    split = prepared.Arrays(image, tokens, pid, np.repeat(np.arange(18, dtype=np.int32), 2))
    settings = {
        'config': {
            'augment': dict(flip=0.5, pad=0, erase=0.0),
            'masking': dict(prob=0.0, mask_share=0.8, replace_share=0.1, delete_share=0.0),
        },
        'mask_token': 97,
        'ordinary': 90,
    }
    given = dict(identities=3, views=2, captions=1, seed=4)
    whole = prepared.batches(split, settings, **given, start=0)
    first, second = next(whole), next(whole)
    later = next(prepared.batches(split, settings, **given, start=1))
    for a, b in zip(second, later, strict=True):
        np.testing.assert_array_equal(a, b)
    image_BK, caption_BK, pid_B = Plan(pid, split.caption_image, **given).batch(0)
    np.testing.assert_array_equal(first.image_BKhwc[..., 0, 0, 0], image_BK)
    np.testing.assert_array_equal(first.tokens_BKL[..., 1], 1 + caption_BK)
    np.testing.assert_array_equal(first.pid_B, pid_B)


@pytest.mark.slow
def test_the_ablation_from_arrays_to_tables_as_it_is_typed(tmp_path):
    """Test is evaluated for claims of several seeds, and not before; what was trained is not trained again."""
    root = pathlib.Path(__file__).parents[1]
    small = prepared.config()
    small.data.demo.people.update(train=30, val=8, test=8)
    small.evaluate.batch_size = 32
    small.model.pretrained = str(root / 'data/demo_clip')
    small.tokenizer = str(root / 'data/demo_clip')
    prepared.write(tmp_path / 'arrays', small)

    def call(*command):
        return subprocess.run(
            [sys.executable, '-m', *map(str, command)],
            cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(root)}, capture_output=True, text=True,
        )  # fmt: skip

    def result(name):
        return json.loads((tmp_path / 'out' / name / 'result.json').read_text())

    given = ('benchmarks.ablation', '--arrays', 'arrays', '--out', 'out', '--rows', 'sdm', 'student', '--steps', 2)
    assert call(*given, '--seeds', 0).returncode == 0
    before = result('sdm-0')
    assert 'val' in before and 'test' not in before and 'test' not in result('student-0')
    assert call(*given).returncode == 0
    assert {key: result('sdm-0')[key] for key in before} == before
    assert all('test' in result(f'{name}-{seed}') for name in ('sdm', 'student') for seed in (0, 1, 2))
    assert 'steps 2 there, 3 now' in call(*given[:-1], 3).stderr
    assert call('benchmarks.verdict', '--out', 'out').returncode == 0
    assert '| student, both (LCR2S) |' in (tmp_path / 'docs/evidence/out.md').read_text()
    about = json.loads((tmp_path / 'docs/evidence/out.json').read_text())
    assert [command.count('--seeds') for command in about['commands']] == [1, 0]
    assert (
        call(
            'benchmarks.attributes', '--ablation', 'out', '--arrays', 'arrays', '--stages', 'sdm', 'student'
        ).returncode
        == 0
    )
