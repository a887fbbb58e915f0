"""What the teacher's fusion looks at, and where features lie: the numbers that `main.py explain` draws (ours).

A weight says how much of a view's *value* goes into the attention's sum, not how much it changes the feature in the
end: the view itself is added to that sum, whatever weight it gives itself, and further matrices follow.
"""

from typing import NamedTuple

import chex
import jax
import numpy as np

from lcr2s_jax.arrays import Embeddings, unit
from lcr2s_jax.errors import UserError

MODALITIES = ('image', 'text')


class Groups(NamedTuple):
    """Views of one identity that may look at each other, one identity a row, as a training batch has them."""

    pid_B: np.ndarray
    image_BK: np.ndarray  # which images; a place that cannot be filled repeats the first
    caption_BK: np.ndarray  # which caption of each
    real_BK: np.ndarray  # False for such a place


def groups(e: Embeddings, views: int, seed: int) -> Groups:
    """Up to `views` images of every identity of two or more, and a caption of each, drawn by seed; else UserError."""
    found = []
    for pid in np.unique(e.image_pid_G):
        rng = np.random.default_rng((seed, int(pid)))
        described = (e.image_pid_G == pid) & np.isin(e.image_view_G, e.text_view_Q)
        image = rng.permutation(np.flatnonzero(described))[:views]
        if len(image) < 2:
            continue
        caption = np.array([rng.choice(np.flatnonzero(e.text_view_Q == e.image_view_G[i])) for i in image])
        place = np.where(np.arange(views) < len(image), np.arange(views), 0)
        found.append((pid, image[place], caption[place], np.arange(views) < len(image)))
    if not found:
        raise UserError('found no identity with two images that have captions; expected some, to look at each other')
    return Groups(*(np.array(column) for column in zip(*found, strict=True)))


def attention(fusion, params, e: Embeddings, g: Groups) -> tuple[dict, dict]:
    """What a fusion does with every group: {modality: weights_BHKK}, whose rows sum to one; {modality: mean cosine}.

    The cosine is that of a view's feature and its rich one.
    """
    view_BK = e.image_view_G[g.image_BK]
    look, enrich = (jax.jit(call, static_argnums=1) for call in (fusion.attention, fusion.enrich))
    weights, moved = {}, {}
    for modality, x_NE, index_BK in zip(MODALITIES, (e.image_GE, e.text_QE), (g.image_BK, g.caption_BK), strict=True):
        v_BKE = x_NE[index_BK]
        weights[modality] = np.asarray(look(params, modality, v_BKE, view_BK))
        rich_BKE = np.asarray(enrich(params, modality, v_BKE, view_BK))
        moved[modality] = float(np.sum(unit(v_BKE) * unit(rich_BKE), axis=-1)[g.real_BK].mean())
    return weights, moved


def summary(weights_BHKK: np.ndarray, real_BK: np.ndarray) -> dict:
    """Means over all views as queries, of weights averaged over heads.

    Returns:
      `own`, of the view itself; `own_least_head` and `own_most_head`, of the head that gives it least and most;
      `strongest_support`, `weakest_support`; `uniform`, what each would be if all views were looked at alike.
    """
    chex.assert_rank([weights_BHKK, real_BK], [4, 2])
    weights_BKK, self_KK = weights_BHKK.mean(axis=1), np.eye(real_BK.shape[1], dtype=bool)
    other_BKK = real_BK[:, None, :] & ~self_KK
    own_BHK = np.einsum('BHKK->BHK', weights_BHKK)
    return {
        name: float(value_BK[real_BK].mean())
        for name, value_BK in {
            'own': own_BHK.mean(axis=1),
            'own_least_head': own_BHK.min(axis=1),
            'own_most_head': own_BHK.max(axis=1),
            'strongest_support': np.where(other_BKK, weights_BKK, 0).max(axis=2),
            'weakest_support': np.where(other_BKK, weights_BKK, 1).min(axis=2),
            'uniform': np.broadcast_to(1 / real_BK.sum(axis=1, keepdims=True), real_BK.shape),
        }.items()
    }


