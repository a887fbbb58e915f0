"""Hugging Face's CLIP folders (config.json, model.safetensors) <-> Linen parameters, without torch.

Linear weights are transposed, the patch convolution becomes a matrix, position tables change their grid.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from lcr2s_jax.arrays import leaves_of
from lcr2s_jax.errors import WeightsError
from lcr2s_jax.files import aside, write
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.models.layers import ACTIVATIONS, EPSILON
from lcr2s_jax.weights import kinds, pixels
from lcr2s_jax.weights.positions import resize_positions, resize_text_positions, square_positions
from lcr2s_jax.weights.reading import brief, integers, read_object
from lcr2s_jax.weights.sizes import MAX_SIDE, Sizes, checked
from lcr2s_jax.weights.stored import read_weights
from lcr2s_jax.weights.tensors import Slot, Source, fill, patch_convolution, patch_matrix, renamed

# Where config.json leaves a size out, Hugging Face means these.
_TEXT_DEFAULTS = {
    'hidden_size': 512, 'num_hidden_layers': 12, 'num_attention_heads': 8, 'vocab_size': 49408,
    'max_position_embeddings': 77, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5,
}  # fmt: skip
_VISION_DEFAULTS = {
    'hidden_size': 768, 'num_hidden_layers': 12, 'num_attention_heads': 12, 'patch_size': 32,
    'image_size': 224, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5,
}  # fmt: skip

# Our size -> Hugging Face's name of it, in the config of its tower.
_TEXT = {
    'text_width': 'hidden_size', 'text_layers': 'num_hidden_layers', 'text_heads': 'num_attention_heads',
    'vocab_size': 'vocab_size', 'context_length': 'max_position_embeddings',
}  # fmt: skip
_VISION = {
    'vision_width': 'hidden_size', 'vision_layers': 'num_hidden_layers', 'vision_heads': 'num_attention_heads',
    'patch_size': 'patch_size',
}  # fmt: skip

# Our parameter path -> Hugging Face's tensor name; applied in this order.
_NAMES = (
    (r'^(vision|text)/block_(\d+)/', r'\1_model/encoder/layers/\2/'),
    (r'/ln_([12])/', r'/layer_norm\1/'),
    (r'/attn/(\w+)/', r'/self_attn/\1_proj/'),
    (r'^vision/ln_pre/', 'vision_model/pre_layrnorm/'),  # their spelling
    (r'^vision/ln_post/', 'vision_model/post_layernorm/'),
    (r'^vision/class_token$', 'vision_model/embeddings/class_embedding'),
    (r'^vision/patch/', 'vision_model/embeddings/patch_embedding/'),
    (r'^text/ln_final/', 'text_model/final_layer_norm/'),
    (r'^text/token_embedding$', 'text_model/embeddings/token_embedding/weight'),
    (r'^(vision|text)/positions$', r'\1_model/embeddings/position_embedding/weight'),
    (r'^vision/projection/', 'visual_projection/'),
    (r'^text/projection/', 'text_projection/'),
    (r'/(kernel|scale)$', '/weight'),
)
_TOWERS = ('vision_model.', 'text_model.')
PIXELS = 'preprocessor_config.json'
_PATCH = 'vision_model.embeddings.patch_embedding.weight'
IMAGE_POSITIONS = 'vision_model.embeddings.position_embedding.weight'
_TEXT_POSITIONS = 'text_model.embeddings.position_embedding.weight'


def open_folder(folder: pathlib.Path, weights: pathlib.Path) -> Source:
    """A folder with config.json, and the weights in it. Raises WeightsError."""
    content = read_weights(weights)
    # what a wrapper puts before all names, such as 'module.'
    wrappers = {name.partition(tower)[0] for tower in _TOWERS for name in content.tensors if tower in name}
    before = wrappers.pop() if len(wrappers) == 1 else ''
    if before:
        inside = {name.removeprefix(before): x for name, x in content.tensors.items() if name.startswith(before)}
        more = len(content.tensors) - len(inside)
        others = content.others + (f'not used: {more} tensors outside {before.rstrip(".")}',) * bool(more)
        content = content._replace(tensors=inside, others=others)
    if not any(name.startswith(_TOWERS) for name in content.tensors):
        names = ', '.join(sorted(content.tensors)[:3])
        kind, advice = kinds.of_tensors(content.tensors)
        raise WeightsError(
            f'{weights}: found tensors such as {names}{kind and ": "}{kind}; expected those of a CLIPModel, such as '
            f'{IMAGE_POSITIONS}. {advice or "Put an open_clip_config.json beside it where it is of open_clip."}'
        )
    sizes, native = read_config(folder / 'config.json', content.bytes)
    prepared = _prepared(folder / PIXELS)

    def params(clip: CLIP, resize: str) -> dict:
        return pixels.folded(from_huggingface(content.tensors, clip, resize, native), clip, prepared)

    return Source(folder, sizes, params, content.others)


def _prepared(path: pathlib.Path) -> pixels.Pixels:
    """How pictures are normalised; as OpenAI's where no file says it. Raises WeightsError."""
    if not path.is_file():
        return pixels.Pixels()
    said = read_object(path, 'how pictures are prepared, as transformers writes it')
    if said.get('do_normalize') is False:
        said = said | {'image_mean': [0.0] * 3, 'image_std': [1.0] * 3}
    found, faults = pixels.read(said, 'image_mean', 'image_std', resnet=False)
    if said.get('do_rescale') is False:
        faults.append('do_rescale = false, expected true: pixels in 0..1 before their mean is taken out')
    if faults:
        raise WeightsError(f'{path}: found {"; ".join(faults)}. Correct the file, or use another CLIP')
    return found


