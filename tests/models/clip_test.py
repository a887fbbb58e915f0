"""Both towers against torch's CLIPModel on random weights, and the properties that hold at any size."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from lcr2s_jax.models import layers
from lcr2s_jax.models.clip import ARCHITECTURES, CLIP, PIXEL_MEAN, PIXEL_STD
from lcr2s_jax.weights import huggingface

SIZES = dict(
    image_size=(24, 24), patch_size=6, vision_width=32, vision_layers=2, vision_heads=4,
    text_width=24, text_layers=1, text_heads=2, context_length=12, vocab_size=60, embed_dim=20,
)  # fmt: skip


def torch_clip(clip: CLIP, seed: int = 0) -> CLIPModel:
    """A CLIPModel of the same sizes (on a square of the taller side), every tensor random and none small."""
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig.from_dict(huggingface.config_of(clip, 'float32'))).eval()
    for name, tensor in model.named_parameters():
        norm_scale = 'norm' in name and name.endswith('weight')
        torch.nn.init.normal_(tensor, mean=float(norm_scale), std=0.3 if tensor.ndim < 2 else 0.15)
    return model


def parameters(model: CLIPModel, clip: CLIP):
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return huggingface.from_huggingface(tensors, clip)


def batch(clip: CLIP, rows: int = 4, seed: int = 0):
    """Pixels and texts of several lengths, padded with 0."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (rows, *clip.image_size, 3), dtype=np.uint8)
    tokens = rng.integers(1, clip.vocab_size - 1, (rows, clip.context_length)).astype(np.int32)
    for row, end in enumerate(np.linspace(2, clip.context_length - 1, rows).astype(int)):
        tokens[row, end], tokens[row, end + 1 :] = clip.vocab_size - 1, 0
    return image, tokens


def torch_features(model: CLIPModel, image, tokens):
    pixels = (image.astype(np.float64) / 255 - PIXEL_MEAN) / PIXEL_STD
    pixels = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        v = model.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
        t = model.get_text_features(torch.tensor(tokens).long()).pooler_output
    return v.numpy(), t.numpy()


