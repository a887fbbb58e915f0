"""What a folder or a file of weights is, told by what lies in it: for those who read it, and for messages."""

import pathlib
import re
import zipfile

from lcr2s_jax.errors import UserError, WeightsError
from lcr2s_jax.weights.reading import INDEX_LIMIT, brief, parse_object, read_bytes, read_object

OPEN_CLIP_CONFIG = 'open_clip_config.json'
# Weights of a folder in Hugging Face's layout, and in open_clip's: the first that is there.
HUGGINGFACE_WEIGHTS = (
    'model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json',
)  # fmt: skip
OPEN_CLIP_WEIGHTS = ('open_clip_model.safetensors', 'model.safetensors', 'open_clip_pytorch_model.bin')
_INDEX = '.index.json'
_MODULES = 'modules.json'  # of sentence-transformers
_START = 512  # bytes that tell what a file is

_USE = (
    "Use a CLIP: such as 'openai/clip-vit-base-patch16', a folder with config.json and model.safetensors, OpenAI's "
    '.pt, or a checkpoint of IRRA, RDE or TBPS-CLIP.'
)
# Beginnings of files, and what they are.
_BEGINNINGS = (
    (
        b'version https://git-lfs',
        'a Git LFS pointer: the file itself was not fetched; `git lfs pull` does it',
    ),
    (b'GGUF', 'a GGUF file, as llama.cpp reads it'),
    (b'\x89HDF', 'an HDF5 file, as Keras writes it'),
    (b'\x1f\x8b', 'a gzip file'),
    (b'<!DOCTYPE', 'a web page, saved in place of the file'),
    (b'<html', 'a web page, saved in place of the file'),
    (b'\x89PNG', 'a picture'),
    (b'\xff\xd8\xff', 'a picture'),
    (b'\x93NUMPY', 'an array of NumPy'),
    (b'\x80', 'a bare Python pickle, or what torch.save wrote before PyTorch 1.6'),
)
# Files that tell what a folder is, where it is no CLIP that can be read here; the first that is there.
_FOLDERS = (
    ('adapter_config.json', 'a PEFT adapter: changes to a model that is not in it'),
    ('model_index.json', 'a pipeline of diffusers'),
    ('saved_model.pb', 'a SavedModel of TensorFlow'),
    ('flax_model.msgpack', "weights of transformers' former Flax models"),
    ('tf_model.h5', "weights of transformers' former TensorFlow models"),
    ('images.lance', 'an index of pictures'),
)


def describe(path: pathlib.Path) -> str:
    """What a folder or a file is, as a phrase for a message; it never raises."""
    try:
        if path.is_dir():
            return _describe_folder(path)
        return _describe_file(path) if path.exists() else 'nothing: there is no such file or folder'
    except (OSError, UserError) as error:
        return f'something that cannot be looked at ({str(error)[:200]})'


def is_run(folder: pathlib.Path) -> bool:
    """Whether it is the workdir of a run of this project, or of an earlier version, damaged or not."""
    if (folder / 'model' / 'model.json').is_file():  # an index has one, too
        return not any((folder / name).exists() for name in ('model/text.safetensors', 'images.lance'))
    try:
        return 'made_of' in read_object(folder / 'config.json', '')
    except WeightsError:
        return False