def from_huggingface(
    tensors: Mapping[str, np.ndarray], clip: CLIP, resize: str = 'bicubic', native: tuple[int, int] | None = None
) -> dict:
    """Parameters of `clip` from the tensors of a Hugging Face CLIPModel, of any float type; `position_ids` are ignored.

    `native` is the grid that the image positions were learned on, where the file holds its square form. Raises
    WeightsError, naming every missing, extra and misshapen tensor.
    """
    tensors = {k: v for k, v in tensors.items() if not k.endswith('.position_ids')}

    def slot(path: str, shape: tuple) -> Slot:
        name = renamed(path, _NAMES)
        if name == IMAGE_POSITIONS:
            return Slot(name, (None, shape[1]), lambda x: _image_positions(x, clip.grid, resize, native))
        if name == _TEXT_POSITIONS:
            length = clip.context_length
            return Slot(name, (None, shape[1]), lambda x: resize_text_positions(x, length, resize))
        if name == _PATCH:
            return Slot(name, (shape[1], 3, clip.patch_size, clip.patch_size), patch_matrix)
        return Slot(name, shape[::-1], np.transpose) if _is_linear(name) else Slot(name, shape)

    return fill(clip, tensors, slot)


def to_huggingface(params) -> dict[str, np.ndarray]:
    """The inverse of `from_huggingface` at the same sizes: contiguous f32 arrays by Hugging Face's names.

    Raises WeightsError for a ResNet, which Hugging Face's CLIPModel cannot be.
    """
    if 'patch' not in params['vision']:
        raise WeightsError(
            "found a CLIP whose image tower is a ResNet; Hugging Face's CLIPModel has image transformers only. "
            'Train a ViT for a model to be written in that layout.'
        )
    named = {renamed(path, _NAMES): np.asarray(leaf, np.float32) for path, leaf in leaves_of(params)}
    return {name: _to_theirs(name, array) for name, array in named.items()}


def save_huggingface(folder: str | os.PathLike, clip: CLIP, params, dtype: str) -> None:
    """Write config.json and model.safetensors so that transformers' CLIPModel.from_pretrained reads them.

    Their position table is square. A grid of another shape is written as the square table of which
    `interpolate_pos_encoding=True` makes the learned one again (exactly where the ratio of the sides is odd, to
    rounding elsewhere); `lcr2s.image_size` in config.json tells our reader to do the same. `dtype` is that of the file,
    'float32', 'float16' or 'bfloat16'. Raises WeightsError: the image tower is a ResNet.
    """
    from safetensors.numpy import save_file

    tensors = to_huggingface(params)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors[IMAGE_POSITIONS] = square_positions(tensors[IMAGE_POSITIONS], clip.grid)
    # save_file writes the memory of a strided array as if it were contiguous: wrong numbers without a word.
    tensors = {k: np.asarray(v.astype(jnp.dtype(dtype)), order='C') for k, v in tensors.items()}
    with aside(folder / 'model.safetensors') as partial:
        save_file(tensors, partial, metadata={'format': 'pt'})
    write(folder / 'config.json', json.dumps(config_of(clip, dtype), indent=2) + '\n')


