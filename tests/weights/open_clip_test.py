"""open_clip's folders: torch's features, the file's own grid, and a plain word on what cannot be run here."""

import json

import jax
import numpy as np
import pytest
import torch

from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import CLIP
from tests import hub
from tests.models.clip_test import assert_equal_features, features
from tests.models.resnet_test import batch
from tests.torch_clip import TorchCLIP, save_folder, torch_features
from tests.weights.openai_test import TOWERS, VIT, load


@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
@pytest.mark.parametrize('tower', TOWERS)
def test_open_clips_folder_gives_the_features_of_torch(tmp_path, tower, activation):
    made = CLIP(**TOWERS[tower] | dict(activation=activation))
    model = TorchCLIP(made)
    clip, params = load(save_folder(tmp_path / 'clip', model, made), made)
    assert clip == made
    assert_equal_features(features(clip, params, *batch(clip)), torch_features(model, *batch(clip)), tolerance=1e-5)


@pytest.mark.parametrize(
    'changes', [dict(weights='model.safetensors'), dict(weights='open_clip_pytorch_model.bin'), dict(prefix='text.')]
)
def test_other_file_names_and_a_text_tower_of_its_own_make_no_difference(tmp_path, changes):
    made = CLIP(**VIT)
    model = TorchCLIP(made)
    path = save_folder(tmp_path / 'clip', model, made, **changes)
    _, params = load(path, made)
    _, expected = load(save_folder(tmp_path / 'plain', model, made), made)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    if file := next(path.glob('*.safetensors'), None):
        jax.tree.map(np.testing.assert_array_equal, load(file, made)[1], expected)


@pytest.mark.parametrize('image_size', [(24, 24), (36, 12)])
def test_open_clips_config_says_the_grid_even_where_a_square_would_fit(tmp_path, image_size):
    made = CLIP(**VIT | dict(image_size=(48, 12)))  # 16 places, 8 x 2
    model = TorchCLIP(made)
    path = save_folder(tmp_path / 'clip', model, made)
    np.testing.assert_array_equal(
        load(path, made)[1]['vision']['positions'], model.visual.positional_embedding.detach()
    )
    clip, params = load(path, CLIP(**VIT | dict(image_size=image_size)))
    picture = model.visual.positional_embedding.detach()[1:].reshape(1, 8, 2, -1).permute(0, 3, 1, 2)
    picture = torch.nn.functional.interpolate(picture, size=clip.grid, mode='bicubic', align_corners=False)
    np.testing.assert_allclose(params['vision']['positions'][1:], picture[0].flatten(1).T, atol=1e-5)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(vision_cfg={'timm_model_name': 'vit_base'}), 'vision_cfg.timm_model_name = vit_base'),
        (dict(text_cfg={'hf_model_name': 'bert'}), 'text_cfg.hf_model_name = bert'),
        (dict(init_logit_bias=-10, custom_text=True), 'model_cfg.init_logit_bias = -10'),
        (dict(multimodal_cfg={'width': 8}), 'model_cfg.multimodal_cfg'),
        (dict(vision_cfg={'pool_type': 'avg', 'ls_init_value': 0.1}), 'pool_type = avg; vision_cfg.ls_init_value'),
        (dict(vision_cfg={'mlp_ratio': 3}), 'mlp_ratio = 3'),
        (dict(vision_cfg='a'), 'cannot be read'),
    ],
)
def test_what_open_clip_can_and_we_cannot_is_refused_by_name(tmp_path, changes, message):
    path = save_folder(tmp_path / 'clip', TorchCLIP(CLIP(**VIT)), CLIP(**VIT), **changes)
    with pytest.raises(WeightsError, match=message):
        load(path, CLIP(**VIT))


def test_options_that_are_off_pass_and_pixels_that_cannot_be_do_not(tmp_path):
    off = dict(vision_cfg={'pool_type': 'tok', 'qk_norm': False}, text_cfg={'pool_type': 'argmax', 'proj_bias': False})
    path = save_folder(tmp_path / 'clip', TorchCLIP(CLIP(**VIT)), CLIP(**VIT), **off)
    config = json.loads((path / 'open_clip_config.json').read_text())
    for std, passes in (([0.2686, 0.2613, 0.2758], True), ([0.5, 0, 0.5], False), ([0.5, 0.5], False)):
        config['preprocess_cfg'] = {'mean': [0.48145466, 0.4578275, 0.40821073], 'std': std}
        (path / 'open_clip_config.json').write_text(json.dumps(config))
        if passes:
            load(path, CLIP(**VIT))
        else:
            with pytest.raises(WeightsError, match='preprocess_cfg.std = .0.5, 0.*, expected one number a colour'):
                load(path, CLIP(**VIT))


def test_a_folder_with_both_layouts_is_read_by_the_weights_that_are_there(tmp_path):
    path = save_folder(tmp_path / 'clip', TorchCLIP(CLIP(**VIT)), CLIP(**VIT))
    (path / 'config.json').write_text('{"model_type": "clip"}')
    assert load(path, CLIP(**VIT))[0].vision_width == 128
    (path / 'open_clip_model.safetensors').rename(path / 'model.safetensors')
    with pytest.raises(WeightsError, match='expected those of a CLIPModel, such as vision_model.embeddings'):
        load(path, CLIP(**VIT), image_size=(32, 32))
    (path / 'config.json').write_text('{"architecture": "vit_base_patch16_clip_224"}')
    assert load(path, CLIP(**VIT))[0].vision_width == 128


def test_of_a_hub_name_the_one_file_that_is_read_is_fetched(tmp_path, monkeypatch):
    made = CLIP(**VIT)
    path = tmp_path / 'hub' / 'someone' / 'clip'
    path.parent.mkdir(parents=True)
    save_folder(path, TorchCLIP(made), made)
    (path / 'open_clip_pytorch_model.bin').write_bytes(b'the same again')
    with hub.serving(tmp_path / 'hub', monkeypatch, tmp_path / 'cache') as fetched:
        assert load('someone/clip', made)[0].vision_width == 128
    assert sorted(fetched) == ['open_clip_config.json', 'open_clip_model.safetensors']
