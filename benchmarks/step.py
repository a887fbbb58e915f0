"""What a training step costs:  python -m benchmarks.step [--models demo vit-b16] [--rounds 7]

Step time of baseline, teacher and student at equal rows; of a teacher that encodes every support of every row again
(the naive many-to-many) and of a student whose teacher is cached. ViT-B/16 forward and backward beside torch's
CLIPModel.
Ratios are medians over the rounds of one run, in which the contestants take turns.
Needs neither TensorFlow nor ml_collections.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from lcr2s_jax import losses, optim, pretrained, stages, train
from lcr2s_jax.arrays import Batch, Embeddings
from lcr2s_jax.parallel import Parallel

PEOPLE = {'demo': 2000, 'vit-b16': 11_003}  # of the classifier: the demo's and CUHK-PEDES's
ROWS = {'demo': (16, 4), 'vit-b16': (4, 4)}  # identities x views
MODELS = {
    'demo': dict(architecture='demo', image_size=(96, 48), context_length=32, vocab_size=1001),
    'vit-b16': dict(architecture='ViT-B/16', image_size=(384, 128), context_length=77, vocab_size=49408),
}
BASE = dict(align='sdm', identity_weight=1.0, scale=50.0)
TEACHER = BASE | dict(
    heads=8, shared_fusion=False, single_weight=1.0, detach=True, support_dropout=0.0, same_image_texts=False
)
STUDENT = BASE | dict(
    feature_weight=1.0, relation_weight=1.0, relation='cosine', from_teacher=False, cache_teacher=False,
    redraw_supports=True,
)  # fmt: skip
OPTIM = dict(
    learning_rate=1e-5, warmup=0.1, warmup_start=0.1, b1=0.9, b2=0.999, eps=1e-8, clip_norm=1.0,
    rules=(('logit_scale', 0.0, 0.0), ('.*', 1.0, 4e-5)),
)  # fmt: skip


def main() -> None:
    """Time what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', default=list(MODELS), choices=list(MODELS))
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'])
    parser.add_argument('--no-torch', action='store_true')
    args = parser.parse_args()
    rows = []
    for model in args.models:
        clip, params = pretrained.load(
            **MODELS[model], pretrained='', resize='bicubic', dtype=args.dtype, remat=False, chunks=1
        )
        rows += stage_rows(model, clip, params, args.rounds)
        if model == 'vit-b16' and not args.no_torch:
            rows += torch_rows(clip, params, args.rounds)
    common.write('step', rows)


def stage_rows(model: str, clip, params, rounds: int) -> list[dict]:
    """Step time of every stage, update included, beside the baseline's."""
    batch = random_batch(clip, *ROWS[model])  # its places in a split are 0 .. rows - 1
    teacher = stages.teacher_stage(clip, params, PEOPLE[model], **TEACHER)
    taught = teacher.init(jax.random.key(0))
    common_ = (clip, params, PEOPLE[model], teacher, taught)
    contestants = {
        'baseline': stages.baseline_stage(clip, params, PEOPLE[model], **BASE),
        'teacher': teacher,
        'naive teacher': naive(teacher),
        'student': stages.student_stage(*common_, None, **STUDENT),
        'cached student': stages.student_stage(*common_, features(clip, batch), **STUDENT | {'cache_teacher': True}),
    }
    seconds = common.interleaved({name: stepper(stage, batch) for name, stage in contestants.items()}, rounds)
    return [
        {
            'model': model,
            'what': f'{name} step',
            'rows': batch.rows,
            'seconds': float(np.median(values)),
            'pairs_per_s': batch.rows / float(np.median(values)),
            'ratio': common.ratio(seconds, name, 'baseline'),
            'to': 'baseline step',
        }
        for name, values in seconds.items()
    ]


def features(clip, batch: Batch) -> Embeddings:
    """What a cache of a teacher's features would hold for a split that is this batch."""
    rows_NE = np.random.default_rng(0).normal(size=(batch.rows, clip.embed_dim)).astype(np.float32)
    return Embeddings(rows_NE, rows_NE, None, None, None, None)


def naive(teacher: stages.Stage) -> stages.Stage:
    """The teacher that does not share: every view brings its own copy of its support set, and all are encoded.

    The loss is that of the whole larger batch, which costs next to nothing beside the towers.
    """

    def loss(params, frozen, batch, key, axis):
        views = batch.view_BK.shape[1]

        def copies(x):  # [B, K, ...] -> [B*K, K, ...]: one identity's views for each of its views
            return jnp.repeat(x, views, axis=0)

        return teacher.loss(params, frozen, Batch(*map(copies, batch)), key, axis)

    return dataclasses.replace(teacher, name='naive teacher', loss=loss)


