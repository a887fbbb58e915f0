"""The losses, as pure functions of float32 arrays. Every docstring states the reduction.

The paper's loss weights depend on the reductions, which its abstract does not give. The reductions here are ours.
"""

import chex
import jax
import jax.numpy as jnp
import optax

_MARGIN = 0.1  # of `tal`  [field: RDE]


def normalise(x: jax.Array) -> jax.Array:
    """Scale the last axis to unit length; a zero vector stays zero and has a finite gradient."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def similarity(v_NE: jax.Array, t_ME: jax.Array) -> jax.Array:
    """Cosine similarity of every image with every text, [N, M] in -1..1, in full float32."""
    chex.assert_rank([v_NE, t_ME], 2)
    return jnp.matmul(normalise(v_NE), normalise(t_ME).T, precision=jax.lax.Precision.HIGHEST)


def sdm(v_NE: jax.Array, t_NE: jax.Array, pid_N: jax.Array, scale: float) -> jax.Array:
    """Similarity distribution matching: KL(p || q) per row, mean over rows, both directions added.

    p = softmax(scale * cosine) over the batch, q = 1/n on the n rows of the same identity.  [field: IRRA]
    """
    chex.assert_equal_shape([v_NE, t_NE])
    chex.assert_shape(pid_N, (v_NE.shape[0],))
    same_NN = (pid_N[:, None] == pid_N[None, :]).astype(jnp.float32)
    log_q_NN = jnp.log(same_NN / same_NN.sum(axis=1, keepdims=True) + 1e-8)
    logits_NN = scale * similarity(v_NE, t_NE)

    def one_way(logits_NN):
        log_p_NN = jax.nn.log_softmax(logits_NN, axis=1)
        return jnp.mean(jnp.sum(jnp.exp(log_p_NN) * (log_p_NN - log_q_NN), axis=1))

    return one_way(logits_NN) + one_way(logits_NN.T)  # q is symmetric: its rows have the counts of its columns


def infonce(v_NE: jax.Array, t_NE: jax.Array, pid_N: jax.Array, scale: float) -> jax.Array:
    """CLIP's one-to-one contrastive loss: cross-entropy per row, mean over rows, mean of both directions.

    Every other row is a negative, also one of the same identity: `pid_N` is taken for a common signature only.
    """
    chex.assert_equal_shape([v_NE, t_NE])
    del pid_N
    logits_NN = scale * similarity(v_NE, t_NE)
    rows_N = jnp.arange(logits_NN.shape[0])
    image_to_text = optax.softmax_cross_entropy_with_integer_labels(logits_NN, rows_N)
    text_to_image = optax.softmax_cross_entropy_with_integer_labels(logits_NN.T, rows_N)
    return (image_to_text.mean() + text_to_image.mean()) / 2


def tal(v_NE: jax.Array, t_NE: jax.Array, pid_N: jax.Array, scale: float) -> jax.Array:
    """Triplet alignment: every row's positives against a soft maximum of its negatives, both directions added.

    [m - sum_pos alpha s + log sum_neg exp(scale s) / scale]+ with s the cosine, alpha = softmax(scale s) over the
    positives, held fixed, and m = 0.1; mean over rows, where RDE sums.  [field: RDE, scale 1 / 0.015]
    """
    chex.assert_equal_shape([v_NE, t_NE])
    chex.assert_shape(pid_N, (v_NE.shape[0],))
    same_NN = pid_N[:, None] == pid_N[None, :]
    sim_NN = similarity(v_NE, t_NE)

    def one_way(sim_NN):
        alpha_NN = jax.nn.softmax(jnp.where(same_NN, scale * sim_NN, -jnp.inf), axis=1)
        positive_N = jnp.sum(jax.lax.stop_gradient(alpha_NN) * sim_NN, axis=1)
        # a finite stand-in for no negative at all: its gradient stays finite too
        negative_N = jax.nn.logsumexp(jnp.where(same_NN, -1e4, scale * sim_NN), axis=1) / scale
        return jnp.mean(jax.nn.relu(_MARGIN + negative_N - positive_N))

    return one_way(sim_NN) + one_way(sim_NN.T)


def identity(logits_v_NC: jax.Array, logits_t_NC: jax.Array, pid_N: jax.Array) -> jax.Array:
    """Cross-entropy of the identity classifier, mean over rows, mean of both modalities.  [field: IRRA]"""
    chex.assert_equal_shape([logits_v_NC, logits_t_NC])
    chex.assert_shape(pid_N, (logits_v_NC.shape[0],))
    entropy = optax.softmax_cross_entropy_with_integer_labels
    return (entropy(logits_v_NC, pid_N).mean() + entropy(logits_t_NC, pid_N).mean()) / 2


def same_person(v_NE: jax.Array, pid_N: jax.Array, view_N: jax.Array, scale: float) -> jax.Array:
    """Supervised contrastive loss between images: -log p of the other images of the identity, mean over them and rows.

    p = softmax(scale * cosine) over the *other* images of the batch; rows that are alone with their identity are left
    out, and 0 where all are. [field: Khosla et al., 2020, arXiv 2004.11362; its use here is ours]

    Args:
      v_NE: image features.
      pid_N: identities.
      view_N: the image of each row; equal numbers are the same image, which is neither positive nor negative.
      scale: inverse temperature.
    """
    chex.assert_rank(v_NE, 2)
    chex.assert_equal_shape([pid_N, view_N])
    other_NN = view_N[:, None] != view_N[None, :]
    positive_NN = other_NN & (pid_N[:, None] == pid_N[None, :])
    log_p_NN = jax.nn.log_softmax(jnp.where(other_NN, scale * similarity(v_NE, v_NE), -1e4), axis=1)
    count_N = positive_NN.sum(axis=1)
    row_N = -jnp.sum(jnp.where(positive_NN, log_p_NN, 0), axis=1) / jnp.maximum(count_N, 1)
    return row_N.sum() / jnp.maximum((count_N > 0).sum(), 1)


def feature_distillation(student_NE: jax.Array, teacher_NE: jax.Array) -> jax.Array:
    """Squared distance of unit vectors, 2 - 2 cos, *summed* over E and averaged over rows: 0..4.

    The paper's intra-modal term (MSE); normalisation and reduction are ours.
    """
    chex.assert_equal_shape([student_NE, teacher_NE])
    gap_NE = normalise(student_NE) - normalise(teacher_NE)
    return jnp.mean(jnp.sum(gap_NE * gap_NE, axis=-1))


def relation_distillation(v_NE: jax.Array, t_NE: jax.Array, rich_v_NE: jax.Array, rich_t_NE: jax.Array) -> jax.Array:
    """Squared Frobenius distance of the image-by-text cosine matrices, divided by N.

    The paper's inter-modal term; the division by N (not N*N) is ours.
    """
    _assert_pairs(v_NE, t_NE, rich_v_NE, rich_t_NE)
    gap_NN = similarity(v_NE, t_NE) - similarity(rich_v_NE, rich_t_NE)
    return jnp.sum(gap_NN * gap_NN) / gap_NN.shape[0]


def _assert_pairs(v_NE, t_NE, rich_v_NE, rich_t_NE) -> None:
    """Images and texts are alike; a teacher's features may be wider, as those of several teachers are."""
    chex.assert_equal_shape([v_NE, t_NE])
    chex.assert_equal_shape([rich_v_NE, rich_t_NE])
    chex.assert_equal_shape_prefix([v_NE, rich_v_NE], 1)


def relation_kl(
    v_NE: jax.Array, t_NE: jax.Array, rich_v_NE: jax.Array, rich_t_NE: jax.Array, scale: float
) -> jax.Array:
    """KL(teacher || student) of the rows' softmax(scale * cosine), mean over rows, mean of both directions.

    An alternative to the paper's Frobenius distance (ours): what is far off in the teacher need not match.
    """
    _assert_pairs(v_NE, t_NE, rich_v_NE, rich_t_NE)
    logits_NN, rich_NN = scale * similarity(v_NE, t_NE), scale * similarity(rich_v_NE, rich_t_NE)

    def one_way(logits_NN, rich_NN):
        log_p_NN, log_q_NN = jax.nn.log_softmax(logits_NN, axis=1), jax.nn.log_softmax(rich_NN, axis=1)
        return jnp.mean(jnp.sum(jnp.exp(log_q_NN) * (log_q_NN - log_p_NN), axis=1))

    return (one_way(logits_NN, rich_NN) + one_way(logits_NN.T, rich_NN.T)) / 2


ALIGNMENT = {'sdm': sdm, 'infonce': infonce, 'tal': tal}
"""The alignment losses that a stage can be given by name: each takes (v_NE, t_NE, pid_N, scale)."""
