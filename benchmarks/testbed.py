"""The testbed of the evidence, drawn, started and chosen:  python -m benchmarks.testbed [--out runs/testbed]

Clear synthetic pedestrians, few of them, and a small model that learns them by heart. Prints the baseline's regime.
Chosen by the regime of the *baseline* alone (one-to-one batches, SDM): the first of `CANDIDATES` for which on seed 100
training R@1 >= 80, val >= 15 below the ceiling and >= 25 below training, and the start <= 15. Needs jax, numpy, PIL and
tokenizers; neither TensorFlow nor ml_collections.
"""

import argparse
import dataclasses
import io
import itertools
import json
import pathlib
import time

import jax
import numpy as np
from flax import serialization
from PIL import Image

from commands.comparison import Comparison
from commands.rows import Row
from data.demo import synthetic
from lcr2s_jax import files
from lcr2s_jax.evaluation import metrics
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.training.resident import ResidentSplit
from lcr2s_jax.weights.tokenizer import Tokenizer

TOKENIZER = 'lcr2s_jax/weights/demo_clip'
SIZE, LENGTH = (64, 32), 32  # pixels; tokens, the longest caption has as many
SEEDS = {'testbed': 2000, 'start': 1000}  # of the drawn people: the start has seen others
PEOPLE = {'val': 200, 'test': 400}
START_PEOPLE = 3000
CHOICE_SEED = 100  # of the runs that choose the candidate; the table has others


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What of the testbed is open until the baseline's regime is known.

    Attributes:
      people: training identities.
      start_steps: of the start's training on other people; 0 is a random start.
      learning_rate: of every row.
    """

    people: int
    start_steps: int
    learning_rate: float


CANDIDATES = (
    Candidate(400, 700, 5e-4),
    Candidate(400, 700, 1e-3),
    Candidate(400, 700, 2e-3),
    Candidate(200, 700, 1e-3),
    Candidate(200, 700, 2e-3),
)
MODEL = {
    'image_size': SIZE, 'patch_size': 8, 'vision_width': 64, 'vision_layers': 4, 'vision_heads': 2, 'text_width': 64,
    'text_layers': 2, 'text_heads': 2, 'context_length': LENGTH, 'vocab_size': 1001, 'embed_dim': 64, 'scan': True,
}  # fmt: skip
_LABELS = {'identity_weight': 0.0}
CONFIG = {
    'reseed': {'student': 1},
    'model': {'vision_blocks': [0, 1, 2, 3], 'text_blocks': [0, 1]},
    'batch': {'identities': 64, 'views': 1, 'captions': 1},
    'augment': {'flip': 0.5, 'pad': 0, 'erase': 0.0},  # little, or nothing is learnt by heart in so few steps
    'masking': {'prob': 0.0, 'mask_share': 0.8, 'replace_share': 0.1, 'delete_share': 0.0},
    'baseline': _LABELS | {'align': 'sdm', 'scale': 50.0, 'others_weight': 0.0},
    'teacher': _LABELS | {
        'align': 'sdm', 'scale': 50.0, 'heads': 4, 'shared_fusion': False, 'single_weight': 1.0, 'detach': True,
        'support_dropout': 0.0, 'same_image_texts': False,
    },
    'fusion': {'align': 'sdm', 'scale': 50.0, 'support_views': 4},
    'student': _LABELS | {
        'align': 'sdm', 'scale': 50.0, 'feature_weight': 1.0, 'relation_weight': 0.0, 'relation': 'cosine',
        'from_teacher': False, 'cache_teacher': True, 'support_views': 4, 'target': 'fusion', 'target_share': 1.0,
    },
    'optim': {
        'learning_rate': 1e-3, 'warmup': 1 / 12, 'warmup_start': 0.1, 'b1': 0.9, 'b2': 0.98, 'eps': 1e-8,
        'clip_norm': 1.0,
        'rules': [['logit_scale', 0.0, 0.0], ['bias|ln_|positions|token', 1.0, 0.0], ['.*', 1.0, 0.05]],
    },
    'train': {'steps': 2000, 'eval_every': 400},
}  # fmt: skip


def shrink() -> None:
    """Sizes for testing the program: a handful of people, a model of nothing, a step or two."""
    global PEOPLE, START_PEOPLE, CANDIDATES
    PEOPLE, START_PEOPLE, CANDIDATES = {'val': 8, 'test': 8}, 70, (Candidate(70, 2, 1e-3),)
    MODEL.update(vision_width=16, text_width=16, vision_heads=1, text_heads=1, embed_dim=16)
    CONFIG['train'].update(steps=2, eval_every=1)


def draw(people: dict[str, int], seed: int) -> dict[str, ResidentSplit]:
    """Draw people without cameras, at half the size: every image and its two captions, split by split."""
    records: dict[str, list] = {name: [] for name in people}
    for record in synthetic.records(seed, people, False):
        records[record.split].append(record)
    tokenizer = Tokenizer(TOKENIZER)
    return {name: _arrays(of, tokenizer) for name, of in records.items()}


def _arrays(records: list, tokenizer: Tokenizer) -> ResidentSplit:
    opened = (Image.open(io.BytesIO(record.jpeg)).convert('RGB') for record in records)
    images = [np.asarray(image.resize(SIZE[::-1], Image.Resampling.BOX)) for image in opened]
    pid = np.unique([record.person for record in records], return_inverse=True)[1]
    captions = [caption for record in records for caption in record.captions]
    caption_image = np.repeat(np.arange(len(records)), [len(record.captions) for record in records])
    tokens = tokenizer.encode(captions, LENGTH)
    return ResidentSplit(np.stack(images), tokens, pid.astype(np.int32), caption_image.astype(np.int32))


def splits() -> dict[str, ResidentSplit]:
    """Train, val and test of the testbed, with the training people of the largest candidate."""
    return draw({'train': max(candidate.people for candidate in CANDIDATES), **PEOPLE}, SEEDS['testbed'])


def ceiling(split: str = 'val') -> float:
    """R@1 of who knows all attributes that an image shows and a caption names (the attribute oracle)."""
    score_QG, query_pid, gallery_pid = synthetic.oracle_scores(SEEDS['testbed'], PEOPLE, split)
    return metrics.from_scores(lambda rows: score_QG[rows], query_pid, gallery_pid)['R1']


def load(start: dict | None):
    """`load` of a `Comparison`: the testbed's model, or some of its blocks, from the start or a random one."""

    def of(wanted: dict) -> tuple:
        blocks = {tower: wanted[f'{tower}_blocks'] for tower in ('vision', 'text')}
        clip = CLIP(**MODEL | {f'{tower}_layers': len(kept) for tower, kept in blocks.items()})
        if start is None:
            return clip, jax.jit(clip.init_params)(jax.random.key(0))
        params = {**start}
        for tower, kept in blocks.items():
            others = {k: v for k, v in start[tower].items() if not k.startswith('block_')}
            params[tower] = others | {f'block_{i}': start[tower][f'block_{block}'] for i, block in enumerate(kept)}
        return clip, params

    return of


