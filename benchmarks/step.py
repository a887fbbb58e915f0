"""What a training step costs:  python -m benchmarks.step [--models demo vit-b16] [--groups stages how embed ...]

Groups, each with a plain contestant that the others are divided by:
  stages   teacher, student, and the student with a cached teacher
  naive    many-to-many by a teacher that encodes every support of every row again
  how      ways to compute the same: pmap, scan, remat, attention by jax.nn.dot_product_attention, cuDNN on a GPU
  embed    a gallery embedded as evaluation does it, beside the bare forward pass on rows that the device has
  query    one caption embedded by the baseline, by the student and by the teacher's single view
  torch    ViT-B/16 beside torch's CLIPModel at its best: SDPA, fused Adam, bfloat16 autocast, torch.compile, the same
           InfoNCE step on the same device
Ratios are medians over the rounds of one run, in which the contestants take turns. Utilisation is what the step must
compute (benchmarks/flops.py) over the measured peak of a matrix product. Needs neither TensorFlow nor ml_collections.
What a GPU should be asked is benchmarks.device.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common, flops
from benchmarks.batches import features, random_batch
from lcr2s_jax.arrays import Batch
from lcr2s_jax.evaluation import evaluate
from lcr2s_jax.method import stages
from lcr2s_jax.training import optim, train
from lcr2s_jax.training.parallel import Parallel
from lcr2s_jax.weights import pretrained

VIEWS = 4
PEOPLE = {'demo': 2000, 'vit-b16': 11_003}  # of the classifier: the demo's and CUHK-PEDES's
ROWS = {'demo': 64, 'vit-b16': 8}  # of a batch, where none are asked for
MODELS = {
    'demo': dict(architecture='demo', image_size=(96, 48), context_length=32, vocab_size=1001),
    'vit-b16': dict(architecture='ViT-B/16', image_size=(384, 128), context_length=77, vocab_size=49408),
}
_LABELS = dict(align='sdm', identity_weight=1.0, scale=50.0)
BASE = _LABELS | dict(image_weight=0.0)
TEACHER = _LABELS | dict(
    heads=8, shared_fusion=False, single_weight=1.0, detach=True, support_dropout=0.0, wrong_supports=0.0,
    same_image_texts=False,
)  # fmt: skip
STUDENT = _LABELS | dict(
    feature_weight=1.0, relation_weight=1.0, relation='cosine', from_teacher=False, cache_teacher=False,
    support_views=0, target='fusion', target_share=1.0, gate=0.0, fade='', fade_steps=0,
)  # fmt: skip
OPTIM = dict(
    learning_rate=1e-5, warmup=0.1, warmup_start=0.1, b1=0.9, b2=0.999, eps=1e-8, clip_norm=1.0,
    rules=(('logit_scale', 0.0, 0.0), ('.*', 1.0, 4e-5)),
)  # fmt: skip
BASELINE = 'baseline'
QUERIES = 20  # one after the other: a single one is over too soon to be timed


def main() -> None:
    """Time what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', default=list(MODELS), choices=list(MODELS), help='sizes of the model')
    parser.add_argument('--groups', nargs='+', default=list(GROUPS), choices=list(GROUPS), help='steps to compare')
    parser.add_argument('--rows', nargs='+', type=int, default=[], help='of a batch; multiples of 4')
    parser.add_argument(
        '--dtypes', nargs='+', default=['float32'], choices=['float32', 'bfloat16'], help='compute types'
    )
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--alone', action='store_true', help='be the process of one group, and print its rows')
    args = parser.parse_args()
    asked = [
        (model, dtype, count, group)
        for model in args.models
        for dtype in args.dtypes
        for count in args.rows or [ROWS[model]]
        for group in args.groups
        if group != 'torch' or model == 'vit-b16'
    ]
    if args.alone:
        print(json.dumps(group_rows(*asked[0], args.rounds)))
        return
    # a process each: what one leaves in memory is no matter to the next; and JAX leaves torch its share
    found, environment = [], os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
    for model, dtype, count, group in asked:
        chosen = f'--models {model} --dtypes {dtype} --rows {count} --groups {group} --rounds {args.rounds} --alone'
        command = [sys.executable, '-m', 'benchmarks.step', *chosen.split()]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            rows = [{'model': model, 'dtype': dtype, 'rows': count, 'group': group, 'failed': done.returncode}]
        else:
            rows = json.loads(done.stdout.splitlines()[-1])
        print(*rows, sep='\n', flush=True)
        found += rows
        common.save('step', found)  # after every group: a GPU is asked dozens, and its time may end
    common.write('step', found)


