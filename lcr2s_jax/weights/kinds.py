"""What a file of weights is, told by its first bytes or by the names of its tensors: for messages."""

import pathlib
import re
import zipfile
from collections.abc import Iterable

from lcr2s_jax.weights.reading import INDEX_LIMIT, brief

_START = 512  # bytes that tell what a file is
USE = (
    "Use a CLIP: such as 'openai/clip-vit-base-patch16', a folder with config.json and model.safetensors, OpenAI's "
    '.pt, or a checkpoint of IRRA, RDE or TBPS-CLIP.'
)
MERGE = (
    'Merge it into its model first (in PEFT: model.merge_and_unload().save_pretrained(FOLDER)), and use that folder.'
)
# Beginnings of files, and what they are.
_BEGINNINGS = (
    (b'version https://git-lfs', 'a Git LFS pointer: the file itself was not fetched; `git lfs pull` does it'),
    (b'GGUF', 'a GGUF file, as llama.cpp reads it'),
    (b'\x89HDF', 'an HDF5 file, as Keras writes it'),
    (b'\x1f\x8b', 'a gzip file: unpack it'),
    (b'BZh', 'a bzip2 file: unpack it'),
    (b'\xfd7zXZ', 'an xz file: unpack it'),
    (b'\x28\xb5\x2f\xfd', 'a zstd file: unpack it'),
    (b"7z\xbc\xaf'", 'a 7z archive: unpack it'),
    (b'Rar!', 'a RAR archive: unpack it'),
    (b'\x89PNG', 'a picture'),
    (b'\xff\xd8\xff', 'a picture'),
    (b'RIFF', 'a picture or a recording'),
    (b'%PDF', 'a PDF document'),
    (b'\x7fELF', 'a program'),
    (b'\x93NUMPY', 'an array of NumPy'),
    (b'\x80', 'a bare Python pickle, or what torch.save wrote before PyTorch 1.6'),
)
# The same at another place of the file: offset, bytes, what it is.
_INSIDE = (
    (257, b'ustar', 'a tar archive: unpack it'),
    (4, b'TFL3', 'a model of TensorFlow Lite'),
    (4, b'ftyp', 'a video or a picture'),
)
# What the names of OpenAI's text tower begin with.
_OF_TEXT = {'transformer', 'token_embedding', 'positional_embedding', 'ln_final', 'text_projection', 'attn_mask'}
# Parts of tensors' names that tell what a file of weights is, where it is no CLIP in OpenAI's naming, and what to do.
_TENSORS = (
    (r'lora_|\.hada_|_lora\.', 'a LoRA adapter: changes to a model that is not in it', MERGE),
    (r'(^|\.)_(parameters|modules|buffers)(\.|$)', 'a whole module among other things',
     'Save its state dict alone: torch.save(model.state_dict(), path).'),
    (r'logit_bias$', 'a SigLIP, whose towers are others', USE),
    (r'(^|\.)vision_model\.', "a model in Hugging Face's naming without its config",
     'Put config.json beside it and call it model.safetensors or pytorch_model.bin, then pass the folder.'),
    (r'(^|\.)flat_param', 'a part of a sharded checkpoint', 'Gather it into one state dict first.'),
)  # fmt: skip


def of_file(path: pathlib.Path) -> str:
    """What a file is, as a phrase. Raises OSError."""
    if not path.is_file():
        return 'no regular file'
    with path.open('rb') as file:
        start = file.read(_START)
    if not start:
        return 'an empty file'
    if start.startswith(b'PK'):
        return _of_zip(path)
    if is_safetensors(start):
        return 'a safetensors file'
    for beginning, what in _BEGINNINGS:
        if start.startswith(beginning):
            return what
    for offset, part, what in _INSIDE:
        if start[offset:].startswith(part):
            return what
    if path.suffix in ('.onnx', '.tflite', '.engine', '.msgpack', '.index'):
        return f'a {path.suffix} file, of another program'
    if not start.strip(b'\0'):
        return 'a file of zeros: its download was not finished'
    text = start.lstrip()
    if not text:
        return 'a file of blanks'
    if text[:9].lower() in (b'<!doctype', b'<html') or text[:5].lower() == b'<html':
        return 'a web page, saved in place of the file'
    try:
        first = text.decode()[:40].splitlines()[0]
    except UnicodeDecodeError as error:
        if error.start < len(text) - 4:  # else half a character at the end of what was read
            return f'a file of another kind, which begins with {start[:8]!r}'
        first = text[:40].decode(errors='ignore')
    return f'a text that begins with {first!r}' if first.isprintable() else 'a file of another kind'


def _of_zip(path: pathlib.Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return 'a zip file that is cut off or damaged'
    if any(name.endswith('/data.pkl') for name in names):
        return 'a zip file, as torch.save writes it'
    if names and all(name.endswith('.npy') for name in names):
        return 'arrays of NumPy (npz)'
    if 'model.weights.h5' in names:
        return 'a model of Keras'
    return f'a zip file with {", ".join(brief(name) for name in names[:3]) or "nothing in it"}: unpack it'


def of_tensors(names: Iterable[str]) -> tuple[str, str]:
    """What a file of weights is by the names of its tensors, and what to do; two times '' where they do not tell."""
    names = list(names)
    found = next((one for one in _TENSORS if any(re.search(one[0], name) for name in names)), ('', '', ''))
    return found[1:]


def no_clip(tensors: Iterable[str], image: set[str], text: set[str]) -> str:
    """Why tensors are not one CLIP's in OpenAI's naming, and what to do; `image`, `text` stand before its towers."""
    names = sorted(tensors)
    kind, advice = of_tensors(names)
    if not kind:
        kind, advice = _of_towers(names, image, text)
    some = ', '.join(name[:120] for name in names[:3])
    return (
        f"found {len(names)} tensors, such as {some}: {kind}; expected one CLIP whose towers are OpenAI's, in its "
        f'naming. {advice}'
    )


def _of_towers(names: list[str], image: set[str], text: set[str]) -> tuple[str, str]:
    several = max(image, text, key=len)
    if len(several) > 1:
        shown = ' and '.join(repr(one[:120]) for one in sorted(several)[:4])
        return f'several models, before whose tensors stands {shown}', 'Save the state dict of one of them.'
    if several:
        here, other = ('image', 'text') if image else ('text', 'image')
        parts = {re.sub(r'^(module|model|base_model)\.', '', name).partition('.')[0] for name in names}
        parts -= {'text', *_OF_TEXT} if text else {'visual'}
        if parts := sorted(parts - {'logit_scale', ''}):
            shown = ', '.join(part[:60] for part in parts[:4])
            return f"the {here} tower of a CLIP, beside other parts ({shown}) than OpenAI's {other} tower", USE
        return f'the {here} tower of a CLIP alone', 'Save both towers.'
    return 'no CLIP: neither visual.conv1.weight nor token_embedding.weight is among them', USE


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is one of safetensors, whatever its name."""
    return start[8:9] == b'{' and 2 <= int.from_bytes(start[:8], 'little') <= INDEX_LIMIT
