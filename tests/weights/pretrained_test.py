"""Hugging Face folders in and out, position tables of any grid, and what a user reads when weights do not fit."""

import json
import shutil
import socket
import time
import types

import chex
import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import CLIPModel

from lcr2s_jax.errors import ConfigError, WeightsError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.weights import huggingface, pretrained
from lcr2s_jax.weights.positions import resize_positions
from tests import hub
from tests import torch_clip as torch_clip_files
from tests.models.clip_test import SIZES, assert_equal_features, batch, features, init, torch_clip, torch_features
from tests.weights import openai_test

ASKED = dict(
    architecture='', image_size=(24, 24), context_length=12, vocab_size=0,
    resize='bicubic', dtype='float32', activation='', heads=0, kernel='einsum', remat=False, scan=False, chunks=1,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder as transformers writes it."""
    torch_clip(CLIP(**SIZES)).save_pretrained(tmp_path / 'clip')
    return tmp_path / 'clip'


def change_tensors(folder, change):
    tensors = load_file(folder / 'model.safetensors')
    change(tensors)
    save_file(tensors, folder / 'model.safetensors')


def change_config(folder, **fields):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(config | fields))


def cut_positions(folder):
    table = np.zeros((12, 32), np.float32)
    change_tensors(folder, lambda tensors: tensors.update({huggingface.IMAGE_POSITIONS: table}))


@pytest.mark.parametrize('image_size', [(24, 24), (36, 12), (30, 18)])
def test_a_folder_made_by_torch_gives_the_same_features(folder, image_size):
    clip, params = pretrained.load(pretrained=str(folder), **ASKED | dict(image_size=image_size))
    expected = torch_features(CLIPModel.from_pretrained(folder), *batch(clip))
    assert_equal_features(features(clip, params, *batch(clip)), expected, tolerance=1e-5)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_files_are_read_as_float32(folder, dtype):
    CLIPModel.from_pretrained(folder).to(getattr(torch, dtype)).save_pretrained(folder)
    clip, params = pretrained.load(pretrained=str(folder), **ASKED)
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('float32')}
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    assert_equal_features(features(clip, params, *batch(clip)), torch_features(model, *batch(clip)), tolerance=1e-5)


@pytest.mark.parametrize('image_size', [(24, 24), (36, 12), (24, 12), (12, 36)])
def test_what_we_save_gives_torch_the_same_features(tmp_path, image_size):
    clip = CLIP(**SIZES | dict(image_size=image_size))
    params = init(clip)
    huggingface.save_huggingface(tmp_path, clip, params, 'float32')
    model, info = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), 'no tensor missing, extra or misshapen'
    expected = features(clip, params, *batch(clip))
    assert_equal_features(torch_features(model, *batch(clip)), expected, tolerance=1e-5)


@pytest.mark.parametrize('image_size', [(24, 24), (36, 12), (24, 12), (24, 18)])
def test_saving_and_loading_gives_the_same_model(tmp_path, image_size):
    clip = CLIP(**SIZES | dict(image_size=image_size))
    params = init(clip)
    huggingface.save_huggingface(tmp_path, clip, params, 'float32')
    again, read = pretrained.load(pretrained=str(tmp_path), **ASKED | dict(image_size=image_size, resize='bilinear'))
    assert again == clip
    table, learned = (x['vision'].pop('positions') for x in (read, params))
    chex.assert_trees_all_equal(read, params)
    exact = max(clip.grid) % min(clip.grid) == 0 and max(clip.grid) // min(clip.grid) % 2
    np.testing.assert_allclose(table, learned, rtol=0, atol=0 if exact else 1e-7)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_a_file_in_half_precision_is_half_as_large_and_nearly_the_same(tmp_path, dtype):
    clip = CLIP(**SIZES)
    params = init(clip)
    for kind in ('float32', dtype):
        huggingface.save_huggingface(tmp_path / kind, clip, params, kind)
    sizes = [(tmp_path / kind / 'model.safetensors').stat().st_size for kind in ('float32', dtype)]
    assert sizes[1] < 0.6 * sizes[0]
    _, read = pretrained.load(pretrained=str(tmp_path / dtype), **ASKED)
    chex.assert_trees_all_close(read, params, rtol=0.01, atol=1e-5)


def test_saving_leaves_the_tokenizer_and_nothing_half_written(tmp_path):
    (tmp_path / 'tokenizer.json').write_text('{}')
    clip = CLIP(**SIZES)
    huggingface.save_huggingface(tmp_path, clip, init(clip), 'float32')
    assert {p.name for p in tmp_path.iterdir()} == {'tokenizer.json', 'config.json', 'model.safetensors'}


@pytest.mark.parametrize('method', ['bilinear', 'bicubic'])
@pytest.mark.parametrize(
    'grids',
    [
        ((14, 14), (24, 8)),
        ((24, 24), (24, 8)),
        ((24, 8), (14, 14)),
        ((12, 4), (7, 8)),
        ((7, 7), (8, 4)),
        ((5, 3), (2, 9)),
    ],
)
def test_position_tables_are_resized_as_torch_does(grids, method):
    (rows, columns), to = grids
    table = np.random.default_rng(0).standard_normal((1 + rows * columns, 6)).astype(np.float32)
    picture = torch.tensor(table[1:].reshape(1, rows, columns, 6)).permute(0, 3, 1, 2)
    picture = torch.nn.functional.interpolate(picture, size=to, mode=method, align_corners=False)
    out = resize_positions(table, (rows, columns), to, method)
    np.testing.assert_allclose(out[1:], picture[0].permute(1, 2, 0).reshape(-1, 6), atol=1e-5)
    np.testing.assert_array_equal(out[0], table[0])


def test_the_resize_method_of_the_config_is_the_one_used(folder):
    def table(method):
        asked = ASKED | dict(image_size=(36, 12), resize=method)
        return pretrained.load(pretrained=str(folder), **asked)[1]['vision']['positions']

    assert np.max(np.abs(table('bilinear') - table('bicubic'))) > 1e-3
    with pytest.raises(ConfigError, match="found 'nearest', expected 'bilinear' or 'bicubic'"):
        pretrained.load(pretrained=str(folder), **ASKED | dict(image_size=(36, 12), resize='nearest'))


@pytest.mark.parametrize('method', ['bilinear', 'bicubic'])
def test_a_text_position_table_is_cut_or_resized_as_torch_does_and_this_is_told_once(folder, caplog, method):
    def table(length):
        asked = ASKED | dict(context_length=length, resize=method)
        clip, params = pretrained.load(pretrained=str(folder), **asked)
        assert clip.context_length == length
        return params['text']['positions']

    whole = table(12)
    assert not caplog.records, 'nothing was guessed'
    np.testing.assert_array_equal(table(9), whole[:9])
    assert 'the text has 12 positions, 9 are asked for: the first are read' in caplog.text
    line = torch.tensor(whole.T[None, :, :, None])  # a picture one column wide
    expected = torch.nn.functional.interpolate(line, size=(24, 1), mode=method, align_corners=False)[0, :, :, 0].T
    np.testing.assert_allclose(table(24), expected, atol=1e-5)
    assert len(caplog.records) == 2 and '24 are asked for: they are resized to 24' in caplog.text


def test_missing_extra_and_misshapen_tensors_are_named_together(folder):
    def spoil(tensors):
        layer = 'vision_model.encoder.layers.1.mlp.'
        tensors[layer + 'fc9.weight'] = tensors.pop(layer + 'fc1.weight')
        tensors['text_projection.weight'] = tensors['text_projection.weight'][:7]
        tensors['text_model.embeddings.position_ids'] = np.arange(12)

    change_tensors(folder, spoil)
    with pytest.raises(pretrained.WeightsError) as caught:
        pretrained.load(pretrained=str(folder), **ASKED)
    text = str(caught.value)
    assert str(folder) in text and '3 tensors' in text and 'position_ids' not in text
    assert 'missing: vision_model.encoder.layers.1.mlp.fc1.weight (128, 32)' in text
    assert 'extra: vision_model.encoder.layers.1.mlp.fc9.weight (128, 32)' in text
    assert 'misshapen: text_projection.weight (7, 24), expected (20, 24)' in text


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda f: (f / 'config.json').unlink(), 'config.json: cannot be read'),
        (lambda f: (f / 'config.json').write_text('{"a'), 'config.json: cannot be read'),
        (lambda f: (f / 'model.safetensors').unlink(), "found a 'clip' model in Hugging Face's layout without weights"),
        (lambda f: (f / 'model.safetensors').write_bytes(b'\x01' * 99), 'model.safetensors: cannot be read'),
        (lambda f: change_config(f, model_type='bert'), "found model_type 'bert', expected 'clip'"),
        (lambda f: change_config(f, text_config={'hidden_act': 'relu'}), 'relu.*quick_gelu, gelu'),
        (lambda f: change_config(f, text_config={'hidden_act': 'gelu'}), 'towers have different hidden_act'),
        (cut_positions, 'found 12 rows, expected a square'),
    ],
)
def test_a_spoilt_folder_gives_one_clear_message(folder, spoil, message):
    spoil(folder)
    with pytest.raises(pretrained.WeightsError, match=message):
        pretrained.load(pretrained=str(folder), **ASKED)


def test_a_missing_folder_is_named_and_no_network_is_asked_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr('huggingface_hub.snapshot_download', lambda *_, **__: pytest.fail('asked the hub'))
    for missing in (tmp_path / 'none', 'data/none'):
        with pytest.raises(pretrained.WeightsError, match=f"found no folder '{missing}'"):
            pretrained.load(pretrained=str(missing), **ASKED)


def test_a_hub_name_is_fetched_once_and_then_read_without_a_network(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / 'hub' / 'someone' / 'clip')
    shutil.copy(folder / 'model.safetensors', tmp_path / 'hub' / 'someone' / 'clip' / 'other.safetensors')
    with hub.serving(tmp_path / 'hub', monkeypatch, tmp_path / 'cache') as fetched:
        assert pretrained.load(pretrained='someone/clip', **ASKED)[0].embed_dim == 20
        assert sorted(fetched) == ['config.json', 'model.safetensors'], 'and nothing that is not read'
        with pytest.raises(WeightsError, match="'someone/clop': found nothing by that name, neither here nor on the"):
            pretrained.load(pretrained='someone/clop', **ASKED)
        with pytest.raises(WeightsError, match="Did you mean 'openai/clip-vit-base-patch16'"):
            pretrained.load(pretrained='openai/clip-vit-base-patch-16', **ASKED)
    assert pretrained.load(pretrained='someone/clip', **ASKED)[0].embed_dim == 20


@pytest.mark.parametrize('name', ['someone/clip', 'hf://someone/irra/best.pth'])
def test_without_a_network_a_name_is_answered_within_three_seconds(tmp_path, monkeypatch, name):
    (tmp_path / 'hub').mkdir()
    with hub.serving(tmp_path / 'hub', monkeypatch, tmp_path / 'cache'):
        pass  # and gone
    began = time.perf_counter()
    with pytest.raises(WeightsError, match='out of reach .*Connection refused.*fetch it: `hf download.*HF_HUB_OFFLINE'):
        pretrained.open_source(name)
    with socket.create_server(('127.0.0.1', 0), backlog=0) as deaf:  # takes no more than one, and answers none
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
        monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', f'http://127.0.0.1:{deaf.getsockname()[1]}')
        with pytest.raises(WeightsError, match='out of reach'):
            pretrained.open_source(name)
        for one in held:
            one.close()
    assert time.perf_counter() - began < 3


def test_a_checkpoint_on_the_hub_is_named_by_repository_and_file(tmp_path, monkeypatch):
    made = CLIP(**openai_test.PEOPLE)
    (tmp_path / 'hub' / 'someone' / 'irra' / 'a').mkdir(parents=True)
    path = torch_clip_files.save_checkpoint(
        tmp_path / 'hub' / 'someone' / 'irra' / 'a' / 'best.pth', torch_clip_files.TorchCLIP(made)
    )
    with hub.serving(tmp_path / 'hub', monkeypatch, tmp_path / 'cache') as fetched:
        source = pretrained.open_source('hf://someone/irra/a/best.pth')
        assert fetched == ['a/best.pth'] and source.sizes == pretrained.open_source(str(path)).sizes
        for wrong in ('hf://someone/irra/none.pth', 'hf://someone', 'hf://someone/irra/../../x'):
            with pytest.raises(WeightsError, match='found nothing by that name|expected hf://OWNER/NAME/FILE'):
                pretrained.open_source(wrong)
    with pytest.raises(WeightsError, match='pass hf://someone/irra/a/best.pth'):
        pretrained.open_source('https://huggingface.co/someone/irra/resolve/main/a/best.pth')


@pytest.mark.parametrize(
    'capability,dtype,kernel',
    [('9.0', 'bfloat16', 'cudnn'), ('12.0', 'bfloat16', 'cudnn'), ('9.0', 'float32', 'einsum'),
     ('7.5', 'bfloat16', 'einsum'), ('gfx90a', 'bfloat16', 'einsum'), (None, 'bfloat16', 'einsum')],
)  # fmt: skip
def test_attention_is_fused_where_the_device_can(capability, dtype, kernel, monkeypatch):
    device = types.SimpleNamespace(**({'compute_capability': capability} if capability else {}))
    monkeypatch.setattr(jax, 'devices', lambda: [device])
    assert pretrained.kernel_for('', dtype) == kernel
    assert pretrained.kernel_for('xla', dtype) == 'xla'


def test_random_weights_of_an_architecture_by_name():
    asked = ASKED | dict(architecture='demo', image_size=(96, 48), context_length=40, vocab_size=100)
    clip, params = pretrained.load(pretrained='', **asked)
    assert clip.grid == (8, 4) and params['text']['token_embedding'].shape == (100, 128)
    with pytest.raises(ConfigError, match="kernel: found 'flash', expected one of einsum, xla, cudnn"):
        pretrained.load(pretrained='', **asked | dict(kernel='flash'))
    with pytest.raises(ConfigError, match="found 'cudnn' with dtype='float32' on cpu, expected 'bfloat16'"):
        pretrained.load(pretrained='', **asked | dict(kernel='cudnn'))
    with pytest.raises(ConfigError, match="architecture: found 'ViT', expected one of ViT-B/16"):
        pretrained.load(pretrained='', **asked | dict(architecture='ViT'))
    with pytest.raises(ConfigError, match=r'image_size: found \(96, 50\).*such as \(96, 48\)'):
        pretrained.load(pretrained='', **asked | dict(image_size=(96, 50)))
