"""Which weights a run starts from: a folder, a file, a name on the hub, or random ones of a known architecture.

What the files hold is in huggingface.py, open_clip.py and openai.py; what a folder is, in layouts.py.
"""

import dataclasses
import logging
import pathlib
import re
import urllib.parse

import jax
import numpy as np

from lcr2s_jax import texts
from lcr2s_jax.arrays import leaves_of
from lcr2s_jax.errors import ConfigError, WeightsError
from lcr2s_jax.files import expanded
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP
from lcr2s_jax.models.layers import ACTIVATIONS, KERNELS
from lcr2s_jax.weights import hub, huggingface, layouts, open_clip, openai
from lcr2s_jax.weights.reading import at, read_object
from lcr2s_jax.weights.sizes import Sizes, check_asked
from lcr2s_jax.weights.tensors import Source
from lcr2s_jax.weights.tokenizer import BUILT_IN

_LOG = logging.getLogger(__name__)


def load(
    *,
    pretrained: str,
    architecture: str,
    image_size: tuple[int, int] | None,
    context_length: int | None,
    vocab_size: int,
    resize: str,
    dtype: str,
    kernel: str,
    remat: bool,
    scan: bool,
    chunks: int,
    activation: str = '',
    heads: int | tuple[int, int] = 0,
) -> tuple[CLIP, dict]:
    """A CLIP of the given image size and its f32 parameters.

    Arguments as of `open_source`, `build` and `CLIP`. Where `pretrained` is '', weights are random ones of an
    architecture of ARCHITECTURES, which is read for these only. `resize`, of position tables, is 'bicubic' (Hugging
    Face, open_clip) or 'bilinear' (IRRA); `kernel` '' is what the device has.
    """
    kernel = kernel_for(kernel, dtype)
    compute = dict(dtype=dtype, kernel=kernel, remat=remat, scan=scan, chunks=chunks)
    if not pretrained:
        if architecture not in ARCHITECTURES:
            raise ConfigError(f'architecture: found {architecture!r}, expected one of {", ".join(ARCHITECTURES)}')
        check_asked(image_size, context_length)
        sizes = Sizes(**{'activation': 'quick_gelu', **ARCHITECTURES[architecture]}, vocab_size=vocab_size)
        sizes, _ = _overruled(sizes, activation, heads)
        clip = CLIP(**sizes.attributes(), image_size=tuple(image_size), context_length=context_length, **compute)
        _check_image_size(clip)
        return clip, jax.jit(clip.init_params)(jax.random.key(0))
    source = open_source(pretrained, activation, heads)
    clip, params, guesses = build(source, image_size, context_length, resize, **compute)
    if guesses:
        _LOG.warning('%s: guessed or changed: %s', source.where, '; '.join(guesses))
    return clip, params


def kernel_for(kernel: str, dtype: str) -> str:
    """How attention is computed where `kernel` is asked for, a member of KERNELS; '' asks for the fastest.

    Raises ConfigError: the device, or the compute type, has no such kernel.
    """
    if kernel not in ('', *KERNELS):
        raise ConfigError(f"kernel: found '{kernel}', expected one of {', '.join(KERNELS)}, or ''")
    if kernel not in ('', 'cudnn'):
        return kernel
    capability = str(getattr(jax.devices()[0], 'compute_capability', ''))
    fused = dtype == 'bfloat16' and re.fullmatch(r'([89]|\d\d)\.\d', capability)  # NVIDIA's, since Ampere
    if kernel == 'cudnn' and not fused:
        raise ConfigError(
            f"kernel: found 'cudnn' with dtype='{dtype}' on {jax.default_backend()}, "
            "expected 'bfloat16' on a GPU of NVIDIA's; '' goes everywhere"
        )
    return 'cudnn' if fused else 'einsum'


