"""The training stages: what each stage trains, with which loss, and what stays frozen.

    baseline   L = align(v, t) + w_id ID(v, t)                                          a plain dual encoder
    teacher    L = base(v+, t+) + w_s base(v, t), base the baseline's loss                v+ = MHAF(v, its support set)
    student    L = base(v, t) + w_f (d(v, v+) + d(t, t+)) + w_r |R - R+|^2 / N      teacher frozen
    fold_i     the baseline on all identities but those of fold i, in one-to-one batches    ours
    crossed    the student's loss, v+ and t+ the single views of a fold's baseline not trained on the person    ours
    member_i   the baseline with its own batch order, one-to-one batches if i is even    ours
    ensemble   the student's loss, v+ and t+ the mean single views of all members    ours

v, t: image and text features of the encoders; align is SDM, InfoNCE or TAL; R, R+ the batch's image-by-text cosines.
The two stages, MHAF and both distillation terms are from the paper; the weights and reductions are ours.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from lcr2s_jax.arrays import Batch, Embeddings, merge_rows, split_rows
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.method import losses, parts, targets
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.method.fusion import Fusion
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.training.parallel import Axis


@dataclasses.dataclass(frozen=True)
class Stage:
    """What `fit` trains and `evaluate` embeds with."""

    name: str  # of its folder and its lines in the log
    encoder: DualEncoder  # what is trained, and serves queries
    init: Callable[[jax.Array], Any]  # key -> parameters
    # (params, frozen, batch, key, axis, step) -> (scalar over the global batch, metrics)
    loss: Callable[[Any, Any, Batch, jax.Array, Axis, jax.Array], tuple[jax.Array, dict]]
    fusion: Fusion | None = None  # of a teacher; None without one
    frozen: Any = None  # parameters that the loss reads and never changes


def baseline_stage(
    clip: CLIP,
    clip_params,
    num_people: int,
    *,
    align: str,
    identity_weight: float,
    scale: float,
    image_weight: float,
    others_weight: float = 0.0,
) -> Stage:
    """The dual encoder alone: what others are compared with, and the pre-training of a CLIP.

    Args:
      clip, clip_params: the encoders and where they start.
      num_people: C, identities of the training split.
      align: 'sdm', 'infonce' or 'tal'.
      identity_weight: w_id; 0 leaves the classifier out.
      scale: inverse temperature of the alignment loss.
      image_weight: of `losses.same_person` (ours): images of one identity attract, so that a gallery's neighbours are
        right. One-to-one batches have next to no such pair.
      others_weight: of the same loss with each view replaced by the mean of the *other* views of its identity in the
        batch, images and texts in turn: richer sets without a teacher (ours, tried in docs/evidence.md).
    """
    base = parts.label_loss(num_people, align, identity_weight, scale)

    def loss(params, frozen, batch, key, axis, step=0):
        del frozen, key, step
        v_NE, t_NE, pid_N = parts.global_rows(clip, params, batch, axis)
        total, terms = base(params, v_NE, t_NE, pid_N)
        if image_weight:
            terms['image'] = losses.same_person(v_NE, pid_N, axis.gather(merge_rows(batch.view_BK)), scale)
            total += image_weight * terms['image']
        if not others_weight:
            return total, terms
        view_BK, views = axis.gather(batch.view_BK), batch.view_BK.shape[1]
        others = [merge_rows(targets.richer('others', None, '', split_rows(x, views), view_BK)) for x in (v_NE, t_NE)]
        apart = (base(params, others[0], t_NE, pid_N)[0] + base(params, v_NE, others[1], pid_N)[0]) / 2
        return total + others_weight * apart, terms | {'others': apart}

    init = parts.start_from(clip, clip_params, num_people, identity_weight)
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
    wrong_supports: float,
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
      wrong_supports: share of them replaced by views of another identity while training, 0..1 (ours): neighbours in a
        gallery are often wrong, and a fusion may learn to ignore those.
      same_image_texts: whether a text's support may hold another caption of its own image. The paper draws it from the
        identity's other texts; by default we take those of its other images only. It changes what the teacher is
        trained on; targets and the oracle are fused with texts of other images in any case.
    """
    base = parts.label_loss(num_people, align, identity_weight, scale)
    if clip.embed_dim % heads:
        raise ConfigError(f'config.teacher.heads: found {heads}, expected a divisor of the embedding, {clip.embed_dim}')
    fusion = Fusion(heads, shared_fusion, clip.dtype)

    def init(key):
        params = parts.start_from(clip, clip_params, num_people, identity_weight)(key)
        return params | {'fusion': fusion.init(key, clip.embed_dim)}

    def loss(params, frozen, batch, key, axis, step=0):
        del frozen, step
        v_NE, t_NE = parts.encode_rows(clip, params, batch)
        masks = parts.support_masks(batch, key, axis, support_dropout, same_image_texts)
        supported = jax.lax.stop_gradient((v_NE, t_NE)) if detach else (v_NE, t_NE)
        sets = zip(('image', 'text'), supported, masks, strict=True)
        rich = [axis.gather(parts.fused(fusion, params, *one, batch, key, axis, wrong_supports)) for one in sets]
        pid_N = axis.gather(parts.pid_rows(batch))
        rich, rich_terms = base(params, *rich, pid_N)
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
    support_views: int,
    target: str,
    target_share: float,
    gate: float,
    fade: str,
    fade_steps: int,
) -> Stage:
    """The light model that serves queries: it sees one image or one text, and is shown what the teacher made of many.

    Args:
      clip, clip_params, num_people, align, identity_weight, scale: as of `baseline_stage`.
      teacher, teacher_params: the trained richer model; frozen.
      cache: with `cache_teacher`, the teacher's single views of the training split, unaugmented. None otherwise.
      feature_weight: w_f of the intra-modal term (paper), see `losses.feature_distillation`.
      relation_weight: w_r of the inter-modal term (paper), see `losses.relation_distillation`.
      relation: 'cosine' (the paper's Frobenius distance) or 'kl', see `losses.relation_kl`.
      from_teacher: start from the teacher's encoders instead of the pretrained ones (the paper: pretrained).
      cache_teacher: look the teacher's features up in `cache` instead of encoding every batch twice (ours): its towers
        cost nothing then, and see each view and caption whole.
      support_views: 0: support sets are those of the batch, whose sampler must bring them. K: with `cache_teacher`,
        K - 1 others are drawn anew in every step from all of the split (paper: at random), for any sampler.
      target: what is richer, see `targets.richer`: 'fusion' (paper), 'mean' or 'others'.
      target_share: 1 for that (paper), 0 for the teacher's own single view (SELF), or between, see `targets.mixed`.
      gate: 0, or a power of the cosine of own and richer view by which that share shrinks, see `targets.mixed` (ours).
      fade, fade_steps: '', or 'out' and 'in': both weights fall to 0, or rise from it, over so many steps (ours).
    """
    base = parts.label_loss(num_people, align, identity_weight, scale)
    fused = target == 'fusion' and target_share
    parts.check_student(relation, target, support_views, cache_teacher, gate, fade, fade_steps)
    parts.check_teacher(teacher.fusion is not None or not fused, clip.embed_dim, cache, feature_weight)

    def loss(params, frozen, batch, key, axis, step=0):
        v_NE, t_NE, pid_N = parts.global_rows(clip, params, batch, axis)
        labels, terms = base(params, v_NE, t_NE, pid_N)
        own = parts.single_views(teacher.encoder.clip, frozen, batch)
        rich, keys_N = own, parts.row_keys(batch, key, axis)
        if target_share:
            rich = parts.richer_rows(teacher.fusion, target, support_views, frozen, batch, own, keys_N)
        told = [targets.mixed(o_NE, r_NE, target_share, gate) for o_NE, r_NE in zip(own, rich, strict=True)]
        rich_v_NE, rich_t_NE = (axis.gather(x_NE) for x_NE in jax.lax.stop_gradient(told))
        feature = 0.0
        if rich_v_NE.shape == v_NE.shape:  # of several teachers, relations alone are told
            feature = losses.feature_distillation(v_NE, rich_v_NE) + losses.feature_distillation(t_NE, rich_t_NE)
        if relation == 'cosine':
            related = losses.relation_distillation(v_NE, t_NE, rich_v_NE, rich_t_NE)
        else:
            related = losses.relation_kl(v_NE, t_NE, rich_v_NE, rich_t_NE, scale)
        distilled = feature_weight * feature + relation_weight * related
        total = labels + (targets.faded(fade, fade_steps, step) * distilled if fade else distilled)
        return total, terms | {'feature': feature, 'relation': related}

    frozen = {'fusion': teacher_params['fusion']} if fused else {}
    frozen |= {'image_GE': cache.image_GE, 'text_QE': cache.text_QE} if cache else {'clip': teacher_params['clip']}
    if support_views and cache:  # without one the stage is only looked at in shapes
        frozen['members'] = targets.members(cache.image_pid_G, cache.text_view_Q)
    init = parts.start_from(clip, teacher_params['clip'] if from_teacher else clip_params, num_people, identity_weight)
    return Stage('student', DualEncoder(clip), init, loss, frozen=frozen)


