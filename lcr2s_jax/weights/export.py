"""A stage of a run for other programs: written, loaded by its own runtime, compared, then handed out.

smallest cosine(ours, theirs) >= 0.9999 over all images and captions,  R@1(ours) = R@1(theirs)
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import chex
import jax
import numpy as np

from lcr2s_jax import files, images
from lcr2s_jax.arrays import Embeddings, unit
from lcr2s_jax.errors import ConfigError, UserError
from lcr2s_jax.models.clip import CLIP, PIXEL_MEAN, PIXEL_STD
from lcr2s_jax.training.run import Run
from lcr2s_jax.weights import huggingface, open_clip, sidecar, stablehlo
from lcr2s_jax.weights.model_card import card

SMALLEST_COSINE = 0.9999
# Two images whose cosines to a caption are nearer than this are a tie: f32 gives any order to them. Ours.
TIE = 1e-5
LEVELS = 1.0  # of 255: what a resize may differ by that rounds between its two passes, as Pillow's does
_BILINEAR = 2  # Pillow's number, which the file has
_ROOT = pathlib.Path(__file__).parents[2]


class ExportError(UserError):
    """An export that its own runtime cannot use, or uses otherwise than it should."""


class Agreement(NamedTuple):
    image_cosine: float  # smallest cosine of a feature to ours
    text_cosine: float
    ours: float  # R@1 of captions searching images, percent
    theirs: float
    moved: int  # captions that found a person with one and not with the other, ties aside
    ties: int  # the same where TIE decides

    def faults(self) -> list[str]:
        """What forbids to hand the export out, in words; [] where nothing does."""
        cosines = {'images': self.image_cosine, 'captions': self.text_cosine}
        faults = [
            f'smallest cosine of {name} {cosine:.6f}, expected {SMALLEST_COSINE} or more'
            for name, cosine in cosines.items()
            if not cosine >= SMALLEST_COSINE  # NaN is none
        ]
        if self.moved:
            faults.append(f'R@1 {self.theirs:.2f}, expected {self.ours:.2f} ({self.moved} captions differ)')
        return faults


def compare(ours: Embeddings, image_GE: np.ndarray, text_QE: np.ndarray) -> Agreement:
    """Compare features of the same rows, f32 [G, E] and [Q, E], with ours."""
    chex.assert_shape((image_GE, text_QE), (None, ours.image_GE.shape[1]))
    chex.assert_equal_shape((image_GE, ours.image_GE))
    chex.assert_equal_shape((text_QE, ours.text_QE))
    # cosines near 1 need float64
    pairs = [[unit(x, np.float64) for x in pair] for pair in ((ours.image_GE, image_GE), (ours.text_QE, text_QE))]
    cosines = [float(np.min(np.sum(a * b, axis=1))) for a, b in pairs]
    (image, their_image), (text, their_text) = pairs
    margins = [_margins(q, g, ours.text_pid_Q, ours.image_pid_G) for q, g in ((text, image), (their_text, their_image))]
    differs = (margins[0] > 0) != (margins[1] > 0)
    tie = differs & (np.max(np.abs(margins), axis=0) <= TIE)
    first = [100 * float(np.mean(margin > 0)) for margin in margins]
    return Agreement(*cosines, *first, int(np.sum(differs & ~tie)), int(np.sum(tie)))


def _margins(text_QE, image_GE, text_pid_Q, image_pid_G, block: int = 1024) -> np.ndarray:
    """[Q]: by how much a caption's best image of its person leads the best of another's; R@1 counts those above 0."""
    found = []
    for start in range(0, len(text_QE), block):
        score_QG = text_QE[start : start + block] @ image_GE.T
        relevant_QG = text_pid_Q[start : start + block, None] == image_pid_G
        best_Q, other_Q = (np.where(rows, score_QG, -2.0).max(axis=1) for rows in (relevant_QG, ~relevant_QG))
        found.append(best_Q - other_Q)
    return np.concatenate(found)


def export(workdir: pathlib.Path, kind: str, out: pathlib.Path, unchecked: bool, stage: str = '') -> list[str]:
    """Write the best step of a stage to `out` with a model card; what its own runtime compared, in lines.

    Args:
      out: a folder that is not there yet; it appears whole or not at all.
      unchecked: hand it out without a comparison; the card says so.
      stage: of the run; '' for the student, or the last stage where there is none.
    """
    if out.exists():
        raise ConfigError(f'--out: found {out} there already; expected a new folder. Delete it or choose another.')
    files.check_writable(out, '--out')
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
    with _folder(out) as folder:
        FORMATS[kind](folder, run.clip, run.params['clip'])
        run.tokenizer.save(folder, run.clip.context_length)
        fitted = run.calibration
        sidecar.write(folder, run.clip, run.facts['trained_on'], fitted and fitted.to_json())
        checked = None if unchecked else check(run, kind, folder)
        (folder / 'README.md').write_text(card(run, kind, folder, checked))
    return checked or ['not checked: nothing has loaded it']


def check(run: Run, kind: str, folder: pathlib.Path) -> list[str]:
    """Load the export in a process of its own, embed the run's sample of val there, and compare; what was, in lines.

    Raises ExportError: it is not what it must be.
    """
    # not in the system's temporary folder, where nobody would find the pictures that a killed call leaves
    with tempfile.TemporaryDirectory(prefix='.check-', dir=folder) as rows:
        return _check(run, kind, folder, pathlib.Path(rows))


def _check(run: Run, kind: str, folder: pathlib.Path, rows: pathlib.Path) -> list[str]:
    """`rows` is an empty folder for what goes to that process and comes back."""
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
    pid, image = kept['image_pid'], kept['caption_image']
    with jax.default_matmul_precision('highest'):
        features = model.embed_image(pixels), model.embed_text(tokens)
    return Embeddings(*features, pid, pid[image], np.arange(len(pid)), image)


@contextlib.contextmanager
def _folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside `out` that becomes it at the end; gone after an error, or what a signal raises."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.aside(out, shared=True) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        raise ExportError(
            f'--out: {out} could not be written ({error.strerror or error}); make room or choose another'
        ) from error


def _hugging_face(folder: pathlib.Path, clip: CLIP, params) -> None:
    huggingface.save_huggingface(folder, clip, params, 'float32')
    height, width = clip.image_size
    pixels = {
        'image_processor_type': 'CLIPImageProcessor',
        **{'do_convert_rgb': True, 'do_resize': True, 'size': {'height': height, 'width': width}},
        **{'resample': _BILINEAR, 'do_center_crop': False, 'do_rescale': True, 'rescale_factor': 1 / 255},
        **{'do_normalize': True, 'image_mean': PIXEL_MEAN, 'image_std': PIXEL_STD},
    }
    (folder / huggingface.PIXELS).write_text(json.dumps(pixels, indent=2) + '\n')


# (a folder that is there, CLIP, its parameters) -> nothing; raise WeightsError. The tokenizer comes beside, in all.
FORMATS: Mapping[str, Callable[[pathlib.Path, CLIP, dict], None]] = MappingProxyType(
    {'hf': _hugging_face, 'open_clip': open_clip.save_open_clip, 'stablehlo': stablehlo.save_stablehlo}
)
