"""The stages do what the paper says they do: who learns, who stays frozen, what the fusion sees."""

import chex
import jax
import numpy as np
import optax
import pytest

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.method import losses, sampling, stages, targets
from lcr2s_jax.method.fusion_stage import fusion_stage
from lcr2s_jax.training.parallel import Axis
from tests import tiny


def loss_and_grad(stage, batch, params=None):
    params = stage.init(jax.random.key(0)) if params is None else params

    def loss(params, frozen):
        return stage.loss(params, frozen, batch, jax.random.key(1), Axis())

    (value, terms), grads = jax.jit(jax.value_and_grad(loss, argnums=0, has_aux=True))(params, stage.frozen)
    return value, terms, grads


def size(tree):
    return sum(float(np.abs(x).sum()) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', ['baseline', 'teacher', 'student'])
def test_every_stage_embeds_one_image_and_one_text_alone(name):
    stage, batch = tiny.stage(name), tiny.batch()
    params = stage.init(jax.random.key(0))
    for embed, x in (
        (stage.encoder.embed_image, batch.image_BKhwc[:, 0]),
        (stage.encoder.embed_text, batch.tokens_BKL[:, 0]),
    ):
        many = jax.jit(embed)(params, x)
        chex.assert_shape(many, (8, 8))
        np.testing.assert_allclose(jax.jit(embed)(params, x[:1]), many[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['baseline', 'teacher', 'student'])
def test_every_parameter_but_the_unread_temperature_learns(name):
    stage = tiny.stage(name)
    # as if after a first step: what stands before a zero-initialised projection has no gradient until then
    params = jax.tree.map(lambda x: x + 0.05, stage.init(jax.random.key(0)))
    value, _, grads = loss_and_grad(stage, tiny.batch(), params)
    assert np.isfinite(value)
    leaves = jax.tree_util.tree_leaves_with_path(grads)
    still = [jax.tree_util.keystr(path) for path, grad in leaves if not np.abs(grad).max() > 0]
    # a key's bias moves all scores of a softmax alike: of its gradient there is rounding noise, or none
    assert [name for name in still if not name.endswith("['k']['bias']")] == ["['clip']['logit_scale']"]


def test_the_fusion_learns_from_its_first_step():
    _, _, grads = loss_and_grad(tiny.stage('teacher'), tiny.batch())
    for modality in ('image', 'text'):
        for part in (('attention', 'out'), ('mlp', 'fc2')):
            assert np.abs(grads['fusion'][modality][part[0]][part[1]]['kernel']).max() > 0


def test_the_student_loss_is_the_baselines_plus_both_distillation_terms():
    batch = tiny.batch()
    base, base_terms, _ = loss_and_grad(tiny.stage('baseline'), batch)
    value, terms, _ = loss_and_grad(tiny.stage('student', feature_weight=2.0, relation_weight=3.0), batch)
    assert terms['feature'] > 0.01 and terms['relation'] > 0.01
    np.testing.assert_allclose(terms['sdm'], base_terms['sdm'], rtol=1e-5)
    np.testing.assert_allclose(value, base + 2 * terms['feature'] + 3 * terms['relation'], rtol=1e-5)


def test_no_gradient_reaches_the_teacher_through_the_student():
    stage, batch = tiny.stage('student'), tiny.batch()
    params = stage.init(jax.random.key(0))

    def loss(frozen):
        return stage.loss(params, frozen, batch, jax.random.key(1), Axis())[0]

    assert size(jax.jit(jax.grad(loss))(stage.frozen)) == 0


def test_teacher_targets_are_its_enriched_features():
    """Feature distillation measured from outside, through the public parts, is the term the student reports."""
    model, batch = tiny.clip(), tiny.batch()
    stage = tiny.stage('student', model)
    teacher = tiny.stage('teacher', model)
    params = stage.init(jax.random.key(0))
    terms = loss_and_grad(stage, batch)[1]
    total = 0
    for modality, values, embed in (
        ('image', batch.image_BKhwc, teacher.encoder.embed_image),
        ('text', batch.tokens_BKL, teacher.encoder.embed_text),
    ):  # fmt: skip
        rows = values.reshape(-1, *values.shape[2:])
        single = jax.jit(embed)(stage.frozen, rows)
        rich = teacher.fusion.enrich(stage.frozen, modality, single.reshape(8, 3, -1), batch.view_BK).reshape(24, -1)
        own = jax.jit(stage.encoder.embed_image if modality == 'image' else stage.encoder.embed_text)(params, rows)
        total += losses.feature_distillation(own, rich)
    np.testing.assert_allclose(terms['feature'], total, rtol=1e-4)


def test_a_detached_teachers_encoders_learn_what_the_baselines_learn():
    batch = tiny.batch()
    _, _, base = loss_and_grad(tiny.stage('baseline'), batch)
    _, _, teacher = loss_and_grad(tiny.stage('teacher', detach=True), batch)
    chex.assert_trees_all_close(teacher['clip'], base['clip'], rtol=1e-4, atol=1e-6)
    _, _, coupled = loss_and_grad(tiny.stage('teacher', detach=False), batch)
    assert size(jax.tree.map(lambda a, b: a - b, coupled['clip'], base['clip'])) > 1e-2


def test_before_its_first_step_the_teacher_is_two_baselines():
    batch = tiny.batch()
    base, _, _ = loss_and_grad(tiny.stage('baseline'), batch)
    for weight in (0.0, 0.5):
        value, _, _ = loss_and_grad(tiny.stage('teacher', single_weight=weight), batch)
        np.testing.assert_allclose(value, (1 + weight) * base, rtol=1e-5)


@pytest.mark.parametrize('shared', [True, False])
def test_fusion_weights_are_shared_or_not(shared):
    stage = tiny.stage('teacher', shared_fusion=shared)
    names = set(stage.init(jax.random.key(0))['fusion'])
    assert names == ({'both'} if shared else {'image', 'text'})
    assert np.isfinite(loss_and_grad(stage, tiny.batch())[0])


def test_support_dropout_changes_the_loss_of_a_taught_fusion_only():
    batch, values = tiny.batch(), {}
    for rate in (0.0, 0.9):
        stage = tiny.stage('teacher', support_dropout=rate)
        taught = jax.tree.map(lambda x: x + 0.05, stage.init(jax.random.key(0)))
        values[rate] = loss_and_grad(stage, batch, params=taught)[1]
    assert values[0.0]['rich_sdm'] != values[0.9]['rich_sdm']
    assert values[0.0]['sdm'] == values[0.9]['sdm']


def test_the_student_starts_from_the_pretrained_encoders_or_from_the_teachers():
    own, taught = (tiny.stage('student', from_teacher=flag) for flag in (False, True))
    chex.assert_trees_all_equal(own.init(jax.random.key(0))['clip'], tiny.clip_params(tiny.clip()))
    chex.assert_trees_all_equal(taught.init(jax.random.key(0))['clip'], taught.frozen['clip'])


@pytest.mark.parametrize('name', ['baseline', 'teacher', 'student'])
def test_without_identity_weight_there_is_no_classifier(name):
    stage = tiny.stage(name, identity_weight=0.0)
    assert 'head' not in stage.init(jax.random.key(0))
    assert 'identity' not in loss_and_grad(stage, tiny.batch())[1]


def test_an_unknown_alignment_loss_names_the_known_ones():
    with pytest.raises(ConfigError, match="'cosine'.*sdm, infonce, tal"):
        tiny.stage('baseline', align='cosine')


@pytest.mark.parametrize(
    'name', ['student', *(pytest.param(name, marks=pytest.mark.slow) for name in ('baseline', 'teacher'))]
)
def test_a_batch_encoded_in_chunks_has_the_loss_and_gradient_of_the_whole(name):
    batch, key = tiny.batch(identities=8, views=3), jax.random.key(0)
    found = []
    for chunks in (1, 6):
        stage = tiny.stage(name, tiny.clip(chunks=chunks), scale=1.0)  # a sharp softmax would magnify rounding
        params = stage.init(jax.random.key(1))
        value = jax.jit(jax.value_and_grad(lambda p, s=stage: s.loss(p, s.frozen, batch, key, Axis())[0]))
        found.append(value(params))
    (whole, grads), (parts, grads_in_parts) = found
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    error = optax.global_norm(jax.tree.map(lambda a, b: a - b, grads_in_parts, grads))
    assert float(error) <= 1e-5 * float(optax.global_norm(grads))


def test_chunks_need_less_memory():
    batch = tiny.batch(identities=12, views=8)

    def temporary(**changes):
        stage = tiny.stage('baseline', tiny.clip(**changes))
        grad = jax.jit(jax.grad(lambda p: stage.loss(p, None, batch, None, Axis())[0]))
        return grad.lower(stage.init(jax.random.key(1))).compile().memory_analysis().temp_size_in_bytes

    assert temporary(chunks=12) < temporary(chunks=1) / 2


def test_chunks_that_do_not_divide_the_rows_are_an_error():
    stage = tiny.stage('baseline', tiny.clip(chunks=5))
    with pytest.raises(ConfigError, match='config.model.chunks: found 5'):
        stage.loss(stage.init(jax.random.key(1)), None, tiny.batch(identities=8, views=3), None, Axis())


def test_a_text_is_supported_by_its_images_other_caption_where_that_is_wanted():
    batch = tiny.batch(identities=8, views=4)
    view_BK = np.repeat(batch.view_BK[:, ::2], 2, axis=1)  # two images, two captions of each
    batch = batch._replace(view_BK=view_BK, image_BKhwc=np.repeat(batch.image_BKhwc[:, ::2], 2, axis=1))
    touched = {}
    for wanted in (False, True):
        stage = tiny.stage('teacher', same_image_texts=wanted, align='infonce', single_weight=0.0, detach=False)
        params = jax.tree.map(lambda x: x + 0.05, stage.init(jax.random.key(0)))

        def loss(tokens, stage=stage, params=params):
            return float(stage.loss(params, None, batch._replace(tokens_BKL=tokens), None, Axis())[1]['rich_infonce'])

        other = batch.tokens_BKL.copy()
        other[:, 1::2, 1] = 1 + other[:, 1::2, 1] % 40  # another second caption of every image
        touched[wanted] = loss(other) - loss(batch.tokens_BKL)
    assert touched[False] != touched[True]


def test_the_teachers_loss_is_that_of_its_public_parts():
    stage = tiny.stage('teacher', scale=7.0, identity_weight=3.0, single_weight=0.0)
    batch, rng = tiny.batch(), np.random.default_rng(0)
    # the fusions of images and texts must differ, or one could stand for the other
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), stage.init(jax.random.key(0)))
    value, terms, _ = loss_and_grad(stage, batch, params)
    rich_NE = []
    for modality, rows, embed in (
        ('image', batch.image_BKhwc, stage.encoder.embed_image),
        ('text', batch.tokens_BKL, stage.encoder.embed_text),
    ):
        x_BKE = jax.jit(embed)(params, rows.reshape(-1, *rows.shape[2:])).reshape(8, 3, -1)
        rich_NE.append(stage.fusion.enrich(params, modality, x_BKE, batch.view_BK).reshape(24, -1))
    np.testing.assert_allclose(terms['rich_sdm'], losses.sdm(*rich_NE, np.repeat(batch.pid_B, 3), 7.0), rtol=1e-4)
    np.testing.assert_allclose(value, terms['rich_sdm'] + 3 * terms['rich_identity'], rtol=1e-5)


