"""Files made to take all memory, all time or a traceback: each is refused with a message, in proportion to its size."""

import gzip
import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile

import pytest

from lcr2s_jax.errors import DataError, WeightsError
from lcr2s_jax.models.clip import attributes
from lcr2s_jax.weights import pretrained, sizes
from lcr2s_jax.weights.tokenizer import Tokenizer, clean

DEMO = pathlib.Path(pretrained.__file__).parent / 'demo_clip'
CONFIG = json.loads((DEMO / 'config.json').read_text())


def checkpoint(*records: tuple[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        for name, data in records:
            archive.writestr(f'a/{name}', data)
    return file.getvalue()


def changed(**fields) -> bytes:
    """The demo's config with fields such as vision_config__patch_size changed."""
    config = json.loads(json.dumps(CONFIG))
    for path, value in fields.items():
        part, _, name = path.partition('__')
        (config[part] if name else config)[name or part] = value
    return json.dumps(config).encode()


def nested(depth: int, letters: int) -> bytes:
    """Dictionaries in dictionaries, all under one long key."""
    key = b'X' + struct.pack('<I', letters) + b'k' * letters + b'q\x00'
    return b'\x80\x02' + b'}(' + key + (b'}(h\x00') * depth + b'K\x01' + b'u' * depth + b'u.'


def header(tensors, data: bytes = b'') -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack('<Q', len(text)) + text + data


def colliding(count: int) -> bytes:
    """A dictionary whose keys, long numbers, have one hash: quadratic where they are hashed."""
    keys = b''.join(b'\x8a\x0c' + ((i + 1) * ((1 << 61) - 1)).to_bytes(12, 'little') + b'N' for i in range(count))
    return b'\x80\x02}(' + keys + b'u.'


BIG = {'x': {'dtype': 'F32', 'shape': [1 << 40, 1 << 30], 'data_offsets': [0, 16]}}
FILES = {
    'memo.pt': lambda: checkpoint(('data.pkl', b'\x80\x02}r' + struct.pack('<I', 1 << 26) + b'.')),
    'prefix.pt': lambda: checkpoint(('data.pkl', nested(1200, 1 << 20))),
    'deep.pt': lambda: checkpoint(('data.pkl', nested(90_000, 1))),
    'hash.pt': lambda: checkpoint(('data.pkl', colliding(60_000))),
    'sets.pt': lambda: checkpoint(('data.pkl', b'\x80\x04' + b'\x8f' * 2_000_000 + b'.')),
    'nones.pt': lambda: checkpoint(('data.pkl', b'\x80\x02(' + b'N' * 8_000_000 + b't.')),
    'copies.pt': lambda: checkpoint(
        ('data.pkl', b'\x80\x02(' + b'N' * 200_000 + b'tq\x00ctorch._utils\n_rebuild_tensor_v2\nh\x00' + b'R.')
    ),
    'packed.pt': lambda: checkpoint(('data.pkl', bytes(1 << 28)), compression=zipfile.ZIP_DEFLATED),
    'records.pt': lambda: checkpoint(*[(f'{i}', b'') for i in range(60_000)], ('data.pkl', b'\x80\x02}.')),
    'long_pickle.pt': lambda: checkpoint(('data.pkl', bytes(20 << 20))),
    'call.pt': lambda: checkpoint(('data.pkl', pickle.dumps({'x': print}, 2))),
    'huge.safetensors': lambda: header(BIG, bytes(16)),
    'length.safetensors': lambda: struct.pack('<Q', 1 << 62) + b'{}',
    'deep.safetensors': lambda: header(b'[' * 3_000_000),
    'many.safetensors': lambda: header(
        {f'{i}': {'dtype': 'U8', 'shape': [0], 'data_offsets': [0, 0]} for i in range(60_000)}
    ),
    'bpe_simple_vocab_16e6.txt.gz': lambda: gzip.compress(b'a b\n' * (1 << 25), 1),
    'lists/tokenizer.json': lambda: b'{"model": [' + b'[],' * 3_000_000 + b'[]]}',
    'deep/tokenizer.json': lambda: b'{"model": ' + b'[' * 90_000 + b']' * 90_000 + b'}',
    'slow/tokenizer.json': lambda: (DEMO / 'tokenizer.json').read_bytes().replace(b'"\\\\s+"', b'"(a+)+$"'),
}
CONFIGS = {
    'layers': changed(text_config__num_hidden_layers=10**9),
    'width': changed(text_config__hidden_size=10**12),
    'fitting': changed(vision_config__num_hidden_layers=64, vision_config__hidden_size=16_384),
    'no patch': changed(vision_config__patch_size=0),
    'no heads': changed(vision_config__num_attention_heads=0),
    'negative': changed(text_config__num_hidden_layers=-3),
    'text': changed(text_config__hidden_size='wide'),
    'fraction': changed(text_config__num_hidden_layers=2.5),
    'truth': changed(text_config__num_hidden_layers=True),
    'none': changed(text_config__vocab_size=None),
    'nan': changed(vision_config__hidden_size=float('nan')),
    'infinity': changed(projection_dim=float('inf')),
    'list': b'[1, 2]',
    'number': b'3',
    'null': b'null',
    'towers': changed(text_config=[1]),
    'activation': changed(text_config__hidden_act=['gelu']),
    'unhashable': changed(text_config__layer_norm_eps={}),
    'kind': changed(model_type=['clip']),
    'ours': changed(lcr2s={'x': 1}),
    'our sides': changed(lcr2s={'image_size': [8192, 8192]}),
    'deep': b'[' * 200_000,
    'objects': b'{"a":' * 150_000,
    'digits': b'{"projection_dim": ' + b'9' * 100_000 + b'}',
    'utf-16': b'\xff\xfe\x00\xd8',
    'a byte order mark': b'\xef\xbb\xbf' + changed(),
    'twice': b'{"model_type": "clip", "model_type": "clip"}',
    'long': b'{"a": "' + b'x' * 100_000_000 + b'"}',
    'cut': changed()[:200],
    'empty': b'',
}
CHILD = """
import json, pathlib, resource, sys, time
from lcr2s_jax.errors import UserError
from lcr2s_jax.models.clip import attributes
from lcr2s_jax.weights import pretrained, sizes
from lcr2s_jax.weights.tokenizer import Tokenizer
asked = dict(architecture='', image_size=(96, 48), context_length=32, vocab_size=0, resize='bicubic', dtype='float32',
             kernel='einsum', remat=False, scan=False, chunks=1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
Tokenizer(sys.argv[1])
for path in sys.argv[2:]:
    before, began = peak(), time.process_time()
    try:
        Tokenizer(path) if 'token' in path or 'bpe' in path else pretrained.load(pretrained=path, **asked)
        end = 'read'
    except UserError as error:
        end = str(error)
    except BaseException as error:
        end = f'traceback: {type(error).__name__} {error}'
    print(json.dumps([path, end[:2000], time.process_time() - began, peak() - before]), flush=True)
"""


def outcomes(paths) -> dict[str, tuple[str, float, float]]:
    """Of each path: what was said, seconds of a processor, and MiB that the peak of a process rose by."""
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    done = subprocess.run(
        [sys.executable, '-c', CHILD, str(DEMO), *map(str, paths)], capture_output=True, text=True, timeout=300,
        env=environment,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert len(lines) == len(paths), f'{done.returncode} {done.stderr[-2000:]}'
    return {path: tuple(rest) for path, *rest in lines}


def test_hostile_files_are_refused_in_time_and_memory_that_their_size_bounds(tmp_path):
    for name, make in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(make())
    for path, (said, seconds, grown) in outcomes([tmp_path / name for name in FILES]).items():
        size = pathlib.Path(path).stat().st_size
        assert said.startswith(path) and 'expected' in said or 'Fetch' in said, (path, said)
        assert 'traceback' not in said and len(said) < 1500, (path, said)
        assert seconds < 2 + size / 2**30, (path, seconds)
        assert grown < 10 * size / 2**20 + 50, (path, grown)


def test_odd_configs_are_refused_with_a_message(tmp_path):
    for name, content in CONFIGS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / 'config.json').write_bytes(content)
        shutil.copy(DEMO / 'model.safetensors', tmp_path / name)
    for path, (said, seconds, grown) in outcomes([tmp_path / name for name in CONFIGS]).items():
        assert said.startswith(path) and 'expected' in said and 'traceback' not in said, (path, said)
        assert len(said) < 1500 and seconds < 5 and grown < 90, (path, said, seconds, grown)


@pytest.mark.parametrize('value', [b'\xff\xff', b'\0\x7c'])  # NaN and infinite, as float16
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    folder = shutil.copytree(DEMO, tmp_path / 'clip')
    file = folder / 'model.safetensors'
    file.write_bytes(file.read_bytes()[:-2] + value)
    with pytest.raises(WeightsError, match='that are no numbers'):
        pretrained.build(pretrained.open_source(str(folder)))


def test_what_a_pickle_builds_is_bounded_by_what_it_is(tmp_path):
    for name, message in (
        ('prefix.pt', 'a name of 1,048,576 letters, expected at most 512'),
        ('sets.pt', 'more than 100,000 dictionaries and objects'),
        ('nones.pt', 'more than 400,000 instructions'),
        ('copies.pt', 'a call with 200,000 arguments'),
        ('call.pt', 'found no tensor'),
    ):
        (tmp_path / name).write_bytes(FILES[name]())
        with pytest.raises(WeightsError, match=message):
            pretrained.open_source(str(tmp_path / name))


def test_a_vocabulary_is_bounded_and_its_patterns_are_fast(tmp_path):
    content = json.loads((DEMO / 'tokenizer.json').read_text())

    def refused(message, **change):
        (tmp_path / 'tokenizer.json').write_text(json.dumps(content | change))
        with pytest.raises(DataError, match=message):
            Tokenizer(str(tmp_path))

    for pattern in ('(a+)+$', r'(\w)\1', 'a*a*a*a*b', '(a|b){9}', 'x' * 600):
        split = {'type': 'Split', 'pattern': {'Regex': pattern}, 'behavior': 'Removed', 'invert': True}
        refused('may take for ever', pre_tokenizer={'type': 'Sequence', 'pretokenizers': [split]})
    twice = {'type': 'Replace', 'pattern': {'String': 'q'}, 'content': 'qq'}
    for longer in ([twice] * 40, [{'type': 'Prepend', 'prepend': 'x' * 300}], [{'type': 'ByteLevel'}] * 9,
                   [{'type': 'Precompiled', 'precompiled_charsmap': ''}]):  # fmt: skip
        refused('more than 256 times as long', normalizer={'type': 'Sequence', 'normalizers': longer})
    words = [{'Sequence': {'id': 'A', 'type_id': 0}}] * 300
    template = {'type': 'TemplateProcessing', 'single': words, 'pair': words, 'special_tokens': {}}
    refused('more than 256 times as long', post_processor=template)
    refused('byte-pair encoding', model=content['model'] | {'dropout': 0.5})
    refused('texts to ids', model=content['model'] | {'vocab': content['model']['vocab'] | {'a': 10**10}})
    refused('pairs of texts', model=content['model'] | {'merges': [['a', 'b', 'c']]})
    refused('an added token', added_tokens=[{'id': 1, 'content': 'x' * 300}])


@pytest.mark.parametrize('text', [' ', '\u00a0', '.', '\u2019', '&amp;', '\n\t', 'a ', '\u0301'])
def test_a_line_of_a_hundred_thousand_of_anything_takes_no_more_than_its_length(text):
    tokenizer = Tokenizer(str(DEMO))
    assert tokenizer.lengths([text * 100_000])[0] >= 2
    assert len(tokenizer.encode([text * 100_000], 32)[0]) == 32


@pytest.mark.parametrize(
    'odd, plain',
    [
        ('the woman\u2019s coat', "the woman's coat"),
        ('a \u201cred\u201d coat', 'a "red" coat'),
        ('a t-shirt &amp; jeans', 'a t-shirt & jeans'),
        ('a t-shirt &amp;amp; jeans', 'a t-shirt & jeans'),
        ('it&#39;s a man', "it's a man"),
        ('a caf\u00c3\u00a9', 'a caf\u00e9'),
        ('a red\u00a0coat', 'a red coat'),
        ('\uff21 red coat', 'A red coat'),
        ('cafe\u0301', 'caf\u00e9'),
        ('\ufeffa red coat', 'a red coat'),
        (' a\r\nred\tcoat ', 'a red coat'),
    ],
)
def test_typographic_marks_entities_and_mojibake_are_read_as_what_they_mean(odd, plain):
    tokenizer = Tokenizer(str(DEMO))
    assert (tokenizer.encode([odd], 32) == tokenizer.encode([plain], 32)).all()
    assert clean(plain) == plain


@pytest.mark.parametrize('captions', ['a red coat', b'a', [None], [3], [b'a']])
def test_what_is_no_list_of_texts_is_told(captions):
    with pytest.raises(DataError, match='in place of captions, expected a list of texts'):
        Tokenizer(str(DEMO)).encode(captions, 8)


def test_the_tokenizer_loads_no_jax():
    code = 'import lcr2s_jax.weights.tokenizer, sys; sys.exit("jax" in sys.modules or "ftfy" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=pathlib.Path(__file__).parents[2]).returncode == 0


@pytest.mark.parametrize(
    'change, message',
    [
        (None, 'found no sizes of a model'),
        ([], 'found no sizes of a model'),
        ({'other': 1}, 'found no sizes of a model'),
        ({'vision_layers': 10**9}, 'vision_layers = 1000000000, expected a whole number from 1 to 64'),
        ({'image_size': [97, 48]}, 'expected multiples of patch_size 12'),
        ({'image_size': None}, 'found a model without image_size'),
        ({'dtype': ['float32']}, 'found a model without a known dtype'),
    ],
)
def test_sizes_in_our_own_files_pass_the_same_door(change, message):
    clip = pretrained.build(pretrained.open_source(str(DEMO)), image_size=(96, 48))[0]
    values = json.loads(json.dumps(attributes(clip)))
    assert sizes.clip_of('it', values) == clip
    with pytest.raises(WeightsError, match=f'it: .*{message}'):
        sizes.clip_of('it', values | change if isinstance(change, dict) else change)
