"""Makes data/demo_clip/ again:  python -m benchmarks.demo_clip --config=configs/demo_clip.py --workdir=runs/demo_clip

Trains the tokenizer on captions of people disjoint from the demo's, then the towers with this project's own one-to-one
contrastive stage, and writes both in Hugging Face layout with the log of the run. It resumes like any other run.
"""

import pathlib
import shutil
import sys

from commands.run import Run

import main
from commands.workdir import alone_in
from data.demo import synthetic as demo
from lcr2s_jax.weights import huggingface
from lcr2s_jax.weights import tokenizer as tokens

FOLDER = pathlib.Path('data/demo_clip')
SPEAKERS = 3000  # people whose captions the tokenizer learns from


def train(config, given) -> None:
    """Tokenizer, towers, files."""
    workdir = pathlib.Path(given.workdir)
    people = ((config.data.demo.seed, 'train', person) for person in range(SPEAKERS))
    said = (text for who in people for view in demo.captions(*who) for text, _ in view)
    learned = tokens.train_tokenizer(said, config.model.vocab_size)
    tokens.save_tokenizer(learned, str(FOLDER), config.model.context_length)
    with alone_in(workdir):
        run = Run(config, workdir)
        run.train_stage('baseline')
    huggingface.save_huggingface(FOLDER, run.clip, run.params['baseline']['clip'], dtype='float16')
    shutil.copy(workdir / 'metrics.jsonl', FOLDER / 'pretraining.jsonl')
    print(f'{FOLDER} is made; it is committed with its log, pretraining.jsonl')


if __name__ == '__main__':
    sys.exit(main.main(sys.argv, {'train': main.Command(train, needs=('workdir',))}))
