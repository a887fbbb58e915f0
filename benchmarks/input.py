"""What the input pipeline gives and holds:  python -m benchmarks.input [--parts speed memory] [--rounds 5]

speed: pairs a second of `data.pipeline.train_batches` beside a torch DataLoader that does the same work on the same
bytes, in turns, on 2 cores. What torch's users get is float32, normalised on the CPU; ours is uint8, which the device
normalises; so torch is timed with uint8 too. memory: the most that building and one epoch of a folder of CUHK-PEDES's
shape hold. The images are generated: crops of about 130 x 300 pixels with texture, JPEG of about 13 KB.
"""

import argparse
import concurrent.futures
import datetime
import io
import json
import math
import multiprocessing
import os
import pathlib
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from benchmarks import common

CORES = 2
LENGTH, TOKENIZER = 77, 'data/demo_clip'
WORDS = (
    'a the man woman person wearing in with and carrying walking standing black white red blue grey green dark short '
    'long shirt jacket coat trousers jeans skirt shoes sneakers boots bag backpack hair glasses hat left hand shoulder'
).split()
OURS = 'data.pipeline, uint8'
THEIRS = {'torch DataLoader, float32 normalised': True, 'torch DataLoader, uint8': False}


def main() -> None:
    """Measure what the arguments ask for; what they do not ask for stays in the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--parts', nargs='+', default=['memory', 'speed'], choices=['memory', 'speed'], help='what is measured'
    )
    parser.add_argument('--images', type=int, default=2000, help='distinct images')
    parser.add_argument('--rounds', type=int, default=5, help='rounds of which the median is taken')
    parser.add_argument('--batches', type=int, default=64, help='timed in a turn; an even number')
    parser.add_argument('--warm', type=int, default=16, help='batches before the clock starts; an even number')
    parser.add_argument('--scale', type=float, default=1.0, help="of CUHK-PEDES's number of people and images")
    args = parser.parse_args()
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    contents = list(crops(args.images))
    rows = []
    # Memory first: a process starts with the peak of the one that started it, which is still small now.
    if 'memory' in args.parts:
        rows += memory_rows(contents, args.scale)
    if 'speed' in args.parts:
        rows += speed_rows(contents, args)
    common.write('input', common.kept('input', 'part', args.parts) + rows)


def crops(count: int, seed: int = 0) -> Iterator[bytes]:
    """JPEGs of smooth colours under texture of every scale, as photographs have it."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        width, height = (int(side * math.exp(rng.normal(0, 0.15))) for side in (130, 300))
        patches = Image.fromarray(rng.integers(0, 256, (5, 3, 3)).astype(np.uint8))
        pixels = np.asarray(patches.resize((width, height), Image.BILINEAR), np.float32)
        pixels = pixels + 3 * texture(rng, height, width)[..., None] + 2 * rng.standard_normal(pixels.shape)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, 'JPEG', quality=90)
        yield buffer.getvalue()


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise whose amplitude grows with its wavelength: float32 [height, width]."""
    total = np.zeros((height, width), np.float32)
    for cell in (1, 2, 4, 8, 16, 32):
        noise = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
        total += cell * np.asarray(Image.fromarray(noise).resize((width, height), Image.BICUBIC))
    return total


def write_folder(root: pathlib.Path, contents: list[bytes], shape: dict[str, tuple[int, int]]) -> int:
    """A folder as CUHK-PEDES comes, of (people, images) by split; contents repeat. Returns the bytes of its images."""
    rng, entries, size = np.random.default_rng(1), [], 0
    for split, (people, images) in shape.items():
        (root / 'imgs' / split).mkdir(parents=True)
        # Two images or more of everybody: an extra one falls to anybody.
        owners = np.concatenate([np.tile(np.arange(people), 2), rng.integers(0, people, images - 2 * people)])
        for owner in np.sort(owners).tolist():
            encoded = contents[len(entries) % len(contents)]
            name = f'{split}/{len(entries):06d}.jpg'
            (root / 'imgs' / name).write_bytes(encoded)
            size += len(encoded)
            captions = [' '.join(rng.choice(WORDS, 23)) for _ in range(2)]
            entries.append(dict(split=split, id=f'{split}{owner}', file_path=name, captions=captions))
    (root / 'reid_raw.json').write_text(json.dumps(entries))
    return size


def load(root: pathlib.Path):
    """(config, tokenizer, splits) of a folder that `write_folder` wrote, through the project's own builder."""
    from configs import cuhk
    from data import people, sources
    from lcr2s_jax.weights.tokenizer import Tokenizer

    config, tokenizer = cuhk.get_config(), Tokenizer(TOKENIZER)
    data = config.data.to_dict() | {'root': str(root)}
    del data['cache'], data['in_memory']
    source = sources.open_source(**data)
    return config, tokenizer, people.load(source, tokenizer, LENGTH, str(root / 'built'), in_memory=True)


