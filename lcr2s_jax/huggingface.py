"""Hugging Face's CLIP folders (config.json, model.safetensors) <-> Linen parameters, without torch.

Linear weights are transposed, the patch convolution becomes a matrix, position tables change their grid.
"""

import json
import math
import os
import pathlib
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from lcr2s_jax.errors import ConfigError, UserError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.models.layers import ACTIVATIONS, EPSILON
from lcr2s_jax.positions import resize_positions, square_positions


class WeightsError(UserError):
    """Weights that cannot be used as asked."""


# Where config.json leaves a size out, Hugging Face means these.
_TEXT_DEFAULTS = {
    'hidden_size': 512, 'num_hidden_layers': 12, 'num_attention_heads': 8, 'vocab_size': 49408,
    'max_position_embeddings': 77, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5,
}  # fmt: skip
_VISION_DEFAULTS = {
    'hidden_size': 768, 'num_hidden_layers': 12, 'num_attention_heads': 12, 'patch_size': 32,
    'image_size': 224, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5,
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
_PATCH = 'vision_model.embeddings.patch_embedding.weight'
IMAGE_POSITIONS = 'vision_model.embeddings.position_embedding.weight'
_TEXT_POSITIONS = 'text_model.embeddings.position_embedding.weight'


def from_huggingface(
    tensors: Mapping[str, np.ndarray],
    clip: CLIP,
    resize: str = 'bicubic',
    native: tuple[int, int] | None = None,
) -> dict:
    """Parameters of `clip` from the tensors of a Hugging Face CLIPModel.

    Args:
        tensors: by name, any float type. Constant buffers (`position_ids`) are ignored.
        clip: says which tensors are expected, and of which shapes.
        resize: method of `resize_positions`.
        native: grid that the image positions were learned on, where the file holds its square form.

    Raises:
        WeightsError: naming every missing, extra and misshapen tensor.
    """
    tensors = {k: np.asarray(v) for k, v in tensors.items() if not k.endswith('.position_ids')}
    expected = jax.eval_shape(lambda: clip.init_params(jax.random.key(0)))
    leaves, tree = jax.tree_util.tree_flatten_with_path(expected)
    shapes = {_name(path): _stored_shape(_name(path), leaf.shape, clip) for path, leaf in leaves}
    _check(tensors, shapes)

    tensors |= {
        IMAGE_POSITIONS: _image_positions(tensors[IMAGE_POSITIONS], clip.grid, resize, native),
        _TEXT_POSITIONS: _text_positions(tensors[_TEXT_POSITIONS], clip.context_length),
    }
    return tree.unflatten([_to_ours(_name(path), tensors[_name(path)]) for path, _ in leaves])


def to_huggingface(params) -> dict[str, np.ndarray]:
    """The inverse of `from_huggingface` at the same sizes: contiguous f32 arrays by Hugging Face's names."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {_name(path): _to_theirs(_name(path), np.asarray(leaf, np.float32)) for path, leaf in leaves}


def save_huggingface(folder: str | os.PathLike, clip: CLIP, params, dtype: str) -> None:
    """Write config.json and model.safetensors so that transformers' CLIPModel.from_pretrained reads them.

    Their position table is square. A grid of another shape is written as the square table of which
    `interpolate_pos_encoding=True` makes the learned one again (exactly where the ratio of the sides is odd, to
    rounding elsewhere); `lcr2s.image_size` in config.json tells our reader to do the same.

    Args:
        folder: made if missing; other files in it (the tokenizer's) stay.
        dtype: of the file, 'float32', 'float16' or 'bfloat16'.
    """
    from safetensors.numpy import save_file

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = to_huggingface(params)
    tensors[IMAGE_POSITIONS] = square_positions(tensors[IMAGE_POSITIONS], clip.grid)
    # save_file writes the memory of a strided array as if it were contiguous: wrong numbers without a word.
    tensors = {k: np.asarray(v.astype(jnp.dtype(dtype)), order='C') for k, v in tensors.items()}
    aside = folder / 'model.safetensors.partial'
    save_file(tensors, aside, metadata={'format': 'pt'})
    aside.rename(folder / 'model.safetensors')
    aside = folder / 'config.json.partial'
    aside.write_text(json.dumps(config_of(clip, dtype), indent=2) + '\n')
    aside.rename(folder / 'config.json')


def read_config(path: pathlib.Path) -> tuple[dict, tuple[int, int] | None]:
    """Attributes of CLIP, and the grid that the position table was learned on where it is not the file's own."""
    try:
        config = json.loads(path.read_text())
        text = _TEXT_DEFAULTS | (config.get('text_config') or {})
        vision = _VISION_DEFAULTS | (config.get('vision_config') or {})
        native = config.get('lcr2s')
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path}: cannot be read ({error}); expected a CLIP model's config.json in Hugging Face layout"
        ) from None
    if config.get('model_type', 'clip') != 'clip':
        raise WeightsError(f"{path}: found model_type '{config['model_type']}', expected 'clip'")
    styles = {(part['hidden_act'], part['layer_norm_eps']) for part in (text, vision)}
    if not styles <= {(activation, EPSILON) for activation in ACTIVATIONS}:
        raise WeightsError(
            f'{path}: found (hidden_act, layer_norm_eps) {sorted(styles)}, expected {EPSILON} '
            f'and one of {", ".join(ACTIVATIONS)}'
        )
    if text['hidden_act'] != vision['hidden_act']:
        raise WeightsError(f'{path}: the towers have different hidden_act, expected the same')
    sizes = dict(
        patch_size=vision['patch_size'],
        vision_width=vision['hidden_size'],
        vision_layers=vision['num_hidden_layers'],
        vision_heads=vision['num_attention_heads'],
        text_width=text['hidden_size'],
        text_layers=text['num_hidden_layers'],
        text_heads=text['num_attention_heads'],
        vocab_size=text['vocab_size'],
        embed_dim=config.get('projection_dim', 512),
        activation=text['hidden_act'],
    )
    grid = native and tuple(side // vision['patch_size'] for side in native['image_size'])
    return sizes, grid


def config_of(clip: CLIP, dtype: str) -> dict:
    """What config.json says of `clip`. The end of text is the highest id, as everywhere in CLIP."""
    shared = {'hidden_act': clip.activation, 'layer_norm_eps': EPSILON, 'projection_dim': clip.embed_dim}
    text = shared | {
        'model_type': 'clip_text_model',
        'hidden_size': clip.text_width,
        'intermediate_size': 4 * clip.text_width,
        'num_hidden_layers': clip.text_layers,
        'num_attention_heads': clip.text_heads,
        'max_position_embeddings': clip.context_length,
        'vocab_size': clip.vocab_size,
        'bos_token_id': clip.vocab_size - 2,
        'eos_token_id': clip.vocab_size - 1,
        'pad_token_id': clip.vocab_size - 1,
    }
    vision = shared | {
        'model_type': 'clip_vision_model',
        'hidden_size': clip.vision_width,
        'intermediate_size': 4 * clip.vision_width,
        'num_hidden_layers': clip.vision_layers,
        'num_attention_heads': clip.vision_heads,
        'image_size': max(clip.image_size),
        'patch_size': clip.patch_size,
    }
    return {
        'architectures': ['CLIPModel'],
        'model_type': 'clip',
        'dtype': dtype,
        'projection_dim': clip.embed_dim,
        'text_config': text,
        'vision_config': vision,
        'lcr2s': {'image_size': list(clip.image_size)},
    }


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        found = ', '.join(sorted(file.name for file in path.parent.iterdir()))
        raise WeightsError(
            f'{path}: cannot be read ({error}); the folder has: {found}. Where there is pytorch_model.bin only, '
            "transformers' CLIPModel.from_pretrained(folder).save_pretrained(folder) writes model.safetensors."
        ) from None


def _check(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple]) -> None:
    """Raise WeightsError unless `tensors` are those of `shapes`; None stands for a length checked elsewhere."""
    faults = [f'missing: {name} {shape}' for name, shape in shapes.items() if name not in tensors]
    faults += [f'extra: {name} {tensors[name].shape}' for name in tensors if name not in shapes]
    for name in shapes.keys() & tensors.keys():
        found, expected = tensors[name].shape, shapes[name]
        if len(found) != len(expected) or any(b not in (a, None) for a, b in zip(found, expected, strict=True)):
            faults.append(f'misshapen: {name} {found}, expected {expected}')
    if faults:
        raise WeightsError(
            f'{len(faults)} tensors do not fit the sizes in config.json:\n  ' + '\n  '.join(sorted(faults))
        )


