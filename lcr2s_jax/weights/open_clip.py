"""open_clip's folders: open_clip_config.json says the sizes, the tensors are named as OpenAI's.

What its config can ask for and we have not is refused: an option is known by name, or must be off.
"""

import json
import pathlib

import numpy as np

from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import CLIP, PIXEL_MEAN, PIXEL_STD
from lcr2s_jax.models.resnet import STRIDE
from lcr2s_jax.weights import tensors as files
from lcr2s_jax.weights.openai import find_names, from_openai, to_openai
from lcr2s_jax.weights.torch_files import read_torch

CONFIG = 'open_clip_config.json'
WEIGHTS = ('open_clip_model.safetensors', 'model.safetensors', 'open_clip_pytorch_model.bin')  # the first that is there

# Where the config leaves a size out, open_clip means these.
_VISION_DEFAULTS = {'layers': 12, 'width': 768, 'head_width': 64, 'patch_size': 16, 'image_size': 224, 'mlp_ratio': 4.0}
_TEXT_DEFAULTS = {
    'context_length': 77, 'vocab_size': 49408, 'width': 512, 'heads': 8, 'layers': 12, 'mlp_ratio': 4.0,
}  # fmt: skip
# Options that change nothing here: of training, of tokens, of outputs that we do not read, or that are the default.
_HARMLESS = {
    'patch_dropout', 'output_tokens', 'pad_id', 'eos_id', 'hf_tokenizer_name', 'tokenizer_mode', 'tokenizer_kwargs',
    'attn_pooler_queries', 'attn_pooler_heads', 'timm_model_pretrained', 'timm_pool', 'timm_proj', 'timm_drop',
    'timm_drop_path', 'hf_model_pretrained', 'hf_proj_type', 'hf_pooler_type',
}  # fmt: skip
_ALLOWED = {'pos_embed_type': 'learnable', 'proj_type': 'linear', 'block_type': 'default', 'mlp_ratio': 4.0}


def open_folder(folder: pathlib.Path, weights: pathlib.Path | None = None) -> files.Source:
    """A folder with open_clip_config.json, and the weights in it. Raises WeightsError."""
    sizes, image_size = read_config(folder / CONFIG)
    weights = weights or next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
    native = tuple(side // sizes['patch_size'] for side in image_size)

    def params(clip: CLIP, resize: str) -> dict:
        tensors = files.read_safetensors(weights) if weights.suffix == '.safetensors' else read_torch(weights)
        return from_openai(tensors, clip, find_names(tensors), resize, native=native)

    return files.Source(folder, sizes, params)


def read_config(path: pathlib.Path) -> tuple[dict, tuple[int, int]]:
    """Attributes of CLIP, and the image size that the weights were trained at. Raises WeightsError."""
    try:
        config = json.loads(path.read_text())
        model = config.get('model_cfg', config)
        vision, text = _VISION_DEFAULTS | model['vision_cfg'], _TEXT_DEFAULTS | model['text_cfg']
        embed_dim, pixels = model['embed_dim'], config.get('preprocess_cfg') or {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f'{path}: cannot be read ({type(error).__name__}: {error}); expected a model of open_clip: model_cfg with '
            'embed_dim, vision_cfg and text_cfg'
        ) from None
    known = {'vision_cfg', 'text_cfg', 'embed_dim', 'quick_gelu', 'custom_text', 'init_logit_scale', 'output_dict'}
    faults = _unknown('model_cfg', model, known, 'argmax')
    faults += _unknown('vision_cfg', vision, set(_VISION_DEFAULTS) - {'mlp_ratio'}, 'tok')
    faults += _unknown('text_cfg', text, set(_TEXT_DEFAULTS) - {'mlp_ratio'}, 'argmax')
    for name, ours in (('mean', PIXEL_MEAN), ('std', PIXEL_STD)):
        found = pixels.get(name) or ours
        if np.shape(found) != (3,) or not np.allclose(found, ours, atol=1e-3):
            faults.append(f'preprocess_cfg.{name} = {pixels[name]}, expected {list(ours)}')
    if faults:
        raise WeightsError(
            f"{path}: found what only open_clip itself can run: {'; '.join(faults)}. Expected OpenAI's ViT or ResNet "
            "beside OpenAI's text transformer; change config.model.pretrained."
        )
    resnet = not isinstance(vision['layers'], int)
    sizes = dict(
        patch_size=STRIDE if resnet else vision['patch_size'],
        vision_width=vision['width'],
        vision_layers=tuple(vision['layers']) if resnet else vision['layers'],
        vision_heads=vision['width'] * (STRIDE if resnet else 1) // vision['head_width'],
        text_width=text['width'],
        text_layers=text['layers'],
        text_heads=text['heads'],
        vocab_size=text['vocab_size'],
        embed_dim=embed_dim,
        activation='quick_gelu' if model.get('quick_gelu') else 'gelu',
    )
    side = vision['image_size']
    return sizes, (side, side) if isinstance(side, int) else tuple(side)


def save_open_clip(folder: pathlib.Path, clip: CLIP, params) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors, f32, into a folder that is there.

    The position table is the learned one: open_clip has grids of any shape. The config names the tokenizer that lies
    in the folder, and the resizing of our evaluation.

    Raises:
        WeightsError: a ResNet for images that are not square, which open_clip does not have.
    """
    from safetensors.numpy import save_file

    resnet = not isinstance(clip.vision_layers, int)
    if resnet and clip.grid[0] != clip.grid[1]:
        raise WeightsError(
            f'found a CLIP whose image tower is a ResNet for {clip.image_size[0]} x {clip.image_size[1]} pixels; '
            "open_clip's are for squares only. Train a ViT, or at a square config.model.image_size."
        )
    vision = {
        'image_size': clip.image_size[0] if resnet else list(clip.image_size),
        'layers': clip.vision_layers,
        'width': clip.vision_width,
        'head_width': clip.vision_width * (STRIDE if resnet else 1) // clip.vision_heads,
        'patch_size': None if resnet else clip.patch_size,
    }
    text = {
        'context_length': clip.context_length,
        'vocab_size': clip.vocab_size,
        'width': clip.text_width,
        'heads': clip.text_heads,
        'layers': clip.text_layers,
        'hf_tokenizer_name': 'local-dir',  # any name: read as local-dir:FOLDER, the folder's own tokenizer is taken
    }
    model = {'embed_dim': clip.embed_dim, 'quick_gelu': clip.activation == 'quick_gelu'}
    pixels = {'mean': PIXEL_MEAN, 'std': PIXEL_STD, 'interpolation': 'bilinear', 'resize_mode': 'squash'}
    config = {'model_cfg': model | {'vision_cfg': vision, 'text_cfg': text}, 'preprocess_cfg': pixels}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + '\n')
    save_file(to_openai(params), folder / WEIGHTS[0], metadata={'format': 'pt'})


def _unknown(part: str, options: dict, known: set[str], pool: str) -> list[str]:
    """Options that are on and that we have not; `pool` is the pooling that this tower has here."""
    allowed = _ALLOWED | {'pool_type': pool}
    unused = known | _HARMLESS
    return [
        f'{part}.{name} = {value}'
        for name, value in options.items()
        if name not in unused and value and value != allowed.get(name)
    ]