def taught_stage(clip: CLIP, clip_params, num_people: int, *taught, **options) -> Stage:
    """A student of several baselines: each tells of people whom it never saw, or all of everybody (ours, evidence.md).

    Args:
      clip, clip_params, num_people: as of `baseline_stage`.
      taught: stage and parameters of every baseline, and last what `targets` makes of theirs: `mean_features`,
        or `mean_relation`, whose features are wider and tell relations alone.
      options: align, identity_weight, scale, feature_weight, relation_weight as of `student_stage`.
    """
    own = dict(relation='cosine', from_teacher=False, cache_teacher=True, support_views=0, target='mean')
    plain = dict(target_share=0.0, gate=0.0, fade='', fade_steps=0)
    return student_stage(clip, clip_params, num_people, *taught[:2], taught[-1], **own, **plain, **options)


class Entry(NamedTuple):
    """How a stage is made, and which stages of the run it learns from; a new stage is one more entry of `STAGES`.

    `kind`, `number`: a run has several of it: a 'fold', trained without its people, or a 'member' of an ensemble.
    `of`: it learns from all of that kind. `options`: the group of its options in the config, '' for that of its name.
    """

    make: Callable[..., Stage]
    needs: tuple[str, ...] = ()
    of: str = ''
    kind: str = ''
    number: int = 0
    options: str = ''