def train_start(steps: int, out: pathlib.Path, say=print) -> dict:
    """A small CLIP that has seen other people of this kind for a short while: InfoNCE, one-to-one batches."""
    row = Row('start', f'start, {steps} steps', 'baseline', set={
        'baseline': {'align': 'infonce', 'scale': 30.0}, 'train': {'steps': steps, 'eval_every': steps},
    })  # fmt: skip
    path = out / f'start-{steps}.msgpack'
    if not path.exists():
        drawn = draw({'train': START_PEOPLE}, SEEDS['start'])['train']
        few = drawn.people(50)
        comparison = Comparison(
            {'train': drawn, 'val': few}, CONFIG, {'start': row}, out / f'start-{steps}', load(None), say=say
        )
        comparison.run(['start'], [0])
        path.write_bytes(serialization.to_bytes(comparison.params('start', 0)['clip']))
    return serialization.msgpack_restore(path.read_bytes())


def regime(candidates: list[Candidate], everything: dict, out: pathlib.Path, top: float, say=print):
    """What the baseline does with candidates of the same people and start: the numbers that the rule reads, one by one.

    Yields:
      the candidate, zero_shot, train, val, ceiling (R@1), seconds, fits.
    """
    first = candidates[0]
    start = train_start(first.start_steps, out, say)
    chosen = dict(everything) | {'train': everything['train'].people(first.people)}
    rates = {f'baseline-lr{candidate.learning_rate:g}': candidate for candidate in candidates}
    rows = {'start': Row('start', 'start', 'start')}
    for name, candidate in rates.items():
        rows[name] = Row(name, name, 'baseline', set={'optim': {'learning_rate': candidate.learning_rate}})
    name = f'regime-{first.people}-{first.start_steps}'
    comparison = Comparison(chosen, CONFIG, rows, out / name, load(start), say=say)
    for row, candidate in rates.items():
        clock = time.perf_counter()
        comparison.run(['start', row], [CHOICE_SEED])
        zero, found = (json.loads((out / name / f'{n}-{CHOICE_SEED}.json').read_text()) for n in ('start', row))
        measured = {
            'zero_shot': zero['val']['single']['R1'], 'train': found['train']['R1'],
            'val': found['val']['single']['R1'], 'ceiling': top, 'seconds': time.perf_counter() - clock,
        }  # fmt: skip
        yield dataclasses.asdict(candidate) | measured | {'fits': fits(measured)}


def fits(measured: dict) -> bool:
    """The rule."""
    return (
        measured['train'] >= 80
        and measured['val'] <= min(measured['ceiling'] - 15, measured['train'] - 25)
        and measured['zero_shot'] <= 15
    )


def choose(everything: dict, out: pathlib.Path, say=print) -> dict:
    """Measure candidates in order until one fits; else the one with the largest training R@1. Writes regime.json."""
    out.mkdir(parents=True, exist_ok=True)
    top, measured = ceiling(), []
    for _, alike in itertools.groupby(CANDIDATES, key=lambda candidate: (candidate.people, candidate.start_steps)):
        for found in regime(list(alike), everything, out, top, say):
            measured.append(found)
            say(json.dumps(found))
            files.write(out / 'regime.json', json.dumps(measured, indent=1) + '\n')
            if found['fits']:
                return found
    return max(measured, key=lambda found: found['train'])


def main() -> None:
    """Choose and say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/testbed'))
    out = parser.parse_args().out
    print(json.dumps(choose(splits(), out), indent=1))


if __name__ == '__main__':
    main()
