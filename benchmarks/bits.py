"""Weights of a search encoder in fewer bits:  python -m benchmarks.bits [--model=synthetic-pedestrians] [--people=250]

A model's matrices rounded to bfloat16, or to int8 with a scale for each output: cosine of every embedding with that of
float32, R@1 of captions on synthetic pedestrians drawn for it, bytes of the weights. Then what one caption takes by
ViT-B/16's text tower with weights held, and products computed, in either type, in turns; random weights do for that.
"""

import argparse
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

import lcr2s_jax
from benchmarks import batches, common, device_tools
from data.demo import synthetic
from lcr2s_jax.evaluation import metrics
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.model import TOWERS, Model


def bfloat16(x: np.ndarray) -> tuple[np.ndarray, int]:
    """The nearest bfloat16, and its bytes."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float32), 2 * x.size


def int8(x: np.ndarray) -> tuple[np.ndarray, int]:
    """255 levels, symmetric about 0, for each output of a matrix; a vector stays as it is."""
    if x.ndim < 2:
        return x, x.nbytes
    step = np.maximum(np.abs(x).max(axis=0, keepdims=True), 1e-12) / 127
    return np.round(x / step).astype(np.int8).astype(np.float32) * step, x.size + step.nbytes


def same(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Float32, as it is."""
    return x, x.nbytes


BITS: dict[str, Callable] = {'float32': same, 'bfloat16': bfloat16, 'int8': int8}


def rounded(model: Model, bits: str, dtype: str) -> tuple[Model, int]:
    """The model with weights in so many bits that computes in `dtype`, and the bytes of its weights."""
    found, size = {}, 0
    for tower in TOWERS:
        leaves, tree = jax.tree.flatten(model.params(tower))
        pairs = [BITS[bits](np.asarray(leaf, np.float32)) for leaf in leaves]
        found[tower] = tree.unflatten([x for x, _ in pairs])
        size += sum(count for _, count in pairs)
    towers = {tower: lambda tower=tower: found[tower] for tower in TOWERS}
    return Model(model.clip.copy(dtype=dtype), towers, model.tokenizer, origin={}, trained_on={}), size


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='synthetic-pedestrians', help='what lcr2s_jax.load takes')
    parser.add_argument('--people', type=int, default=250, help='synthetic people whose captions search')
    parser.add_argument('--rounds', type=int, default=15, help='rounds of which the median is taken')
    parser.add_argument('--out', type=pathlib.Path, default=common.OUT, help='folder of the results')
    args = parser.parse_args()
    model = lcr2s_jax.load(args.model)
    records = list(synthetic.records(1, {'test': args.people}, cameras=True))
    person = np.unique([record.person for record in records], return_inverse=True)[1]
    said = [caption for record in records for caption in record.captions]
    said_of = np.repeat(person, [len(record.captions) for record in records])
    plain, rows = None, []
    for bits, dtype in (('float32', 'float32'), ('bfloat16', 'float32'), ('int8', 'float32'), ('bfloat16', 'bfloat16')):
        held, size = rounded(model, bits, dtype)
        image_GE = held.encode_image(record.jpeg for record in records)
        text_QE = held.encode_text(said)
        plain = plain or (image_GE, text_QE)
        cosines = [np.sum(a * b, axis=1) for a, b in zip((image_GE, text_QE), plain, strict=True)]
        rows.append(
            {
                'weights': bits,
                'computed_in': dtype,
                'mb': size / 1e6,
                'smallest_cosine_image': float(cosines[0].min()),
                'smallest_cosine_text': float(cosines[1].min()),
                'R1': metrics.retrieval(text_QE, image_GE, said_of, person)['R1'],
                'captions': len(said),
            }
        )
        print(rows[-1], flush=True)
    common.write('bits', rows + caption_times(args.rounds), args.out)


def caption_times(rounds: int) -> list[dict]:
    """Milliseconds of one caption of 20 words."""
    plain = device_tools.model(tiny=False)
    tower = device_tools.draw(jax.eval_shape(plain.init_params, jax.random.key(0)))['text']
    tokens_1L = batches.random_batch(plain, 1, 1).tokens_BKL[0]
    calls = {}
    for held in ('float32', 'bfloat16'):
        weights = jax.device_put(jax.tree.map(lambda x, held=held: jnp.asarray(x, held), tower))
        for dtype in ('float32', 'bfloat16'):
            encode = jax.jit(DualEncoder(plain.copy(dtype=dtype)).embed_text)
            params = {'clip': {'text': weights, 'logit_scale': jnp.zeros(())}}
            calls[held, dtype] = lambda encode=encode, params=params: jax.block_until_ready(encode(params, tokens_1L))
    seconds, first = common.interleaved(calls, rounds), ('float32', 'float32')
    return [
        {
            'weights': held,
            'computed_in': dtype,
            'ms_a_caption': 1e3 * float(np.median(seconds[held, dtype])),
            'ratio': common.ratio(seconds, (held, dtype), first),
        }
        for held, dtype in calls
    ]


if __name__ == '__main__':
    main()
