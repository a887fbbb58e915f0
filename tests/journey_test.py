"""The whole road through main.py, as a user walks it: train, die, resume, read the results; and every wrong turn."""

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from PIL import Image

import main
from commands.training import open_training, teacher_features
from commands.workdir import config_of
from lcr2s_jax.method import sampling, targets
from lcr2s_jax.training import parallel
from lcr2s_jax.training.run import Run, alone_in
from lcr2s_jax.training.run_files import identity
from tests.road import ROOT, command, fails, here, typed, wait_for
from tests.tiny_runs import saved


@contextlib.contextmanager
def again(workdir):
    """The results so far, taken away so that the run goes on, and given back."""
    path = workdir / 'results.json'
    kept = path.read_bytes()
    path.unlink()
    try:
        yield json.loads(kept)
    finally:
        path.write_bytes(kept)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('built')


@pytest.fixture(scope='module')
def journey(tmp_path_factory, cache):
    """A run killed while the student trains, and started again by the same command."""
    workdir = tmp_path_factory.mktemp('run') / 'w'
    log = (workdir.parent / 'log').open('w')
    first = subprocess.Popen(command(workdir, cache), cwd=ROOT, stdout=log, stderr=log)
    wait_for(workdir / 'metrics.jsonl', '"student", "step": 5', first)  # step 2 is saved; the end is an evaluation away
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and not (workdir / 'results.json').exists()
    resumed = here(workdir, cache)
    assert resumed.returncode == 0, resumed.stderr
    return workdir, resumed


def test_a_killed_run_resumes_and_reports_everything(journey):
    workdir, run = journey
    assert 'teacher: finished before' in run.stdout and 'test: percent' in run.stdout
    assert re.search('student: (resumed at step [24] of 6|finished before, at step 6)', run.stdout)
    results = json.loads((workdir / 'results.json').read_text())
    for ways in (results['student']['test'], results['student']['val'], results['teacher']['test'],
                 results['teacher']['with_supports_oracle']['test']):  # fmt: skip
        for way in ('t2i', 'i2t'):
            assert {'R1', 'R5', 'R10', 'mAP', 'mINP'} <= set(ways[way])
            assert 0 <= ways[way]['R1'] <= ways[way]['R5'] <= ways[way]['R10'] <= 100
    assert results['student']['step'] in (2, 4, 6)
    assert results['oracle']['test']['t2i']['R1'] > results['random']['test']['t2i']['R1']
    assert {'data', 'teacher', 'student', 'evaluate'} <= set(results['seconds'])


def test_what_a_step_is_chosen_by_is_val(journey):
    results = json.loads((journey[0] / 'results.json').read_text())
    rows = [json.loads(line) for line in (journey[0] / 'metrics.jsonl').open()]
    for name in ('teacher', 'student'):
        (row,) = [r for r in rows if (r['stage'], r['step']) == (name, results[name]['step']) and 'val/t2i/mAP' in r]
        assert row['val/t2i/mAP'] == pytest.approx(results[name]['val']['t2i']['mAP'])
        assert row['val/t2i/mAP'] != pytest.approx(results[name]['test']['t2i']['mAP'])


def test_its_log_has_every_step_once(journey):
    rows = [json.loads(line) for line in (journey[0] / 'metrics.jsonl').open()]
    for stage in ('teacher', 'student'):
        assert [row['step'] for row in rows if row['stage'] == stage and 'loss' in row] == [1, 2, 3, 4, 5, 6]
        assert [row['step'] for row in rows if row['stage'] == stage and 'val/t2i/R1' in row] == [2, 4, 6]


def test_a_teacher_is_chosen_by_what_its_student_learns_from_and_a_student_by_what_a_search_asks_of_it(journey):
    rows = [json.loads(line) for line in (journey[0] / 'metrics.jsonl').open()]
    results = json.loads((journey[0] / 'results.json').read_text())
    for stage, score in (('teacher', 'val_with_supports/t2i/R1'), ('student', 'val/t2i/R1')):
        found = {row['step']: row[score] for row in rows if row['stage'] == stage and score in row}
        assert len(found) == 3 and found[results[stage]['step']] == max(found.values())
    assert not any('val_with_supports/t2i/R1' in row for row in rows if row['stage'] == 'student')


