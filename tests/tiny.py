"""The smallest model and batches that still have every part: what the tests train."""

import jax
import numpy as np

from lcr2s_jax.arrays import Batch
from lcr2s_jax.method import stages
from lcr2s_jax.models.clip import CLIP

PEOPLE, LENGTH, VOCAB = 12, 10, 50
TEACHER = dict(
    align='sdm', identity_weight=1.0, scale=20.0, heads=2,
    shared_fusion=False, single_weight=1.0, detach=True, support_dropout=0.0, wrong_supports=0.0,
    same_image_texts=False,
)  # fmt: skip
STUDENT = dict(
    align='sdm', identity_weight=1.0, scale=20.0, feature_weight=1.0, relation_weight=1.0, relation='cosine',
    from_teacher=False, cache_teacher=False, support_views=0, target='fusion', target_share=1.0,
    gate=0.0, fade='', fade_steps=0,
)  # fmt: skip
BASELINE = dict(align='sdm', identity_weight=1.0, scale=20.0, image_weight=0.0)


def clip(**changes) -> CLIP:
    """A CLIP of one block a tower."""
    return CLIP(
        **dict(
            image_size=(16, 8), patch_size=4, vision_width=16, vision_layers=1, vision_heads=2,
            text_width=16, text_layers=1, text_heads=2, context_length=LENGTH, vocab_size=VOCAB, embed_dim=8,
        )
        | changes
    )  # fmt: skip


def clip_params(model: CLIP, seed: int = 0):
    """Random parameters of a CLIP, drawn by NumPy: compiling the initialisers takes longer than most tests."""
    rng = np.random.default_rng(seed)
    image, tokens = np.zeros((1, *model.image_size, 3), np.uint8), np.zeros((1, model.context_length), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image, tokens)['params']
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)


def batch(seed: int = 0, identities: int = 8, views: int = 3, repeats: bool = True) -> Batch:
    """Random pixels and captions; with `repeats` the first identity shows one image twice."""
    rng = np.random.default_rng(seed)
    shape = (identities, views)
    tokens = rng.integers(1, VOCAB - 1, (*shape, LENGTH)).astype(np.int32)
    tokens[..., LENGTH // 2] = VOCAB - 1
    tokens[..., LENGTH // 2 + 1 :] = 0
    view = np.arange(identities * views, dtype=np.int32).reshape(shape)
    colour = rng.integers(20, 236, (identities, 1, 1, 1, 3))
    image = (colour + rng.integers(-20, 20, (*shape, 16, 8, 3))).astype(np.uint8)
    pid = rng.choice(PEOPLE, identities, replace=False).astype(np.int32)
    tokens[..., 0] = 1 + pid[:, None]  # a word that tells who it is, as the colour of the picture does
    if repeats:
        view[0, -1], image[0, -1] = view[0, 0], image[0, 0]
    return Batch(image, tokens, pid, view, np.arange(view.size, dtype=np.int32).reshape(shape))


def stage(name: str, model: CLIP | None = None, cache=None, **changes) -> stages.Stage:
    """A stage by name, with its frozen teacher made if it needs one."""
    model = model or clip()
    params = clip_params(model)
    if name == 'baseline':
        return stages.baseline_stage(model, params, PEOPLE, **BASELINE | changes)
    teacher = stages.teacher_stage(model, params, PEOPLE, **TEACHER | (changes if name == 'teacher' else {}))
    if name == 'teacher':
        return teacher
    taught = jax.tree.map(
        lambda x: x + 0.05, teacher.init(jax.random.key(7))
    )  # zero-initialised fusion would do nothing
    return stages.student_stage(model, params, PEOPLE, teacher, taught, cache, **STUDENT | changes)
