"""A stage of a run for other programs: written, loaded by its own runtime, compared, then handed out."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import jax
import numpy as np

from lcr2s_jax import files, images
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import ConfigError, UserError
from lcr2s_jax.model import Model
from lcr2s_jax.training.run import Run
from lcr2s_jax.weights import sidecar
from lcr2s_jax.weights.formats import FORMATS, LEVELS, compare
from lcr2s_jax.weights.model_card import card

_ROOT = pathlib.Path(__file__).parents[2]


class ExportError(UserError):
    """An export that its own runtime cannot use, or uses otherwise than it should."""


def export(workdir: pathlib.Path, kind: str, out: pathlib.Path, unchecked: bool, stage: str = '') -> list[str]:
    """Write the best step of a stage to `out`, loaded and compared by its own runtime, with a model card.

    Args:
      workdir: of a finished run; its data and starting weights are not needed.
      kind: 'hf', 'open_clip' or 'stablehlo'.
      out: a folder that is not there yet; it appears whole or not at all.
      unchecked: hand it out without a comparison; the card says so.
      stage: of the run; '' for the student, or the last stage where there is none.

    Returns:
      What was compared, in lines.

    Raises:
      UserError: what was found, what was expected, what to change.
    """
    if out.exists():
        raise ConfigError(f'--out: found {out} there already; expected a new folder. Delete it or choose another.')
    if kind == 'hf' and not unchecked and importlib.util.find_spec('torch') is None:
        raise ConfigError(
            '--format=hf: found no torch, with which the export is loaded and compared as others load it; expected it '
            'beside transformers (pip install torch). Or export with --unchecked.'
        )
    run = Run.open(workdir, stage, dtype='float32')
    run = dataclasses.replace(run, clip=run.clip.clone(remat=False, scan=False, chunks=1))
    if not unchecked and run.sample() is None:
        raise ConfigError(
            f'{workdir}: found no pictures of val to compare an export on, which evaluation leaves; type the training '
            'command again to finish the run, or export with --unchecked'
        )
    with _folder(out) as folder, tempfile.TemporaryDirectory() as rows:
        FORMATS[kind](folder, run.clip, run.params['clip'])
        run.tokenizer.save(folder, run.clip.context_length)
        fitted = run.calibration
        sidecar.write(folder, run.clip, run.facts['trained_on'], fitted and fitted.to_json())
        checked = None if unchecked else check(run, kind, folder, pathlib.Path(rows))
        (folder / 'README.md').write_text(card(run, kind, folder, checked))
    return checked or ['not checked: nothing has loaded it']


def check(run: Run, kind: str, folder: pathlib.Path, rows: pathlib.Path) -> list[str]:
    """Load the export in a process of its own, embed the run's sample of val there, and compare.

    Args:
      run: in float32.
      kind: 'hf', 'open_clip' or 'stablehlo'.
      folder: of the export.
      rows: an empty folder for what goes to that process and what comes back.

    Returns:
      What was compared, in lines. Raises ExportError where it is not what it must be.
    """
    ours = _write_rows(run, kind, rows)
    # It may not share a GPU or a TPU with this process.
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'HF_HUB_OFFLINE': '1'}
    words = [sys.executable, '-m', 'lcr2s_jax.weights.runtimes', kind, str(folder.absolute()), str(rows.absolute())]
    done = subprocess.run(words, cwd=_ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f'exit status {done.returncode}'])[-1]
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
            f'--format={kind}: loaded by {found["runtime"]}, the export differs from the {run.stage} on val: '
            f'{"; ".join(faults)}. Nothing was written. Please report it; --unchecked writes it all the same.'
        )
    lines = [
        f'loaded in a process of its own by {found["runtime"]}',
        f'val: {len(ours.image_GE):,} images, {len(ours.text_QE):,} captions; smallest cosine to the '
        f"{run.stage}'s: images {agreement.image_cosine:.7f}, captions {agreement.text_cosine:.7f}",
        f'R@1 among them {agreement.theirs:.2f}, the {run.stage} {agreement.ours:.2f}'
        + f' ({agreement.ties} captions are ties, which rounding decides)' * bool(agreement.ties),
    ]
    if 'pixel_levels' in found:
        lines.append(
            f'image processor from the files: pixels at most {found["pixel_levels"]:g} of 255 levels away; tokenizer '
            'from the sentences: the same tokens'
        )
    return lines + [found[name] for name in ('note',) if name in found]


def _write_rows(run: Run, kind: str, rows: pathlib.Path) -> Embeddings:
    """Write what the other process embeds; what we make of the same."""
    kept, size, model = run.sample(), run.clip.image_size, run.model()
    pixels = np.stack([images.pixels(encoded, size) for encoded in kept['encoded']])
    tokens = run.tokenizer.encode(kept['captions'], run.clip.context_length)
    np.save(rows / 'image.npy', pixels)
    np.save(rows / 'tokens.npy', tokens)
    (rows / 'captions.json').write_text(json.dumps(kept['captions']))
    if kind == 'hf':
        (rows / 'files').mkdir()
        for i, encoded in enumerate(kept['encoded']):
            (rows / 'files' / str(i)).write_bytes(encoded)
    return _embed(model, pixels, tokens, kept)


def _embed(model: Model, pixels: np.ndarray, tokens: np.ndarray, kept: dict) -> Embeddings:
    pid, image = kept['image_pid'], kept['caption_image']
    with jax.default_matmul_precision('highest'):
        return Embeddings(
            model.embed_image(pixels), model.embed_text(tokens), pid, pid[image], np.arange(len(pid)), image
        )


@contextlib.contextmanager
def _folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside `out` that becomes it at the end; gone after an error, Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.aside(out, str(os.getpid())) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        raise ExportError(f'--out: {out} could not be written ({error}); make room or choose another') from error
    finally:
        signal.signal(signal.SIGTERM, before)