def cached(teacher, frozen, batch):
    """What a teacher makes of a split that is this very batch."""
    rows = (batch.image_BKhwc.reshape(-1, 16, 8, 3), batch.tokens_BKL.reshape(-1, tiny.LENGTH))
    found = (
        jax.jit(embed)(frozen, x)
        for embed, x in zip((teacher.encoder.embed_image, teacher.encoder.embed_text), rows, strict=True)
    )
    return Embeddings(*found, None, None, None, None)


def test_a_cached_teacher_teaches_what_a_live_one_does():
    batch = tiny.batch(repeats=False)
    live, teacher = tiny.stage('student'), tiny.stage('teacher')
    cache = cached(teacher, live.frozen, batch)
    # captions are not numbered as images are
    batch = batch._replace(caption_BK=batch.caption_BK[::-1, ::-1].copy())
    cache = cache._replace(text_QE=cache.text_QE[::-1])
    stage = tiny.stage('student', cache=cache, cache_teacher=True)
    assert set(stage.frozen) == {'fusion', 'image_GE', 'text_QE'}, 'no tower of it is left'
    (value, terms, grads), (expected, expected_terms, expected_grads) = (loss_and_grad(s, batch) for s in (stage, live))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(terms['relation'], expected_terms['relation'], rtol=1e-4)
    chex.assert_trees_all_close(grads, expected_grads, rtol=1e-3, atol=1e-5)