def _image_positions(table, grid, resize, native):
    side = math.isqrt(len(table) - 1)
    if side * side != len(table) - 1:
        raise WeightsError(f'{IMAGE_POSITIONS}: found {len(table)} rows, expected a square number of patches and one')
    native = native or (side, side)
    table = resize_positions(table.astype(np.float32), (side, side), native, 'bicubic')
    return resize_positions(table, native, grid, resize)


def _text_positions(table, length):
    if len(table) < length:
        raise ConfigError(
            f'config.model.context_length: found {length}, expected at most the {len(table)} rows of {_TEXT_POSITIONS}'
        )
    return table[:length]


def _name(path) -> str:
    """Hugging Face's name of the tensor at our path."""
    name = '/'.join(key.key for key in path)
    for ours, theirs in _NAMES:
        name = re.sub(ours, theirs, name)
    return name.replace('/', '.')


def _stored_shape(name: str, shape: tuple, clip: CLIP) -> tuple:
    """Shape in the file of a parameter of our shape; None where any length may be found."""
    if name == _PATCH:
        return (shape[1], 3, clip.patch_size, clip.patch_size)
    if name in (IMAGE_POSITIONS, _TEXT_POSITIONS):
        return (None, shape[1])
    return shape[::-1] if _is_linear(name) else shape


def _is_linear(name: str) -> bool:
    return name.endswith('weight') and '.embeddings.' not in name


def _to_ours(name: str, array: np.ndarray) -> np.ndarray:
    if name == _PATCH:
        array = array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])
    elif _is_linear(name):
        array = array.T  # of a normalisation's scale it is the same again
    return np.asarray(array, np.float32, order='C')


def _to_theirs(name: str, array: np.ndarray) -> np.ndarray:
    if name == _PATCH:
        side = math.isqrt(array.shape[0] // 3)
        array = array.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)
    elif _is_linear(name):
        array = array.T
    return np.asarray(array, order='C')
