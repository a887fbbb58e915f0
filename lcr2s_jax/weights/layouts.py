"""What a folder or a file of weights is, told by what lies in it: for those who read it, and for messages."""

import itertools
import pathlib
import re

from lcr2s_jax.errors import UserError, WeightsError
from lcr2s_jax.weights import kinds
from lcr2s_jax.weights.reading import INDEX_LIMIT, brief, parse_object, read_bytes, read_object

OPEN_CLIP_CONFIG = 'open_clip_config.json'
# Weights of a folder in Hugging Face's layout, and in open_clip's: the first that is there.
HUGGINGFACE_WEIGHTS = (
    'model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json',
)  # fmt: skip
OPEN_CLIP_WEIGHTS = ('open_clip_model.safetensors', 'model.safetensors', 'open_clip_pytorch_model.bin')
_INDEX = '.index.json'
_SHARD = re.compile(r'-\d+-of-\d+\.(safetensors|bin)$')
_MODULES = 'modules.json'  # of sentence-transformers

# Files that tell what a folder is, where it is no CLIP that can be read here; the first that is there.
_FOLDERS = (
    ('adapter_config.json', 'a PEFT adapter: changes to a model that is not in it'),
    ('model_index.json', 'a pipeline of diffusers'),
    ('saved_model.pb', 'a SavedModel of TensorFlow'),
    ('*.ckpt*.index', 'a checkpoint of TensorFlow'),
    ('flax_model.msgpack', "weights of transformers' former Flax models"),
    ('tf_model.h5', "weights of transformers' former TensorFlow models"),
    ('openvino_model.xml', 'a model of OpenVINO'),
    ('*.gguf', 'a model of llama.cpp (GGUF)'),
    ('*.onnx', 'an ONNX model'),
    ('onnx/*.onnx', 'an ONNX model'),
    ('Data/com.apple.CoreML', 'a model of Core ML'),
    ('_CHECKPOINT_METADATA', 'a checkpoint of orbax'),
    ('.metadata', 'a checkpoint of torch.distributed, in parts'),
    ('zero_to_fp32.py', 'a checkpoint of DeepSpeed, which its zero_to_fp32.py turns into a state dict'),
    ('images.lance', 'an index of pictures'),
)
_WEIGHTS = ('.pt', '.pth', '.ckpt', '.safetensors', '.bin', '.tar')  # endings of files of weights


def unread(where: pathlib.Path) -> tuple[str, ...]:
    """What lies beside weights and is not used, a sentence each."""
    folder = where if where.is_dir() else where.parent
    adapter = folder / 'adapter_config.json'
    return (f'the PEFT adapter beside them ({adapter.name}) is not applied; {kinds.MERGE}',) * adapter.is_file()


def describe(path: pathlib.Path) -> str:
    """What a folder or a file is, as a phrase for a message; it never raises."""
    try:
        if path.is_dir():
            return _describe_folder(path)
        return kinds.of_file(path) if path.exists() else 'nothing: there is no such file or folder'
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

    Raises `error`: its first module is no CLIP, or is said to lie elsewhere.
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
            f'{kinds.USE}'
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
    elif 'PEFT' in what:
        advice = kinds.MERGE
    else:
        other = 'orbax' not in what and what in dict(_FOLDERS).values()
        advice = kinds.USE if other else _inside(path) or kinds.USE
    return WeightsError(f'{path}: found {what}; expected the weights of a CLIP. {advice}')


def _inside(path: pathlib.Path) -> str:
    """The model that lies in a folder, or around it, as advice; '' where none does."""
    above = next((folder for folder in path.absolute().parents[:2] if is_run(folder)), None)
    if above is not None:
        return f'It belongs to a run: pass {above}, with --stage for another stage than its last.'
    if not path.is_dir():
        return ''
    files = sorted(file.name for file in path.iterdir() if file.suffix in _WEIGHTS and file.is_file())
    if files:
        more = f' (or one of {len(files) - 1} more)' * (len(files) > 1)
        return f'It holds files of weights: pass {path / files[0]}{more}.'
    some = itertools.islice(itertools.chain(*map(path.glob, ('*', 'snapshots/*', 'models--*/snapshots/*'))), 200)
    known = ('config.json', OPEN_CLIP_CONFIG, 'model.json', _MODULES)
    place = next((folder for folder in sorted(some) if any((folder / name).is_file() for name in known)), None)
    return f'There is a model in it: pass {place}.' if place else ''


def shards(index: pathlib.Path) -> dict[str, list[str]]:
    """File -> names of its tensors, of a folder in shards. Raises WeightsError, naming the files that are missing."""
    expected = 'the list of tensors of a folder in shards'
    placed = read_object(index, expected, INDEX_LIMIT).get('weight_map')
    if not isinstance(placed, dict) or not placed or not all(is_name(file) for file in placed.values()):
        named = placed.values() if isinstance(placed, dict) else ()
        wrong = next((file for file in named if not is_name(file)), None)
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
        if next(folder.glob(file), None) is not None:
            return what
    if (folder / _MODULES).is_file():
        return 'a sentence-transformers folder'
    names = sorted(entry.name for entry in folder.iterdir())
    parts = list(filter(_SHARD.search, names))
    weights = next((name for name in (*OPEN_CLIP_WEIGHTS, *HUGGINGFACE_WEIGHTS) if name in names), '')
    if weights.endswith(_INDEX):
        listed = len(set(read_object(folder / weights, '', INDEX_LIMIT).get('weight_map', {}).values()))
        return f'a folder in shards, {len(parts)} of {listed} of them'
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return 'a folder of open_clip' + ('' if weights else ' without weights')
    if (folder / 'config.json').is_file():
        kind = read_object(folder / 'config.json', '').get('model_type')
        named = f'a {brief(kind)} model' if isinstance(kind, str) else 'a model'
        if parts and not weights:
            return f'{named} of {len(parts)} shards without their list, such as {HUGGINGFACE_WEIGHTS[1]}'
        return f"{named} in Hugging Face's layout" + ('' if weights else ' without weights')
    listed = ', '.join(names[:8]) + (f' and {len(names) - 8} more' if len(names) > 8 else '')
    return f'a folder with {listed}, without a config' if names else 'an empty folder'


def is_part(path: pathlib.Path) -> bool:
    """Whether a file is a config, a list of shards or a shard: the model is its folder."""
    parts = (*(name for name in HUGGINGFACE_WEIGHTS if name.endswith(_INDEX)), 'config.json', OPEN_CLIP_CONFIG)
    return path.name in parts or _SHARD.search(path.name) is not None
