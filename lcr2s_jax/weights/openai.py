"""OpenAI's names of a CLIP's tensors -> Linen parameters: its .pt archives, open_clip's files, IRRA's checkpoints.

The sizes are the shapes' [field: OpenAI]; q, k and v of an attention are one tensor there, and the two projections are
matrices that are multiplied from the right, as ours.
"""

import collections
import logging
import math
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.models.resnet import STRIDE
from lcr2s_jax.weights import tensors as files
from lcr2s_jax.weights.positions import resize_positions, stored_grid
from lcr2s_jax.weights.torch_files import read_torch

_LOG = logging.getLogger(__name__)
_HEAD_WIDTH = 64  # in every model of OpenAI's

# Our parameter path -> OpenAI's tensor name; applied in this order. {text} becomes nothing or 'text.'.
_NAMES = (
    (r'^vision/patch/kernel$', 'visual/conv1/weight'),
    (r'^vision/projection/kernel$', 'visual/proj'),
    (r'^text/projection/kernel$', '{text}text_projection'),
    (r'^vision/', 'visual/'),
    (r'^text/', '{text}'),
    (r'block_(\d+)/', r'transformer/resblocks/\1/'),
    (r'attn/[qkv]/(kernel|bias)$', r'attn/in_proj_\1'),
    (r'attn/out/', 'attn/out_proj/'),
    (r'mlp/fc1/', 'mlp/c_fc/'),
    (r'mlp/fc2/', 'mlp/c_proj/'),
    (r'layer(\d)_(\d+)/', r'layer\1/\2/'),
    (r'downsample_conv/', 'downsample/0/'),
    (r'downsample_bn/', 'downsample/1/'),
    (r'attnpool/([qkv])/', r'attnpool/\1_proj/'),
    (r'attnpool/out/', 'attnpool/c_proj/'),
    (r'(mean|var)$', r'running_\1'),
    (r'class_token$', 'class_embedding'),
    (r'token_embedding$', 'token_embedding/weight'),
    (r'positions$', 'positional_embedding'),
    (r'(in_proj_|/)(kernel|scale)$', r'\1weight'),
)
# Not weights: numbers that OpenAI's archives keep, masks, and the counter of a batch normalisation.
_CONSTANTS = r'(^|\.)(input_resolution|context_length|vocab_size|attn_mask|num_batches_tracked)$'


class Names(NamedTuple):
    """How a file calls its tensors.

    Attributes:
        prefix: before every name, such as 'module.base_model.'.
        text: before the text tower's, 'text.' in some of open_clip's files.
    """

    prefix: str = ''
    text: str = ''

    def of(self, path: str) -> str:
        """The file's name of the tensor that our parameter lies in."""
        for ours, theirs in _NAMES:
            path = re.sub(ours, theirs, path)
        return self.prefix + path.replace('{text}', self.text).replace('/', '.')


def open_file(path: pathlib.Path) -> files.Source:
    """OpenAI's archive, or a checkpoint of the IRRA family. Raises WeightsError.

    No such file tells its activation and its heads: they are taken for OpenAI's and IRRA's, quick_gelu and 64 wide.
    What open_clip trained may have others: put its file into a folder with its open_clip_config.json.
    """
    tensors = files.read_safetensors(path) if path.suffix == '.safetensors' else read_torch(path)
    try:
        names = find_names(tensors)
        sizes = sizes_of(tensors, names)
    except WeightsError as error:
        raise WeightsError(f'{path}: {error}') from None
    inside = {name: tensor for name, tensor in tensors.items() if name.startswith(names.prefix)}
    _tell_of_others(path, [name for name in tensors if name not in inside], names.prefix)
    of_people = names.prefix.endswith('base_model.')
    if of_people:  # IRRA's temperature is fixed, and in no checkpoint
        inside.setdefault(names.of('logit_scale'), np.float32(math.log(1 / 0.07)))

    def params(clip: CLIP, resize: str) -> dict:
        return from_openai(inside, clip, names, resize, of_people=of_people)

    return files.Source(path, sizes | {'activation': 'quick_gelu'}, params)


def from_openai(
    tensors: Mapping[str, np.ndarray],
    clip: CLIP,
    names: Names,
    resize: str,
    *,
    native: tuple[int, int] | None = None,
    of_people: bool = False,
) -> dict:
    """Parameters of `clip` from tensors in OpenAI's naming.

    Args:
        tensors: by name, any float type. Constants are ignored.
        clip: says which tensors are expected, and of which shapes.
        names: how the file calls them.
        resize: method of `resize_positions`.
        native: grid that the image positions were learned on; None where the file does not say.
        of_people: see `stored_grid`.

    Raises:
        WeightsError: naming every missing, extra and misshapen tensor.
    """

    def image_positions(table, name):
        grid = native or stored_grid(len(table), clip.grid, of_people, name)
        return resize_positions(table, grid, clip.grid, resize)

    def slot(path: str, shape: tuple) -> files.Slot:
        name = names.of(path)
        if path == 'text/positions':
            length = clip.context_length
            return files.Slot(name, (None, shape[1]), lambda x: files.cut_text_positions(x, length, name))
        if path.endswith('positions'):
            rows = native and math.prod(native) + 1
            return files.Slot(name, (rows, shape[1]), lambda x: image_positions(x, name))
        if path == 'vision/patch/kernel':
            return files.Slot(name, (shape[1], 3, clip.patch_size, clip.patch_size), files.patch_matrix)
        if part := re.search(r'attn/([qkv])/', path):
            third = 'qkv'.index(part[1])
            return files.Slot(name, (3 * shape[-1], *shape[:-1]), lambda x: np.split(x, 3)[third].T)
        if len(shape) == 4:
            return files.Slot(name, (shape[3], shape[2], *shape[:2]), lambda x: x.transpose(2, 3, 1, 0))
        if path.endswith('kernel') and not path.endswith('projection/kernel'):
            return files.Slot(name, shape[::-1], np.transpose)
        return files.Slot(name, shape)

    weights = {name: tensor for name, tensor in tensors.items() if not re.search(_CONSTANTS, name)}
    return files.fill(clip, weights, slot)


