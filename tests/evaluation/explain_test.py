"""What `main.py explain` tells is what the features and the fusion hold, and it reads a run without changing it."""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError, UserError
from lcr2s_jax.evaluation import explain
from lcr2s_jax.training import checkpoint, parallel, train
from tests import tiny
from tests.road import fails, typed

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = np.array([2, 3, 1, 5])  # of each identity


def some_embeddings(seed=0):
    """Four people, two captions an image."""
    rng = np.random.default_rng(seed)
    pid_G = np.repeat(np.arange(4, dtype=np.int32), IMAGES)
    view_G = np.arange(len(pid_G), dtype=np.int32)
    image_GE, text_QE = (rng.normal(size=(n, 8)).astype(np.float32) for n in (len(pid_G), 2 * len(pid_G)))
    return Embeddings(image_GE, text_QE, pid_G, np.repeat(pid_G, 2), view_G, np.repeat(view_G, 2))


def test_a_group_is_different_images_of_one_identity_and_a_caption_of_each():
    e = some_embeddings()
    g = explain.groups(e, views=3, seed=1)
    assert g.pid_B.tolist() == [0, 1, 3], 'an identity with one image has nothing to look at'
    np.testing.assert_array_equal(g.real_BK.sum(axis=1), [2, 3, 3])
    for b, pid in enumerate(g.pid_B):
        image = g.image_BK[b][g.real_BK[b]]
        assert len(set(image)) == len(image) and (e.image_pid_G[image] == pid).all()
        np.testing.assert_array_equal(e.text_view_Q[g.caption_BK[b]], e.image_view_G[g.image_BK[b]])


def test_who_else_is_there_does_not_change_the_views_that_are_drawn():
    e = some_embeddings()
    alone = explain.groups(explain.only(e, [3]), views=3, seed=1)
    first = np.flatnonzero(e.image_pid_G == 3)[0]
    np.testing.assert_array_equal(alone.image_BK[0] + first, explain.groups(e, views=3, seed=1).image_BK[-1])


def test_without_two_images_of_anybody_there_is_nothing_to_explain():
    with pytest.raises(UserError, match='two images'):
        explain.groups(explain.only(some_embeddings(), [2]), views=3, seed=0)


def test_a_place_that_a_person_cannot_fill_is_never_looked_at():
    stage, e, rng = tiny.stage('teacher'), some_embeddings(), np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), stage.init(jax.random.key(0))
    )
    g = explain.groups(e, views=4, seed=0)
    weights, moved = explain.attention(stage.fusion, params, e, g)
    for modality in explain.MODALITIES:
        seen = weights[modality].transpose(0, 2, 3, 1)[g.real_BK]  # what real views look at
        np.testing.assert_allclose(seen.sum(axis=1), 1, rtol=1e-5)
        assert (seen[np.broadcast_to(~g.real_BK[:, None], (*g.real_BK.shape, 4))[g.real_BK]] == 0).all()
        assert -1 <= moved[modality] < 1 - 1e-4


def hand_made():
    """Two identities of three and of two views; heads that differ."""
    mean = np.array([[[0.2, 0.5, 0.3], [0.1, 0.6, 0.3], [0.4, 0.4, 0.2]], [[0.7, 0.3, 0], [0.5, 0.5, 0], [1, 0, 0]]])
    apart = np.zeros_like(mean)
    apart[0, 0, :2] = 0.1, -0.1
    return np.stack([mean + apart, mean - apart], axis=1), np.array([[True] * 3, [True, True, False]])


def test_the_summary_is_its_definition():
    found = explain.summary(*hand_made())
    assert found == pytest.approx(
        {
            'own': (0.2 + 0.6 + 0.2 + 0.7 + 0.5) / 5,
            'own_least_head': (0.1 + 0.6 + 0.2 + 0.7 + 0.5) / 5,
            'own_most_head': (0.3 + 0.6 + 0.2 + 0.7 + 0.5) / 5,
            'strongest_support': (0.5 + 0.3 + 0.4 + 0.3 + 0.5) / 5,
            'weakest_support': (0.3 + 0.1 + 0.4 + 0.3 + 0.5) / 5,
            'uniform': (3 / 3 + 2 / 2) / 5,
        }
    )


def test_what_a_label_is_given_is_counted_over_the_other_views_alone():
    weights, real = hand_made()
    label = np.array([['a', 'b', 'b'], ['a', 'b', 'c']])
    found = explain.received(weights, real, label)
    assert set(found) == {'a', 'b'}, 'a place that is not real has no label'
    assert found['a']['pairs'] == 3 and found['a']['weight'] == pytest.approx((0.1 + 0.4 + 0.5) / 3)
    assert found['a']['uniform'] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert found['a']['equal_share'] == pytest.approx((0.4 / 2 + 0.8 / 2 + 0.5) / 3)
    assert found['b']['weight'] == pytest.approx((0.5 + 0.3 + 0.3 + 0.4 + 0.3) / 5)
    only_a = explain.received(weights, real, label, label == 'a')
    assert set(only_a) == {'b'} and only_a['b']['weight'] == pytest.approx((0.5 + 0.3 + 0.3) / 3)
    assert explain.kept(weights, real, label) == pytest.approx({'a': 0.45, 'b': (0.6 + 0.2 + 0.5) / 3})