def inner(folder: pathlib.Path, error: type[UserError] = WeightsError) -> pathlib.Path:
    """Where in a folder of sentence-transformers its CLIP lies; any other folder is its own answer.

    Raises:
        error: its first module is no CLIP, or is said to lie elsewhere.
    """
    path = folder / _MODULES
    if not path.is_file():
        return folder
    expected = 'the list of modules of sentence-transformers'
    data = read_bytes(path, 1 << 20, expected, error)
    modules = parse_object(b'{"modules":' + data + b'}', str(path), expected, error)['modules']
    first = modules[0] if isinstance(modules, list) and modules else None
    kind, place = (first.get('type'), first.get('path')) if isinstance(first, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(place, str) or not kind.endswith('CLIPModel'):
        raise error(
            f'{folder}: found a sentence-transformers folder whose first module is {brief(kind)}, expected CLIPModel. '
            f'{_USE}'
        )
    if place and not is_name(place):
        raise error(f'{path}: found the path {brief(place)}, expected the name of a folder in it. Fetch it again.')
    return folder / place


def is_name(text: object) -> bool:
    """Whether it names a file in the same folder: no path, no way up."""
    return isinstance(text, str) and re.fullmatch(r'[\w.-][\w. -]{0,200}', text) is not None and text not in ('.', '..')


def refuse(path: pathlib.Path) -> WeightsError:
    """What to tell of a folder or a file that holds no weights that can be read here."""
    what = describe(path)
    if path.is_dir() and is_run(path):
        advice = (
            "Name it as --workdir where a command takes one; or write the model first: 'export --format=hf "
            f"--workdir={path} --out=FOLDER', and use FOLDER."
        )
    elif 'shard' in what:
        advice = 'Fetch the missing files.'
    else:
        advice = _USE
    return WeightsError(f'{path}: found {what}; expected the weights of a CLIP. {advice}')


def shards(index: pathlib.Path) -> dict[str, list[str]]:
    """File -> names of its tensors, of a folder in shards. Raises WeightsError, naming the files that are missing."""
    expected = 'the list of tensors of a folder in shards'
    placed = read_object(index, expected, INDEX_LIMIT).get('weight_map')
    if not isinstance(placed, dict) or not placed or not all(is_name(file) for file in placed.values()):
        wrong = (
            next((file for file in placed.values() if not is_name(file)), None) if isinstance(placed, dict) else None
        )
        found = f'a tensor in {brief(wrong)}' if wrong is not None else 'no weight_map of names to files'
        raise WeightsError(
            f'{index}: found {found}; expected each tensor in a file of the same folder. Fetch it again.'
        )
    files: dict[str, list[str]] = {}
    for name, file in placed.items():
        files.setdefault(file, []).append(name)
    missing = sorted(file for file in files if not (index.parent / file).is_file())
    if missing:
        raise WeightsError(
            f'{index.parent}: found {len(files) - len(missing)} of {len(files)} shards, expected all. Fetch what is '
            f'missing: {", ".join(missing[:8])}.'
        )
    return files


def _describe_folder(folder: pathlib.Path) -> str:
    if is_run(folder):
        return 'the workdir of a run of this project'
    if (folder / 'model.json').is_file() and (folder / 'text.safetensors').is_file():
        return 'the model inside an index'
    for file, what in _FOLDERS:
        if (folder / file).exists():
            return what
    if (folder / _MODULES).is_file():
        return 'a sentence-transformers folder'
    names = sorted(entry.name for entry in folder.iterdir())
    weights = next((name for name in (*OPEN_CLIP_WEIGHTS, *HUGGINGFACE_WEIGHTS) if name in names), '')
    if weights.endswith(_INDEX):
        listed = len(set(read_object(folder / weights, '', INDEX_LIMIT).get('weight_map', {}).values()))
        there = sum(bool(re.search(r'-\d+-of-\d+\.(safetensors|bin)$', name)) for name in names)
        return f'a folder in shards, {there} of {listed} of them'
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return 'a folder of open_clip' + ('' if weights else ' without weights')
    if (folder / 'config.json').is_file():
        kind = read_object(folder / 'config.json', '').get('model_type')
        named = f'a {brief(kind)} model' if isinstance(kind, str) else 'a model'
        return f"{named} in Hugging Face's layout" + ('' if weights else ' without weights')
    listed = ', '.join(names[:8]) + (f' and {len(names) - 8} more' if len(names) > 8 else '')
    return f'a folder with {listed}, without a config' if names else 'an empty folder'


def _describe_file(path: pathlib.Path) -> str:
    if not path.is_file():
        return 'no regular file'
    with path.open('rb') as file:
        start = file.read(_START)
    if not start:
        return 'an empty file'
    if start.startswith(b'PK'):
        return 'a zip file' if not zipfile.is_zipfile(path) else 'a zip file, as torch.save writes it'
    if is_safetensors(start):
        return 'a safetensors file'
    for beginning, what in _BEGINNINGS:
        if start.startswith(beginning):
            return what
    return f'a file that begins with {start[:8]!r}'


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is one of safetensors, whatever its name."""
    return start[8:9] == b'{' and 2 <= int.from_bytes(start[:8], 'little') <= INDEX_LIMIT
