"""The sizes of a CLIP, typed and checked: every config that is read from a file becomes one of these first.

Every number is bounded, and all of them together by the bytes of the file: a model of N numbers has a file of at least
N bytes, so nothing is made that the file could not fill.
"""

import dataclasses
from typing import Any

from lcr2s_jax.errors import ConfigError, WeightsError
from lcr2s_jax.models.clip import CLIP, COMPUTE, attributes
from lcr2s_jax.models.layers import ACTIVATIONS
from lcr2s_jax.models.resnet import STRIDE
from lcr2s_jax.weights.reading import brief, integers

# From the smallest of tests to well above the largest CLIP that was published (open_clip's ViT-bigG: 1664 wide, 48 + 32
# layers). Layers cost time to trace, however small the file.
_BOUNDS = {
    'patch_size': (1, 1024),
    'vision_width': (1, 16_384),
    'vision_layers': (1, 64),
    'vision_heads': (1, 1024),
    'text_width': (1, 16_384),
    'text_layers': (1, 64),
    'text_heads': (1, 1024),
    'vocab_size': (2, 4_000_000),
    'embed_dim': (1, 65_536),
}
MAX_SIDE = 8192  # pixels of an image
MAX_LENGTH = 16_384  # tokens of a text


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Attributes of `CLIP` that weights settle, checked; see there for their units."""

    patch_size: int
    vision_width: int
    vision_layers: int | tuple[int, int, int, int]
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    vocab_size: int
    embed_dim: int
    activation: str
    # pixels (height, width) that the weights were trained at, None where nothing tells
    image_size: tuple[int, int] | None = None
    context_length: int | None = None  # rows of the text's position table, None where nothing tells

    def attributes(self) -> dict:
        """Keyword arguments of `CLIP`, less image_size and context_length, which the caller decides."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _ASKED}

    @property
    def image_width(self) -> int:
        """Width of the image tower where its heads are: behind the last stage of a ResNet."""
        return self.vision_width * (1 if isinstance(self.vision_layers, int) else STRIDE)

    def count(self) -> int:
        """Numbers that the towers have at least: matrices and embeddings."""
        text = 12 * self.text_width**2 * self.text_layers + self.text_width * (self.vocab_size + self.embed_dim)
        if isinstance(self.vision_layers, tuple):
            return text + sum(17 * (self.vision_width << i) ** 2 * n for i, n in enumerate(self.vision_layers) if n)
        patch = 3 * self.patch_size**2 + self.embed_dim
        return text + 12 * self.vision_width**2 * self.vision_layers + self.vision_width * patch


_ASKED = ('image_size', 'context_length')


def checked(where: object, file_bytes: int, names: dict[str, str] | None = None, **values: Any) -> Sizes:
    """Sizes of values that came from a file, which calls them `names`.

    `file_bytes` are those of the weights; 0 where they are not known. Raises WeightsError, naming every field that
    cannot be.
    """
    called = names or {}
    faults = [
        f'{called.get(name, name)} = {brief(values.get(name))}, expected {expected}'
        for name, expected in _faults(values)
    ]
    if faults:
        raise WeightsError(
            f'{where}: found sizes that no CLIP has: {"; ".join(faults)}. Fetch the file again, or use other weights.'
        )
    sizes = Sizes(**values)
    if file_bytes and sizes.count() > file_bytes:
        raise WeightsError(
            f'{where}: found sizes of a model of {sizes.count():,} numbers and more, and weights of {file_bytes:,} '
            'bytes, expected at least a byte a number; the config and the weights are of two models, or one is '
            'damaged. Fetch both again.'
        )
    return sizes


def clip_of(where: object, values: Any) -> CLIP:
    """A CLIP of the attributes that one of our own files holds. Raises WeightsError where they cannot be."""
    computed = {*COMPUTE, 'dtype'}
    known = {f.name for f in dataclasses.fields(Sizes)} | computed
    if not isinstance(values, dict) or not known >= values.keys():
        raise WeightsError(f'{where}: found no sizes of a model; make the file again, or restore it from a copy')
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    compute = {name: values.pop(name) for name in computed & values.keys()}
    sizes = checked(where, 0, **values)
    missing = [name for name in _ASKED if getattr(sizes, name) is None]
    if missing or compute.get('dtype', 'float32') not in ['float32', 'bfloat16']:
        raise WeightsError(
            f'{where}: found a model without {", ".join(missing) or "a known dtype"}; make the file again'
        )
    clip = CLIP(**sizes.attributes(), image_size=sizes.image_size, context_length=sizes.context_length, **compute)
    if any(side % clip.patch_size for side in clip.image_size):
        raise WeightsError(
            f'{where}: found image_size {clip.image_size}, expected multiples of patch_size {clip.patch_size}; make '
            'the file again, or restore it from a copy'
        )
    return clip


def kept(clip: CLIP) -> dict:
    """What files of ours say of a CLIP: all but how it is computed; `clip_of` reads it."""
    return {name: value for name, value in attributes(clip).items() if name not in COMPUTE}


def check_asked(image_size: Any, context_length: Any) -> None:
    """Raise ConfigError unless the two can be: what a config or a caller asks for."""
    if not integers(image_size, 2, 1, MAX_SIDE):
        raise ConfigError(f'image_size: found {image_size}, expected height and width in pixels, 1 to {MAX_SIDE}')
    if not integers([context_length], 1, 2, MAX_LENGTH):
        raise ConfigError(
            f'context_length: found {context_length}, expected a whole number of tokens, 2 to {MAX_LENGTH}'
        )


def _faults(values: dict[str, Any]):
    """(field, what was expected) of each that cannot be."""
    sound = {}
    for name, (low, high) in _BOUNDS.items():
        value = values.get(name)
        sound[name] = integers([value], 1, low, high)
        if name == 'vision_layers' and isinstance(value, tuple):
            sound[name] = integers(value, 4, 1, high)
        if not sound[name]:
            yield name, f'a whole number from {low} to {high:,}'
    for tower, factor in (('vision', STRIDE if isinstance(values.get('vision_layers'), tuple) else 1), ('text', 1)):
        if sound[f'{tower}_width'] and sound[f'{tower}_heads']:
            width = values[f'{tower}_width'] * factor
            if width % values[f'{tower}_heads']:
                yield f'{tower}_heads', f'a divisor of the width {width}'
    if not isinstance(values.get('activation'), str) or values['activation'] not in ACTIVATIONS:
        yield 'activation', f'one of {", ".join(ACTIVATIONS)}'
    size, length = values.get('image_size'), values.get('context_length')
    if size is not None and not integers(size, 2, 1, MAX_SIDE):
        yield 'image_size', f'one or two numbers of pixels, 1 to {MAX_SIDE}'
    if length is not None and not integers([length], 1, 1, MAX_LENGTH):
        yield 'context_length', f'a whole number from 1 to {MAX_LENGTH}'
