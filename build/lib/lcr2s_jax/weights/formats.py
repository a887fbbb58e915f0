"""A trained CLIP written for other programs, and what has to be true of it before anybody gets it.

smallest cosine(ours, theirs) >= 0.9999 over all images and captions,  R@1(ours) = R@1(theirs)
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import chex
import numpy as np

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.models.clip import CLIP, PIXEL_MEAN, PIXEL_STD
from lcr2s_jax.weights import huggingface, open_clip, stablehlo

SMALLEST_COSINE = 0.9999
# Two images whose cosines to a caption are nearer than this are a tie: f32 gives any order to them. Ours.
TIE = 1e-5
LEVELS = 1.0  # of 255: what a resize may differ by that rounds between its two passes, as Pillow's does
_BILINEAR = 2  # Pillow's number, which the file has


class Agreement(NamedTuple):
    """How near an export's features are to ours.

    Attributes:
      image_cosine, text_cosine: smallest cosine of a feature to ours.
      ours, theirs: R@1 of captions searching images, percent.
      moved: captions that found a person with one and not with the other, ties aside.
      ties: the same where TIE decides.
    """

    image_cosine: float
    text_cosine: float
    ours: float
    theirs: float
    moved: int
    ties: int

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
    pairs = [tuple(map(_unit, pair)) for pair in ((ours.image_GE, image_GE), (ours.text_QE, text_QE))]
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


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)  # cosines near 1 need it
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _hugging_face(folder: pathlib.Path, clip: CLIP, params) -> None:
    huggingface.save_huggingface(folder, clip, params, 'float32')
    height, width = clip.image_size
    pixels = {
        'image_processor_type': 'CLIPImageProcessor',
        **{'do_convert_rgb': True, 'do_resize': True, 'size': {'height': height, 'width': width}},
        **{'resample': _BILINEAR, 'do_center_crop': False, 'do_rescale': True, 'rescale_factor': 1 / 255},
        **{'do_normalize': True, 'image_mean': PIXEL_MEAN, 'image_std': PIXEL_STD},
    }
    (folder / 'preprocessor_config.json').write_text(json.dumps(pixels, indent=2) + '\n')


# (a folder that is there, CLIP, its parameters) -> nothing; raise WeightsError. The tokenizer comes beside, in all.
FORMATS: Mapping[str, Callable[[pathlib.Path, CLIP, dict], None]] = MappingProxyType(
    {'hf': _hugging_face, 'open_clip': open_clip.save_open_clip, 'stablehlo': stablehlo.save_stablehlo}
)
