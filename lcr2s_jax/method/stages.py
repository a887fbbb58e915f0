"""The paper in one file: what each stage trains, on what loss, and what stays frozen.

    baseline   L = align(v, t) + w_id ID(v, t)                                          a plain dual encoder
    teacher    L = base(v+, t+) + w_s base(v, t), base the baseline's loss                v+ = MHAF(v, its support set)
    student    L = base(v, t) + w_f (d(v, v+) + d(t, t+)) + w_r |R - R+|^2 / N      teacher frozen

v, t: image and text features of the encoders; align is SDM, InfoNCE or TAL; R, R+ the batch's image-by-text cosines.
The two stages, MHAF and both distillation terms are the paper's; the weights and reductions are ours.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lcr2s_jax.arrays import Batch, Embeddings, merge_rows, split_rows
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.method import losses
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.method.fusion import Fusion, drop_supports, support_mask
from lcr2s_jax.method.heads import IdentityHead
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.training.parallel import Axis


@dataclasses.dataclass(frozen=True)
class Stage:
    """What `fit` trains and `evaluate` embeds with.

    Attributes:
      name: of its folder and its lines in the log.
      encoder: what is trained, and serves queries.
      init: key -> parameters.
      loss: (params, frozen, batch, key, axis) -> (scalar over the global batch, metrics).
      fusion: of a teacher; None without one.
      frozen: parameters that the loss reads and never changes.
    """

    name: str
    encoder: DualEncoder
    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any, Batch, jax.Array, Axis], tuple[jax.Array, dict]]
    fusion: Fusion | None = None
    frozen: Any = None


def baseline_stage(
    clip: CLIP, clip_params, num_people: int, *, align: str, identity_weight: float, scale: float
) -> Stage:
    """The dual encoder alone: the honest comparison, and the pre-training of a CLIP.

    Args:
      clip, clip_params: the encoders and where they start.
      num_people: C, identities of the training split.
      align: 'sdm', 'infonce' or 'tal'.
      identity_weight: w_id; 0 leaves the classifier out.
      scale: inverse temperature of the alignment loss.
    """
    base = _base_loss(num_people, align, identity_weight, scale)

    def loss(params, frozen, batch, key, axis):
        del frozen, key
        return base(params, *_rows(clip, params, batch, axis))

    init = _init(clip, clip_params, num_people, identity_weight)
    return Stage('baseline', DualEncoder(clip), init, loss)


def teacher_stage(
    clip: CLIP,
    clip_params,
    num_people: int,
    *,
    align: str,
    identity_weight: float,
    scale: float,
    heads: int,
    shared_fusion: bool,
    single_weight: float,
    detach: bool,
    support_dropout: float,
    same_image_texts: bool,
) -> Stage:
    """The richer model: every image and text is fused with the others of its identity, and many meet many.

    Args:
      clip, clip_params, num_people, align, identity_weight, scale: as of `baseline_stage`.
      heads: of MHAF.
      shared_fusion: one MHAF for both modalities instead of one each.
      single_weight: w_s, weight of the loss of single views (ours): it keeps the encoders usable alone.
      detach: stop the gradient between encoders and fusion, so that the encoders have the baseline's loss and the
        fusion comes on top (ours): with all views at hand alignment becomes easy, and teaches encoders less.
      support_dropout: share of the supports hidden at random while training, 0..1 (ours).
      same_image_texts: whether a text's support may hold another caption of its own image. The paper draws it from the
        identity's other texts; by default we take those of its other images only. It changes what the teacher is
        trained on; targets and the oracle are fused with texts of other images in any case.
    """
    base = _base_loss(num_people, align, identity_weight, scale)
    if clip.embed_dim % heads:
        raise ConfigError(f'config.teacher.heads: found {heads}, expected a divisor of the embedding, {clip.embed_dim}')
    fusion = Fusion(heads, shared_fusion, clip.dtype)

    def init(key):
        params = _init(clip, clip_params, num_people, identity_weight)(key)
        return params | {'fusion': fusion.init(key, clip.embed_dim)}

    def loss(params, frozen, batch, key, axis):
        del frozen
        v_NE, t_NE = _encode(clip, params, batch)
        masks = [support_mask(batch.view_BK), support_mask(batch.caption_BK if same_image_texts else batch.view_BK)]
        if support_dropout:
            keys_B = jax.vmap(lambda slot: jax.random.fold_in(key, slot))(axis.slots(batch.view_BK.shape[0]))
            masks = [drop_supports(mask_BKK, keys_B, support_dropout) for mask_BKK in masks]
        v_BKE, t_BKE = (
            split_rows(jax.lax.stop_gradient(x) if detach else x, batch.view_BK.shape[1]) for x in (v_NE, t_NE)
        )
        rich_v_NE = axis.gather(merge_rows(fusion.enrich(params, 'image', v_BKE, batch.view_BK, masks[0])))
        rich_t_NE = axis.gather(merge_rows(fusion.enrich(params, 'text', t_BKE, batch.view_BK, masks[1])))
        pid_N = axis.gather(_pid_rows(batch))
        rich, rich_terms = base(params, rich_v_NE, rich_t_NE, pid_N)
        single, terms = base(params, axis.gather(v_NE), axis.gather(t_NE), pid_N)
        return rich + single_weight * single, terms | {f'rich_{name}': value for name, value in rich_terms.items()}

    return Stage('teacher', DualEncoder(clip), init, loss, fusion)


def student_stage(
    clip: CLIP,
    clip_params,
    num_people: int,
    teacher: Stage,
    teacher_params,
    cache: Embeddings | None,
    *,
    align: str,
    identity_weight: float,
    scale: float,
    feature_weight: float,
    relation_weight: float,
    relation: str,
    from_teacher: bool,
    cache_teacher: bool,
    redraw_supports: bool,
) -> Stage:
    """The light model that serves queries: it sees one image or one text, and is shown what the teacher made of many.

    Args:
      clip, clip_params, num_people, align, identity_weight, scale: as of `baseline_stage`.
      teacher, teacher_params: the trained richer model; frozen.
      cache: with `cache_teacher`, what the teacher makes of the training split, unaugmented; enriched already unless
        `redraw_supports`. None otherwise.
      feature_weight: w_f of the intra-modal term (paper), see `losses.feature_distillation`.
      relation_weight: w_r of the inter-modal term (paper), see `losses.relation_distillation`.
      relation: 'cosine' (the paper's Frobenius distance) or 'kl', see `losses.relation_kl`.
      from_teacher: start from the teacher's encoders instead of the pretrained ones (the paper: pretrained).
      cache_teacher: look the teacher's features up in `cache` instead of encoding every batch twice (ours): its towers
        cost nothing then, and see each view and caption whole.
      redraw_supports: support sets are those of the batch (paper: drawn at random); False: one draw for good.
    """
    base = _base_loss(num_people, align, identity_weight, scale)
    start = teacher_params['clip'] if from_teacher else clip_params
    if relation not in ('cosine', 'kl'):
        raise ConfigError(f"config.student.relation: found '{relation}', expected 'cosine' or 'kl'")
    if not (cache_teacher or redraw_supports):
        raise ConfigError(
            'config.student.redraw_supports: found False with cache_teacher=False, expected True there: without a '
            "cache the teacher sees the batch's supports"
        )

    def loss(params, frozen, batch, key, axis):
        del key
        v_NE, t_NE, pid_N = _rows(clip, params, batch, axis)
        labels, terms = base(params, v_NE, t_NE, pid_N)
        rich = jax.lax.stop_gradient(_targets(clip, teacher, frozen, batch, redraw_supports))
        rich_v_NE, rich_t_NE = (axis.gather(merge_rows(x_BKE)) for x_BKE in rich)
        feature = losses.feature_distillation(v_NE, rich_v_NE) + losses.feature_distillation(t_NE, rich_t_NE)
        if relation == 'cosine':
            related = losses.relation_distillation(v_NE, t_NE, rich_v_NE, rich_t_NE)
        else:
            related = losses.relation_kl(v_NE, t_NE, rich_v_NE, rich_t_NE, scale)
        total = labels + feature_weight * feature + relation_weight * related
        return total, terms | {'feature': feature, 'relation': related}

    frozen = {'fusion': teacher_params['fusion']} if redraw_supports else {}
    frozen |= {'image_GE': cache.image_GE, 'text_QE': cache.text_QE} if cache else {'clip': teacher_params['clip']}
    init = _init(clip, start, num_people, identity_weight)
    return Stage('student', DualEncoder(clip), init, loss, frozen=frozen)


def _encode(clip: CLIP, params, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """v_NE, t_NE of this device's rows; every image and every caption is encoded once."""
    encoder = DualEncoder(clip)

    def both(rows):
        return encoder.embed_image(params, rows[0]), encoder.embed_text(params, rows[1])

    return in_chunks(both, (merge_rows(batch.image_BKhwc), merge_rows(batch.tokens_BKL)), clip.chunks)


def in_chunks(encode: Callable, rows, chunks: int):
    """`encode(rows)` with the memory of rows / chunks: features are kept, all else is computed again for the gradient.

    The loss above sees the features of all rows at once, so that a large contrastive batch stays exact, as in GradCache
    (Gao et al., 2021, arXiv 2101.06983); time grows by about a third.

    Args:
      encode: tree of [n, ...] -> tree of [n, E], each row by itself.
      rows: tree of [N, ...].
      chunks: a divisor of N; 1 is the plain call.
    """
    if chunks == 1:
        return encode(rows)
    count = jax.tree.leaves(rows)[0].shape[0]
    if count % chunks:
        raise ConfigError(f'config.model.chunks: found {chunks}, expected a divisor of the {count} rows')
    # Every chunk takes rows from all over the batch, so that each device has its share of each chunk.
    parts = jax.tree.map(lambda x: x.reshape(count // chunks, chunks, *x.shape[1:]).swapaxes(0, 1), rows)
    found = jax.lax.map(jax.checkpoint(encode), parts)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(count, *x.shape[2:]), found)


def _pid_rows(batch: Batch) -> jax.Array:
    return jnp.repeat(batch.pid_B, batch.view_BK.shape[1])


def _rows(clip: CLIP, params, batch: Batch, axis: Axis):
    """v_NE, t_NE, pid_N of the global batch."""
    v_NE, t_NE = _encode(clip, params, batch)
    return axis.gather(v_NE), axis.gather(t_NE), axis.gather(_pid_rows(batch))


def _targets(clip: CLIP, teacher: Stage, frozen, batch: Batch, redraw: bool) -> tuple[jax.Array, jax.Array]:
    """The teacher's enriched features of this device's rows, image and text, [B, K, E] each."""
    if 'clip' in frozen:
        found = [split_rows(x_NE, batch.view_BK.shape[1]) for x_NE in _encode(clip, frozen, batch)]
    else:
        found = [frozen['image_GE'][batch.view_BK], frozen['text_QE'][batch.caption_BK]]
    if redraw:
        modalities = zip(('image', 'text'), found, strict=True)
        found = [teacher.fusion.enrich(frozen, modality, x_BKE, batch.view_BK) for modality, x_BKE in modalities]
    return found[0], found[1]


def _init(clip: CLIP, clip_params, num_people: int, identity_weight: float) -> Callable:
    def init(key):
        params = {'clip': clip_params}
        if identity_weight:
            params['head'] = IdentityHead(num_people).init(key, jnp.zeros((1, clip.embed_dim)))['params']
        return params

    return init


def _base_loss(num_people: int, align: str, identity_weight: float, scale: float) -> Callable:
    """align(v, t) + w_id ID(v, t), what every stage learns from labels; also returns its terms."""
    if align not in losses.ALIGNMENT:
        raise ConfigError(f"config.<stage>.align: found '{align}', expected one of {', '.join(losses.ALIGNMENT)}")
    head = IdentityHead(num_people)

    def base(params, v_NE, t_NE, pid_N):
        terms = {align: losses.ALIGNMENT[align](v_NE, t_NE, pid_N, scale)}
        if not identity_weight:
            return terms[align], terms
        logits = (head.apply({'params': params['head']}, x_NE) for x_NE in (v_NE, t_NE))
        terms['identity'] = losses.identity(*logits, pid_N)
        return terms[align] + identity_weight * terms['identity'], terms

    return base


class Entry(NamedTuple):
    """How a stage is made, and which stages of the run it learns from; a new stage is one more entry of `STAGES`."""

    make: Callable[..., Stage]
    needs: tuple[str, ...] = ()


STAGES: Mapping[str, Entry] = MappingProxyType(
    {
        'baseline': Entry(baseline_stage),
        'teacher': Entry(teacher_stage),
        'student': Entry(student_stage, needs=('teacher',)),
    }
)


def build(
    name: str,
    clip: CLIP,
    clip_params,
    num_people: int,
    before: Mapping[str, tuple[Stage, Any]],
    cache: Embeddings | None,
    options: Mapping,
) -> Stage:
    """Make a stage by its name.

    Args:
      name: of `STAGES`.
      clip, clip_params, num_people: as of `baseline_stage`.
      before: the stages trained earlier in the run, with their parameters.
      cache: what a taught stage looks up instead of encoding, see `student_stage`.
      options: of the stage, by name: its group in the config.
    """
    entry = STAGES[name]
    taught = [part for need in entry.needs for part in before[need]] + [cache] * bool(entry.needs)
    return entry.make(clip, clip_params, num_people, *taught, **options)
