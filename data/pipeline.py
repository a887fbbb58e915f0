"""From a split to batches of NumPy arrays: endless for training, once for gallery and queries.

A training batch is a pure function of (seed, step); each host decodes its own slice of it.
"""

import functools
from collections.abc import Iterator, Mapping

import numpy as np

from data import transforms
from data.built import Images
from data.people import Split
from data.plan import Plan
from data.transforms import tf
from lcr2s_jax.errors import DataError
from lcr2s_jax.weights.tokenizer import Tokenizer

_PREFETCH = 4  # batches


def train_batches(
    split: Split,
    *,
    identities: int,
    views: int,
    captions: int,
    seed: int,
    image_size: tuple[int, int],
    augment: Mapping,
    masking: Mapping,
    tokenizer: Tokenizer,
    left_out: tuple[int, ...] = (),
    start: int = 0,
    stop: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """This host's part of the batches of steps start .. stop - 1, or without end; b = identities / process_count.

    Arguments as of `data.plan.Plan`, `data.transforms.augment` and `mask_tokens`; `image_size` is (height, width),
    pixels.

    Yields:
      image uint8 [b, K, h, w, 3], tokens int32 [b, K, L], pid int32 [b], view and caption int32
      [b, K], their places in the split (equal ones are one image, one caption).

    Raises:
      DataError: a batch that the split or the hosts cannot fill, shares above 1, an unreadable image.
    """
    _check_masking(masking)
    mine = _slice('config.batch.identities', identities, process_index, process_count)
    sampler = dict(identities=identities, views=views, captions=captions, seed=seed, left_out=left_out)
    plan = Plan(split.image_pid, split.caption_image, **sampler)
    rows, image_size, length = (mine.stop - mine.start) * views, tuple(image_size), split.tokens.shape[1]
    words = dict(mask_token=tokenizer.mask_token, ordinary=tokenizer.ordinary)
    mask = functools.partial(transforms.mask_tokens, **masking, **words)
    slots = np.arange(identities * views).reshape(identities, views)
    read = _Reader(split)

    def host_slice(step):
        image_BK, caption_BK, _ = plan.batch(int(step))
        row_BK = slots + int(step) * slots.size  # of the run; with the seed it is the row's own randomness
        image, caption, row = (x[mine].ravel() for x in (image_BK, caption_BK, row_BK))
        # the bytes of this step alone enter TensorFlow: a constant of all would hold every image twice
        return read(image), split.tokens[caption].astype(np.int32), image, caption, row

    def planned(step):
        columns = tf.numpy_function(host_slice, [step], [tf.string, tf.int32, tf.int32, tf.int32, tf.int64])
        shapes = [rows], [rows, length], [rows], [rows], [rows]
        return tf.data.Dataset.from_tensor_slices(tuple(map(tf.ensure_shape, columns, shapes)))

    def row(jpeg, tokens, image_index, caption_index, number):
        image_seed, text_seed = tf.unstack(tf.random.split(tf.stack([tf.constant(seed, tf.int64), number]), 2))
        image = transforms.resize(transforms.decode(jpeg), image_size)
        if masking['prob']:
            tokens = mask(tokens, text_seed)
        return transforms.augment(image, image_seed, **augment), tokens, image_index, caption_index

    steps = tf.data.Dataset.range(start, np.iinfo(np.int64).max if stop is None else stop)
    for columns in _rows(read, steps.flat_map(planned).map(row, tf.data.AUTOTUNE), rows):
        image, tokens, view, caption = (x.reshape(-1, views, *x.shape[1:]) for x in columns)
        pid = split.image_pid[view[:, 0]]
        yield {'image': image, 'tokens': tokens, 'pid': pid, 'view': view, 'caption': caption}


def gallery_batches(
    split: Split, image_size: tuple[int, int], batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[np.ndarray]:
    """Every image of a split once, in order, unaugmented: this host's rows of batches of `batch_size`.

    Yields uint8 [batch_size / process_count, h, w, 3]; the last batch is filled up with row 0. Raises DataError: hosts
    that cannot share a batch evenly, an unreadable image.
    """
    mine = _indices(len(split.jpegs), batch_size, process_index, process_count)
    read = _Reader(split)

    def planned(batch):
        jpegs = tf.numpy_function(lambda i: read(mine[i]), [batch], tf.string)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(jpegs, [mine.shape[1]]))

    images = (
        tf.data.Dataset.range(len(mine))
        .flat_map(planned)
        .map(lambda jpeg: transforms.resize(transforms.decode(jpeg), tuple(image_size)), tf.data.AUTOTUNE)
    )
    yield from _rows(read, images, mine.shape[1])


def query_batches(
    split: Split, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[np.ndarray]:
    """Every caption of a split once, as `gallery_batches`: int32 [batch_size / process_count, L]."""
    for index in _indices(len(split.tokens), batch_size, process_index, process_count):
        yield split.tokens[index].astype(np.int32)


class _Reader:
    """Reads the encoded images of a split for TensorFlow, which would only tell a failure's text."""

    def __init__(self, split: Split):
        self.split, self.failure = split, None

    def __call__(self, index: np.ndarray) -> np.ndarray:
        jpegs = self.split.jpegs
        try:
            found = jpegs.read(index) if isinstance(jpegs, Images) else [jpegs[i] for i in index]
        except DataError as error:
            self.failure = error
            raise
        return np.array(found, object)


def _indices(count: int, batch_size: int, process_index: int, process_count: int) -> np.ndarray:
    """[batches, rows of this host]: 0 .. count - 1 in order, filled up with 0."""
    mine = _slice('config.evaluate.batch_size', batch_size, process_index, process_count)
    index = np.arange(-(-count // batch_size) * batch_size).reshape(-1, batch_size)[:, mine]
    return np.where(index < count, index, 0)


def _slice(field: str, size: int, process_index: int, process_count: int) -> slice:
    if size % process_count:
        raise DataError(f'{field}: found {size}, expected a multiple of the {process_count} hosts. Change it.')
    share = size // process_count
    return slice(process_index * share, (process_index + 1) * share)


def _rows(read: _Reader, rows: tf.data.Dataset, batch_size: int) -> Iterator:
    """Batches of decoded rows as NumPy, and a readable error for an image that is none, or that cannot be read."""
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1  # rows are the parallelism
    batches = rows.batch(batch_size, drop_remainder=True).prefetch(_PREFETCH).with_options(options)
    try:
        yield from batches.as_numpy_iterator()
    except tf.errors.OpError as error:
        if read.failure:
            raise read.failure from None
        if isinstance(error, tf.errors.InvalidArgumentError):
            _name_undecodable(read.split, error)
        raise


def _name_undecodable(split: Split, error: Exception) -> None:
    for number, name in enumerate(split.file_names):
        jpeg = split.jpegs[number]
        try:
            transforms.decode(tf.constant(jpeg))
        except tf.errors.InvalidArgumentError:
            raise DataError(
                f"split '{split.name}': found an image that cannot be decoded, {name} ({len(jpeg)} bytes); expected "
                'JPEG, PNG or BMP. Replace the file or remove it from the annotations.'
            ) from error


def _check_masking(masking: Mapping) -> None:
    shares = [masking[name] for name in ('mask_share', 'replace_share', 'delete_share')]
    if not (0 <= masking['prob'] <= 1 and min(shares) >= 0 and sum(shares) <= 1 + 1e-9):
        raise DataError(
            f'config.masking: found {dict(masking)}; expected a probability and shares of 0 or '
            'more that add up to 1 at most. Change config.masking.'
        )