def received(
    weights_BHKK: np.ndarray, real_BK: np.ndarray, label_BK: np.ndarray, of_BK: np.ndarray | None = None
) -> dict[str, dict]:
    """Which supports are borrowed from: the mean weight that views with a label are given by the *other* views.

    Args:
      label_BK: of each view, such as its camera.
      of_BK: bool, the views whose looking counts; all by default.

    Returns:
      {label: {weight, uniform, equal_share, margin, pairs}}: beside `weight`, over the same pairs, what it would be if
      all views were looked at alike, and if all supports shared alike what the view does not keep; `margin` is half the
      95 % interval of weight - equal_share, by the normal approximation, with identities as the independent units.
    """
    weights_BKK, views_B = weights_BHKK.mean(axis=1), real_BK.sum(axis=1)
    share_BK = (1 - np.einsum('BKK->BK', weights_BKK)) / (views_B[:, None] - 1)
    asks_BK = real_BK if of_BK is None else real_BK & of_BK
    pair_BKK = asks_BK[:, :, None] & real_BK[:, None, :] & ~np.eye(real_BK.shape[1], dtype=bool)
    uniform_BKK, share_BKK = (
        np.broadcast_to(x, pair_BKK.shape) for x in (1 / views_B[:, None, None], share_BK[..., None])
    )
    found = {}
    for label in np.unique(label_BK[real_BK]):
        those_BKK = pair_BKK & (label_BK == label)[:, None, :]
        if not (count_B := those_BKK.sum(axis=(1, 2))).any():
            continue
        weight, uniform, share = (float(x_BKK[those_BKK].mean()) for x_BKK in (weights_BKK, uniform_BKK, share_BKK))
        above_B = np.where(those_BKK, weights_BKK - share_BKK, 0).sum(axis=(1, 2))
        pairs = int(count_B.sum())
        margin = 1.96 * float(np.sqrt(np.sum((above_B - (weight - share) * count_B) ** 2))) / pairs
        found[str(label)] = dict(weight=weight, uniform=uniform, equal_share=share, margin=margin, pairs=pairs)
    return found


def kept(weights_BHKK: np.ndarray, real_BK: np.ndarray, label_BK: np.ndarray) -> dict[str, float]:
    """{label: mean weight that its views give themselves}."""
    own_BK = np.einsum('BHKK->BHK', weights_BHKK).mean(axis=1)
    return {str(x): float(own_BK[real_BK & (label_BK == x)].mean()) for x in np.unique(label_BK[real_BK])}


def project(x_NE: np.ndarray) -> tuple[np.ndarray, float]:
    """Unit vectors of features on their two principal axes, [N, 2], and the share of the variance that these hold."""
    x_NE = unit(x_NE)
    x_NE = x_NE - x_NE.mean(axis=0)
    _, deviation, axes = np.linalg.svd(x_NE, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][[0, 1], np.abs(axes[:2]).argmax(axis=1)])[:, None]  # else a sign is chance
    return x_NE @ axes.T, float(np.sum(deviation[:2] ** 2) / np.sum(deviation**2))


def scatter_ratio(x_NE: np.ndarray, pid_N: np.ndarray) -> float:
    """Scatter between identities over scatter within them, of unit vectors: sum n |m_p - m|^2 / sum |x - m_p|^2."""
    x_NE = unit(x_NE).astype(np.float64)
    _, code_N, count_P = np.unique(pid_N, return_inverse=True, return_counts=True)
    mean_PE = np.zeros((len(count_P), x_NE.shape[1]))
    np.add.at(mean_PE, code_N, x_NE)
    mean_PE /= count_P[:, None]
    between = np.sum(count_P[:, None] * (mean_PE - x_NE.mean(axis=0)) ** 2)
    return float(between / np.maximum(np.sum((x_NE - mean_PE[code_N]) ** 2), 1e-12))


def closeness(e: Embeddings) -> dict[str, float]:
    """Scatter ratios of images and of texts, and mean cosines of texts with their own image and with other people's."""
    image_GE, text_QE = unit(e.image_GE).astype(np.float64), unit(e.text_QE).astype(np.float64)
    row = {view: i for i, view in enumerate(e.image_view_G.tolist())}
    own_Q = np.array([row[view] for view in e.text_view_Q.tolist()])
    cosine_QG = text_QE @ image_GE.T
    other_QG = e.text_pid_Q[:, None] != e.image_pid_G
    return {
        'scatter_images': scatter_ratio(image_GE, e.image_pid_G),
        'scatter_texts': scatter_ratio(text_QE, e.text_pid_Q),
        'cosine_matching': float(cosine_QG[np.arange(len(own_Q)), own_Q].mean()),
        'cosine_others': float(cosine_QG[other_QG].mean()) if other_QG.any() else float('nan'),
    }


def only(e: Embeddings, pids) -> Embeddings:
    image, text = np.isin(e.image_pid_G, pids), np.isin(e.text_pid_Q, pids)
    return Embeddings(
        e.image_GE[image], e.text_QE[text], e.image_pid_G[image], e.text_pid_Q[text],
        e.image_view_G[image], e.text_view_Q[text],
    )  # fmt: skip