def test_it_ends_exactly_like_a_run_that_was_never_killed(journey, cache, tmp_path):
    whole = here(tmp_path / 'w', cache)
    assert whole.returncode == 0, whole.stderr
    for part in ('teacher', 'student'):
        ours, theirs = (json.loads((w / 'results.json').read_text())[part] for w in (journey[0], tmp_path / 'w'))
        assert ours == theirs
        chex.assert_trees_all_equal(saved(journey[0], part, 6), saved(tmp_path / 'w', part, 6))


def test_pictures_are_drawn(journey):
    for name in ('sheet.png', 'curves.png'):
        with Image.open(journey[0] / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert('RGB').getcolors(1 << 24)) > 50
    assert list((journey[0] / 'tensorboard' / 'student').glob('events*'))


def test_what_a_run_says_to_type_next_works(journey):
    lines = [line.strip() for line in journey[1].stdout.splitlines() if line.startswith('  ') and 'main.py' in line]
    assert [shlex.split(line)[2] for line in lines] == ['index', 'search']
    for line, words in zip(lines, ('pictures can be found', 'probability'), strict=True):
        run = subprocess.run([sys.executable, *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0 and words in run.stdout, run.stderr
    rows = (journey[0] / 'crops.csv').read_text().splitlines()
    assert rows[0] == 'path,person,camera,view' and len(list((journey[0] / 'crops').rglob('*.jpg'))) == len(rows) - 1


def test_a_runs_fusion_enriches_a_gallery_in_evaluation_apart_and_in_an_index_alike(journey, tmp_path):
    workdir = journey[0]
    run = typed('evaluate', f'--workdir={workdir}', '--enrich=fusion', '--json')
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    for stage in ('teacher', 'student'):
        apart = told[stage]['gallery_side']['test']
        assert {'first neighbours', 'averaged with 2 nearest', 'MHAF with 2 nearest', 'k-reciprocal re-ranking',
                'visual neighbours (NAFS)'} == set(apart)  # fmt: skip
        assert all('mAP' in row['t2i'] for name, row in apart.items() if name != 'first neighbours')
    words = f'--workdir={workdir}', f'--index={tmp_path / "i"}', '--enrich=fusion', '--neighbours=1'
    run = typed('index', f'--images={workdir / "crops"}', *words)
    assert run.returncode == 0 and "fused with its nearest by the run's teacher" in run.stdout, run.stderr
    run = typed('search', f'--index={tmp_path / "i"}', 'a woman in a red coat')
    assert 'fused with its nearest' in run.stdout and 'probability' not in run.stdout, run.stderr
    alone = shutil.copytree(workdir, tmp_path / 'w')
    shutil.rmtree(alone / 'teacher')
    run = typed('index', f'--workdir={alone}', f'--index={tmp_path / "i"}', '--enrich=fusion')
    fails(run, 1, 'found the stages student, expected teacher')


def test_finished_runs_that_differ_in_their_seed_are_one_row(journey, tmp_path):
    shutil.copytree(journey[0], tmp_path / 'two')
    config = json.loads((tmp_path / 'two' / 'config.json').read_text())
    (tmp_path / 'two' / 'config.json').write_text(json.dumps(config | {'seed': 1}))
    found = typed('compare', journey[0], tmp_path / 'two', f'--out={tmp_path / "out"}', '--stage=student')
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith('Regime of the baseline, R@1: training ') and 'ceiling' in found.stdout
    assert '| student | ' in found.stdout and ' ± 0.0' in found.stdout
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'table.md', 'table.json', 'plot.png'}
    fails(typed('compare', journey[0], journey[0]), 1, 'found seed 0 of a config that an earlier run has')


def test_a_finished_run_is_shown_again_not_repeated(journey, cache):
    before = (journey[0] / 'results.json').stat().st_mtime_ns
    assert json.loads((journey[0] / 'results.json').read_text())['run'] == identity(journey[0])
    run = here(journey[0], cache)
    assert run.returncode == 0 and 'is finished' in run.stdout
    assert (journey[0] / 'results.json').stat().st_mtime_ns == before


def test_the_resolved_config_is_saved(journey):
    saved = json.loads((journey[0] / 'config.json').read_text())
    assert saved['train']['steps'] == 6 and saved['batch'] == {'identities': 8, 'views': 3, 'captions': 1}


def test_a_workdir_of_another_config_is_refused_by_field(journey, cache):
    run = here(journey[0], cache, **{'optim.learning_rate': 0.5, 'model.image_size': '(48,24)'})
    fails(run, 1, 'optim.learning_rate', '0.5 now', 'model.image_size: [96, 48] there, [48, 24] now', 'workdir')


def test_a_run_on_eight_devices_goes_on_on_one_and_evaluates_alike(journey, cache):
    with again(journey[0]) as before:
        run = here(journey[0], cache, **{'parallel.devices': 1, 'evaluate.batch_size': 15})
        assert run.returncode == 0, run.stderr
        after = json.loads((journey[0] / 'results.json').read_text())
    for part in ('teacher', 'student'):
        assert after[part]['step'] == before[part]['step']
        assert after[part]['test']['t2i']['mAP'] == pytest.approx(before[part]['test']['t2i']['mAP'], abs=0.5)


def test_what_many_devices_made_is_looked_at_on_one(journey, tmp_path):
    content = json.loads((journey[0] / 'config.json').read_text())
    content['parallel'] |= {'devices': 64, 'fsdp': True}
    (tmp_path / 'config.json').write_text(json.dumps(content))
    assert config_of(tmp_path).parallel.to_dict() == {'driver': 'jit', 'devices': 1, 'fsdp': False}


@pytest.mark.slow
def test_pmap_walks_the_whole_road_and_meets_jit(journey, cache, tmp_path):
    run = here(tmp_path / 'w', cache, **{'parallel.driver': 'pmap'})
    assert run.returncode == 0, run.stderr
    jit, pmap = (
        [row['loss'] for row in map(json.loads, (w / 'metrics.jsonl').open()) if 'loss' in row]
        for w in (journey[0], tmp_path / 'w')
    )
    assert pmap == pytest.approx(jit, rel=1e-3)


@pytest.mark.parametrize(
    'changes,words',
    [
        ({'train.stepz': 5}, ('unknown config field', 'stepz')),
        ({'data.dataset': 'cuhk_pedes', 'data.root': '/no/such/folder'}, ('/no/such/folder', 'config.data.root')),
        ({'data.dataset': 'people'}, ("'people'", 'demo')),
        ({'model.pretrained': 'no/such/clip/folder'}, ('no/such/clip/folder', 'config.model.pretrained')),
        ({'stages': "('student',)"}, ('config.stages', 'teacher')),
        ({'stages': "('fold_0','crossed')"}, ('config.stages', 'crossed after fold_0 and fold_1')),
        ({'stages': "('fold_0','fold_2')"}, ('config.stages: found fold_0, fold_2', "'fold_0', 'fold_1' and so on")),
        ({'stages': "('teacher','teacher')"}, ("config.stages: found ('teacher', 'teacher')", 'each once')),
        ({'stages': '(1,None)'}, ("config.stages: found ('1', 'None')", 'expected some of baseline')),
        ({'teacher.heads': 7}, ('config.teacher.heads', '7')),
        ({'student.align': 'cosine'}, ("'cosine'", 'infonce')),
        ({'train.log_every': 0}, ('config.train.log_every',)),
        ({'model.dtype': 'float31'}, ('config.model.dtype', 'bfloat16')),
        ({'evaluate.batch_size': 12}, ('config.evaluate.batch_size: found 12', '8 devices')),
        ({'batch.identities': 12}, ('config.batch.identities: found 12', '8 devices')),
        ({'model.chunks': 2}, ('config.model.chunks: found 2', '3 rows of a device')),
        ({'config': 'configs/nothing.py'}, ('configs/nothing.py',)),
    ],
)
def test_a_mistake_gets_one_message_and_leaves_no_results(tmp_path, cache, changes, words):
    run = here(tmp_path / 'w', cache, **changes)
    fails(run, 1, *words)
    assert not (tmp_path / 'w').exists(), 'nothing half written'


def test_a_wrong_command_line_is_usage(tmp_path, cache):
    fails(here(tmp_path, cache, '--confg=3'), 2, 'confg', 'python main.py')
    fails(here(tmp_path, cache, 'trian'), 2, 'trian')
    # what a shell is told, once
    fails(subprocess.run([sys.executable, 'main.py'], cwd=ROOT, capture_output=True, text=True), 2, '--workdir')


def test_a_loss_that_is_not_finite_names_step_people_and_remedies(tmp_path, cache):
    run = here(tmp_path / 'w', cache, **{'optim.learning_rate': 1e38, 'optim.clip_norm': 0.0})
    fails(run, 1, 'step', 'not finite', 'identities', 'learning_rate')


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(journey, cache, tmp_path):
    workdir = tmp_path / 'w'
    shutil.copytree(journey[0], workdir)
    before = json.loads((workdir / 'results.json').read_text())
    (workdir / 'results.json').unlink()
    for file in (workdir / 'student' / '6' / 'params').rglob('*'):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:9])
    run = here(workdir, cache)
    assert run.returncode == 0 and not run.stderr, run.stderr
    assert 'student/6: the checkpoint cannot be read' in run.stdout and 'resumed at step 4 of 6' in run.stdout
    assert json.loads((workdir / 'results.json').read_text())['student'] == before['student']