def open_source(source: str, activation: str = '', heads: int | tuple[int, int] = 0) -> Source:
    """Find weights and read what they are; no numbers are read yet.

    Args:
        source: a folder in the layout of Hugging Face (whole or in shards), open_clip or sentence-transformers; a name
            on the hub; hf://OWNER/NAME/FILE; OpenAI's .pt, or a checkpoint of IRRA, RDE, TBPS-CLIP or open_clip.
        activation: 'quick_gelu' or 'gelu' where the file does not tell or is wrong; '' for what it tells or is guessed.
        heads: of the image tower, the text tower's being as wide where that divides, else 64 wide; a pair for both; 0
            for what the file tells or is guessed.
    """
    if activation and activation not in ACTIVATIONS:
        raise ConfigError(f"activation: found '{activation}', expected '' or one of {', '.join(ACTIVATIONS)}")
    asked = all(heads) if isinstance(heads, list | tuple) else bool(heads)
    found = _open(BUILT_IN.get(source, source), asked)
    sizes, told = _overruled(found.sizes, activation, heads)
    settled = [f'`{name}`' for name, value in (('activation', activation), ('heads', heads)) if value]
    guesses = tuple(guess for guess in found.guesses if not any(field in guess for field in settled))
    return found._replace(sizes=sizes, guesses=guesses + told + layouts.unread(found.where))


def build(
    source: Source,
    image_size: tuple[int, int] | None = None,
    context_length: int | None = None,
    resize: str = 'bicubic',
    **compute,
) -> tuple[CLIP, dict, tuple[str, ...]]:
    """A CLIP of opened weights: its sizes, its f32 parameters, and all that was guessed, a sentence each.

    Args:
        image_size: pixels, height and width; None for those that the weights were trained at.
        context_length: tokens; None for the rows of the text's position table.
    """
    sizes = source.sizes
    image_size, rows = image_size or sizes.image_size, sizes.context_length
    if image_size is None:
        raise WeightsError(
            f'{source.where}: its table of image positions fits no size that can be guessed; set image_size to the '
            'height and width that it was trained at'
        )
    length = rows if context_length is None else context_length
    check_asked(image_size, length)
    clip = CLIP(**sizes.attributes(), image_size=tuple(image_size), context_length=length, **compute)
    _check_image_size(clip)
    guesses = source.guesses
    if rows is not None and rows != length:
        change = 'the first are read' if length < rows else f'they are resized to {length}'
        guesses += (f'the text has {rows} positions, {length} are asked for: {change} (`context_length`)',)
    try:
        if source.grid:
            grid = source.grid(clip.grid)
            height, width = (side * clip.patch_size for side in grid)
            guesses += (f'image positions of {grid[0]} x {grid[1]} patches, {height} x {width} pixels',)
        params = source.params(clip, resize)
        _check_numbers(params)
        return clip, params, guesses
    except WeightsError as error:
        raise at(source.where, error) from None


def _check_numbers(params: dict) -> None:
    for path, x in leaves_of(params):
        if not np.isfinite(np.sum(x, dtype=np.float64)):  # of finite float32, no sum is infinite
            raise WeightsError(
                f'found values in {path} that are no numbers (NaN or infinite); every vector would be. Fetch the file '
                'again, or use other weights.'
            )


def _open(name: str, asked: bool = False) -> Source:
    if name.startswith(hub.SCHEME):
        rest = name.removeprefix(hub.SCHEME)
        return _open_hub(rest) if hub.is_name(rest) else openai.open_file(hub.file_of(name), asked)
    if '://' in name:
        scheme, _, rest = name.partition('://')
        at = rest if f'{scheme.lower()}://' == hub.SCHEME else name.partition('huggingface.co/')[2].partition('?')[0]
        at = re.sub('/(resolve|blob|tree)/[^/]+(/|$)', r'\2', at).strip('/')[:200]
        here = f'pass the path, {urllib.parse.unquote(urllib.parse.urlsplit(name).path)[:200]}'
        change = here if scheme.lower() == 'file' else 'fetch it, and pass the path of the file'
        change = f'pass {hub.SCHEME}{at}' if at else change
        raise WeightsError(f"found the address '{name[:200]}', expected a folder, a file or a hub name; {change}")
    path = expanded(name)
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.is_file() and layouts.is_part(path):
            return _open_folder(path.parent)
        if path.exists():
            config = any((path.parent / file).is_file() for file in ('config.json', layouts.OPEN_CLIP_CONFIG))
            in_folder = path.suffix == '.safetensors' and config and not layouts.is_run(path.parent)
            return _open_folder(path.parent, path) if in_folder else openai.open_file(path, asked)
    except OSError as error:  # a name too long, a folder that may not be read
        raise WeightsError(f'{name[:200]}: cannot be looked at ({error.strerror})') from None
    if hub.is_meant(name):
        return _open_hub(name)
    raise WeightsError(
        f"found no folder '{path}', and no file; expected a folder with config.json and "
        f"model.safetensors, or with {layouts.OPEN_CLIP_CONFIG}, OpenAI's or IRRA's file, or a hub name such as "
        f"'openai/clip-vit-base-patch16'{texts.near(path) or '.' + hub.near(name)}"
    )


