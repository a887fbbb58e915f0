"""Which weights a run starts from: a folder, a name on the Hugging Face hub, or random ones of a known architecture.

Everything about what the files hold is in huggingface.py.
"""

import hashlib
import pathlib
import re

import jax
import numpy as np

from lcr2s_jax import huggingface
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.huggingface import WeightsError
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP


def load(
    *,
    pretrained: str,
    architecture: str,
    image_size: tuple[int, int],
    context_length: int,
    vocab_size: int,
    resize: str,
    dtype: str,
    remat: bool,
) -> tuple[CLIP, dict]:
    """A CLIP of the given image size and its f32 parameters.

    Args:
        pretrained: folder in Hugging Face layout, or a name on its hub; '' for random weights.
        architecture: a key of ARCHITECTURES; read for random weights only.
        image_size: pixels, height and width; the position table is resized to it.
        context_length: tokens; a longer position table is cut.
        vocab_size: read for random weights only.
        resize: 'bicubic' (Hugging Face, open_clip) or 'bilinear' (IRRA).
        dtype: compute type, 'float32' or 'bfloat16'.
        remat: recompute blocks in the backward pass.

    Raises:
        WeightsError, ConfigError: what was found, what was expected, what to change.
    """
    wanted = dict(image_size=tuple(image_size), context_length=context_length, dtype=dtype, remat=remat)
    if not pretrained:
        if architecture not in ARCHITECTURES:
            raise ConfigError(
                f"config.model.architecture: found '{architecture}', expected one of {', '.join(ARCHITECTURES)}"
            )
        clip = CLIP(**ARCHITECTURES[architecture], **wanted, vocab_size=vocab_size)
        _check_image_size(clip)
        return clip, jax.jit(clip.init_params)(jax.random.key(0))
    folder = _folder(pretrained)
    sizes, native = huggingface.read_config(folder / 'config.json')
    clip = CLIP(**sizes | wanted)
    _check_image_size(clip)
    try:
        tensors = huggingface.read_tensors(folder / 'model.safetensors')
        params = huggingface.from_huggingface(tensors, clip, resize, native)
    except WeightsError as error:
        raise WeightsError(f'{folder}: {error}') from None
    return clip, params


def fingerprint(params) -> str:
    """SHA-256 in hex of all numbers of a tree of parameters, in its order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def _folder(pretrained: str) -> pathlib.Path:
    path = pathlib.Path(pretrained).expanduser()
    if path.is_dir():
        return path
    missing = f"config.model.pretrained: found no folder '{path}'"
    a_name = re.fullmatch(r'[\w-][\w.-]*/[\w.-]+', pretrained)
    if not a_name or path.parent.is_dir():
        raise WeightsError(
            f'{missing}; expected one with config.json and model.safetensors, or a hub name such as '
            "'openai/clip-vit-base-patch16'"
        )
    import huggingface_hub

    try:
        wanted = ['*.json', '*.txt', 'model.safetensors']
        return pathlib.Path(huggingface_hub.snapshot_download(pretrained, allow_patterns=wanted))
    except Exception as error:  # the client has a dozen ways to say offline, unknown or forbidden
        reason = str(error).strip().partition('\n')[0]
        raise WeightsError(
            f'{missing}, and the Hugging Face hub gave nothing by that name ({type(error).__name__}: {reason}). '
            'Without a network, set it to a folder with config.json and model.safetensors.'
        ) from None


def _check_image_size(clip: CLIP) -> None:
    fitting = tuple(side // clip.patch_size * clip.patch_size for side in clip.image_size)
    if fitting != clip.image_size:
        raise ConfigError(
            f'config.model.image_size: found {clip.image_size}, expected multiples of the patch '
            f'size {clip.patch_size}, such as {fitting}'
        )
