"""A run's trained fusion over a gallery's own neighbours: MHAF with supports that nobody has named (ours).

    g+ = normalise(MHAF(s g, s g_1 .. s g_k))     g, g_i unit vectors, s the mean length of the teacher's features

The fusion has learnt on features as the teacher's tower gives them, of any length; an index keeps unit vectors, so all
of them are brought to the length that is usual there. A student's vectors were taught to lie where the teacher's do.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lcr2s_jax import images
from lcr2s_jax.arrays import unit
from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.method.fusion import Fusion

_BLOCK = 256  # rows fused at a time
_SAMPLE = 64  # pictures of val by which s is measured


@dataclasses.dataclass(frozen=True)
class GalleryFusion:
    """MHAF of images, as an index keeps it: params are {'fusion': {'image' or 'both': ...}}, scale is s."""

    fusion: Fusion
    params: Mapping[str, Any]
    scale: float

    @classmethod
    def of_run(cls, run) -> 'GalleryFusion':
        """The fusion of a run's teacher, a `training.run.Run`: not imported here, as every search would wait for Orbax.

        Raises ConfigError: the run has kept no pictures of val by which the length of its features is known.
        """
        if not (sample := run.sample()):
            raise ConfigError(
                f'{run.workdir}: found no model/sample.npz, by which the length of its features is known; finish the '
                'run by typing its training command again'
            )
        pixels = [images.pixels(one, run.clip.image_size) for one in sample['encoded'][:_SAMPLE]]
        embed = jax.jit(run.encoder.embed_image)
        length = np.linalg.norm(np.asarray(embed({'clip': run.params['clip']}, np.stack(pixels))), axis=1)
        fusion = dataclasses.replace(run.fusion, dtype='float32')
        name = 'both' if fusion.shared else 'image'
        return cls(fusion, {'fusion': {name: run.params['fusion'][name]}}, float(length.mean()))

    def __call__(self, x_GE: np.ndarray, near_Gk: np.ndarray) -> np.ndarray:
        """Unit vectors and their `neighbours.nearest` -> enriched unit vectors, float32 [G, E]."""
        x_GE, own_G = unit(x_GE), np.arange(len(x_GE))[:, None]
        # the row itself stands in for a neighbour that is not there: the support mask hides it
        set_GK = np.concatenate([own_G, np.where(near_Gk < 0, own_G, near_Gk)], axis=1)
        rich_GE, block = np.empty_like(x_GE), min(_BLOCK, 1 << max(len(x_GE) - 1, 0).bit_length())
        for start in range(0, len(x_GE), block):
            set_bK = set_GK[start : start + block]
            filled_bK = np.resize(set_bK, (block, set_bK.shape[1]))  # one program for all blocks
            rich_bKE = _enrich(self.fusion)(self.params, 'image', self.scale * x_GE[filled_bK], filled_bK)
            rich_GE[start : start + block] = np.asarray(rich_bKE[:, 0])[: len(set_bK)]
        return unit(rich_GE)

    @property
    def shape(self) -> dict:
        """What `from_bytes` needs beside the bytes, as JSON has it."""
        return {'heads': self.fusion.heads, 'shared': self.fusion.shared, 'scale': self.scale}

    def to_bytes(self) -> bytes:
        """The parameters as a safetensors file."""
        flat = flatten_dict(self.params, sep='/')
        return save({path: np.asarray(x, np.float32, order='C') for path, x in flat.items()})

    @classmethod
    def from_bytes(cls, content: bytes, shape: Mapping, where: Any) -> 'GalleryFusion':
        """The inverse of `to_bytes` and `shape`. Raises SearchError, naming `where` the bytes were found."""
        try:
            tree = unflatten_dict(load(content), sep='/')
        except SafetensorError as error:
            raise SearchError(f'{where}: damaged ({error}); enrich the index again from the run') from None
        return cls(Fusion(shape['heads'], shape['shared'], 'float32'), tree, shape['scale'])


@functools.cache
def _enrich(fusion: Fusion):
    return jax.jit(fusion.enrich, static_argnums=1)
