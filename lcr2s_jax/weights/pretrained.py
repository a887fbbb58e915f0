"""Which weights a run starts from: a folder, a file, a name on the hub, or random ones of a known architecture.

Everything about what the files hold is in huggingface.py, open_clip.py and openai.py.
"""

import hashlib
import json
import pathlib
import re

import jax
import numpy as np

from lcr2s_jax.errors import ConfigError, WeightsError
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP
from lcr2s_jax.models.layers import KERNELS
from lcr2s_jax.training.parallel import fetch
from lcr2s_jax.weights import huggingface, open_clip, openai
from lcr2s_jax.weights.tensors import Source
from lcr2s_jax.weights.tokenizer import BUILT_IN

_TEXT_FILES = ['*.json', '*.txt', '*.txt.gz']  # configs and tokenizers
_FILES = ('.pt', '.pth', '.bin', '.ckpt', '.safetensors')  # endings that no name on the hub has


def load(
    *,
    pretrained: str,
    architecture: str,
    image_size: tuple[int, int] | None,
    context_length: int | None,
    vocab_size: int,
    resize: str,
    dtype: str,
    activation: str,
    heads: int,
    kernel: str,
    remat: bool,
    scan: bool,
    chunks: int,
) -> tuple[CLIP, dict]:
    """A CLIP of the given image size and its f32 parameters.

    Args:
        pretrained: folder in Hugging Face's or open_clip's layout, a name on the hub, OpenAI's .pt, or a checkpoint
            of the IRRA family; '' for random weights.
        architecture: a key of ARCHITECTURES; read for random weights only.
        image_size: pixels, height and width; the position table is resized to it.
        context_length: tokens; a longer position table is cut.
        vocab_size: read for random weights only.
        resize: 'bicubic' (Hugging Face, open_clip) or 'bilinear' (IRRA).
        dtype: compute type, 'float32' or 'bfloat16'.
        kernel: of attention: 'einsum', 'xla', or 'cudnn' on NVIDIA's GPUs in bfloat16.
        remat: recompute blocks in the backward pass.
        scan: compile one block of a transformer instead of all.
        chunks: encode a batch's rows in so many parts, each once more in the backward pass.

    Raises:
        WeightsError, ConfigError: what was found, what was expected, what to change.
    """
    if kernel not in KERNELS:
        raise ConfigError(f"config.model.kernel: found '{kernel}', expected one of {', '.join(KERNELS)}")
    if kernel == 'cudnn' and (dtype != 'bfloat16' or jax.default_backend() != 'gpu'):
        raise ConfigError(
            f"config.model.kernel: found 'cudnn' with config.model.dtype='{dtype}' on {jax.default_backend()}, "
            "expected 'bfloat16' on a GPU of NVIDIA's; 'einsum' goes everywhere"
        )
    wanted = dict(
        image_size=image_size and tuple(image_size), context_length=context_length, dtype=dtype, kernel=kernel,
        remat=remat, scan=scan, chunks=chunks,
    )  # fmt: skip
    if not pretrained:
        if architecture not in ARCHITECTURES:
            raise ConfigError(
                f"config.model.architecture: found '{architecture}', expected one of {', '.join(ARCHITECTURES)}"
            )
        clip = CLIP(**ARCHITECTURES[architecture], **wanted, vocab_size=vocab_size)
        _check_image_size(clip)
        return clip, jax.jit(clip.init_params)(jax.random.key(0))
    source = _open(BUILT_IN.get(pretrained, pretrained))
    wanted |= {'activation': activation} if activation else {}
    clip = CLIP(**source.sizes | wanted)
    _check_image_size(clip)
    try:
        return clip, source.params(clip, resize)
    except WeightsError as error:
        where = '' if str(error).startswith(str(source.where)) else f'{source.where}: '
        raise WeightsError(f'{where}{error}') from None


def fingerprint(params) -> str:
    """SHA-256 in hex of all numbers of a tree of parameters, in its order; the same on every host."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(fetch(leaf)))
    return digest.hexdigest()


def _open(pretrained: str) -> Source:
    path = pathlib.Path(pretrained).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if path.is_file():
        named = path.suffix == '.safetensors' and any(
            (path.parent / name).is_file() for name in ('config.json', open_clip.CONFIG)
        )
        return _open_folder(path.parent, path) if named else openai.open_file(path)
    missing = f"config.model.pretrained: found no folder '{path}', and no file"
    a_name = re.fullmatch(r'[\w-][\w.-]*/[\w.-]+', pretrained) and path.suffix not in _FILES
    if not a_name or path.parent.is_dir():
        raise WeightsError(
            f'{missing}; expected a folder with config.json and model.safetensors, or with {open_clip.CONFIG}, '
            "OpenAI's or IRRA's file, or a hub name such as 'openai/clip-vit-base-patch16'"
        )
    try:
        folder = _fetch(pretrained)
    except Exception as error:  # the client has a dozen ways to say offline, unknown or forbidden
        reason = str(error).strip().partition('\n')[0]
        raise WeightsError(
            f'{missing}, and the Hugging Face hub gave nothing by that name ({type(error).__name__}: {reason}). '
            'Without a network, set it to a folder with config.json and model.safetensors, or to a file.'
        ) from None
    return _open_folder(folder)


def _open_folder(folder: pathlib.Path, weights: pathlib.Path | None = None) -> Source:
    if _is_open_clip(folder, weights):
        return open_clip.open_folder(folder, weights)
    return huggingface.open_folder(folder, weights or folder / 'model.safetensors')


def _is_open_clip(folder: pathlib.Path, weights: pathlib.Path | None = None) -> bool:
    """Is it open_clip's layout? Some folders have both: then by the weights that are there, Hugging Face's first."""
    if not (folder / open_clip.CONFIG).is_file():
        return False
    try:  # a config.json of another library may lie there, and weights in its naming
        theirs = json.loads((folder / 'config.json').read_text()).get('model_type') == 'clip'
    except (OSError, ValueError, AttributeError):
        theirs = False
    weights = weights or folder / 'model.safetensors'
    return not theirs or weights.name != 'model.safetensors' or not weights.is_file()


def _fetch(name: str) -> pathlib.Path:
    """Folder of a hub name: its configs and tokenizer, then the one file of weights that is read."""
    from huggingface_hub import snapshot_download

    folder = pathlib.Path(snapshot_download(name, allow_patterns=_TEXT_FILES))
    for file in open_clip.WEIGHTS if (folder / open_clip.CONFIG).is_file() else ('model.safetensors',):
        if not (folder / file).is_file():
            folder = pathlib.Path(snapshot_download(name, allow_patterns=[*_TEXT_FILES, file]))
        if (folder / file).is_file():
            break
    return folder


def _check_image_size(clip: CLIP) -> None:
    fitting = tuple(side // clip.patch_size * clip.patch_size for side in clip.image_size)
    if fitting != clip.image_size:
        raise ConfigError(
            f'config.model.image_size: found {clip.image_size}, expected multiples of the patch '
            f'size {clip.patch_size}, such as {fitting}'
        )
