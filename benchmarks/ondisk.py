"""Training data that memory cannot hold:  python -m benchmarks.ondisk [--parts memory speed] [--images 131072 ...]

memory: the most that a process holds which loads a generated split and takes batches of it, by images and by where
they lie (config.data.in_memory), and its line over the images; 'trains' adds the demo's model and steps of its
baseline. A record is a JPEG of about 2 kB with a caption of 77 tokens, an identity has 20; above 131,072 images their
record files are copied. speed: pairs a second of both ways in turns, files in the page cache, of such pictures and of
crops of about 13 kB; and the processor's time a pair, which other work on the machine hardly moves.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import statistics
import tempfile
import time
import zlib

import numpy as np
from PIL import Image

from benchmarks import common, input, step
from lcr2s_jax.errors import ConfigError

OF_PERSON, POOL, A_FILE, WRITTEN = 20, 400, 16_384, 131_072  # images; different ones; of a record file; not copied
WARM, STEPS = 8, {False: 100, True: 12}  # batches; with training
WAYS = {'on disk': False, 'in memory': True}
LIMIT, REACH = 3e9, 4_000_000  # bytes a host; images


def main() -> None:
    """Measure what the arguments ask for; what they do not ask for stays in the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--parts', nargs='+', default=['memory', 'speed'], choices=['memory', 'speed'], help='what is measured'
    )
    parser.add_argument(
        '--images', nargs='+', type=int, default=[WRITTEN, 8 * WRITTEN, 32 * WRITTEN], help='numbers of images'
    )
    parser.add_argument('--most-in-memory', type=int, default=8 * WRITTEN, help='images; above, only on disk is tried')
    parser.add_argument('--rounds', type=int, default=7, help='rounds of which the median is taken')
    parser.add_argument('--batches', type=int, default=48, help='timed in a turn')
    parser.add_argument('--trains', nargs='*', default=['on disk'], choices=list(WAYS), help='ways that train as well')
    parser.add_argument('--no_classifier', action='store_true', help='train without one over the identities')
    parser.add_argument('--cache', default='', help='keep the generated sets in this folder')
    args = parser.parse_args()
    found = []
    with contextlib.nullcontext(args.cache) if args.cache else tempfile.TemporaryDirectory() as cache:
        for part in args.parts:
            found += {'memory': memory_rows, 'speed': speed_rows}[part](cache, args)
            common.save('ondisk', common.kept('ondisk', 'part', args.parts) + found)
    common.write('ondisk', common.kept('ondisk', 'part', args.parts) + found)


def small() -> list[bytes]:
    """`POOL` JPEGs of about 2 kB."""
    found = []
    for crop in input.crops(POOL):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(crop)).resize((48, 112), Image.BILINEAR).save(buffer, 'JPEG', quality=75)
        found.append(buffer.getvalue())
    return found


def load(kind: str, images: int, cache: str, in_memory: bool):
    """(config, tokenizer, split) of a generated data set, with the recipe of CUHK-PEDES."""
    from configs import cuhk
    from data import people
    from data.sources import Source
    from lcr2s_jax.weights.tokenizer import Tokenizer

    tokenizer = Tokenizer(input.TOKENIZER)
    source = Source(f'ondisk_{kind}', str(images), ('train',), lambda split: [], images)
    folder = people.place(source, tokenizer, input.LENGTH, cache)
    if not folder.is_dir():
        write(kind, images, folder, tokenizer)
    splits = people.load(source, tokenizer, input.LENGTH, cache, in_memory=in_memory)
    return cuhk.get_config(), tokenizer, splits['train']