_SEVERAL = [(kind, i) for kind in ('fold', 'member') for i in range(8)]
STAGES: Mapping[str, Entry] = MappingProxyType(
    {
        'baseline': Entry(baseline_stage),
        'teacher': Entry(teacher_stage),
        'student': Entry(student_stage, needs=('teacher',)),
        **{f'{kind}_{i}': Entry(baseline_stage, kind=kind, number=i, options='baseline') for kind, i in _SEVERAL},
        'crossed': Entry(taught_stage, needs=('fold_0', 'fold_1'), of='fold'),
        'ensemble': Entry(taught_stage, needs=('member_0', 'member_1'), of='member'),
    }
)


def needs(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """The stages that a stage learns from, in a run of the stages `names`."""
    entry = STAGES[name]
    return tuple(dict.fromkeys((*entry.needs, *(several(entry.of, names) if entry.of else ()))))


def several(kind: str, names: Sequence[str]) -> list[str]:
    """Those of the stages `names` that are of a kind, in the order of their numbers."""
    return sorted((name for name in names if STAGES[name].kind == kind), key=lambda name: STAGES[name].number)


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
    needed = needs(name, tuple(before))
    taught = [part for need in needed for part in before[need]] + [cache] * bool(needed)
    made = STAGES[name].make(clip, clip_params, num_people, *taught, **options)
    return dataclasses.replace(made, name=name)