def read_config(path: pathlib.Path, file_bytes: int = 0) -> tuple[Sizes, tuple[int, int] | None]:
    """Sizes, and the grid that the position table was learned on where it is not the file's own.

    `file_bytes`, of the weights, bound the sizes; 0 where they are not known. Raises WeightsError: no CLIP's config, or
    one whose sizes cannot be.
    """
    expected = "a CLIP model's config.json in Hugging Face layout"
    config = read_object(path, expected)
    kind = config.get('model_type', 'clip')
    if kind != 'clip':
        raise WeightsError(
            f"{path}: found model_type {brief(kind)}, expected 'clip'; other kinds have other towers. Use a CLIP, such "
            "as 'openai/clip-vit-base-patch16'."
        )
    parts = [config.get(name) or {} for name in ('text_config', 'vision_config')]
    if not all(isinstance(part, dict) for part in parts):
        raise WeightsError(f'{path}: found {" and ".join(map(brief, parts))} as the towers; expected {expected}')
    text, vision = _TEXT_DEFAULTS | parts[0], _VISION_DEFAULTS | parts[1]
    for part in (text, vision):
        act, epsilon = part['hidden_act'], part['layer_norm_eps']
        if not isinstance(act, str) or act not in ACTIVATIONS or not isinstance(epsilon, float) or epsilon != EPSILON:
            raise WeightsError(
                f'{path}: found hidden_act {brief(act)} and layer_norm_eps {brief(epsilon)}, expected {EPSILON} '
                f'and one of {", ".join(ACTIVATIONS)}'
            )
    if text['hidden_act'] != vision['hidden_act']:
        raise WeightsError(f'{path}: the towers have different hidden_act, expected the same')
    native = config.get('lcr2s')
    if native is not None and not (isinstance(native, dict) and integers(native.get('image_size'), 2, 1, MAX_SIDE)):
        raise WeightsError(
            f'{path}: found lcr2s without image_size, expected height and width. Export the model again.'
        )
    side = vision['image_size']
    values = {
        **{ours: text[theirs] for ours, theirs in _TEXT.items()},
        **{ours: vision[theirs] for ours, theirs in _VISION.items()},
        'embed_dim': config.get('projection_dim', 512),
        'activation': text['hidden_act'],
        'image_size': tuple(native['image_size']) if native else (side, side),
    }
    called = _TEXT | _VISION | {'embed_dim': 'projection_dim', 'activation': 'hidden_act'}
    sizes = checked(path, file_bytes, called, **values)
    return sizes, native and tuple(one // sizes.patch_size for one in sizes.image_size)


def config_of(clip: CLIP, dtype: str) -> dict:
    """What config.json says of `clip`. The end of text is the highest id, as everywhere in CLIP."""
    shared = {'hidden_act': clip.activation, 'layer_norm_eps': EPSILON, 'projection_dim': clip.embed_dim}
    text = shared | {'model_type': 'clip_text_model', 'intermediate_size': 4 * clip.text_width}
    text |= {theirs: getattr(clip, ours) for ours, theirs in _TEXT.items()}
    last = clip.vocab_size - 1
    text |= {'bos_token_id': last - 1, 'eos_token_id': last, 'pad_token_id': last}
    vision = shared | {'model_type': 'clip_vision_model', 'intermediate_size': 4 * clip.vision_width}
    vision |= {theirs: getattr(clip, ours) for ours, theirs in _VISION.items()} | {'image_size': max(clip.image_size)}
    return {
        'architectures': ['CLIPModel'],
        'model_type': 'clip',
        'dtype': dtype,
        'projection_dim': clip.embed_dim,
        'text_config': text,
        'vision_config': vision,
        'lcr2s': {'image_size': list(clip.image_size)},
    }


def _image_positions(table, grid, resize, native):
    side = math.isqrt(len(table) - 1)
    if side * side != len(table) - 1:
        raise WeightsError(f'{IMAGE_POSITIONS}: found {len(table)} rows, expected a square number of patches and one')
    native = native or (side, side)
    if max(native) != side:
        raise WeightsError(
            f'{IMAGE_POSITIONS}: found {side} x {side} patches for the {native[0]} x {native[1]} of config.json, '
            f'expected {max(native)} x {max(native)}; the config and the weights are of two models'
        )
    table = resize_positions(table, (side, side), native, 'bicubic')
    return resize_positions(table, native, grid, resize)


def _is_linear(name: str) -> bool:
    """Is it the matrix of a linear layer, or a normalisation's scale, which transposed is the same again?"""
    return name.endswith('weight') and '.embeddings.' not in name


def _to_theirs(name: str, array: np.ndarray) -> np.ndarray:
    if name == _PATCH:
        array = patch_convolution(array)
    elif _is_linear(name):
        array = array.T
    return np.asarray(array, order='C')
