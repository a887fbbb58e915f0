"""python main.py export --workdir=... --format=... --out=...: the student for other programs, checked by them."""

import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from lcr2s_jax.errors import ConfigError, UserError

_ROOT = pathlib.Path(__file__).parents[1]


class ExportError(UserError):
    """An export that its own runtime cannot use, or uses otherwise than it should."""


def export(workdir: pathlib.Path, kind: str, out: pathlib.Path, unchecked: bool) -> None:
    """Write the best student of `workdir` to `out`, loaded and compared by its own runtime, with a model card.

    Args:
      workdir: of a finished run.
      kind: 'hf', 'open_clip' or 'stablehlo'.
      out: a folder that is not there yet; it appears whole or not at all.
      unchecked: hand it out without a comparison; the card says so.

    Raises:
      UserError, DataError: what was found, what was expected, what to change.
    """
    from commands.card import card
    from commands.trained import Trained
    from lcr2s_jax.weights.export import FORMATS

    clock = time.perf_counter()
    if out.exists():
        raise ConfigError(f'--out: found {out} there already; expected a new folder. Delete it or choose another.')
    if kind == 'hf' and not unchecked and importlib.util.find_spec('torch') is None:
        raise ConfigError(
            '--format=hf: found no torch, with which the export is loaded and compared as others load it; expected it '
            'beside transformers (pip install -r requirements-dev.txt). Or export with --unchecked.'
        )
    student = Trained(workdir)
    with _aside(out) as aside:
        folder, rows = aside / 'export', aside / 'rows'
        folder.mkdir()
        FORMATS[kind](folder, student.clip, student.params)
        student.tokenizer.save(folder, student.clip.context_length)
        checked = None if unchecked else check(student, kind, folder, rows)
        (folder / 'README.md').write_text(card(student, workdir, kind, folder, checked))
        folder.rename(out)
    for line in checked or ['not checked: nothing has loaded it']:
        print(line)
    print(f'{out}: {"  ".join(sorted(path.name for path in out.iterdir()))}  ({time.perf_counter() - clock:.0f} s)')


def check(student, kind: str, folder: pathlib.Path, rows: pathlib.Path) -> list[str]:
    """Load the export in a process of its own, embed the student's split there, and compare.

    Args:
      student: a commands.trained.Trained.
      kind: 'hf', 'open_clip' or 'stablehlo'.
      folder: of the export.
      rows: a folder to make for what goes to that process and what comes back.

    Returns:
      What was found, in lines. Raises ExportError where it is not what it must be.
    """
    from lcr2s_jax.weights.export import LEVELS, compare

    ours = student.features()
    _write_rows(student, kind, rows)
    # It may not share a GPU or a TPU with this process.
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'HF_HUB_OFFLINE': '1'}
    words = [sys.executable, '-m', 'lcr2s_jax.weights.runtimes', kind, str(folder.absolute()), str(rows.absolute())]
    run = subprocess.run(words, cwd=_ROOT, env=environment, capture_output=True, text=True)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f'exit status {run.returncode}'])[-1]
        raise ExportError(f'--format={kind}: its own runtime could not use the export ({reason}). Nothing was written.')
    found = json.loads((rows / 'found.json').read_text())
    agreement = compare(ours, *(np.load(rows / f'found_{name}.npy') for name in ('image', 'text')))
    faults = agreement.faults()
    if not found.get('pixel_levels', 0) <= LEVELS + 0.01:
        faults.append(f'pixels of its image processor {found["pixel_levels"]} levels away, expected {LEVELS} at most')
    if found.get('captions_differ'):
        faults.append(f'other tokens in {found["captions_differ"]} captions, expected the same')
    if faults:
        raise ExportError(
            f'--format={kind}: loaded by {found["runtime"]}, the export differs from the student on {student.split}: '
            f'{"; ".join(faults)}. Nothing was written. Please report it; --unchecked writes it all the same.'
        )
    lines = [
        f'loaded in a process of its own by {found["runtime"]}',
        f'{student.split}: {len(ours.image_GE):,} images, {len(ours.text_QE):,} captions; smallest cosine to the '
        f"student's: images {agreement.image_cosine:.7f}, captions {agreement.text_cosine:.7f}",
        f'R@1 {agreement.theirs:.2f}, the student {agreement.ours:.2f}'
        + f' ({agreement.ties} captions are ties, which rounding decides)' * bool(agreement.ties),
    ]
    if 'pixel_levels' in found:
        lines.append(
            f'image processor from the files: pixels at most {found["pixel_levels"]:g} of 255 levels away; tokenizer '
            'from the sentences: the same tokens'
        )
    return lines + [found[name] for name in ('note',) if name in found]


def _write_rows(student, kind: str, rows: pathlib.Path) -> None:
    """What our evaluation embeds, and for those who read files and sentences themselves, these."""
    from data import pipeline

    people, size = student.splits[student.split], student.config.evaluate.batch_size
    rows.mkdir()
    shape = (len(people.jpegs), *student.clip.image_size, 3)
    image = np.lib.format.open_memmap(rows / 'image.npy', 'w+', np.uint8, shape)
    for i, batch in enumerate(pipeline.gallery_batches(people, student.clip.image_size, size)):
        part = image[i * size : (i + 1) * size]
        part[:] = batch[: len(part)]
    image.flush()
    np.save(rows / 'tokens.npy', people.tokens)
    (rows / 'captions.json').write_text(json.dumps(people.captions))
    if kind == 'hf':
        (rows / 'files').mkdir()
        for i, encoded in enumerate(people.jpegs):
            (rows / 'files' / str(i)).write_bytes(encoded)


@contextlib.contextmanager
def _aside(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside `out` to work in, gone at the end, whether that is an error, Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f'.{out.name}.{os.getpid()}')
    try:
        aside.mkdir()
        yield aside
    except OSError as error:
        raise ExportError(f'--out: {out} could not be written ({error}); make room or choose another') from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
