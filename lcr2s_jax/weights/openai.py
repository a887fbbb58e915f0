"""OpenAI's names of a CLIP's tensors -> Linen parameters: its .pt archives, open_clip's files, IRRA's checkpoints.

The sizes are the shapes' [field: OpenAI]; q, k and v of an attention are one tensor there, and the two projections are
matrices that are multiplied from the right, as ours.
"""

import collections
import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lcr2s_jax.arrays import leaves_of
from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.models.resnet import STRIDE
from lcr2s_jax.weights import kinds
from lcr2s_jax.weights.positions import resize_positions, resize_text_positions, stored_grid
from lcr2s_jax.weights.reading import at
from lcr2s_jax.weights.sizes import checked
from lcr2s_jax.weights.stored import read_weights
from lcr2s_jax.weights.tensors import Slot, Source, fill, patch_convolution, patch_matrix, renamed

_HEAD_WIDTH = 64  # in every model of OpenAI's
_OTHER_HEADS = {1280: 80}  # width of an image transformer -> of its heads: open_clip's ViT-H/14
_TOKENS = 'token_embedding.weight'

# Our parameter path -> OpenAI's tensor name; applied in this order. {image} and {text} become those of `Names`.
_NAMES = (
    (r'^vision/patch/kernel$', '{image}conv1/weight'),
    (r'^vision/projection/kernel$', '{image}proj'),
    (r'^text/projection/kernel$', '{text}text_projection'),
    (r'^vision/', '{image}'),
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

# A text tower's tensors, where its names have no prefix of their own.
_TEXT = ('transformer.', 'token_embedding.', 'positional_embedding', 'ln_final.', 'text_projection', 'attn_mask')
_TABLES = ('vision/positions', 'vision/attnpool/positions')  # of a ViT, of a ResNet
_ARCHIVE = 'input_resolution'  # a number that only OpenAI's own archives have
_LOGIT_SCALE = np.float32(math.log(1 / 0.07))  # where a file has none: IRRA's temperature is fixed


class Names(NamedTuple):
    """How a file calls its tensors."""

    image: str = 'visual.'  # before the image tower's, such as 'base_model.visual.'
    text: str = ''  # before the text tower's, such as '', 'text.' or 'encode_text.'
    prefix: str = ''  # what both begin with

    def of(self, path: str) -> str:
        """The file's name of the tensor that our parameter lies in."""
        name = renamed(path, _NAMES)
        if name.startswith(('{image}', '{text}')):
            return name.replace('{image}', self.image).replace('{text}', self.text)
        return self.prefix + name

    @property
    def of_people(self) -> bool:
        """Is it a checkpoint of person retrieval: IRRA's and RDE's names, or TBPS-CLIP's?"""
        return self.image.endswith('base_model.visual.') or self.text.endswith('encode_text.')


def open_file(path: pathlib.Path, asked: bool = False) -> Source:
    """OpenAI's archive, or a checkpoint of the IRRA family, RDE, TBPS-CLIP or open_clip. Raises WeightsError.

    But for OpenAI's own, no such file tells its activation and its heads: they are guessed, and the guesses told.
    `asked`: the caller says the heads, also of towers that OpenAI's heads do not divide.
    """
    content = read_weights(path)
    try:
        names = find_names(content.tensors)
        tensors, unused = clip_of(content.tensors, names)
        values = sizes_of(tensors, names, asked)
        activation, why = _activation(content.facts)
        sizes = checked(path, content.bytes, activation=activation, **values)
        rows, table = _rows(tensors, names)

        def grid(wanted):
            return stored_grid(rows, wanted, names.of_people, table)

        try:
            size = tuple(sizes.patch_size * side for side in grid(None))
        except WeightsError:  # a grid that only the caller can tell
            size = None
    except WeightsError as error:
        raise at(path, error) from None
    tensors.setdefault(names.of('logit_scale'), _LOGIT_SCALE)
    guesses, square = (), size is not None and size[0] == size[1]
    if bare := names.prefix + _ARCHIVE not in content.tensors:
        guesses += (
            f'activation {activation}, {why} (`activation`)',
            f'{sizes.vision_heads} heads of {sizes.image_width // sizes.vision_heads} for images, '
            f'{sizes.text_heads} of {sizes.text_width // sizes.text_heads} for texts (`heads`)',
        )

    def params(clip: CLIP, resize: str) -> dict:
        return from_openai(tensors, clip, names, resize, of_people=names.of_people)

    sizes = dataclasses.replace(sizes, image_size=size)
    return Source(path, sizes, params, guesses + unused + content.others, None if square and not bare else grid)


def clip_of(tensors: Mapping[str, np.ndarray], names: Names) -> tuple[dict, tuple[str, ...]]:
    """The tensors of the CLIP, less what is no weight; and a sentence on those that were trained beside it, if any."""
    ours = (names.image, *(names.text + part for part in _TEXT), names.prefix + 'logit_scale')
    inside = {name: x for name, x in tensors.items() if name.startswith(ours)}
    others = [name for name in tensors if name not in inside and not re.search(_CONSTANTS, name)]
    kinds = collections.Counter(name.removeprefix('module.').partition('.')[0][:60] for name in others)
    counts = ', '.join(f'{kind} ({count})' for kind, count in sorted(kinds.items())[:12])
    where = f' outside {names.prefix.rstrip(".")}' if names.prefix else ''
    unused = (f'not used: {len(others)} tensors{where}: {counts}',) if others else ()
    return {name: x for name, x in inside.items() if not re.search(_CONSTANTS, name)}, unused


def from_openai(
    tensors: Mapping[str, np.ndarray],
    clip: CLIP,
    names: Names,
    resize: str,
    *,
    native: tuple[int, int] | None = None,
    of_people: bool = False,
) -> dict:
    """Parameters of `clip` from tensors in OpenAI's naming, those of `clip_of`, of any float type.

    `native` is the grid that the image positions were learned on; None where the file does not say. Raises
    WeightsError, naming every missing, extra and misshapen tensor.
    """

    def image_positions(table, name):
        grid = native or stored_grid(len(table), clip.grid, of_people, name)
        return resize_positions(table, grid, clip.grid, resize)

    def slot(path: str, shape: tuple) -> Slot:
        name = names.of(path)
        if path == 'text/positions':
            length = clip.context_length
            return Slot(name, (None, shape[1]), lambda x: resize_text_positions(x, length, resize))
        if path.endswith('positions'):
            rows = native and math.prod(native) + 1
            return Slot(name, (rows, shape[1]), lambda x: image_positions(x, name))
        if path == 'vision/patch/kernel':
            return Slot(name, (shape[1], 3, clip.patch_size, clip.patch_size), patch_matrix)
        if part := re.search(r'attn/([qkv])/', path):
            third = 'qkv'.index(part[1])
            return Slot(name, (3 * shape[-1], *shape[:-1]), lambda x: np.split(x, 3)[third].T)
        if len(shape) == 4:
            return Slot(name, (shape[3], shape[2], *shape[:2]), lambda x: x.transpose(2, 3, 1, 0))
        if path.endswith('kernel') and not path.endswith('projection/kernel'):
            return Slot(name, shape[::-1], np.transpose)
        return Slot(name, shape)

    return fill(clip, tensors, slot)


def to_openai(params) -> dict[str, np.ndarray]:
    """The inverse of `from_openai` at the same sizes: contiguous f32 arrays by OpenAI's names."""
    found, thirds = {}, collections.defaultdict(dict)
    for path, leaf in leaves_of(params):
        name, x = Names().of(path), np.asarray(leaf, np.float32)
        if path == 'vision/patch/kernel':
            x = patch_convolution(x)
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
    image = {name.removesuffix('conv1.weight') for name in tensors if name.endswith('conv1.weight')}
    marks = ('class_embedding', 'attnpool.positional_embedding')
    image = {one for one in image if one.endswith('visual.') or any(one + mark in tensors for mark in marks)}
    text = {name.removesuffix(_TOKENS) for name in tensors if name.endswith(_TOKENS)}
    if len(image) != 1 or len(text) != 1:
        raise WeightsError(kinds.no_clip(tensors, image, text))
    image, text = image.pop(), text.pop()
    parts = [[*one.split('.')[:-1], ''] for one in (image, text)]
    common = [a for i, a in enumerate(parts[0]) if parts[0][: i + 1] == parts[1][: i + 1] and a]
    return Names(image, text, ''.join(f'{part}.' for part in common))


def sizes_of(tensors: Mapping[str, np.ndarray], names: Names, asked: bool = False) -> dict:
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

    def heads(width: int, what: str, wide: int = _HEAD_WIDTH) -> int:
        if width % wide and not asked:
            raise WeightsError(
                f"found {what} {width} wide, expected a multiple of {wide}, a head of OpenAI's: say how many heads it "
                'has (`heads`)'
            )
        return 1 if width % wide else width // wide

    text = shape('text/ln_final/scale', 1)[0]
    sizes = dict(
        text_width=text,
        text_layers=layers('text/transformer/resblocks/'),
        text_heads=heads(text, 'a text tower'),
        vocab_size=shape('text/token_embedding', 2)[0],
        embed_dim=shape('text/projection/kernel', 2)[1],
        context_length=shape('text/positions', 2)[0],
    )
    if names.of('vision/class_token') in tensors:
        width, _, _, patch = shape('vision/patch/kernel', 4)
        blocks = layers('vision/transformer/resblocks/')
        count = heads(width, 'an image tower', _OTHER_HEADS.get(width, _HEAD_WIDTH))
        return sizes | dict(patch_size=patch, vision_width=width, vision_layers=blocks, vision_heads=count)
    width = shape('vision/layer1_0/conv1/kernel', 4)[0]
    blocks = tuple(layers(f'vision/layer{stage}/') for stage in (1, 2, 3, 4))
    return sizes | dict(
        patch_size=STRIDE, vision_width=width, vision_layers=blocks, vision_heads=heads(STRIDE * width, 'a ResNet')
    )


def _rows(tensors: Mapping[str, np.ndarray], names: Names) -> tuple[int, str]:
    """Rows of the image's position table, and its name. Raises WeightsError."""
    name = next((name for name in map(names.of, _TABLES) if name in tensors), None)
    if name is None or len(tensors[name].shape) != 2:
        raise WeightsError(f'missing: {names.of(_TABLES[0])}, expected 2 axes; the image size is read from it')
    return tensors[name].shape[0], name


def _activation(facts: Mapping[str, str | int | float]) -> tuple[str, str]:
    """What a bare file is run with, and why: open_clip's own checkpoints say their model, with no more than a name."""
    name = facts.get('name')
    if isinstance(name, str) and (model := re.search(r'(?:^|model_)((?:ViT|RN|vit)[-\w.]{0,60}?)(?:-b_\d+|$)', name)):
        quick = 'quickgelu' in model[1].lower()
        return ('quick_gelu' if quick else 'gelu'), f"as open_clip's {model[1]} has"
    return 'quick_gelu', "as OpenAI's and IRRA's have; most that open_clip trained have gelu"
