"""Every loss equals its slow, literal NumPy reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcr2s_jax.method import losses

N, E, C = 9, 6, 5


def draw(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, N, E)).astype(np.float32), rng.integers(0, 4, N).astype(np.int32)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / np.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def softmax(row):
    exps = [np.exp(x - max(row)) for x in row]
    return [x / sum(exps) for x in exps]


def slow_sdm(v, t, pid, scale):
    total = 0.0
    for a, b in ((v, t), (t, v)):
        for i in range(N):
            p = softmax([scale * cosine(a[i], b[j]) for j in range(N)])
            same = [float(pid[i] == pid[j]) for j in range(N)]
            total += sum(p[j] * (np.log(p[j]) - np.log(same[j] / sum(same) + 1e-8)) for j in range(N)) / N
    return total


def slow_infonce(v, t, scale):
    total = 0.0
    for a, b in ((v, t), (t, v)):
        for i in range(N):
            total -= np.log(softmax([scale * cosine(a[i], b[j]) for j in range(N)])[i]) / N / 2
    return total


def slow_tal(v, t, pid, scale):
    total = 0.0
    for a, b in ((v, t), (t, v)):
        for i in range(N):
            s = [cosine(a[i], b[j]) for j in range(N)]
            positive = [s[j] for j in range(N) if pid[i] == pid[j]]
            negative = [np.exp(scale * s[j]) for j in range(N) if pid[i] != pid[j]]
            alpha = softmax([scale * x for x in positive])
            pull = sum(w * x for w, x in zip(alpha, positive, strict=True))
            total += max(0.0, 0.1 - pull + np.log(sum(negative)) / scale) / N
    return total


def slow_identity(logits_v, logits_t, pid):
    rows = [-np.log(softmax(list(logits[i]))[pid[i]]) for logits in (logits_v, logits_t) for i in range(N)]
    return sum(rows) / N / 2


def test_sdm_is_its_reference():
    (v, t, *_), pid = draw()
    assert len(set(pid.tolist())) < N, 'some rows must share an identity'
    np.testing.assert_allclose(losses.sdm(v, t, pid, 10.0), slow_sdm(v, t, pid, 10.0), rtol=1e-5)


def test_tal_is_its_reference_and_has_no_nan():
    (v, t, *_), pid = draw()
    np.testing.assert_allclose(losses.tal(v, t, pid, 10.0), slow_tal(v, t, pid, 10.0), rtol=1e-5)
    alone = np.zeros(N, np.int32)  # no negatives at all: nothing to push away, and no NaN
    value, gradient = jax.value_and_grad(losses.tal)(v, t, alone, 66.7)
    assert float(value) == 0 and np.isfinite(gradient).all()


def test_tal_learns_nothing_from_the_weights_of_its_positives():
    (v, t, *_), pid = draw()
    same = pid[:, None] == pid[None]

    def ways(v):
        s = losses.similarity(v, t)
        return s, s.T

    weights = [jax.nn.softmax(jnp.where(same, 10 * s, -jnp.inf), axis=1) for s in ways(v)]

    def held(v):
        hinges = [
            0.1 + jax.nn.logsumexp(jnp.where(same, -1e4, 10 * s), axis=1) / 10 - (a * s).sum(axis=1)
            for s, a in zip(ways(v), weights, strict=True)
        ]
        return sum(jnp.mean(jax.nn.relu(hinge)) for hinge in hinges)

    gradient = jax.grad(losses.tal)(v, t, pid, 10.0)
    np.testing.assert_allclose(gradient, jax.grad(held)(v), rtol=1e-4, atol=1e-6)


def test_sdm_is_nearly_zero_when_features_tell_exactly_who_is_who():
    pid = np.arange(N) // 3
    prototypes = np.eye(E)[pid].astype(np.float32)
    assert float(losses.sdm(prototypes, prototypes, pid, 50.0)) < 1e-6


def test_infonce_is_its_reference():
    (v, t, *_), pid = draw(1)
    np.testing.assert_allclose(losses.infonce(v, t, pid, 10.0), slow_infonce(v, t, 10.0), rtol=1e-5)


def test_identity_is_its_reference():
    rng = np.random.default_rng(2)
    logits_v, logits_t = rng.normal(size=(2, N, C)).astype(np.float32)
    pid = rng.integers(0, C, N)
    np.testing.assert_allclose(
        losses.identity(logits_v, logits_t, pid), slow_identity(logits_v, logits_t, pid), rtol=1e-5
    )


def test_images_of_one_identity_attract_as_in_the_reference_and_a_copy_is_no_pair():
    rng = np.random.default_rng(0)
    v, pid, view = rng.normal(size=(7, 5)), np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 3, 4, 4])
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    total, rows = 0.0, 0
    for i in range(7):
        others = [j for j in range(7) if view[j] != view[i]]
        positive = [j for j in others if pid[j] == pid[i]]
        if positive:
            log_sum = np.log(sum(np.exp(20 * unit[i] @ unit[j]) for j in others))
            total += np.mean([log_sum - 20 * unit[i] @ unit[j] for j in positive])
            rows += 1
    assert rows == 5
    np.testing.assert_allclose(losses.same_person(v, pid, view, 20.0), total / rows, rtol=1e-4)
    alone = jax.grad(lambda v: losses.same_person(v, np.arange(7), view, 20.0))(jnp.asarray(v))
    assert not np.asarray(alone).any(), 'nobody has another image: no loss, and no NaN'


def test_feature_distillation_is_two_minus_two_cosines():
    (a, b, *_), _ = draw(3)
    slow = sum(2 - 2 * cosine(a[i], b[i]) for i in range(N)) / N
    np.testing.assert_allclose(losses.feature_distillation(a, b), slow, rtol=1e-5)


def test_relation_distillation_is_its_reference():
    (v, t, rich_v, rich_t), _ = draw(4)
    slow = sum(
        (cosine(v[i], t[j]) - cosine(rich_v[i], rich_t[j])) ** 2 for i in range(N) for j in range(N)
    ) / N  # fmt: skip
    np.testing.assert_allclose(losses.relation_distillation(v, t, rich_v, rich_t), slow, rtol=1e-5)


def test_relation_kl_is_its_reference():
    (v, t, rich_v, rich_t), _ = draw(4)
    slow = 0.0
    for turn in (lambda x: x, np.transpose):
        ours, theirs = (
            turn(np.array([[10.0 * cosine(a[i], b[j]) for j in range(N)] for i in range(N)]))
            for a, b in ((v, t), (rich_v, rich_t))
        )
        for row, target in zip(ours, theirs, strict=True):
            p, q = (np.exp(x) / np.exp(x).sum() for x in (row, target))
            slow += float(np.sum(q * np.log(q / p))) / N / 2
    np.testing.assert_allclose(losses.relation_kl(v, t, rich_v, rich_t, 10.0), slow, rtol=1e-4)


def test_distilling_a_model_into_itself_costs_nothing():
    (v, t, *_), _ = draw(5)
    assert float(losses.relation_kl(v, t, v, t, 10.0)) == pytest.approx(0, abs=1e-6)
    assert float(losses.feature_distillation(v, v)) == 0
    assert float(losses.relation_distillation(v, t, v, t)) == 0


@pytest.mark.parametrize('name', sorted(losses.ALIGNMENT))
def test_a_zero_feature_has_a_finite_gradient(name):
    (v, t, *_), pid = draw(6)
    v[0] = 0
    assert np.isfinite(jax.grad(losses.ALIGNMENT[name])(v, t, pid, 50.0)).all()


@pytest.mark.parametrize('name', sorted(losses.ALIGNMENT))
def test_alignment_does_not_depend_on_the_order_of_rows(name):
    (v, t, *_), pid = draw(7)
    order = np.random.default_rng(0).permutation(N)
    loss = losses.ALIGNMENT[name]
    np.testing.assert_allclose(loss(v, t, pid, 10.0), loss(v[order], t[order], pid[order], 10.0), rtol=1e-5)
