"""A CLIP as two StableHLO programs, one an encoder, for readers that have JAX and nothing else.

<folder>/image.stablehlo   (weights, uint8 [n, h, w, 3]) -> f32 [n, E], pixels 0..255 normalised inside
<folder>/text.stablehlo    (weights, int32 [n, L]) -> f32 [n, E]
<folder>/image.npz, text.npz   the weights of either, by our parameter paths

The weights lie beside: within a program they would be constants, which XLA compiles anew, thrice as slowly, and holds
anew for every batch size, and which end at the two gigabytes of a flatbuffer.
"""

import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from lcr2s_jax.arrays import leaves_of
from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.weights import sidecar, sizes

PLATFORMS = ('cpu', 'cuda', 'tpu')


def save_stablehlo(folder: pathlib.Path, clip: CLIP, params) -> None:
    """Write both programs and their weights into a folder that is there; n, the rows of a batch, stays open.

    Matrix products have the full precision of f32 on every platform, so that what is checked on one holds on all.
    """
    (rows,) = export.symbolic_shape('n')
    inputs = {
        'image': ('vision', jax.ShapeDtypeStruct((rows, *clip.image_size, 3), jnp.uint8)),
        'text': ('text', jax.ShapeDtypeStruct((rows, clip.context_length), jnp.int32)),
    }
    for modality, (tower, batch) in inputs.items():
        weights = {path: np.asarray(leaf, np.float32) for path, leaf in leaves_of(params[tower])}
        encode = _encoder(clip, modality, tower, jax.tree.structure(params[tower]), tuple(weights))
        with jax.default_matmul_precision('highest'):
            program = export.export(encode, platforms=PLATFORMS)(weights, batch)
        (folder / f'{modality}.stablehlo').write_bytes(program.serialize())
        np.savez(folder / f'{modality}.npz', **weights)


def _encoder(clip: CLIP, modality: str, tower: str, tree, names: tuple[str, ...]):
    """(flat weights, rows) -> features."""

    def encode(weights, rows):
        params = {tower: tree.unflatten([weights[name] for name in names]), 'logit_scale': jnp.zeros(())}  # not read
        return clip.apply({'params': params}, rows, method=f'encode_{modality}')

    return jax.jit(encode)


def open_stablehlo(folder: pathlib.Path, beside: Mapping) -> tuple[CLIP, dict, dict]:
    """The sizes of an export; {'text', 'vision'} -> flat weights; the same -> (weights, rows) -> features.

    Raises WeightsError: a file is missing or cannot be read.
    """
    clip, params, programs = sizes.clip_of(sidecar.FILE, beside.get('clip')), {}, {}
    for modality, tower in (('image', 'vision'), ('text', 'text')):
        try:
            programs[tower] = export.deserialize(bytearray((folder / f'{modality}.stablehlo').read_bytes())).call
            with np.load(folder / f'{modality}.npz', allow_pickle=False) as weights:
                params[tower] = dict(weights)
        except Exception as error:  # JAX, zipfile and NumPy have a dozen ways to say damaged
            raise WeightsError(
                f'{folder}: its {modality} program cannot be read ({type(error).__name__}: {error}); JAX reads such '
                'programs for six months of its releases. Export the model again.'
            ) from None
    return clip, params, programs
