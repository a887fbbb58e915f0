"""open_clip's folders: open_clip_config.json says the sizes, the tensors are named as OpenAI's.

What its config can ask for and we have not is refused: an option is known by name, or must be off.
"""

import json
import pathlib

from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import CLIP, PIXEL_MEAN, PIXEL_STD
from lcr2s_jax.models.resnet import STRIDE
from lcr2s_jax.weights import pixels
from lcr2s_jax.weights.layouts import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS
from lcr2s_jax.weights.openai import clip_of, find_names, from_openai, to_openai
from lcr2s_jax.weights.reading import brief, integers, read_object
from lcr2s_jax.weights.sizes import Sizes, checked
from lcr2s_jax.weights.stored import read_weights
from lcr2s_jax.weights.tensors import Source

# How open_clip calls our sizes.
_SIZES = {
    'vision_width': 'vision_cfg.width', 'vision_layers': 'vision_cfg.layers', 'vision_heads': 'vision_cfg.head_width',
    'patch_size': 'vision_cfg.patch_size', 'image_size': 'vision_cfg.image_size', 'text_width': 'text_cfg.width',
    'text_layers': 'text_cfg.layers', 'text_heads': 'text_cfg.heads', 'vocab_size': 'text_cfg.vocab_size',
    'context_length': 'text_cfg.context_length',
}  # fmt: skip
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


def open_folder(folder: pathlib.Path, weights: pathlib.Path) -> Source:
    """A folder with open_clip_config.json, and the weights in it. Raises WeightsError."""
    content = read_weights(weights)
    sizes, prepared = read_config(folder / OPEN_CLIP_CONFIG, content.bytes)
    try:
        names = find_names(content.tensors)
    except WeightsError as error:
        raise WeightsError(f'{weights}: {error}') from None
    native = tuple(side // sizes.patch_size for side in sizes.image_size)
    tensors, unused = clip_of(content.tensors, names)

    def params(clip: CLIP, resize: str) -> dict:
        return pixels.folded(from_openai(tensors, clip, names, resize, native=native), clip, prepared)

    return Source(folder, sizes, params, unused + content.others)


def read_config(path: pathlib.Path, file_bytes: int = 0) -> tuple[Sizes, pixels.Pixels]:
    """Sizes and pixels of an open_clip_config.json, bounded by the bytes of the weights where they are known.

    Raises WeightsError: no model of open_clip, one that only open_clip can run, or sizes that cannot be.
    """
    expected = 'a model of open_clip: model_cfg with embed_dim, vision_cfg and text_cfg'
    config = read_object(path, expected)
    model = config.get('model_cfg', config)
    parts = [model.get(name) for name in ('vision_cfg', 'text_cfg')] if isinstance(model, dict) else [None]
    preprocess = config.get('preprocess_cfg') or {}
    if not all(isinstance(part, dict) for part in (*parts, preprocess)):
        raise WeightsError(f'{path}: cannot be read (found {brief(model)} without such parts); expected {expected}')
    vision, text = _VISION_DEFAULTS | parts[0], _TEXT_DEFAULTS | parts[1]
    known = {'vision_cfg', 'text_cfg', 'embed_dim', 'quick_gelu', 'custom_text', 'init_logit_scale', 'output_dict'}
    faults = _unknown('model_cfg', model, known, 'argmax')
    faults += _unknown('vision_cfg', vision, set(_VISION_DEFAULTS) - {'mlp_ratio'}, 'tok')
    faults += _unknown('text_cfg', text, set(_TEXT_DEFAULTS) - {'mlp_ratio'}, 'argmax')
    resnet = isinstance(vision['layers'], list)
    prepared, unfit = pixels.read(preprocess, 'mean', 'std', resnet)
    faults += [f'preprocess_cfg.{fault}' for fault in unfit]
    if faults:
        raise WeightsError(
            f"{path}: found what only open_clip itself can run: {'; '.join(faults[:12])}. Expected OpenAI's ViT or "
            "ResNet beside OpenAI's text transformer: use such a model."
        )
    side = vision['image_size']
    size = side if isinstance(side, list) else [side, side]
    width, head = vision['width'], vision['head_width']
    sound = integers([width, head], 2, 1, 1 << 20)
    sizes = checked(
        path, file_bytes, _SIZES,
        patch_size=STRIDE if resnet else vision['patch_size'],
        vision_width=width,
        vision_layers=tuple(vision['layers']) if resnet else vision['layers'],
        vision_heads=width * (STRIDE if resnet else 1) // head if sound else head,
        text_width=text['width'],
        text_layers=text['layers'],
        text_heads=text['heads'],
        vocab_size=text['vocab_size'],
        embed_dim=model.get('embed_dim'),
        activation='quick_gelu' if model.get('quick_gelu') else 'gelu',
        image_size=tuple(size),
        context_length=text['context_length'],
    )  # fmt: skip
    return sizes, prepared


def save_open_clip(folder: pathlib.Path, clip: CLIP, params) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors, f32, into a folder that is there.

    The position table is the learned one: open_clip has grids of any shape. The config names the tokenizer that lies
    in the folder, and the resizing of our evaluation. Raises WeightsError: a ResNet for images that are not square.
    """
    from safetensors.numpy import save_file

    resnet = not isinstance(clip.vision_layers, int)
    if resnet and clip.grid[0] != clip.grid[1]:
        raise WeightsError(
            f'found a CLIP whose image tower is a ResNet for {clip.image_size[0]} x {clip.image_size[1]} pixels; '
            "open_clip's are for squares only. Train a ViT, or at a square image_size."
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
    preprocess = {'mean': PIXEL_MEAN, 'std': PIXEL_STD, 'interpolation': 'bilinear', 'resize_mode': 'squash'}
    config = {'model_cfg': model | {'vision_cfg': vision, 'text_cfg': text}, 'preprocess_cfg': preprocess}
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=2) + '\n')
    save_file(to_openai(params), folder / OPEN_CLIP_WEIGHTS[0], metadata={'format': 'pt'})


def _unknown(part: str, options: dict, known: set[str], pool: str) -> list[str]:
    """Options that are on and that we have not; `pool` is the pooling that this tower has here."""
    allowed = _ALLOWED | {'pool_type': pool}
    unused = known | _HARMLESS
    return [
        f'{part}.{name[:60]} = {value[:60] if isinstance(value, str) else brief(value)}'
        for name, value in options.items()
        if name not in unused and value and value != allowed.get(name)
    ]
