"""CLIP's ResNet against a literal torch one, and what its frozen statistics promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from lcr2s_jax.errors import WeightsError
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP
from lcr2s_jax.training import optim
from lcr2s_jax.weights import huggingface
from lcr2s_jax.weights.openai import Names, clip_of, from_openai
from tests.models import clip_test
from tests.models.clip_test import assert_equal_features, features, init
from tests.torch_clip import TorchCLIP, arrays, torch_features

SIZES = dict(
    image_size=(64, 64), patch_size=32, vision_width=8, vision_layers=(1, 2, 1, 1), vision_heads=4,
    text_width=64, text_layers=1, text_heads=1, context_length=12, vocab_size=60, embed_dim=20,
)  # fmt: skip


def batch(clip):
    """Images of coarse squares: of fine noise a ResNet sees the mean alone."""
    image, tokens = clip_test.batch(clip)
    side = clip.patch_size // 2
    return np.kron(image[:, ::side, ::side], np.ones((1, side, side, 1), np.uint8)), tokens


@functools.cache
def torch_made(image_size=(64, 64)):
    """A ResNet CLIP, the same in torch, and parameters that came from there."""
    clip = CLIP(**SIZES | dict(image_size=image_size))
    model = TorchCLIP(clip)
    tensors, _ = clip_of(arrays(model), Names())
    return clip, model, from_openai(tensors, clip, Names(), 'bicubic', native=clip.grid)


@pytest.mark.parametrize('image_size', [(64, 64), (96, 32), (64, 96)])
def test_the_resnet_equals_torch(image_size):
    clip, model, params = torch_made(image_size)
    expected = torch_features(model, *batch(clip))
    assert np.std(expected[0], axis=0).mean() > 0.01 * np.abs(expected[0]).max(), 'features depend on the image'
    assert_equal_features(features(clip, params, *batch(clip)), expected)


def test_bfloat16_stays_near_float32_and_recomputing_changes_nothing():
    clip, _, params = torch_made()
    exact = features(clip, params, *batch(clip))
    half = features(CLIP(**SIZES, dtype='bfloat16'), params, *batch(clip))
    assert_equal_features(half, exact, tolerance=0.05)
    assert np.any(half[0] != exact[0]) and half[0].dtype == jnp.float32
    remat = CLIP(**SIZES, remat=True)
    assert jax.tree.structure(init(remat)) == jax.tree.structure(params)
    assert_equal_features(features(remat, params, *batch(clip)), exact, tolerance=1e-6)
    shapes = jax.eval_shape(CLIP(**SIZES, dtype='bfloat16').init_params, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}


def test_a_row_does_not_depend_on_the_rows_beside_it():
    clip, _, params = torch_made()
    encode = jax.jit(lambda image: clip.apply({'params': params}, image, method='encode_image'))
    image, _ = batch(clip)
    np.testing.assert_allclose(encode(image)[:1], encode(image[:1]), rtol=1e-4, atol=1e-5)


def test_statistics_have_no_gradient_and_everything_else_has():
    clip, _, params = torch_made()
    image, _ = batch(clip)

    @jax.jit
    @jax.grad
    def gradient(vision):
        v = clip.apply({'params': params | {'vision': vision}}, image, method='encode_image')
        return jnp.mean(jnp.square(v))

    gradients = gradient(params['vision'])
    for path, leaf in zip(optim.paths(gradients), jax.tree.leaves(gradients), strict=True):
        if path != 'attnpool/k/bias':  # softmax does not feel it
            assert np.any(leaf) == (not path.endswith(('mean', 'var'))), path


def test_the_base_config_neither_updates_nor_decays_statistics():
    shapes = {'clip': jax.eval_shape(CLIP(**SIZES).init_params, jax.random.key(0))}
    pace, decay = optim.match(get_config().optim.rules, shapes)
    rows = zip(optim.paths(shapes), jax.tree.leaves(pace), jax.tree.leaves(decay), strict=True)
    frozen = {path for path, speed, _ in rows if not speed}
    statistics = {path for path in optim.paths(shapes) if path.endswith(('/mean', '/var'))}
    assert len(statistics) == 2 * (3 + 3 * 5 + 4) and frozen == statistics | {'clip/logit_scale'}
    assert not any(d for p, d in zip(optim.paths(shapes), jax.tree.leaves(decay), strict=True) if p in frozen)


def test_rn50_has_the_published_number_of_parameters_and_a_grid_of_32():
    clip = CLIP(image_size=(224, 224), context_length=77, vocab_size=49408, **ARCHITECTURES['RN50'])
    shapes = jax.eval_shape(clip.init_params, jax.random.key(0))
    learned = [
        x.size
        for path, x in zip(optim.paths(shapes), jax.tree.leaves(shapes), strict=True)
        if not path.endswith(('/mean', '/var'))
    ]
    assert sum(learned) == 102_007_137
    assert clip.grid == (7, 7) and shapes['vision']['attnpool']['positions'].shape == (50, 2048)


def test_a_resnet_is_not_written_in_a_layout_that_has_none(tmp_path):
    clip, _, params = torch_made()
    with pytest.raises(WeightsError, match='ResNet.*Train a ViT'):
        huggingface.save_huggingface(tmp_path / 'out', clip, params, 'float32')
    assert not (tmp_path / 'out').exists()
