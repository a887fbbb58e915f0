"""A view looks at itself and at the other images of its own identity, and at nothing else."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lcr2s_jax.method.fusion import AttentionalFusion, drop_supports, exchanged, support_mask

VIEW_BK = np.array([[0, 1, 2, 3], [4, 5, 4, 5], [6, 6, 6, 6]])


def slow_mask(view):
    rows = [
        [i == j or (view[j] != view[i] and view[j] not in view[:j]) for j in range(len(view))] for i in range(len(view))
    ]
    return np.array(rows)


def fuse(views=4, width=8, seed=0):
    rng = np.random.default_rng(seed)
    v_BKE = rng.normal(size=(3, views, width)).astype(np.float32)
    fusion = AttentionalFusion(heads=2)
    params = fusion.init(jax.random.key(0), v_BKE, np.ones((3, views, views), bool))
    params = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), params)
    return fusion, params, v_BKE


def test_the_mask_is_its_definition():
    np.testing.assert_array_equal(support_mask(VIEW_BK), [slow_mask(list(view)) for view in VIEW_BK])


def test_a_copy_of_the_view_never_supports_it():
    mask = np.asarray(support_mask(VIEW_BK))
    copies = (VIEW_BK[:, :, None] == VIEW_BK[:, None, :]) & ~np.eye(4, dtype=bool)
    assert not mask[copies].any()
    assert mask[2].sum() == 4, 'an identity with a single image has no supports at all'


def test_a_masked_view_gets_exactly_zero_gradient():
    fusion, params, v_BKE = fuse()
    mask_BKK = np.asarray(support_mask(VIEW_BK))
    for b, i in ((0, 1), (1, 0), (2, 3)):
        grad = jax.grad(lambda v: fusion.apply(params, v, mask_BKK)[b, i].sum())(jnp.asarray(v_BKE))  # noqa: B023
        seen = np.abs(np.asarray(grad[b])).sum(axis=1) > 0
        np.testing.assert_array_equal(seen, mask_BKK[b, i])
        assert not np.asarray(grad)[[x for x in range(3) if x != b]].any(), 'another identity is never looked at'


def test_fusion_starts_as_the_identity():
    v_BKE = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
    fusion = AttentionalFusion(heads=2)
    mask = np.ones((2, 3, 3), bool)
    rich = fusion.apply(fusion.init(jax.random.key(0), v_BKE, mask), v_BKE, mask)
    chex.assert_shape(rich, v_BKE.shape)
    np.testing.assert_array_equal(rich, v_BKE)


def test_the_order_of_the_supports_does_not_matter():
    fusion, params, v_BKE = fuse()
    mask = np.ones((3, 4, 4), bool)
    rich = fusion.apply(params, v_BKE, mask)
    order = [0, 3, 1, 2]
    np.testing.assert_allclose(fusion.apply(params, v_BKE[:, order], mask), rich[:, order], rtol=1e-4, atol=1e-5)


def test_dropping_supports_keeps_self_and_hides_the_stated_share():
    mask = np.ones((400, 4, 4), bool)
    keys = jax.random.split(jax.random.key(0), 400)
    kept = np.asarray(drop_supports(mask, keys, 0.3))
    own = np.eye(4, dtype=bool)
    assert kept[:, own].all()
    assert abs(kept[:, ~own].mean() - 0.7) < 0.03
    assert not np.asarray(drop_supports(mask, keys, 1.0))[:, ~own].any()


def told(fusion, params, v_BKE, mask_BKK):
    """What the fusion gives, and the weights that it tells of."""
    rich, kept = fusion.apply(params, v_BKE, mask_BKK, mutable='intermediates')
    return rich, np.asarray(kept['intermediates']['attention']['weights'][0])


def test_an_exchanged_support_is_seen_in_one_half_and_a_view_keeps_itself():
    mask_BKK = np.asarray(support_mask(np.array([[0, 1, 2, 1], [4, 5, 6, 7]] * 500)))
    both_BJJ = np.asarray(exchanged(mask_BKK, jax.random.split(jax.random.key(0), 1000), 0.25))
    own, other = both_BJJ[:, :4, :4], both_BJJ[:, :4, 4:]
    np.testing.assert_array_equal(own | other, mask_BKK)
    assert not (own & other).any() and own[:, np.eye(4, dtype=bool)].all()
    assert abs(other.sum() / (mask_BKK.sum() - 4000) - 0.25) < 0.02
    assert both_BJJ[:, 4:].any(axis=2).all(), 'a row that sees nothing would not be finite'


def test_attention_weights_sum_to_one_and_are_exactly_zero_where_masked():
    fusion, params, v_BKE = fuse()
    mask_BKK = np.asarray(support_mask(VIEW_BK))
    _, weights_BHKK = told(fusion, params, v_BKE, mask_BKK)
    chex.assert_shape(weights_BHKK, (3, 2, 4, 4))
    np.testing.assert_allclose(weights_BHKK.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(weights_BHKK > 0, np.broadcast_to(mask_BKK[:, None], weights_BHKK.shape))


def test_the_weights_told_are_those_that_make_the_rich_feature():
    fusion, params, v_BKE = fuse()
    rich, weights_BHKK = told(fusion, params, v_BKE, np.asarray(support_mask(VIEW_BK)))
    p = params['params']

    def norm(x, part):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * p[part]['scale'] + p[part]['bias']

    def dense(x, part, name):
        return x @ p[part][name]['kernel'] + p[part][name]['bias']

    value_BKHd = dense(norm(v_BKE, 'ln_attention'), 'attention', 'v').reshape(3, 4, 2, 4)
    mixed = np.einsum('BHKS,BSHd->BKHd', weights_BHKK, value_BKHd).reshape(v_BKE.shape)
    z = v_BKE + dense(mixed, 'attention', 'out')
    hidden = dense(norm(z, 'ln_mlp'), 'mlp', 'fc1')
    hidden = hidden / (1 + np.exp(-1.702 * hidden))
    np.testing.assert_allclose(rich, z + dense(hidden, 'mlp', 'fc2'), rtol=1e-4, atol=1e-5)


def test_telling_the_weights_changes_nothing_and_nobody_else_is_told():
    fusion, params, v_BKE = fuse()
    mask_BKK = np.asarray(support_mask(VIEW_BK))
    rich, _ = told(fusion, params, v_BKE, mask_BKK)
    np.testing.assert_array_equal(fusion.apply(params, v_BKE, mask_BKK), rich)
    assert set(fusion.init(jax.random.key(0), v_BKE, mask_BKK)) == {'params'}