def group_rows(model: str, dtype: str, count: int, group: str, rounds: int) -> list[dict]:
    """One group, measured; beside every row the peak that its utilisation is of."""
    peak = flops.matrix_peak(dtype)
    clip, params = load(model, dtype)
    contestants = GROUPS[group](model, clip, params, random_batch(clip, count // VIEWS, VIEWS))
    operations = OPERATIONS.get(group, flops.train_pair)(clip)
    about = {'model': model, 'dtype': dtype, 'rows': count, 'group': group}
    rows = measured(contestants, rounds, QUERIES if group == 'query' else count, operations / peak)
    return [about | row | {'peak_gflops': peak / 1e9} for row in rows]


def measured(contestants: dict, rounds: int, rows: int, pair_seconds: float) -> list[dict]:
    """A row a contestant. Each is a function that makes () -> None, one whole step, waited for."""
    calls, failed = {}, {}
    for name, make in contestants.items():
        try:
            call = make()
            call()
            calls[name] = call
        except (RuntimeError, MemoryError) as error:  # too large, or no compiler for torch: told, not hidden
            failed[name] = {'what': name, 'failed': str(error).splitlines()[0][:100]}
    seconds = common.interleaved(calls, rounds)
    return [
        {
            'what': name,
            'seconds': float(np.median(values)),
            'pairs_per_s': rows / float(np.median(values)),
            'ratio': common.ratio(seconds, name, next(iter(seconds))),
            'to': next(iter(seconds)),
            'utilisation': rows * pair_seconds / float(np.median(values)),
        }
        for name, values in seconds.items()
    ] + list(failed.values())


def load(model: str, dtype: str, **changes):
    """A CLIP with random weights, and the weights; `changes` are arguments of `pretrained.load`."""
    plain = dict(pretrained='', resize='bicubic', dtype=dtype, kernel='einsum', remat=False, scan=False, chunks=1)
    return pretrained.load(**MODELS[model] | plain | changes)


def stage_steps(model: str, clip, params, batch: Batch) -> dict:
    """Every stage of the method; the batch's places in a split are 0 .. rows - 1."""
    common_ = (clip, params, PEOPLE[model])
    teacher = stages.teacher_stage(*common_, **TEACHER)
    taught = teacher.init(jax.random.key(0))
    cached = STUDENT | {'cache_teacher': True}
    contestants = {
        BASELINE: stages.baseline_stage(*common_, **BASE),
        'teacher': teacher,
        'student': stages.student_stage(*common_, teacher, taught, None, **STUDENT),
        'student, teacher cached': stages.student_stage(*common_, teacher, taught, features(clip, batch), **cached),
    }
    return {name: lambda stage=stage: stepper(stage, batch) for name, stage in contestants.items()}


def naive_step(model: str, clip, params, batch: Batch) -> dict:
    """The teacher that does not share what it encodes."""
    common_ = (clip, params, PEOPLE[model])
    plain, shared = stages.baseline_stage(*common_, **BASE), stages.teacher_stage(*common_, **TEACHER)
    return {BASELINE: lambda: stepper(plain, batch), 'teacher, naive': lambda: stepper(naive(shared), batch)}


def ways(model: str, clip, params, batch: Batch) -> dict:
    """The baseline's step, computed otherwise."""
    changes: dict = {'scan': {'scan': True}, 'remat': {'remat': True}, "kernel='xla'": {'kernel': 'xla'}}
    if jax.default_backend() == 'gpu' and clip.dtype == 'bfloat16':
        changes["kernel='cudnn'"] = {'kernel': 'cudnn'}
    common_ = (params, PEOPLE[model])
    plain = stages.baseline_stage(clip, *common_, **BASE)
    steps = {
        BASELINE: lambda: stepper(plain, batch),
        'pmap': lambda: stepper(plain, batch, driver='pmap'),
    }
    for name, change in changes.items():
        stage = stages.baseline_stage(clip.copy(**change), *common_, **BASE)
        steps[name] = lambda stage=stage: stepper(stage, batch)
    return steps


def embedding(model: str, clip, params, batch: Batch) -> dict:
    """The batch's images and captions as a gallery and queries that come from the host, in four parts."""
    parallel, stage = Parallel('jit', 0, fsdp=False), stages.baseline_stage(clip, params, PEOPLE[model], **BASE)
    held, rows = parallel.put_state({'clip': params}), np.zeros(batch.rows, np.int32)
    split = SimpleNamespace(image_pid=rows, caption_pid=rows, caption_image=rows)
    parts = [np.split(x.reshape(-1, *x.shape[2:]), VIEWS) for x in (batch.image_BKhwc, batch.tokens_BKL)]  # image, text

    def forward():
        encode = [parallel.compile_forward(encode) for encode in (stage.encoder.embed_image, stage.encoder.embed_text)]
        placed = [[parallel.put(x) for x in modality] for modality in parts]
        return lambda: jax.block_until_ready(
            [run(held, x) for run, modality in zip(encode, placed, strict=True) for x in modality]
        )

    def embedder():
        embed = evaluate.Embedder(stage.encoder, parallel)
        return lambda: embed(held, split, *parts)

    return {'forward pass alone': forward, 'evaluate.Embedder, rows from the host': embedder}


def querying(model: str, clip, params, batch: Batch) -> dict:
    """One caption, by the model that answers it: a student has the baseline's program, and has to have its price."""
    common_, token_1L = (clip, params, PEOPLE[model]), jnp.asarray(batch.tokens_BKL[0, :1])
    teacher = stages.teacher_stage(*common_, **TEACHER)
    contestants = {
        BASELINE: stages.baseline_stage(*common_, **BASE),
        'student': stages.student_stage(*common_, teacher, teacher.init(jax.random.key(0)), None, **STUDENT),
        'teacher, single view': teacher,
    }

    def ask(stage):
        embed, held = jax.jit(stage.encoder.embed_text), jax.device_put({'clip': params})
        return lambda: [jax.block_until_ready(embed(held, token_1L)) for _ in range(QUERIES)]

    return {f'{name}, {QUERIES} times': lambda stage=stage: ask(stage) for name, stage in contestants.items()}


def beside_torch(model: str, clip, params, batch: Batch) -> dict:
    """InfoNCE and Adam: ours and torch's."""
    from benchmarks import torch_step

    stage = stages.baseline_stage(clip, params, 1, align='infonce', identity_weight=0.0, scale=50.0, image_weight=0.0)
    return {BASELINE: lambda: stepper(stage, batch)} | {
        f'torch CLIPModel{", compiled" * compiled}': lambda compiled=compiled: torch_step.stepper(
            clip, batch, OPTIM, compiled
        )
        for compiled in (False, True)
    }


GROUPS = {
    'stages': stage_steps,
    'naive': naive_step,
    'how': ways,
    'embed': embedding,
    'query': querying,
    'torch': beside_torch,
}
OPERATIONS = {'embed': flops.embed_pair, 'query': flops.embed_text}


def naive(teacher: stages.Stage) -> stages.Stage:
    """The teacher that does not share: every view brings its own copy of its support set, and all are encoded.

    The loss is that of the whole larger batch, which costs next to nothing beside the towers.
    """

    def loss(params, frozen, batch, key, axis, step=0):
        views = batch.view_BK.shape[1]

        def copies(x):  # [B, K, ...] -> [B*K, K, ...]: one identity's views for each of its views
            return jnp.repeat(x, views, axis=0)

        return teacher.loss(params, frozen, Batch(*map(copies, batch)), key, axis, step)

    return dataclasses.replace(teacher, name='naive teacher', loss=loss)


def jitted(stage, tx, parallel: Parallel):
    """(state, frozen, batch) -> (state, metrics): a whole step, update included, to be compiled."""
    return parallel.compile(
        lambda state, frozen, batch, axis: train.train_step(state, frozen, batch, axis, loss=stage.loss, tx=tx, seed=0)
    )


def program(stage, batch: Batch, parallel: Parallel):
    """A whole step and what it takes: state, frozen and batch."""
    tx = optim.adam(steps=1000, **OPTIM)
    state = train.initial_state(stage, tx, parallel, seed=0)
    return jitted(stage, tx, parallel), state, parallel.put_state(stage.frozen), parallel.put(batch)


def stepper(stage, batch: Batch, driver: str = 'jit'):
    """() -> None: one whole step, waited for."""
    return caller(*program(stage, batch, Parallel(driver, 0, fsdp=False)))


def caller(step, state, frozen, batch):
    """() -> None: the step from the state that the last one left, waited for."""
    held = [state]

    def call():
        held[0], metrics = step(held[0], frozen, batch)
        jax.block_until_ready((held[0], metrics))

    return call


if __name__ == '__main__':
    main()
