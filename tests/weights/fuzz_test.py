"""What a stranger puts into files of weights, configs and tokenizers: read, or refused with a message, at once."""

import json
import pickle
import pickletools
import resource
import shutil
import struct
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from lcr2s_jax.errors import UserError
from lcr2s_jax.weights import layouts, pretrained
from lcr2s_jax.weights.stored import read_safetensors
from lcr2s_jax.weights.tokenizer import Tokenizer, clean
from lcr2s_jax.weights.torch_files import read_torch
from tests.fuzzing import anything, changed, damaged, fuzz

DEMO = Path(pretrained.__file__).parent / 'demo_clip'
WEIGHTS = (DEMO / 'model.safetensors').read_bytes()
CONFIG = json.loads((DEMO / 'config.json').read_text())
WORDS = json.loads((DEMO / 'tokenizer.json').read_text())


def answers(read, path, *, seconds=3.0, megabytes=400):
    """What `read(path)` gives, or None where it refuses with a message; anything else fails the test."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = read(path)
    except UserError as error:
        assert 0 < len(str(error)) < 20_000
        found = None
    assert time.process_time() - began < seconds  # of a processor: the machine may be busy
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < megabytes << 10
    layouts.describe(path)
    return found


def written(name: str, *contents: bytes | dict) -> Path:
    """A file in the folder of this input; the second content is that of config.json."""
    folder = Path(SCRATCH.name) / 'it'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, content in zip((name, 'config.json'), contents, strict=False):
        (folder / file).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder / name


SCRATCH = tempfile.TemporaryDirectory()


FEW = {
    'a': {'dtype': 'F32', 'shape': [2, 3], 'data_offsets': [0, 24]},
    'b': {'dtype': 'F16', 'shape': [], 'data_offsets': [24, 26]},
    '__metadata__': {'format': 'pt'},
}


@fuzz(changed(FEW) | damaged(WEIGHTS[:300]) | st.binary(max_size=64), share=0.063)
def test_a_safetensors_header_is_read_or_refused(header):
    if isinstance(header, dict):
        text = json.dumps(header).encode()
        header = struct.pack('<Q', len(text)) + text + bytes(26)
    path = written('model.safetensors', header)
    found = answers(read_safetensors, path)
    for tensor in list((found or {}).values())[:5]:
        assert np.asarray(tensor).shape == tensor.shape


@fuzz(changed(CONFIG) | anything | damaged(json.dumps(CONFIG).encode()), share=0.063, examples=60)
def test_a_config_is_read_or_refused(config):
    path = written('model.safetensors', WEIGHTS, config)
    found = answers(lambda p: pretrained.open_source(str(p.parent)), path)
    assert found is None or found.sizes.count() <= len(WEIGHTS)


CODES = [code for code in pickletools.opcodes if code.name not in ('STOP',)]
operation = st.builds(
    lambda code, number, text: code.code.encode('latin-1') + _argument(code, number, text),
    st.sampled_from(CODES), st.integers(0, 300), st.text('abtorch._utils\n', max_size=8),
)  # fmt: skip


def _argument(code, number: int, text: str) -> bytes:
    """Bytes of an instruction's argument, right in form."""
    line = text.replace('\n', '').encode() or b'x'
    kind = code.arg.name if code.arg else ''
    if not kind:
        return b''
    if kind in ('stringnl', 'stringnl_noescape', 'unicodestringnl'):
        return b"'" + line + b"'\n" if kind == 'stringnl' else line + b'\n'
    if kind == 'stringnl_noescape_pair':
        return b'torch._utils\n_rebuild_tensor_v2\n' if number % 3 else line + b'\n' + line + b'\n'
    if kind.startswith('decimalnl') or kind == 'floatnl':
        return str(number).encode() + b'\n'
    size = {'uint1': 'B', 'uint2': '<H', 'int4': '<i', 'uint4': '<I', 'uint8': '<Q', 'float8': '>d'}.get(kind)
    if size:
        return struct.pack(size, number % 256)
    width = {'1': 'B', '4': '<i', '8': '<Q'}[kind[-1]] if kind[-1].isdigit() else 'B'
    return struct.pack(width, len(line)) + line


TENSORS = b''.join(
    (
        b'\x80\x02}(', b'X\x01\x00\x00\x00x', b'ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage',
        b'ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x04\x85K\x01\x85\x89',
        b'ccollections\nOrderedDict\n)RtRu.',
    )
)  # fmt: skip


@fuzz(
    st.lists(operation, max_size=40).map(lambda parts: b''.join(parts) + b'.')
    | damaged(TENSORS)
    | anything.map(lambda value: pickle.dumps({'state_dict': value}, 2)),
    share=0.063,
    examples=200,
)
def test_a_pickle_is_read_or_refused(code):
    path = written('a.pt', b'')
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('a/data.pkl', code)
        file.writestr('a/data/0', bytes(16))
    found = answers(read_torch, path)
    for tensor in list(found.tensors.values())[:5] if found else ():
        answers(lambda _, tensor=tensor: np.asarray(tensor), path)


def _archive() -> bytes:
    path = written('a.pt', b'')
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('a/data.pkl', TENSORS)
        file.writestr('a/data/0', bytes(16))
    assert list(read_torch(path).tensors) == ['x']
    return path.read_bytes()


@fuzz(damaged(_archive()), share=0.06)
def test_a_zip_file_of_tensors_is_read_or_refused(content):
    found = answers(read_torch, written('a.pt', content))
    for tensor in list(found.tensors.values())[:5] if found else ():
        try:
            np.asarray(tensor)
        except UserError:
            pass


@fuzz(changed(WORDS) | damaged(json.dumps(WORDS).encode()), share=0.063, examples=60)
def test_a_tokenizer_is_read_or_refused(content):
    found = answers(lambda p: Tokenizer(str(p)), written('tokenizer.json', content))
    if found:
        answers(lambda _: found.encode(['a man in a red coat', "the woman's 2 bags!"], 12), Path())


@fuzz(st.text(max_size=200) | st.text('&#;xamp0123456789\u2019\u00c3\u00a9 ', max_size=400), share=0.06)
def test_any_text_is_cleaned_and_cleaning_twice_changes_nothing_that_is_ascii(text):
    once = clean(text)
    assert '  ' not in once
    if text.isascii() and '&' not in text and text.isprintable():
        assert once == ' '.join(text.split())