def test_a_student_does_not_go_on_with_another_teacher_than_it_has_learnt_from(journey, cache, tmp_path):
    workdir = shutil.copytree(journey[0], tmp_path / 'w', ignore=shutil.ignore_patterns('results.json'))
    taught_by = json.loads((workdir / 'chosen.json').read_text())['teacher']
    assert taught_by == json.loads((journey[0] / 'results.json').read_text())['teacher']['step']
    for score in (workdir / 'teacher').glob('*/metrics/metrics'):
        score.write_text(json.dumps({'score': 0.0 if score.parts[-3] == str(taught_by) else 1.0}))
    fails(here(workdir, cache), 1, f'a student of the teacher at step {taught_by}', f'Delete {workdir / "student"}')


def busy():
    """Seconds of processor time that the whole machine has spent, waiting aside."""
    with open('/proc/stat') as stat:
        ticks = [int(count) for count in stat.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf('SC_CLK_TCK')


def used_by(pid):
    """The same of one process."""
    with open(f'/proc/{pid}/stat') as stat:
        ticks = stat.read().rpartition(')')[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK')


def seconds_to_stop(process):
    """From SIGTERM to its end, on a machine that had nothing else to do: times the share that others left it."""
    clock, all_before, own_before, ended = time.time(), busy(), used_by(process.pid), used_by_ended()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=300)
    seconds = time.time() - clock
    own = used_by_ended() - ended - own_before
    others = max(0, busy() - all_before - own)
    return seconds * max(0, 1 - others / (seconds * os.cpu_count()))


def used_by_ended():
    """Seconds of processor time of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_sigterm_ends_with_143_and_a_second_run_in_the_workdir_is_refused_meanwhile(cache, tmp_path):
    workdir, log = tmp_path / 'w', (tmp_path / 'log').open('w')
    endless = {'train.steps': 100_000}
    run = subprocess.Popen(command(workdir, cache, **endless), cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_for(workdir / 'metrics.jsonl', '"step": 3', run)
        fails(here(workdir, cache, **endless), 1, 'another process is running in it')
        assert seconds_to_stop(run) < 10 and run.returncode == 143, (tmp_path / 'log').read_text()
    finally:
        run.kill()  # it would not end by itself, and slow down all tests after this one
    assert 'stopped by SIGTERM after step' in (tmp_path / 'log').read_text()
    assert list((workdir / 'teacher').glob('[0-9]*'))


def test_a_second_run_is_refused_before_it_opens_the_dataset_and_leaves_nothing_behind(cache, tmp_path):
    workdir = tmp_path / 'new' / 'w'
    with alone_in(workdir):
        run = here(workdir, cache, **{'data.dataset': 'cuhk_pedes', 'data.root': '/no/such/folder'})
        fails(run, 1, 'another process is running in it')
    assert not (tmp_path / 'new').exists()
    with alone_in(workdir):
        (workdir / 'kept').touch()
    assert (workdir / 'kept').exists()


def test_main_returns_its_exit_status():
    assert main.main(['main.py', '--no-such-flag']) == 2


@pytest.mark.slow
def test_a_cached_teacher_looks_at_the_training_split_once_and_its_student_goes_on_from_what_is_kept(cache, tmp_path):
    changes = {'student.cache_teacher': True, 'student.support_views': 3, 'train.steps': 2}
    run = here(tmp_path / 'w', cache, **changes)
    assert run.returncode == 0 and 'the teacher looks at the training split once' in run.stdout, run.stderr
    kept = sorted((tmp_path / 'w' / 'teacher_features').rglob('*.npy'))
    assert [path.name for path in kept] == ['image_GE.npy', 'text_QE.npy']
    of = parallel.fingerprint(saved(tmp_path / 'w', 'teacher', 2))[:16]
    assert {path.parent.name for path in kept} == {of}
    before = json.loads((tmp_path / 'w' / 'results.json').read_text())
    for path in (tmp_path / 'w' / 'student', tmp_path / 'w' / 'results.json'):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    times = [path.stat().st_mtime_ns for path in kept]
    again_ = here(tmp_path / 'w', cache, **changes)
    assert again_.returncode == 0 and 'looks at' not in again_.stdout, again_.stderr
    assert times == [path.stat().st_mtime_ns for path in kept]
    after = json.loads((tmp_path / 'w' / 'results.json').read_text())
    assert after['student'] == before['student'] and after['teacher'] == before['teacher']


@pytest.mark.slow
def test_of_crossed_teachers_no_one_tells_of_a_person_that_it_was_trained_on(cache, tmp_path):
    names, changes = ('fold_0', 'fold_1', 'crossed'), {'stages': "('fold_0','fold_1','crossed')", 'train.steps': 2}
    run = here(tmp_path / 'w', cache, **changes)
    assert run.returncode == 0 and 'fold_0 and fold_1 look at the training split once' in run.stdout, run.stderr
    results = json.loads((tmp_path / 'w' / 'results.json').read_text())
    assert set(names) <= set(results) and Run.open(tmp_path / 'w').stage == 'crossed'
    training = open_training(config_of(tmp_path / 'w'), tmp_path / 'w')
    train = training.inputs.splits['train']
    for name in names:
        training.train_stage(name)  # they are there: nothing is trained
    alone = [training.inputs.embed(training.embedders[name], training.params[name], 'train') for name in names[:2]]
    told = teacher_features(training, names[:2])
    for fold in (0, 1):
        own = train.image_pid % 2 == fold
        unit = alone[fold].image_GE / np.linalg.norm(alone[fold].image_GE, axis=1, keepdims=True)
        np.testing.assert_allclose(told.image_GE[own] @ told.image_GE[own].T, unit[own] @ unit[own].T, atol=1e-4)
        batches = training.inputs.batches(0, 0, sampling.of(names[fold], names))
        seen = np.concatenate([next(batches).pid_B for _ in range(8)])
        assert not (seen % 2 == fold).any(), 'the one that tells of a person was not trained on him'


@pytest.mark.slow
def test_an_ensemble_tells_its_student_of_everybody(cache, tmp_path):
    names = ('member_0', 'member_1', 'ensemble')
    given = {'stages': str(names).replace(' ', ''), 'train.steps': 2, 'members.frozen': 'vision/block_0/'}
    run = here(tmp_path / 'w', cache, **given)
    assert run.returncode == 0 and 'member_0 and member_1 look at the training split once' in run.stdout, run.stderr
    assert set(names) <= set(json.loads((tmp_path / 'w' / 'results.json').read_text()))
    assert Run.open(tmp_path / 'w').stage == 'ensemble'
    training = open_training(config_of(tmp_path / 'w'), tmp_path / 'w')
    for name in names:
        training.train_stage(name)  # they are there: nothing is trained
    alone = [training.inputs.embed(training.embedders[name], training.params[name], 'train') for name in names[:2]]
    blocks = [training.params[name]['clip']['vision']['block_0'] for name in names]
    chex.assert_trees_all_equal(blocks[0], blocks[1])  # is not trained there, but in the student
    assert not np.array_equal(*(jax.tree.leaves(blocks[i])[0] for i in (0, 2)))
    kept = list((tmp_path / 'w' / 'teacher_features').iterdir())
    told = teacher_features(training, names[:2], related=True)
    np.testing.assert_allclose(told.image_GE, targets.mean_relation(alone).image_GE, atol=1e-5)
    assert list((tmp_path / 'w' / 'teacher_features').iterdir()) == kept, 'what the student was told'
    expected = targets.mean_features(alone, [np.ones(len(alone[0].image_GE), bool)] * 2)
    np.testing.assert_allclose(teacher_features(training, names[:2]).image_GE, expected.image_GE, atol=1e-5)
    views = [next(training.inputs.batches(0, 0, sampling.of(name, names))).view_BK.shape for name in names[:2]]
    assert views[0] == (views[1][0] * views[1][1], 1), 'the first in one-to-one batches, of as many rows'