def with_places(batch, cache):
    """The cache knows who is who, as that of a split does."""
    pid = np.repeat(batch.pid_B, batch.view_BK.shape[1])
    return cache._replace(image_pid_G=pid, text_pid_Q=pid, text_view_Q=np.arange(len(pid)))


def test_a_crossed_student_has_the_loss_of_a_student_that_is_told_own_views():
    batch, model, params = tiny.batch(repeats=False), tiny.clip(), tiny.clip_params(tiny.clip())
    folds = {f'fold_{i}': (tiny.stage('baseline'), {'clip': params}) for i in range(3)}
    cache = cached(tiny.stage('teacher'), tiny.stage('student').frozen, batch)
    options = dict(align='sdm', identity_weight=1.0, scale=20.0, feature_weight=3.0, relation_weight=0.5)
    crossed = stages.build('crossed', model, params, tiny.PEOPLE, folds, cache, options)
    told = tiny.stage('student', cache=cache, cache_teacher=True, target_share=0.0, **options)
    assert crossed.name == 'crossed' and set(crossed.frozen) == set(told.frozen)
    np.testing.assert_allclose(loss_and_grad(crossed, batch)[0], loss_and_grad(told, batch)[0], rtol=1e-6)


def test_a_run_has_as_many_folds_as_it_names():
    names = ('fold_0', 'fold_1', 'fold_2', 'crossed')
    assert stages.needs('crossed', names) == names[:3] and stages.needs('student', names) == ('teacher',)
    assert [sampling.of(name, names).left_out for name in names] == [(0, 3), (1, 3), (2, 3), ()]