def _open_folder(folder: pathlib.Path, weights: pathlib.Path | None = None) -> Source:
    if layouts.is_run(folder):
        raise layouts.refuse(folder)
    folder = layouts.inner(folder)
    theirs = _is_open_clip(folder, weights)
    kind, names = (open_clip, layouts.OPEN_CLIP_WEIGHTS) if theirs else (huggingface, layouts.HUGGINGFACE_WEIGHTS)
    weights = weights or next((folder / name for name in names if (folder / name).is_file()), None)
    if not theirs and (folder / 'config.json').is_file():
        huggingface.read_config(folder / 'config.json')  # another kind of model is told before its weights are missed
    if weights is None:
        raise layouts.refuse(folder)
    return kind.open_folder(folder, weights)


def _is_open_clip(folder: pathlib.Path, weights: pathlib.Path | None) -> bool:
    """Is it open_clip's layout? Some folders have both: then by the weights that are there, Hugging Face's first."""
    if not (folder / layouts.OPEN_CLIP_CONFIG).is_file():
        return False
    try:  # a config.json of another library may lie there, and weights in its naming
        theirs = read_object(folder / 'config.json', '').get('model_type') == 'clip'
    except WeightsError:
        theirs = False
    weights = weights or folder / 'model.safetensors'
    return not theirs or weights.name != 'model.safetensors' or not weights.is_file()


def _open_hub(name: str) -> Source:
    """Weights of a hub name: its configs and tokenizer, then the one file of weights that is read."""
    for fresh in (False, True):
        folder = hub.folder_of(name, hub.TEXT_FILES, fresh=fresh)
        if (folder / 'config.json').is_file() or (folder / layouts.OPEN_CLIP_CONFIG).is_file():
            break  # else the cache has a part of it
    place = layouts.inner(folder)
    below = '' if place == folder else f'{place.name}/'
    kinds = layouts.OPEN_CLIP_WEIGHTS if (place / layouts.OPEN_CLIP_CONFIG).is_file() else layouts.HUGGINGFACE_WEIGHTS
    for file in kinds:
        wanted = [below + file]
        if file.endswith('.index.json'):
            if not (place / file).is_file():
                continue
            wanted += [below + one for one in set(read_object(place / file, '').get('weight_map', {}).values())]
        if not all((folder / one).is_file() for one in wanted):
            folder = hub.folder_of(name, [*hub.TEXT_FILES, *wanted], fresh=True)
        if all((folder / one).is_file() for one in wanted):
            break
    return _open_folder(folder)


def _overruled(sizes: Sizes, activation: str, heads: int | tuple[int, int]) -> tuple[Sizes, tuple[str, ...]]:
    """Sizes with what the caller says of activation and heads, and what that contradicts. Raises ConfigError."""
    if activation:
        sizes = dataclasses.replace(sizes, activation=activation)
    pair = tuple(heads) if isinstance(heads, list | tuple) else (heads, 0)
    if len(pair) != 2 or any(type(one) is not int or one < 0 for one in pair):
        raise ConfigError(f'heads: found {heads}, expected 0, or a number of heads, or two of them')
    if not any(pair):
        return sizes, ()
    wide = sizes.image_width
    vision = pair[0] or sizes.vision_heads
    text = pair[1] or sizes.text_width // next(
        (one for one in (wide // vision, 64) if one and sizes.text_width % one == 0), sizes.text_width
    )
    for tower, count, width in (('image', vision, wide), ('text', text, sizes.text_width)):
        if width % count:
            raise ConfigError(f'heads: found {count}, expected a divisor of the {tower} width {width}')
    told = (f'{vision} heads for images, as asked, and so {text} for texts (`heads` of both: a pair)',)
    return dataclasses.replace(sizes, vision_heads=vision, text_heads=text), told if not pair[1] else ()


def _check_image_size(clip: CLIP) -> None:
    fitting = tuple(max(side // clip.patch_size, 1) * clip.patch_size for side in clip.image_size)
    if fitting != clip.image_size:
        raise ConfigError(
            f'image_size: found {clip.image_size}, expected multiples of the patch '
            f'size {clip.patch_size}, such as {fitting}'
        )