def init(clip: CLIP, seed: int = 0):
    """Random parameters, drawn without compiling anything."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(clip.init_params, jax.random.key(0))
    return jax.tree.map(lambda x: rng.normal(x.ndim == 1, 0.15, x.shape).astype(x.dtype), shapes)


def features(clip: CLIP, params, image, tokens):
    return jax.jit(clip.apply)({'params': params}, image, tokens)


def assert_equal_features(ours, theirs, tolerance=2e-5):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b))


@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
@pytest.mark.parametrize('image_size', [(24, 24), (36, 12), (24, 12), (12, 24)])
def test_both_towers_equal_torch(image_size, activation):
    clip = CLIP(**SIZES | dict(image_size=image_size), activation=activation)
    model = torch_clip(clip)
    ours = features(clip, parameters(model, clip), *batch(clip))
    assert_equal_features(ours, torch_features(model, *batch(clip)))


def test_bfloat16_stays_near_float32():
    clip, half = CLIP(**SIZES), CLIP(**SIZES, dtype='bfloat16')
    params = init(clip)
    ours = features(half, params, *batch(clip))
    assert_equal_features(ours, features(clip, params, *batch(clip)), tolerance=0.05)
    assert any(np.any(a != b) for a, b in zip(ours, features(clip, params, *batch(clip)), strict=True))
    shapes = jax.eval_shape(half.init_params, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
    assert {x.dtype for x in ours} == {jnp.dtype('float32')}


def test_a_token_counts_up_to_the_end_of_text_and_not_after():
    clip = CLIP(**SIZES)
    params = {'params': init(clip)}
    encode = jax.jit(lambda tokens: clip.apply(params, tokens, method='encode_text'))
    tokens = np.full((1, 12), 7, np.int32)
    tokens[0, 5] = clip.vocab_size - 1

    def feature(place=None, token=3):
        changed = tokens.copy()
        if place is not None:
            changed[0, place] = token
        return encode(changed)

    for place in range(6, 12):
        np.testing.assert_array_equal(feature(place), feature())
        np.testing.assert_array_equal(feature(place, clip.vocab_size - 1), feature())
    for place in range(5):
        assert np.max(np.abs(feature(place) - feature())) > 1e-4


def test_a_text_may_be_shorter_than_the_context_but_not_longer():
    clip = CLIP(**SIZES)
    params = {'params': init(clip)}
    _, tokens = batch(clip)
    tokens[:, 7], tokens[:, 8:] = clip.vocab_size - 1, 0
    short, whole = (jax.jit(lambda t: clip.apply(params, t, method='encode_text'))(t) for t in (tokens[:, :8], tokens))
    np.testing.assert_allclose(short, whole, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='13 tokens; expected at most 12'):
        clip.apply(params, np.zeros((1, 13), np.int32), method='encode_text')


def test_images_of_another_size_are_refused():
    clip = CLIP(**SIZES)
    params = {'params': init(clip)}
    with pytest.raises(AssertionError):
        clip.apply(params, np.zeros((1, 24, 12, 3), np.uint8), method='encode_image')
    with pytest.raises(ValueError, match='multiples of patch_size 6'):
        CLIP(**SIZES | dict(image_size=(25, 24))).init_params(jax.random.key(0))


@pytest.mark.parametrize('name, millions', [('ViT-B/16', 149.6), ('ViT-B/32', 151.3), ('ViT-L/14', 427.6)])
def test_published_sizes_have_the_published_number_of_parameters(name, millions):
    clip = CLIP(image_size=(224, 224), context_length=77, vocab_size=49408, **ARCHITECTURES[name])
    shapes = jax.eval_shape(clip.init_params, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(shapes)) / 1e6 == pytest.approx(millions, abs=0.05)


def test_vit_b16_at_384x128_has_the_shapes_of_the_field():
    clip = CLIP(image_size=(384, 128), context_length=77, vocab_size=49408, **ARCHITECTURES['ViT-B/16'])
    params = jax.eval_shape(clip.init_params, jax.random.key(0))
    chex.assert_shape(params['vision']['positions'], (24 * 8 + 1, 768))
    chex.assert_shape(params['vision']['block_11']['attn']['q']['kernel'], (768, 768))
    chex.assert_shape(params['text']['block_11']['mlp']['fc1']['bias'], (2048,))
    image, tokens = jnp.zeros((2, 384, 128, 3), jnp.uint8), jnp.zeros((3, 77), jnp.int32)
    v, t = jax.eval_shape(clip.apply, {'params': params}, image, tokens)
    chex.assert_shape([v, t], [(2, 512), (3, 512)])


@pytest.mark.parametrize('how', [{'remat': True}, {'scan': True}, {'remat': True, 'scan': True}, {'kernel': 'xla'}])
def test_how_blocks_are_computed_changes_no_parameter_name_and_no_gradient(how):
    clip, other = CLIP(**SIZES), CLIP(**SIZES, **how)
    params = init(clip)
    chex.assert_trees_all_equal(init(other), params)

    def loss(model, params):
        v, t = model.apply({'params': params}, *batch(clip))
        return jnp.mean(jnp.square(v @ t.T)) / 100

    gradients = [jax.jit(jax.grad(functools.partial(loss, m)))(params) for m in (clip, other)]
    chex.assert_trees_all_close(*gradients, rtol=1e-4, atol=1e-5)  # of a key bias it is 0 but for rounding
    assert gradients[0]['logit_scale'] == 0
    moved = [np.any(np.asarray(g)) for g in jax.tree.leaves(gradients[0])]
    assert moved.count(False) <= 1, 'every parameter but logit_scale learns'
    plain, program = (str(jax.make_jaxpr(lambda p, m=m: loss(m, p))(params)) for m in (clip, other))
    assert program != plain and 'scan' not in plain
    assert ('prevent_cse=True' in program, 'scan' in program) == (how.get('remat', False), how.get('scan', False))


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('how', [{}, {'scan': True}, {'remat': True}, {'kernel': 'xla'}])
def test_a_transformer_read_at_one_place_is_the_whole_one_there(how, causal):
    """Odd lengths are filled up for a kernel; nobody looks at what they are filled with, and it has no gradient."""
    x = np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
    at = np.array([0, 4, 2], np.int32)
    read, block = layers.Transformer(3, 2, causal=causal, **how), layers.Block(2, causal=causal)
    params = jax.tree.map(lambda p: p + 0.1, read.init(jax.random.key(0), x, at)['params'])

    def whole(params, x):
        for i in range(3):
            x = block.apply({'params': params[f'block_{i}']}, x)
        return x[np.arange(3), at]

    def there(params, x):
        return read.apply({'params': params}, x, at)

    def gradients(of):
        return jax.jit(jax.value_and_grad(lambda *given: jnp.sum(jnp.sin(of(*given))), argnums=(0, 1)))(params, x)

    chex.assert_trees_all_close(gradients(there), gradients(whole), rtol=1e-3, atol=1e-4)
    assert (' pad[' in str(jax.make_jaxpr(there)(params, x))) == ('kernel' in how)


def test_the_kernel_of_nvidia_gets_even_lengths_and_how_many_places_count(monkeypatch):
    asked = []

    def record(q, k, v, *, implementation, is_causal, key_value_seq_lengths=None, **_):
        asked.append((implementation, is_causal, q.shape[1], k.shape[1], key_value_seq_lengths))
        return q

    monkeypatch.setattr(jax.nn, 'dot_product_attention', record)
    for causal in (False, True):
        tower = layers.Transformer(2, 2, dtype='bfloat16', causal=causal, kernel='cudnn')
        tower.init(jax.random.key(0), jnp.ones((1, 193, 8)), jnp.zeros(1, jnp.int32))
    assert [one[:4] for one in asked] == [('cudnn', False, 194, 194), ('cudnn', True, 194, 194)]
    assert np.array_equal(asked[0][4], [193]) and asked[1][4] is None, 'a causal place never sees what follows'


def test_attention_equals_its_definition_and_looks_only_where_the_mask_allows():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, length, 3, 4)).astype(np.float32) for length in (5, 6, 6))
    mask = rng.random((2, 5, 6)) < 0.5
    mask[..., 0] = True
    expected = np.zeros((2, 5, 3, 4))
    for n, i, h in np.ndindex(2, 5, 3):
        places = np.flatnonzero(mask[n, i])
        weights = np.exp(k[n, places, h] @ q[n, i, h] / 2)
        expected[n, i, h] = weights @ v[n, places, h] / weights.sum()
    for kernel in ('einsum', 'xla'):
        np.testing.assert_allclose(layers.attend(q, k, v, mask, kernel=kernel), expected, atol=1e-5)
        before = layers.attend(q, q, q, np.tril(np.ones((1, 5, 5), bool)), kernel=kernel)
        np.testing.assert_allclose(layers.attend(q, q, q, causal=True, kernel=kernel), before, atol=1e-6)

    gradient = jax.grad(lambda v: layers.attend(q, k, v, mask)[0, 2].sum())(v)
    assert not np.any(gradient[1]) and not np.any(gradient[0][~mask[0, 2]])
    assert np.all(gradient[0][mask[0, 2]] != 0)


@pytest.mark.parametrize('zero_init', [True, False])
def test_zero_initialised_branches_start_as_nothing(zero_init):
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    attention, mlp = layers.MultiHeadAttention(2, zero_init=zero_init), layers.Mlp(16, zero_init=zero_init)
    for module, inputs in ((attention, (x, x, x)), (mlp, (x,))):
        out, _ = module.init_with_output(jax.random.key(0), *inputs)
        assert np.any(out) != zero_init


def test_layer_norm_keeps_float32_statistics_under_bfloat16():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 512)) + 100, jnp.bfloat16)
    out = layers.LayerNorm('bfloat16').apply({'params': {'scale': jnp.ones(512), 'bias': jnp.zeros(512)}}, x)
    exact = torch.nn.functional.layer_norm(torch.tensor(np.asarray(x, np.float32)), (512,)).numpy()
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float32), exact, atol=0.02)