def test_a_plane_is_projected_onto_itself_and_the_same_way_twice():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 40)
    basis = np.linalg.qr(rng.normal(size=(8, 2)))[0]
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ basis.T
    point, share = explain.project(3 * x)
    assert share == pytest.approx(1)
    np.testing.assert_allclose(point @ point.T, (x - x.mean(0)) @ (x - x.mean(0)).T, atol=1e-6)
    np.testing.assert_array_equal(point, explain.project(3 * x)[0])


def test_scatter_and_cosines_are_their_definitions():
    e = some_embeddings()
    v, t = explain.unit(e.image_GE), explain.unit(e.text_QE)
    total = np.sum((v - v.mean(0)) ** 2)
    within = sum(np.sum((v[e.image_pid_G == p] - v[e.image_pid_G == p].mean(0)) ** 2) for p in range(4))
    found = explain.closeness(e)
    assert found['scatter_images'] == pytest.approx((total - within) / within, rel=1e-5)
    own = [t[q] @ v[e.text_view_Q[q]] for q in range(len(t))]
    others = [t[q] @ v[i] for q in range(len(t)) for i in range(len(v)) if e.text_pid_Q[q] != e.image_pid_G[i]]
    assert found['cosine_matching'] == pytest.approx(np.mean(own), rel=1e-5)
    assert found['cosine_others'] == pytest.approx(np.mean(others), rel=1e-5)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A run as main.py leaves it, never trained: a finished baseline and teacher, and a student on its way."""
    from commands.inputs import open_inputs
    from configs import demo
    from lcr2s_jax.method import stages
    from lcr2s_jax.training import run as runs

    folder = tmp_path_factory.mktemp('run')
    config = demo.get_config()
    config.update(
        {'stages': ('baseline', 'teacher', 'student'), 'batch': {'views': 3},
         'evaluate': {'batch_size': 40}, 'train': {'steps': 4}, 'parallel': {'devices': 1},
         'data': {'cache': str(folder / 'built'), 'demo': {'people': {'train': 4, 'val': 1, 'test': 18}}}}
    )  # fmt: skip
    made = open_inputs(config, ('test',))
    clip, clip_params = made.encoder.clip, made.encoder.params
    made_of = {'data': made.fingerprint, 'weights': parallel.fingerprint(clip_params)}
    facts = {'stages': ['baseline', 'teacher', 'student'], 'fusion': {'heads': 8, 'shared': False}, 'views': 3}
    runs.keep_model(folder, clip, made.encoder.tokenizer, facts | {'trained_on': {}})
    (folder / 'config.json').write_text(json.dumps(json.loads(config.to_json()) | {'made_of': made_of}))
    teacher = stages.teacher_stage(clip, clip_params, 4, **config.teacher).init(jax.random.key(0))
    for name, step in (('baseline', 4), ('teacher', 4), ('student', 3)):
        with checkpoint.Checkpoints(folder / name) as checkpoints:
            checkpoints.save(train.State(np.int32(step), teacher, {'count': np.zeros(1)}), score=1.0)
    return folder


def test_a_finished_teacher_is_explained_in_pictures_and_numbers(workdir, capsys):
    from commands.explain import explain as run

    run(workdir)
    assert 'a view gives itself' in capsys.readouterr().out
    told = json.loads((workdir / 'explain' / 'explain.json').read_text())
    assert told['split'] == 'test' and told['attention']['people'] == 18 and told['attention']['heads'] == 8
    drawn = told['embedding']['identities']
    assert len(set(drawn)) == len(drawn) <= 12 and len({pid // 8 for pid in drawn}) == 3, 'two circles and others'
    assert {'baseline', 'teacher', 'teacher with supports'} < set(told['embedding']), 'a student on its way is left out'
    assert 'student' not in told['embedding']
    for modality in explain.MODALITIES:
        found = told['attention'][modality]
        assert found['cosine_to_rich'] == pytest.approx(1), 'an untrained fusion changes nothing'
        assert set(found['borrowed_from_side']) == {'front', 'side', 'back'}
        assert sum(x['pairs'] for x in found['borrowed_from_camera'].values()) == 18 * 3 * 2
        assert sum(x['pairs'] for y in found['who_borrows_from_whom'].values() for x in y.values()) == 18 * 3 * 2
    for name in ('attention.png', 'embedding.png'):
        with Image.open(workdir / 'explain' / name) as picture:
            assert min(picture.size) > 400 and len(picture.convert('RGB').getcolors(1 << 24)) > 50


@pytest.mark.parametrize(
    'missing,words', [('student', 'student.*step 3 of 4'), ('nobody', "found no nobody.*'nobody'")]
)
def test_a_stage_that_is_needed_and_not_finished_is_named(workdir, missing, words):
    from commands.workdir import open_finished

    with pytest.raises(ConfigError, match=words):
        open_finished(workdir, (missing,), ('test',))
    assert not (workdir / 'nobody').exists()


def test_explain_takes_a_workdir_and_no_config(tmp_path):
    fails(typed('explain'), 2, 'explain needs --workdir')
    fails(typed('explain', f'--workdir={tmp_path}', '--config=c.py'), 2, "explain takes no '--config'")
    fails(typed('explain', f'--workdir={tmp_path}'), 1, f'found no run in {tmp_path}')
    assert not list(tmp_path.iterdir())