def to_openai(params) -> dict[str, np.ndarray]:
    """The inverse of `from_openai` at the same sizes: contiguous f32 arrays by OpenAI's names."""
    found, thirds = {}, collections.defaultdict(dict)
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        path = '/'.join(key.key for key in keys)
        name, x = Names().of(path), np.asarray(leaf, np.float32)
        if path == 'vision/patch/kernel':
            x = files.patch_convolution(x)
        elif part := re.search(r'attn/([qkv])/', path):
            thirds[name][part[1]] = x.T
            continue
        elif x.ndim == 4:
            x = x.transpose(3, 2, 0, 1)
        elif path.endswith('kernel') and not path.endswith('projection/kernel'):
            x = x.T
        if name.endswith('running_var'):  # torch counts the batches that a normalisation has seen
            found[name.replace('running_var', 'num_batches_tracked')] = np.zeros((), np.int64)
        found[name] = x
    found |= {name: np.concatenate([parts[x] for x in 'qkv']) for name, parts in thirds.items()}
    return {name: np.asarray(x, order='C') for name, x in found.items()}


def find_names(tensors: Mapping[str, np.ndarray]) -> Names:
    """How a file calls its tensors. Raises WeightsError where it has no CLIP, or several."""
    image = re.compile(r'(.*\.)?visual\.conv1\.weight')
    prefixes = sorted({match[1] or '' for match in map(image.fullmatch, tensors) if match})
    if len(prefixes) != 1:
        found = ', '.join(f"'{prefix}'" for prefix in prefixes) or 'none'
        raise WeightsError(
            f'found {len(tensors)} tensors, such as {", ".join(sorted(tensors)[:3])}, and {found} of them before '
            "visual.conv1.weight; expected one CLIP whose image tower is OpenAI's ViT or ResNet"
        )
    prefix = prefixes[0]
    return Names(prefix, 'text.' if f'{prefix}text.token_embedding.weight' in tensors else '')


def sizes_of(tensors: Mapping[str, np.ndarray], names: Names) -> dict:
    """Attributes of CLIP that shapes tell [field: OpenAI]. Raises WeightsError."""

    def shape(path: str, axes: int) -> tuple:
        name = names.of(path)
        found = tensors[name].shape if name in tensors else None
        if found is None or len(found) != axes or 0 in found:
            raise WeightsError(
                f'{"missing" if found is None else f"misshapen: {found}"}: {name}, expected {axes} axes; '
                'the sizes of the model are read from it'
            )
        return found

    def layers(path: str) -> int:
        return len({m[1] for m in map(re.compile(re.escape(names.of(path)) + r'(\d+)\..*').fullmatch, tensors) if m})

    def heads(width: int, what: str) -> int:
        if width % _HEAD_WIDTH:
            raise WeightsError(f"found {what} {width} wide, expected a multiple of {_HEAD_WIDTH}, a head of OpenAI's")
        return width // _HEAD_WIDTH

    text = shape('text/ln_final/scale', 1)[0]
    sizes = dict(
        text_width=text,
        text_layers=layers('text/transformer/resblocks/'),
        text_heads=heads(text, 'a text tower'),
        vocab_size=shape('text/token_embedding', 2)[0],
        embed_dim=shape('text/projection/kernel', 2)[1],
    )
    if names.of('vision/class_token') in tensors:
        width, _, _, patch = shape('vision/patch/kernel', 4)
        blocks = layers('vision/transformer/resblocks/')
        return sizes | dict(
            patch_size=patch, vision_width=width, vision_layers=blocks, vision_heads=heads(width, 'an image tower')
        )
    width = shape('vision/layer1_0/conv1/kernel', 4)[0]
    blocks = tuple(layers(f'vision/layer{stage}/') for stage in (1, 2, 3, 4))
    return sizes | dict(
        patch_size=STRIDE, vision_width=width, vision_layers=blocks, vision_heads=heads(STRIDE * width, 'a ResNet')
    )


def _tell_of_others(path: pathlib.Path, others: list[str], prefix: str) -> None:
    """A line on what a checkpoint has beside its CLIP: heads that were trained with it, which nothing here reads."""
    kinds = collections.Counter(name.removeprefix('module.').partition('.')[0] for name in others)
    if kinds:
        counts = ', '.join(f'{kind} ({count})' for kind, count in sorted(kinds.items()))
        _LOG.warning('%s: not used: %d tensors outside %s: %s', path, len(others), prefix.rstrip('.'), counts)