def test_members_of_an_ensemble_see_everybody_in_orders_of_their_own_every_other_one_to_one():
    names = ('member_0', 'member_1', 'member_2', 'ensemble', 'baseline')
    assert stages.needs('ensemble', names) == names[:3]
    found = [sampling.of(name, names) for name in names]
    assert [how.one_to_one for how in found] == [True, False, True, False, False]
    assert [how.order for how in found] == [0, 1000, 2000, 0, 0] and not any(how.left_out for how in found)


def test_a_student_of_the_teachers_own_view_is_told_the_cache_itself():
    batch = tiny.batch(repeats=False)
    cache = cached(tiny.stage('teacher'), tiny.stage('student').frozen, batch)
    stage = tiny.stage('student', cache=cache, cache_teacher=True, target_share=0.0)
    assert set(stage.frozen) == {'image_GE', 'text_QE'}, 'it needs no fusion'
    terms = loss_and_grad(stage, batch)[1]
    v_NE, t_NE, *_ = cached(stage, stage.init(jax.random.key(0)), batch)
    expected = losses.feature_distillation(v_NE, cache.image_GE) + losses.feature_distillation(t_NE, cache.text_QE)
    np.testing.assert_allclose(terms['feature'], expected, rtol=1e-4)


@pytest.mark.parametrize(
    'target', ['fusion', *(pytest.param(target, marks=pytest.mark.slow) for target in ('mean', 'others'))]
)
def test_supports_from_all_of_the_split_are_those_of_a_batch_that_holds_all_of_it(target):
    batch = tiny.batch(repeats=False)
    cache = with_places(batch, cached(tiny.stage('teacher'), tiny.stage('student').frozen, batch))
    given = dict(cache=cache, cache_teacher=True, target=target, target_share=0.4)
    near, far = (tiny.stage('student', **given, support_views=views) for views in (0, 3))

    def feature(stage, batch):
        loss = jax.jit(lambda params, frozen: stage.loss(params, frozen, batch, jax.random.key(1), Axis())[1])
        return loss(stage.init(jax.random.key(0)), stage.frozen)['feature']

    np.testing.assert_allclose(feature(far, batch), feature(near, batch), rtol=1e-4)
    # one-to-one: no row brings a support, and the split still has them
    alone = batch._replace(**{
        name: getattr(batch, name)[:, :1] for name in ('image_BKhwc', 'tokens_BKL', 'view_BK', 'caption_BK')
    })  # fmt: skip
    assert feature(near, alone) != feature(far, alone)


