"""Files in OpenAI's naming: OpenAI's archives and IRRA's checkpoints give torch's features."""

import logging

import jax
import numpy as np
import pytest
import torch

from lcr2s_jax.errors import ConfigError, WeightsError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.weights import pretrained
from tests.models.clip_test import assert_equal_features, features
from tests.models.resnet_test import SIZES as RESNET
from tests.models.resnet_test import batch
from tests.torch_clip import TorchCLIP, save_archive, save_checkpoint, save_folder, torch_features

pytestmark = pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
VIT = dict(
    image_size=(24, 24), patch_size=6, vision_width=128, vision_layers=2, vision_heads=2,
    text_width=64, text_layers=1, text_heads=1, context_length=12, vocab_size=60, embed_dim=20,
)  # fmt: skip
PEOPLE = VIT | dict(image_size=(36, 12))
TOWERS = {'vit': VIT, 'resnet': RESNET}


def load(path, clip, **changes):
    asked = dict(
        architecture='', image_size=clip.image_size, context_length=12, vocab_size=0,
        resize='bicubic', dtype='float32', kernel='einsum', remat=False, scan=False, chunks=1,
    )  # fmt: skip
    return pretrained.load(pretrained=str(path), **asked | changes)


@pytest.mark.parametrize('tower', TOWERS)
def test_openais_archive_gives_the_features_of_torch(tmp_path, tower):
    model = TorchCLIP(CLIP(**TOWERS[tower]))
    clip, params = load(save_archive(tmp_path / 'clip.pt', model, batch(CLIP(**TOWERS[tower]))), CLIP(**TOWERS[tower]))
    assert clip == CLIP(**TOWERS[tower])
    assert_equal_features(features(clip, params, *batch(clip)), torch_features(model, *batch(clip)), tolerance=1e-5)


def test_an_archive_in_half_precision_is_read_as_float32(tmp_path):
    model = TorchCLIP(CLIP(**VIT))
    clip, params = load(save_archive(tmp_path / 'clip.pt', model, batch(CLIP(**VIT)), half=True), CLIP(**VIT))
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('float32')}
    expected = torch_features(model.half().float(), *batch(clip))
    assert_equal_features(features(clip, params, *batch(clip)), expected, tolerance=1e-5)


@pytest.mark.parametrize('tower', ['vit', 'resnet'])
@pytest.mark.parametrize('saved', [{}, {'bare': True}, {'prefix': 'module.base_model.'}])
def test_irras_checkpoint_gives_the_features_of_torch(tmp_path, tower, saved):
    made = CLIP(**PEOPLE) if tower == 'vit' else CLIP(**RESNET | dict(image_size=(96, 32)))
    model = TorchCLIP(made)
    clip, params = load(save_checkpoint(tmp_path / 'best.pth', model, **saved), made)
    assert clip == made and params['logit_scale'] == pytest.approx(np.log(1 / 0.07))
    assert_equal_features(features(clip, params, *batch(clip)), torch_features(model, *batch(clip)), tolerance=1e-5)


def test_what_a_checkpoint_has_beside_its_clip_is_counted(tmp_path, caplog):
    heads = ('classifier.weight', 'classifier.bias', 'mlm_head.fc.weight', 'cross_attn.in_proj_weight', 'logit_scale')
    path = save_checkpoint(tmp_path / 'best.pth', TorchCLIP(CLIP(**PEOPLE)), heads=heads)
    with caplog.at_level(logging.WARNING):
        load(path, CLIP(**PEOPLE))
    told = 'not used: 5 tensors outside base_model: classifier (2), cross_attn (1), logit_scale (1), mlm_head (1)'
    assert told in caplog.text