def write(kind: str, images: int, folder: pathlib.Path, tokenizer) -> None:
    """What `data.builder` would build of `POOL` pictures over and over, but without TFDS, in a fifth of the time."""
    from array_record.python.array_record_module import ArrayRecordWriter

    from data import builder, offsets
    from lcr2s_jax import files

    contents = small() if kind == 'small' else list(input.crops(POOL))
    common_parts = [common_part(content, tokenizer, number) for number, content in enumerate(contents)]
    if images > WRITTEN and images % WRITTEN:
        raise ConfigError(f'--images: found {images}, expected {WRITTEN} or less, or a multiple of it')
    starts = range(0, min(images, WRITTEN), A_FILE)
    names = [f'people-train.array_record-{n:05d}-of-{len(starts):05d}' for n in range(len(starts))]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.aside(folder) as partial:
        partial.mkdir()
        for name, start in zip(names, starts, strict=True):
            writer = ArrayRecordWriter(str(partial / name), offsets.LAYOUT)
            for number in range(start, min(start + A_FILE, images)):
                # records of the same type, one behind the other, are one record with the fields of both
                file_name = f'{number // 1000:05d}/{number:08d}.jpg'
                own = example(person=str(number // OF_PERSON).encode(), file_name=file_name.encode())
                writer.write(common_parts[number % POOL] + own)
            writer.close()
        parse = functools.partial(builder.parse, length=input.LENGTH)
        tokens = (input.LENGTH,), offsets.token_type(tokenizer.vocab_size)
        offsets.write(partial, {'train': names}, parse, tokens, skipped=[], images='')
        if images > WRITTEN:
            copy(partial, images // WRITTEN)


def copy(folder: pathlib.Path, times: int) -> None:
    """Make a built data set so many times as large: its record files again under other names, other people on them."""
    from data.offsets import INDEX, write_index

    index = json.loads((folder / INDEX).read_text())['index']
    split = index['splits']['train']
    first, arrays = list(split['files']), split['arrays']
    for number, one in itertools.product(range(1, times), first):
        split['files'].append(one | {'name': f'{one["name"]}.{number}'})
        shutil.copyfile(folder / one['name'], folder / split['files'][-1]['name'])
    images, texts = arrays['pid']['shape'][0], {name: arrays[name]['shape'][0] for name in ('file_name', 'caption')}
    shift = {'pid': images // OF_PERSON + 1, 'caption_image': images}
    shift |= {f'{name}_end': size for name, size in texts.items()}
    for name, known in arrays.items():
        values = np.fromfile(folder / known['file'], known['type'])
        with open(folder / known['file'], 'ab') as file:
            for number in range(1, times):
                content = (values + values.dtype.type(number * shift.get(name, 0))).tobytes()
                file.write(content)
                known['crc32'] = zlib.crc32(content, known['crc32'])
        known['shape'][0] *= times
    write_index(folder, index)


def common_part(content: bytes, tokenizer, number: int) -> bytes:
    """Of every record with this picture: all but who is on it and the name of the file."""
    caption = ' '.join(np.random.default_rng(number).choice(input.WORDS, 60))
    tokens = tokenizer.encode([caption], input.LENGTH)[0].tolist()
    return example(image=content, captions=caption.encode(), tokens=tokens, file_size=[len(content)])


def example(**features) -> bytes:
    """A tf.train.Example, serialised."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))

    made = tf.train.Features(feature={name: feature(value) for name, value in features.items()})
    return tf.train.Example(features=made).SerializeToString()


def memory_rows(cache: str, args) -> list[dict]:
    """A row a size, a way and whether it trains, each measured in a process of its own; then the line of each."""
    rows = []
    for images in args.images:
        clock = time.perf_counter()
        alone(load, 'small', images, cache, False)
        print(f'{images:,} images built, or found built, in {time.perf_counter() - clock:.0f} s', flush=True)
        for (way, in_memory), trains in itertools.product(WAYS.items(), (False, True)):
            if (not trains or way in args.trains) and (not in_memory or images <= args.most_in_memory):
                row = {'part': 'memory', 'what': way, 'trains': trains, 'images': images}
                classifier = trains and not args.no_classifier
                row |= {'classifier': classifier} if trains else {}
                rows.append(row | alone(walk, images, cache, in_memory, trains, classifier))
                print(rows[-1], flush=True)
    for way, trains in itertools.product(WAYS, (False, True)):
        points = [(row['images'], row['peak_gb']) for row in rows if (row['what'], row['trains']) == (way, trains)]
        if len(points) > 1:
            slope, base = np.polyfit(*zip(*points, strict=True), 1)
            rows.append(
                {
                    'part': 'memory', 'what': f'{way}: line', 'trains': trains, 'bytes_an_image': slope * 1e9,
                    'base_gb': base, 'images': REACH, 'peak_gb': base + slope * REACH,
                    'images_within_3_gb': int((LIMIT / 1e9 - base) / slope),
                }
            )  # fmt: skip
    return rows


def alone(call, *given):
    """The result of a call in a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(_quietly if call is load else call, *given).result()


def _quietly(*given) -> None:
    load(*given)


def walk(images: int, cache: str, in_memory: bool, trains: bool, classifier: bool = True) -> dict:
    """Load a split and take batches of it, and train on them where that is asked: seconds, and memory."""
    import data.pipeline  # noqa: F401  TensorFlow, which is no part of the start that is timed

    clock = time.perf_counter()
    config, tokenizer, split = load('small', images, cache, in_memory)
    loaded = time.perf_counter()
    config = config.copy_and_resolve_references().unlock()
    config.model.image_size = step.MODELS['demo']['image_size']
    batches = input.our_batches(config, tokenizer, split, 0, None)
    first = next(batches)
    started = time.perf_counter()
    use = trainer(split.num_people, classifier) if trains else lambda batch: None
    for batch in itertools.chain([first], itertools.islice(batches, STEPS[trains])):
        use(batch)
    return {
        'loaded_s': loaded - clock,
        'first_batch_s': started - loaded,
        'image_gb': sum(map(len, split.jpegs[:POOL])) / POOL * images / 1e9,
        'peak_gb': status('VmHWM'),
        'anonymous_gb': status('RssAnon'),
        'mapped_gb': status('RssFile'),
    }


def trainer(num_people: int, classifier: bool):
    """Steps of the demo's baseline on batches of the pipeline."""
    import jax

    from lcr2s_jax.arrays import Batch
    from lcr2s_jax.method import stages
    from lcr2s_jax.training import optim, train
    from lcr2s_jax.training.parallel import Parallel

    clip, params = step.load('demo', 'float32', context_length=input.LENGTH)
    base = step.BASE | ({} if classifier else {'identity_weight': 0.0})
    stage = stages.baseline_stage(clip, params, num_people, **base)
    parallel, tx = Parallel('jit', 0, fsdp=False), optim.adam(steps=1000, **step.OPTIM)
    state, run = train.initial_state(stage, tx, parallel, seed=0), step.jitted(stage, tx, parallel)
    held = [state]

    def use(batch: dict) -> None:
        batch = Batch(*(batch[name] for name in ('image', 'tokens', 'pid', 'view', 'caption')))
        held[0], metrics = run(held[0], parallel.put_state(stage.frozen), parallel.put(batch))
        jax.block_until_ready(metrics)

    return use


def status(field: str) -> float:
    """GB, of this process."""
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(field))


def speed_rows(cache: str, args) -> list[dict]:
    """Pairs a second of both ways, and on disk over in memory."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: input.CORES])
    rows = []
    for kind, images in (('small', 32_768), ('crop', 8_192)):
        loaded = {way: load(kind, images, cache, in_memory) for way, in_memory in WAYS.items()}
        for image in loaded['on disk'][2].jpegs:  # into the page cache
            del image
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        work: dict[str, list[float]] = {way: [] for way in WAYS}
        count = WARM + args.batches
        for number in range(args.rounds + 1):
            for way in list(WAYS)[:: 1 if number % 2 else -1]:
                config, tokenizer, split = loaded[way]
                pairs = config.batch.identities * config.batch.views
                first = number * count
                batches = input.our_batches(config, tokenizer, split, first, first + count)
                clock = time.process_time()
                rates[way].append(input.rate_of(batches, WARM, pairs)[0])
                work[way].append((time.process_time() - clock) / (count * pairs) * 1e6)
        rates, work = ({way: values[1:] for way, values in some.items()} for some in (rates, work))
        for way, values in rates.items():
            row = {'part': 'speed', 'what': way, 'kind': kind, 'images': images}
            row |= {'pairs_per_s': statistics.median(values), 'lowest': min(values), 'highest': max(values)}
            row |= {'to_in_memory': common.ratio(rates, way, 'in memory')}
            row |= {
                'cpu_us_a_pair': statistics.median(work[way]),
                'cpu_to_in_memory': common.ratio(work, way, 'in memory'),
            }
            rows.append(row)
            print(rows[-1], flush=True)
    return rows


if __name__ == '__main__':
    main()
