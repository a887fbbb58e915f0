"""Makes the small CLIP of lcr2s_jax/weights/demo_clip/ again:  python -m benchmarks.demo_clip --workdir=runs/demo_clip

Trains the tokenizer on captions of people disjoint from the demo's, then the towers with this project's own one-to-one
contrastive stage (configs/demo_clip.py), and writes both in Hugging Face layout, with the log of the run, into
<workdir>/clip. It resumes like any other run.
"""

import argparse
import pathlib
import shutil

from ml_collections import ConfigDict

from benchmarks.train_tokenizer import train_tokenizer
from commands.training import open_training
from configs import demo_clip
from data.demo import synthetic
from lcr2s_jax.training.run import alone_in
from lcr2s_jax.weights import huggingface
from lcr2s_jax.weights.tokenizer import save_tokenizer

SPEAKERS = 3000  # people whose captions the tokenizer learns from


def make(config: ConfigDict, workdir: pathlib.Path, speakers: int = SPEAKERS) -> pathlib.Path:
    """Tokenizer, towers, files; returns their folder."""
    folder = workdir / 'clip'
    with alone_in(workdir):
        if not (folder / 'tokenizer_config.json').is_file():  # written last
            people = ((config.data.demo.seed, 'train', person) for person in range(speakers))
            said = (text for who in people for view in synthetic.captions(*who) for text, _ in view)
            learned = train_tokenizer(said, config.model.vocab_size)
            save_tokenizer(learned, str(folder), config.model.context_length)
        config.tokenizer = str(folder)
        training = open_training(config, workdir)
        training.train_stage('baseline')
        huggingface.save_huggingface(
            folder, training.inputs.encoder.clip, training.params['baseline']['clip'], dtype='float16'
        )
        shutil.copy(workdir / 'metrics.jsonl', folder / 'pretraining.jsonl')
    return folder


def main() -> None:
    """Make it, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=pathlib.Path, required=True, help='folder of the run')
    folder = make(demo_clip.get_config(), parser.parse_args().workdir)
    print(f'{folder} is made; lcr2s_jax/weights/demo_clip is such a folder')


if __name__ == '__main__':
    main()