def test_a_checkpoint_of_people_keeps_its_grid_and_is_resized_from_it(tmp_path):
    made = CLIP(**VIT | dict(image_size=(48, 12)))  # 16 places: as many as a square has
    model = TorchCLIP(made)
    table = model.visual.positional_embedding.detach()
    _, params = load(save_checkpoint(tmp_path / 'best.pth', model), made)
    np.testing.assert_array_equal(params['vision']['positions'], table)
    _, params = load(save_archive(tmp_path / 'clip.pt', model, batch(made)), made)
    assert np.any(params['vision']['positions'] != table.numpy()), "OpenAI's own are square"
    model = TorchCLIP(CLIP(**PEOPLE))  # 12 places: 6 x 2
    table = model.visual.positional_embedding.detach()
    _, params = load(save_checkpoint(tmp_path / 'best.pth', model), made, resize='bilinear')
    picture = table[1:].reshape(1, 6, 2, -1).permute(0, 3, 1, 2)
    picture = torch.nn.functional.interpolate(picture, size=made.grid, mode='bilinear', align_corners=False)
    np.testing.assert_allclose(params['vision']['positions'][1:], picture[0].flatten(1).T, atol=1e-5)


def test_missing_extra_and_misshapen_tensors_have_the_names_of_the_file(tmp_path):
    model = TorchCLIP(CLIP(**PEOPLE))
    path = save_checkpoint(tmp_path / 'best.pth', model)
    content = torch.load(path, weights_only=True)
    block = 'base_model.visual.transformer.resblocks.1.'
    content['model'][block + 'mlp.c_fc9.weight'] = content['model'].pop(block + 'mlp.c_fc.weight')
    content['model'][block + 'attn.in_proj_weight'] = torch.zeros(3 * 128, 127)
    torch.save(content, path)
    with pytest.raises(WeightsError) as caught:
        load(path, CLIP(**PEOPLE))
    text = str(caught.value)
    assert str(path) in text and '3 tensors' in text
    assert f'missing: {block}mlp.c_fc.weight (512, 128)' in text
    assert f'extra: {block}mlp.c_fc9.weight (512, 128)' in text
    assert f'misshapen: {block}attn.in_proj_weight (384, 127), expected (384, 128)' in text


@pytest.mark.parametrize(
    'spoil, message',
    [
        (
            lambda t: t.clear() or t.update(a=torch.ones(1)),
            'found 1 tensors, such as a: no CLIP: neither visual.conv1.weight nor',
        ),
        (
            lambda t: t.update({'m.visual.conv1.weight': torch.ones(1)}),
            "several models.*'base_model.visual.' and 'm.visual.'; expected one CLIP",
        ),
        (lambda t: t.pop('base_model.ln_final.weight'), 'missing: base_model.ln_final.weight, expected 1 axes'),
        (lambda t: t.update({'base_model.text_projection': torch.ones(3)}), r'misshapen: \(3,\): base_model.text_proj'),
        (lambda t: t.update({'base_model.ln_final.weight': torch.ones(65)}), 'a text tower 65 wide.*multiple of 64'),
        (
            lambda t: t.update({'base_model.visual.positional_embedding': torch.ones(12, 128)}),
            'base_model.visual.positional_embedding: found 12 rows, expected one and a square.*6 x 2',
        ),
    ],
)
def test_a_spoilt_checkpoint_gives_one_clear_message(tmp_path, spoil, message):
    path = save_checkpoint(tmp_path / 'best.pth', TorchCLIP(CLIP(**PEOPLE)))
    content = torch.load(path, weights_only=True)
    spoil(content['model'])
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as caught:
        load(path, CLIP(**PEOPLE))
    assert str(caught.value).count(str(path)) == 1


def test_a_file_that_is_not_there_is_not_taken_for_a_hub_name(monkeypatch):
    monkeypatch.setattr('huggingface_hub.snapshot_download', lambda *_, **__: pytest.fail('asked the hub'))
    with pytest.raises(WeightsError, match="found no folder 'weights/ViT-B-16.pt', and no file"):
        load('weights/ViT-B-16.pt', CLIP(**VIT))


def test_an_image_size_that_a_resnet_cannot_take_is_refused(tmp_path):
    path = save_folder(tmp_path / 'clip', TorchCLIP(CLIP(**RESNET)), CLIP(**RESNET))
    with pytest.raises(ConfigError, match=r'found \(96, 40\).*32, such as \(96, 32\)'):
        load(path, CLIP(**RESNET), image_size=(96, 40))