def test_a_fusion_alone_is_trained_on_features_and_leaves_the_encoders():
    batch = tiny.batch(repeats=False)
    teacher = tiny.stage('teacher')
    params = tiny.stage('student').frozen
    cache = with_places(batch, cached(teacher, params, batch))
    stage = fusion_stage(teacher, params, cache, align='sdm', scale=20.0, support_views=3)
    value, _, grads = loss_and_grad(stage, batch)
    assert np.isfinite(value) and set(grads) == {'fusion'} and size(grads) > 0


def descended(stage, batch, steps=30):
    """(loss, terms) of every step of a short training on one batch."""
    tx, params = optax.adam(3e-3), stage.init(jax.random.key(0))
    state, told = tx.init(params), []

    @jax.jit
    def step(params, state, key):
        (value, terms), grads = jax.value_and_grad(stage.loss, has_aux=True)(params, stage.frozen, batch, key, Axis())
        updates, state = tx.update(grads, state)
        return optax.apply_updates(params, updates), state, value, terms

    for number in range(steps):
        params, state, value, terms = step(params, state, jax.random.key(number))
        told.append((float(value), terms))
    return told


def test_an_image_term_is_added_and_brings_images_of_one_identity_together():
    told = descended(tiny.stage('baseline', image_weight=0.5), tiny.batch())
    value, terms = told[0]
    np.testing.assert_allclose(value, terms['sdm'] + terms['identity'] + 0.5 * terms['image'], rtol=1e-5)
    assert told[-1][0] < value and told[-1][1]['image'] < 0.7 * terms['image']


def test_wrong_supports_change_what_a_teacher_learns_but_not_before_its_first_step():
    batch = tiny.batch()
    some = [tiny.stage('teacher', wrong_supports=rate) for rate in (0.0, 0.5)]
    both = jax.jit(lambda params: [stage.loss(params, None, batch, jax.random.key(1), Axis())[0] for stage in some])
    params = some[0].init(jax.random.key(0))
    right, wrong = both(params)
    np.testing.assert_allclose(wrong, right, rtol=1e-5)
    right, wrong = both(jax.tree.map(lambda x: x + 0.05, params))
    assert abs(wrong - right) > 1e-4


def test_a_fusion_alone_learns_among_wrong_supports_of_the_whole_split():
    batch = tiny.batch(repeats=False)
    teacher, params = tiny.stage('teacher'), tiny.stage('student').frozen
    cache = with_places(batch, cached(teacher, params, batch))
    given = dict(align='sdm', scale=20.0, support_views=3)
    values = [
        value for value, _ in descended(fusion_stage(teacher, params, cache, **given, wrong_supports=0.5), batch, 10)
    ]
    assert np.isfinite(values).all() and values[-1] < values[0]


def test_leave_one_out_sets_change_the_loss_and_need_no_teacher():
    batch = tiny.batch()
    base, _, _ = loss_and_grad(tiny.stage('baseline'), batch)
    value, terms, _ = loss_and_grad(tiny.stage('baseline', others_weight=0.5), batch)
    np.testing.assert_allclose(value, base + 0.5 * terms['others'], rtol=1e-5)