def our_batches(config, tokenizer, split, start: int, stop: int) -> Iterator[dict]:
    """What a training run of `config` would see."""
    from data import pipeline

    return pipeline.train_batches(
        split, **config.batch, seed=config.seed, image_size=config.model.image_size, augment=config.augment,
        masking=config.masking, tokenizer=tokenizer, start=start, stop=stop,
    )  # fmt: skip


def speed_rows(contents: list[bytes], args) -> list[dict]:
    """Pairs a second of every contestant, and how many times as fast ours is."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder(pathlib.Path(folder), contents, {'train': (len(contents) * 11_003 // 34_054, len(contents))})
        config, tokenizer, splits = load(pathlib.Path(folder))
    split, pairs = splits['train'], config.batch.identities * config.batch.views
    count = args.warm + args.batches
    steps = {name: Steps(split, config, count) for name in THEIRS}
    loaders = {name: loader(split, config, tokenizer, steps[name], THEIRS[name]) for name in THEIRS}
    rates: dict[str, list[float]] = {name: [] for name in (OURS, *THEIRS)}
    for number in range(args.rounds + 1):
        first = number * count
        turns: dict[str, Iterable] = {OURS: our_batches(config, tokenizer, split, first, first + count)}
        for name in THEIRS:
            steps[name].first, turns[name] = first, loaders[name]
        seen = {}
        for name, batches in turns.items():
            rate, seen[name] = rate_of(batches, args.warm, pairs)
            rates[name].append(rate)
        if any((view != seen[OURS]).any() for view in seen.values()):
            raise AssertionError('the contestants saw different images')
    rates = {name: values[1:] for name, values in rates.items()}
    return [
        {
            'part': 'speed',
            'date': datetime.date.today().isoformat(),
            'what': name,
            'pairs': args.batches * pairs,
            'pairs_per_s': statistics.median(values),
            'per_core': statistics.median(values) / CORES,
            'lowest': min(values),
            'highest': max(values),
            'ours_to_this': common.ratio(rates, OURS, name),
        }
        for name, values in rates.items()
    ]


def rate_of(batches: Iterable[dict], warm: int, pairs: int) -> tuple[float, np.ndarray]:
    """Pairs a second after `warm` batches, and the view ids of the last batch, row by row.

    Nothing waits in a queue when the clock starts, since whoever takes the batches does nothing else; two workers that
    bring a batch each have brought their last one then, since the numbers are even.
    """
    clock, count, view = 0.0, 0, np.empty(0)
    for batch in batches:
        count, view = count + 1, batch['view']
        if count == warm:
            clock = time.perf_counter()
    return (count - warm) * pairs / (time.perf_counter() - clock), np.asarray(view).ravel()


class Steps:
    """The batches of `count` steps from `first` on, as a torch batch sampler: lists of (image, caption)."""

    def __init__(self, split, config, count: int):
        from data.plan import Plan

        self._plan = Plan(split.image_pid, split.caption_image, **config.batch, seed=config.seed)
        self.first, self._count = 0, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list]:
        for step in range(self.first, self.first + self._count):
            image_BK, caption_BK, _ = self._plan.batch(step)
            yield list(zip(image_BK.ravel().tolist(), caption_BK.ravel().tolist(), strict=True))


def loader(split, config, tokenizer, steps: Steps, normalised: bool):
    """A torch DataLoader of the same batches."""
    import torch

    return torch.utils.data.DataLoader(
        Rows(split, config, tokenizer, normalised), batch_sampler=steps, num_workers=CORES, worker_init_fn=one_thread,
        persistent_workers=True, prefetch_factor=4, multiprocessing_context='spawn',
    )  # fmt: skip


def one_thread(worker: int) -> None:
    """Workers are the parallelism."""
    import torch

    torch.set_num_threads(1)


class Rows:
    """A torch map-style dataset that does IRRA's transforms with the operations of torchvision, in its order.

    Cheaper than torchvision where the result is the same: padding and cropping is one crop, normalising works in place,
    tokens are masked at once and not in a loop of Python.
    """

    def __init__(self, split, config, tokenizer, normalised: bool):
        import torch

        from data import transforms
        from lcr2s_jax.models import clip

        self._jpegs, self._tokens, self._pid = split.jpegs, split.tokens, split.image_pid
        self._size, self._augment = tuple(config.model.image_size), config.augment.to_dict()
        self._masking, self._ids = config.masking.to_dict(), (tokenizer.mask_token, tokenizer.ordinary)
        self._normalised, self._erased = normalised, torch.tensor(transforms.ERASED, dtype=torch.uint8)
        self._mean, std = (torch.tensor(values).view(3, 1, 1) for values in (clip.PIXEL_MEAN, clip.PIXEL_STD))
        self._scale, self._shift = 1 / (255 * std), self._mean / std

    def __getitem__(self, row: tuple[int, int]) -> dict:
        import torch

        image, caption = row
        pixels = torch.from_numpy(np.array(self._picture(self._jpegs[image])))
        return dict(
            image=self._to_float(pixels) if self._normalised else self._to_bytes(pixels),
            tokens=torch.from_numpy(self._mask(self._tokens[caption])), pid=int(self._pid[image]), view=image,
        )  # fmt: skip

    def _picture(self, encoded: bytes) -> Image.Image:
        height, width = self._size
        picture = Image.open(io.BytesIO(encoded)).convert('RGB').resize((width, height), Image.BILINEAR)
        if random.random() < self._augment['flip']:
            picture = picture.transpose(Image.FLIP_LEFT_RIGHT)
        pad = self._augment['pad']
        left, top = random.randint(-pad, pad), random.randint(-pad, pad)
        return picture.crop((left, top, left + width, top + height))  # zeros outside

    def _to_float(self, pixels):
        image, box = pixels.permute(2, 0, 1).contiguous().float().mul_(self._scale).sub_(self._shift), self._box()
        if box:
            image[:, *box] = self._mean  # into the normalised image [IRRA]
        return image

    def _to_bytes(self, pixels):
        box = self._box()
        if box:
            pixels[box] = self._erased
        return pixels

    def _box(self) -> tuple[slice, slice] | None:
        height, width = self._size
        if random.random() >= self._augment['erase']:
            return None
        for _ in range(10):
            area = height * width * random.uniform(0.02, 0.4)
            aspect = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width:
                top, left = random.randint(0, height - tall), random.randint(0, width - wide)
                return slice(top, top + tall), slice(left, left + wide)
        return None

    def _mask(self, tokens: np.ndarray) -> np.ndarray:
        mask_token, ordinary = self._ids
        masking, place = self._masking, np.arange(len(tokens))
        inside = (place > 0) & (place < tokens.argmax())
        draw, fate = np.random.random((2, len(tokens)))
        fate = np.where(inside & (draw < masking['prob']), fate, 2.0)
        masked, replaced = masking['mask_share'], masking['mask_share'] + masking['replace_share']
        words = np.random.randint(1, ordinary, len(tokens), tokens.dtype)
        return np.where(fate < masked, mask_token, np.where(fate < replaced, words, tokens)).astype(tokens.dtype)


def memory_rows(contents: list[bytes], scale: float) -> list[dict]:
    """The most memory of a process that builds a folder of CUHK-PEDES's shape and walks one epoch of it."""
    from data.annotations import LAYOUTS

    published = LAYOUTS['cuhk_pedes'].published
    shape = {split: (int(people * scale), int(images * scale)) for split, (people, images, _) in published.items()}
    with tempfile.TemporaryDirectory() as folder:
        size = write_folder(pathlib.Path(folder), contents, shape)
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            walked = pool.submit(walk, pathlib.Path(folder)).result()
    images = sum(images for _, images in shape.values())
    first = {'part': 'memory', 'date': datetime.date.today().isoformat(), 'what': 'build + one epoch'}
    return [first | {'images': images, 'encoded_gb': size / 1e9} | walked]


def walk(root: pathlib.Path) -> dict:
    """Build, read, one epoch; what that took and the most memory that it held."""
    from data.plan import Plan

    clock = time.perf_counter()
    config, tokenizer, splits = load(root)
    loaded, split = time.perf_counter(), splits['train']
    loaded_gb = peak_gb()
    steps = Plan(split.image_pid, split.caption_image, **config.batch, seed=config.seed).steps_per_epoch
    count = sum(1 for _ in our_batches(config, tokenizer, split, 0, steps))
    return {
        'batches': count,
        'build_s': loaded - clock,
        'epoch_s': time.perf_counter() - loaded,
        'built_gb': loaded_gb,
        'peak_gb': peak_gb(),
    }


def peak_gb() -> float:
    """Most resident memory of this process so far, and of the largest of its children."""
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage) * 1024 / 1e9


if __name__ == '__main__':
    main()
