"""Splits as plain arrays, so that evidence runs need neither TensorFlow nor ml_collections:

    python -m benchmarks.prepared [--out=runs/prepared]

<out>/<split>.npz has the images as the pipeline resizes them, tokens and identities; <out>/settings.json the resolved
config, what the oracle and chance reach, and the two numbers of the tokenizer that masking needs. Written where
TensorFlow is, read anywhere. Augmentation is NumPy's here, by the recipe of data/transforms.py; its random numbers
are others, so that a run of these arrays is not bit-identical to one of main.py.
"""

import argparse
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from data.plan import Plan
from lcr2s_jax.arrays import Batch

_ERASED = (156, 147, 133)  # what data.transforms.ERASED is; a test compares them
_AREA, _ASPECT, _ATTEMPTS = (0.02, 0.4), (0.3, 3.3), 10  # of the erased box, as in data.transforms.erase_box


@dataclasses.dataclass(frozen=True)
class Arrays:
    """One split in memory, decoded.

    Attributes:
      image_Ghwc: uint8.
      tokens_QL: int32.
      image_pid, caption_image: int32 identities of the images, and the image of each caption.
    """

    image_Ghwc: np.ndarray
    tokens_QL: np.ndarray
    image_pid: np.ndarray
    caption_image: np.ndarray

    @property
    def caption_pid(self) -> np.ndarray:
        """int32 identity of every caption."""
        return self.image_pid[self.caption_image]

    def only(self, kept_C: np.ndarray) -> 'Arrays':
        """The identities that a bool [C] keeps, numbered anew."""
        image_G = kept_C[self.image_pid]
        caption_Q = image_G[self.caption_image]
        return Arrays(
            self.image_Ghwc[image_G],
            self.tokens_QL[caption_Q],
            (np.cumsum(kept_C) - 1)[self.image_pid[image_G]].astype(np.int32),
            (np.cumsum(image_G) - 1)[self.caption_image[caption_Q]].astype(np.int32),
        )


def write(folder: pathlib.Path, config) -> None:
    """Build the dataset of `config` and write its arrays; needs TensorFlow."""
    from commands.inputs import Inputs
    from data import pipeline

    class Everything(Inputs):
        """Opens what a run opens, and writes no workdir."""

        reads = ('train', 'val', 'test')

    opened = Everything(config)
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in opened.splits.items():
        batches = list(pipeline.gallery_batches(split, config.model.image_size, config.evaluate.batch_size))
        np.savez(
            folder / f'{name}.npz',
            image_Ghwc=np.concatenate(batches)[: len(split.image_pid)],
            tokens_QL=split.tokens,
            image_pid=split.image_pid,
            caption_image=split.caption_image,
        )
    settings = {
        'config': json.loads(config.to_json()),
        'mask_token': opened.tokenizer.mask_token,
        'ordinary': opened.tokenizer.ordinary,
        'oracle': opened.oracle(),
        'chance': opened.chance(),
    }
    (folder / 'settings.json').write_text(json.dumps(settings, indent=2) + '\n')


def read(folder: pathlib.Path) -> tuple[dict[str, Arrays], dict]:
    """The splits by name, and the settings."""
    splits = {}
    for path in sorted(folder.glob('*.npz')):
        with np.load(path) as arrays:
            splits[path.stem] = Arrays(**arrays)
    return splits, json.loads((folder / 'settings.json').read_text())


def batches(
    split: Arrays, settings: Mapping, *, identities: int, views: int, captions: int, seed: int, start: int
) -> Iterator[Batch]:
    """The training batches from step `start` on: a function of (seed, step), as data.pipeline.train_batches is."""
    plan = Plan(split.image_pid, split.caption_image, identities=identities, views=views, captions=captions, seed=seed)
    masking = settings['config']['masking'] | {name: settings[name] for name in ('mask_token', 'ordinary')}
    step = start
    while True:
        image_BK, caption_BK, pid_B = plan.batch(step)
        rng = np.random.default_rng((seed, step))
        image = np.stack([augment(x, rng, **settings['config']['augment']) for x in split.image_Ghwc[image_BK.ravel()]])
        tokens = mask_tokens(split.tokens_QL[caption_BK.ravel()], rng, **masking)
        image, tokens = (x.reshape(*image_BK.shape, *x.shape[1:]) for x in (image, tokens))
        yield Batch(image, tokens, pid_B, image_BK, caption_BK)
        step += 1


def augment(image: np.ndarray, rng: np.random.Generator, *, flip: float, pad: int, erase: float) -> np.ndarray:
    """Flip, pad and crop, erase one uint8 image [h, w, 3]; arguments as of data.transforms.augment."""
    height, width, _ = image.shape
    if rng.random() < flip:
        image = image[:, ::-1]
    top, left = rng.integers(0, 2 * pad + 1, 2)
    padded = np.zeros((height + 2 * pad, width + 2 * pad, 3), np.uint8)
    padded[pad : pad + height, pad : pad + width] = image
    image = padded[top : top + height, left : left + width]
    if rng.random() < erase:
        _erase_box(image, rng)
    return image


def _erase_box(image: np.ndarray, rng: np.random.Generator) -> None:
    height, width, _ = image.shape
    for _ in range(_ATTEMPTS):
        pixels = height * width * rng.uniform(*_AREA)
        ratio = math.exp(rng.uniform(*map(math.log, _ASPECT)))
        tall, wide = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if tall < height and wide < width:
            top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
            image[top : top + tall, left : left + wide] = _ERASED
            return


def mask_tokens(
    tokens_NL: np.ndarray,
    rng: np.random.Generator,
    *,
    prob: float,
    mask_share: float,
    replace_share: float,
    delete_share: float,
    mask_token: int,
    ordinary: int,
) -> np.ndarray:
    """Corrupt the words of captions; arguments as of data.transforms.mask_tokens, which can delete as well."""
    if delete_share:
        raise ValueError('prepared arrays mask and replace words, they do not delete them')
    place = np.arange(tokens_NL.shape[1])
    inside = (place > 0) & (place < tokens_NL.argmax(axis=1)[:, None])
    draw = rng.random((3, *tokens_NL.shape))
    fate = np.where(inside & (draw[0] < prob), draw[1], 2.0)
    random = 1 + (draw[2] * (ordinary - 1)).astype(np.int32)
    replaced = np.where(fate < mask_share + replace_share, random, tokens_NL)
    return np.where(fate < mask_share, mask_token, replaced).astype(np.int32)


def gallery(split: Arrays, batch_size: int) -> Iterator[np.ndarray]:
    """Images in order, the last batch filled up; as data.pipeline.gallery_batches."""
    yield from _filled(split.image_Ghwc, batch_size)


def queries(split: Arrays, batch_size: int) -> Iterator[np.ndarray]:
    """Captions in order, the last batch filled up."""
    yield from _filled(split.tokens_QL, batch_size)


def _filled(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), size):
        index = np.arange(first, first + size)
        yield rows[np.where(index < len(rows), index, 0)]


def config():
    """The demo's, with more people to select and to test on: intervals shrink with the number of queries."""
    from configs import demo

    wanted = demo.get_config()
    wanted.data.demo.people.update(val=250, test=500)
    return wanted


def main() -> None:
    """Write the arrays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/prepared'))
    write(parser.parse_args().out, config())


if __name__ == '__main__':
    main()
