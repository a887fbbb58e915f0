"""Datasets of people through TFDS: built once, one example an image, then reused.

A source says where records come from (sources.py); everything behind it is the same for every dataset.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from absl import logging

from data import built, offsets
from data.built import Split
from data.sources import Source, tfds_folder
from lcr2s_jax.errors import DataError, printable
from lcr2s_jax.locks import alone
from lcr2s_jax.texts import counted
from lcr2s_jax.weights.tokenizer import Tokenizer

_HASHED = 1 << 16  # lines at once


@contextlib.contextmanager
def _quiet():
    """TFDS reports every step to the terminal; a user needs only what `_build` says."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)


def load(
    source: Source,
    tokenizer: Tokenizer,
    context_length: int,
    cache: str = '',
    only: Sequence[str] = (),
    *,
    in_memory: bool = False,
) -> dict[str, Split]:
    """The splits of a source, built first if this very dataset was not built before.

    Args:
      cache: folder of built datasets; '' for TFDS's own (TFDS_DATA_DIR or ~/tensorflow_datasets).
      only: read those of these splits that there are; () for all.
      in_memory: hold all encoded images, and do not read each from the disk whenever a batch wants it.

    Raises DataError: the source's own mistakes, a split without images, a folder that cannot be written, or a built
    dataset that is not as it was built.
    """
    folder = build(source, tokenizer, context_length, cache)
    found, known = built.read(folder, [name for name in source.splits if not only or name in only])
    _tell_skipped(source, folder, known['skipped'])
    _refuse_another_copy(source, folder, known['images'], found)
    if in_memory:
        found = {name: dataclasses.replace(split, jpegs=split.jpegs[:]) for name, split in found.items()}
    return found


def build(
    source: Source, tokenizer: Tokenizer, context_length: int, cache: str = '', beam: Sequence[str] | None = None
) -> pathlib.Path:
    """The folder of a dataset that is built, now or before; as `load`, or by Apache Beam with the options `beam`."""
    folder = place(source, tokenizer, context_length, cache)
    if folder.is_dir():
        return folder
    where = folder.parents[2]

    def make():
        from data import builder  # TFDS

        builder.tfds.disable_progress_bar()
        return builder.People(folder.parent.name, source, tokenizer, context_length, str(where))

    with _quiet():
        try:
            _build(folder, make, source.name, beam)
        except (OSError, RuntimeError) as error:  # RuntimeError: of what writes the records, on a full disk
            if beam is not None and 'DataError: ' in str(error):  # of a worker: the source's own mistake
                raise DataError(_reason(error)) from None
            on = '' if beam is None else f' on Apache Beam {" ".join(beam)}'.rstrip()
            expected = 'a folder that all workers can write' if on else 'a folder that can be written'
            raise DataError(
                f"config.data.cache: found '{where}', where the dataset '{source.name}' cannot be built{on} "
                f'({_reason(error)}); expected {expected}, with room for all images. Nothing was built. Make room '
                'there, or change config.data.cache.'
            ) from error
    return folder


def _reason(error: Exception) -> str:
    """What an error says; of one in a worker of Beam, the end of what it says: before it comes a traceback."""
    text = str(error).strip()
    return text.rpartition('Error: ')[2].partition(' [while running')[0] if 'Traceback' in text else text


def place(source: Source, tokenizer: Tokenizer, context_length: int, cache: str) -> pathlib.Path:
    """The folder of a built dataset, named after all that its examples depend on: a change is built anew."""
    key = f'{source.fingerprint} {tokenizer.fingerprint} {context_length}'
    name = f'{source.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}'
    return tfds_folder(cache) / 'people' / name / offsets.VERSION


def digest(split: Split) -> str:
    """How many images were loaded and a hash of which, of whom; the source does not know which will be skipped."""
    hashed, count = hashlib.sha256(), len(split.file_names)
    for start in range(0, count, _HASHED):
        pids, names = (column[start : start + _HASHED] for column in (split.image_pid, split.file_names))
        lines = '\n'.join(f'{pid} {name}' for pid, name in zip(pids.tolist(), names, strict=True))
        hashed.update(('\n' * (start > 0) + lines).encode())
    return f'{count} images, {hashed.hexdigest()[:32]}'


def _build(folder: pathlib.Path, make: Callable, name: str, beam: Sequence[str] | None) -> None:
    """Build a dataset, unless another process does it meanwhile; what killed builds of it left behind is removed."""
    say = functools.partial(print, file=sys.__stderr__, flush=True)
    waiting = functools.partial(say, f"Dataset '{name}': waiting for another process that builds it")
    above = folder.parent
    with alone(above.with_name(f'.{above.name}.lock'), waiting) as held:
        if folder.is_dir():
            return
        if held:
            for leftover in above.glob('incomplete.*'):  # nobody else is at work here
                shutil.rmtree(leftover)
        clock, config = time.perf_counter(), None if beam is None else _on_beam(beam)
        say(f"Building dataset '{name}' (once; the next run finds it built)")
        builder = make()
        builder.download_and_prepare(download_config=config)
        images = sum(split.num_examples for split in builder.info.splits.values())
        say(f"Built dataset '{name}': {images:,} images in {time.perf_counter() - clock:.0f} s")


def _on_beam(options: Sequence[str]):
    from data.builder import beam_config  # TFDS

    root = str(pathlib.Path(__file__).parents[1])  # where workers of this machine find this very code
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))
    return beam_config(options)


def _tell_skipped(source: Source, folder: pathlib.Path, skipped: Sequence) -> None:
    if skipped:
        named = printable(', '.join(f'{name} ({reason})' for name, reason in skipped[:10]))
        print(
            f"Dataset '{source.name}' is used without {len(skipped)} of its images, all named in "
            f'{folder / offsets.INDEX}: {named}{", ..." if len(skipped) > 10 else ""}',
            file=sys.stderr,
        )


def _refuse_another_copy(source: Source, folder: pathlib.Path, built_from: str, splits: Mapping[str, Split]) -> None:
    """Images of the same names in another folder may be others, blurred ones say: their sizes tell."""
    if source.images is None or built_from == str(source.images):
        return
    pairs = (pair for split in splits.values() for pair in zip(split.file_names, split.file_size, strict=True))
    files = ((source.images / name, size) for name, size in pairs)
    # those that are not there need not be: what was built is all that is read
    differ = [path for path, size in files if os.path.isfile(path) and os.path.getsize(path) != size]
    if differ:
        raise DataError(
            f'config.data.root: found {counted(len(differ), "image")} of another size than those that were built, '
            f"expected the same; the first is {differ[0]}. '{source.name}' was built in {folder} from the images below "
            f'{built_from}: choose another config.data.cache for these, or delete that folder to build it anew.'
        )