def stepper(stage, batch):
    """() -> None: one whole step, waited for."""
    parallel, tx = Parallel('jit', 0, fsdp=False), optim.adam(steps=1000, **OPTIM)
    held = [train.initial_state(stage, tx, parallel, seed=0)]
    frozen, batch = parallel.put_state(stage.frozen), parallel.put(batch)
    step = parallel.compile(
        lambda state, frozen, batch, axis: train.train_step(state, frozen, batch, axis, loss=stage.loss, tx=tx, seed=0)
    )

    def call():
        held[0], metrics = step(held[0], frozen, batch)
        jax.block_until_ready((held[0], metrics))

    return call


def torch_rows(clip, params, rounds: int) -> list[dict]:
    """Forward and backward of one contrastive loss: ours and torch's CLIP, same sizes, same batch."""
    import os

    import torch

    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    batch = random_batch(clip, *ROWS['vit-b16'])
    image = batch.image_BKhwc.reshape(-1, *clip.image_size, 3)
    tokens = batch.tokens_BKL.reshape(-1, clip.context_length)
    pid = np.arange(len(image))

    def loss(params, image, tokens):
        v_NE, t_NE = clip.apply({'params': params}, image, tokens)
        return losses.infonce(v_NE, t_NE, pid, 50.0)

    grad = jax.jit(jax.value_and_grad(loss))
    arrays = jax.device_put((params, jnp.asarray(image), jnp.asarray(tokens)))
    theirs = torch_clip(clip)
    pixels = torch.from_numpy(np.array(normalise(image).transpose(0, 3, 1, 2)))
    ids = torch.from_numpy(np.array(tokens)).long()
    labels = torch.arange(len(image))

    def torch_call():
        theirs.zero_grad(set_to_none=True)
        out = theirs(input_ids=ids, pixel_values=pixels, interpolate_pos_encoding=True)
        logits = 50.0 * out.image_embeds @ out.text_embeds.T
        cross_entropy = torch.nn.functional.cross_entropy
        ((cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2).backward()

    ours = 'lcr2s_jax CLIP'
    seconds = common.interleaved(
        {ours: lambda: jax.block_until_ready(grad(*arrays)), 'torch CLIPModel': torch_call}, rounds
    )
    return [
        {
            'model': 'vit-b16',
            'what': f'{name} forward+backward, {threads} threads',
            'rows': len(image),
            'seconds': float(np.median(values)),
            'pairs_per_s': len(image) / float(np.median(values)),
            'ratio': common.ratio(seconds, name, 'torch CLIPModel'),
            'to': 'torch CLIPModel',
        }
        for name, values in seconds.items()
    ]


def torch_clip(clip):
    """transformers' CLIPModel of the same sizes, random weights, scaled-dot-product attention."""
    import transformers

    height, _ = clip.image_size
    text = dict(
        hidden_size=clip.text_width, intermediate_size=4 * clip.text_width, num_hidden_layers=clip.text_layers,
        num_attention_heads=clip.text_heads, max_position_embeddings=clip.context_length, vocab_size=clip.vocab_size,
        eos_token_id=clip.vocab_size - 1,
    )  # fmt: skip
    vision = dict(
        hidden_size=clip.vision_width, intermediate_size=4 * clip.vision_width, num_hidden_layers=clip.vision_layers,
        num_attention_heads=clip.vision_heads, image_size=height, patch_size=clip.patch_size,
    )  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=clip.embed_dim)
    return transformers.CLIPModel._from_config(config, attn_implementation='sdpa').train()


def random_batch(clip, identities: int, views: int) -> Batch:
    """Random pixels and captions of 20 tokens."""
    rng = np.random.default_rng(0)
    shape = (identities, views)
    tokens = np.zeros((*shape, clip.context_length), np.int32)
    tokens[..., :20] = rng.integers(1, clip.vocab_size - 1, (*shape, 20))
    tokens[..., 20] = clip.vocab_size - 1
    image = rng.integers(0, 256, (*shape, *clip.image_size, 3)).astype(np.uint8)
    return Batch(
        image,
        tokens,
        np.arange(identities, dtype=np.int32),
        *2 * [np.arange(identities * views, dtype=np.int32).reshape(shape)],
    )


def normalise(image: np.ndarray) -> np.ndarray:
    """CLIP's normalisation in NumPy, for torch."""
    from lcr2s_jax.models import clip

    return ((image / 255.0 - clip.PIXEL_MEAN) / clip.PIXEL_STD).astype(np.float32)


if __name__ == '__main__':
    main()