def test_what_a_student_cannot_be_told_is_said_with_what_can():
    with pytest.raises(ConfigError, match='support_views: found 3 with cache_teacher=False'):
        tiny.stage('student', support_views=3)
    with pytest.raises(ConfigError, match="'all', expected one of 'fusion', 'mean', 'others'"):
        tiny.stage('student', target='all')
    with pytest.raises(ConfigError, match="'frobenius', expected one of 'cosine', 'kl'"):
        tiny.stage('student', relation='frobenius')
    with pytest.raises(ConfigError, match="fade: found 'slowly', expected one of '', 'out', 'in'"):
        tiny.stage('student', fade='slowly')
    with pytest.raises(ConfigError, match="fade_steps: found 0 with fade='out', expected 1 or more"):
        tiny.stage('student', fade='out')
    with pytest.raises(ConfigError, match='gate: found -1'):
        tiny.stage('student', gate=-1)
    model, params, plain = tiny.clip(), tiny.clip_params(tiny.clip()), tiny.stage('baseline')
    with pytest.raises(ConfigError, match="target: found 'fusion' of a teacher without one"):
        stages.student_stage(model, params, tiny.PEOPLE, plain, {'clip': params}, None, **tiny.STUDENT)
    wide = Embeddings(np.zeros((2, 24), np.float32), np.zeros((2, 24), np.float32), None, None, None, None)
    with pytest.raises(ConfigError, match='feature_weight: found 1.0 with 24 numbers a feature of the teacher and 8'):
        tiny.stage('student', cache=wide, cache_teacher=True, target_share=0.0)


def test_distillation_that_fades_out_is_whole_in_the_first_step_and_nothing_in_the_last():
    batch, key = tiny.batch(), jax.random.key(1)
    stage, fading = tiny.stage('student'), tiny.stage('student', fade='out', fade_steps=4)
    none = tiny.stage('student', feature_weight=0.0, relation_weight=0.0)
    params = stage.init(jax.random.key(0))
    loss = jax.jit(lambda step: fading.loss(params, fading.frozen, batch, key, Axis(), step)[0])
    first, third, last = (float(loss(step)) for step in (0, 2, 3))
    whole, alone = (float(s.loss(params, s.frozen, batch, key, Axis())[0]) for s in (stage, none))
    np.testing.assert_allclose([first, third, last], [whole, alone + (whole - alone) / 3, alone], rtol=1e-5)


def test_a_gate_that_lets_nothing_through_leaves_the_teachers_own_view():
    batch = tiny.batch()
    gated, own = tiny.stage('student', gate=1e6), tiny.stage('student', target_share=0.0)
    (_, gated_terms, _), (_, own_terms, _) = loss_and_grad(gated, batch), loss_and_grad(own, batch)
    np.testing.assert_allclose(gated_terms['feature'], own_terms['feature'], rtol=1e-4)
    np.testing.assert_allclose(gated_terms['relation'], own_terms['relation'], rtol=1e-3)


def test_three_equal_teachers_relation_is_that_of_one():
    batch = tiny.batch(repeats=False)
    one = cached(tiny.stage('teacher'), tiny.stage('student').frozen, batch)
    given = dict(cache_teacher=True, target_share=0.0, feature_weight=0.0)
    found, expected = (
        loss_and_grad(tiny.stage('student', cache=cache, **given), batch)[1]['relation']
        for cache in (targets.mean_relation([one] * 3), one)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_relation_is_compared_by_distance_or_by_divergence():
    terms = {kind: loss_and_grad(tiny.stage('student', relation=kind), tiny.batch())[1] for kind in ('cosine', 'kl')}
    assert terms['cosine']['feature'] == terms['kl']['feature']
    assert terms['cosine']['relation'] != terms['kl']['relation'] > 0


@pytest.mark.parametrize('shared', [False, True])
def test_the_teacher_tells_what_each_modality_looks_at_and_the_others_have_nothing_to_tell(shared):
    stage = tiny.stage('teacher', shared_fusion=shared)
    rng = np.random.default_rng(0)
    noise = stage.init(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.5 * rng.normal(size=x.shape).astype(np.float32), noise)
    v_BKE, view_BK = rng.normal(size=(2, 3, 8)).astype(np.float32), np.array([[0, 1, 2], [3, 4, 3]])
    image, text = (
        np.asarray(stage.fusion.attention(params, modality, v_BKE, view_BK)) for modality in ('image', 'text')
    )
    chex.assert_shape([image, text], (2, 2, 3, 3))
    assert (image[1, :, 0, 2] == 0).all(), 'a copy of the view is no support'
    assert shared == np.array_equal(image, text)
    assert tiny.stage('student').fusion is None and tiny.stage('baseline').fusion is None
