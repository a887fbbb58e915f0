"""Folders and files of weights as people have them: read, or answered with what they are and what to do."""

import json
import os
import pathlib
import shutil
import zipfile

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import lcr2s_jax
from lcr2s_jax.errors import ConfigError, UserError, WeightsError
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.models.clip import CLIP, PIXEL_MEAN, PIXEL_STD
from lcr2s_jax.weights import layouts, pretrained
from lcr2s_jax.weights.tensors import shapes_of
from lcr2s_jax.weights.tokenizer import Tokenizer
from tests.models.clip_test import assert_equal_features, features
from tests.models.resnet_test import SIZES as RESNET
from tests.models.resnet_test import batch
from tests.torch_clip import TorchCLIP, arrays, save_archive, save_checkpoint, save_folder, torch_features
from tests.weights.openai_test import PEOPLE, VIT, load

DEMO = pathlib.Path(pretrained.__file__).parent / 'demo_clip'
SIZE = dict(image_size=(96, 48), context_length=32, dtype='float32')


def demo(folder, parts: dict | None = None, index: str = 'model.safetensors.index.json'):
    """The demo's CLIP again; with `parts`, file -> share of the tensors, in shards."""
    shutil.copytree(DEMO, folder)
    if parts is None:
        return folder
    tensors = load_file(folder / 'model.safetensors')
    (folder / 'model.safetensors').unlink()
    placed = {}
    for number, (file, write) in enumerate(parts.items()):
        some = {name: x for i, (name, x) in enumerate(tensors.items()) if i % len(parts) == number}
        write(some, folder / file)
        placed |= dict.fromkeys(some, file)
    if len(parts) > 1:
        (folder / index).write_text(json.dumps({'metadata': {'total_size': 1}, 'weight_map': placed}))
    return folder


def torch_save(tensors, path):
    torch.save({name: torch.tensor(x) for name, x in tensors.items()}, path)


def params(where):
    return pretrained.build(pretrained.open_source(str(where)), **SIZE)[1]


@pytest.mark.parametrize(
    'parts, index',
    [
        ({'model-00001-of-00002.safetensors': save_file, 'model-00002-of-00002.safetensors': save_file}, None),
        ({'pytorch_model.bin': torch_save}, None),
        (
            {'pytorch_model-00001-of-00002.bin': torch_save, 'pytorch_model-00002-of-00002.bin': torch_save},
            'pytorch_model.bin.index.json',
        ),
    ],
)
def test_a_folder_in_shards_or_of_torchs_files_is_the_model_that_it_was(tmp_path, parts, index):
    folder = demo(tmp_path / 'a', parts, index or 'model.safetensors.index.json')
    jax.tree.map(np.testing.assert_array_equal, params(folder), params(DEMO))


def test_shards_that_are_missing_are_counted_and_named(tmp_path):
    names = [f'model-0000{i}-of-00004.safetensors' for i in (1, 2, 3, 4)]
    folder = demo(tmp_path / 'a', dict.fromkeys(names, save_file))
    (folder / names[2]).unlink()
    assert layouts.describe(folder) == 'a folder in shards, 3 of 4 of them'
    with pytest.raises(WeightsError, match=f'found 3 of 4 shards, expected all. Fetch what is missing: {names[2]}'):
        params(folder)
    for outside in ('../x.safetensors', '/etc/passwd', '..', 'a/b', '', 3, None):
        (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': {'x': outside}}))
        with pytest.raises(WeightsError, match='expected each tensor in a file of the same folder'):
            params(folder)


def test_a_sentence_transformers_folder_of_a_clip_is_read_with_its_tokenizer(tmp_path):
    demo(tmp_path / '0_CLIPModel')
    modules = [{'idx': 0, 'name': '0', 'path': '0_CLIPModel', 'type': 'sentence_transformers.models.CLIPModel'}]
    (tmp_path / 'modules.json').write_text(json.dumps(modules))
    jax.tree.map(np.testing.assert_array_equal, params(tmp_path), params(DEMO))
    assert Tokenizer(str(tmp_path)).fingerprint == Tokenizer(str(DEMO)).fingerprint
    for change, message in (
        (
            {'type': 'sentence_transformers.models.Transformer'},
            'whose first module is .*Transformer.*expected CLIPModel',
        ),
        ({'path': '../../etc'}, "found the path '../../etc', expected the name of a folder in it"),
    ):
        (tmp_path / 'modules.json').write_text(json.dumps([modules[0] | change]))
        with pytest.raises(WeightsError, match=message):
            params(tmp_path)


def test_every_kind_of_folder_and_file_is_called_by_its_name(tmp_path):
    def folder(name, **files):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file.replace('__', '.')).write_text(content)
        return tmp_path / name

    kinds = {
        'an empty folder': folder('empty'),
        'the workdir of a run of this project': folder('run', config__json='{"made_of": {}}'),
        "a 'siglip' model": folder('siglip', config__json='{"model_type": "siglip"}'),
        'a PEFT adapter': folder('peft', adapter_config__json='{}'),
        'a pipeline of diffusers': folder('pipe', model_index__json='{}'),
        'a sentence-transformers folder': folder('st', modules__json='[]'),
        'a folder with notes.txt, without a config': folder('other', notes__txt=''),
        'nothing: there is no such file or folder': tmp_path / 'none',
    }
    for name, content, kind in (
        ('lfs.pt', b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'a Git LFS pointer'),
        ('page.pt', b'<!DOCTYPE html>', 'a web page'),
        ('a.gguf', b'GGUF\0', 'a GGUF file'),
        ('old.pt', b'\x80\x02', 'a bare Python pickle'),
        ('zero.pt', b'', 'an empty file'),
    ):
        (tmp_path / name).write_bytes(content)
        kinds[kind] = tmp_path / name
    for kind, path in kinds.items():
        assert layouts.describe(path).startswith(kind)
        with pytest.raises(WeightsError) as caught:
            pretrained.open_source(str(path))
        assert str(path) in str(caught.value) and len(str(caught.value)) < 1500
    with pytest.raises(WeightsError, match='the workdir of a run.*export --format=hf'):
        pretrained.open_source(str(tmp_path / 'run'))
    with pytest.raises(WeightsError, match="found model_type 'siglip', expected 'clip'.*openai/clip-vit-base-patch16"):
        pretrained.open_source(str(tmp_path / 'siglip'))
    os.mkfifo(tmp_path / 'pipe.pt')
    with pytest.raises(WeightsError, match='a pipe, socket or device'):
        pretrained.open_source(str(tmp_path / 'pipe.pt'))


def test_files_of_other_programs_are_called_by_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / 'folder.zip', 'w') as file:
        file.writestr('clip/config.json', '{}')
    np.savez(tmp_path / 'a.npz', x=np.ones(2))
    for name, content, kind in (
        ('a.gguf', b'GGUF\3\0\0\0', 'a GGUF file'),
        ('a.pth', b'<!DOCTYPE html><html>Virus scan warning', 'a web page'),
        ('b.pth', b'{"error":"Invalid username or password."}', 'a text that begins with .*Invalid username'),
        ('a.onnx', b'\x08\x07\x12\x07pytorch', 'a .onnx file, of another program'),
        ('a.7z', b"7z\xbc\xaf'\x1c", 'a 7z archive: unpack it'),
        ('zeros.pt', bytes(600), 'a file of zeros: its download was not finished'),
        ('blank.pt', b' \n\t', 'a file of blanks'),
        ('folder.zip', None, 'a zip file with .*clip/config.json.: unpack it'),
        ('a.npz', None, 'arrays of NumPy'),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f'found {kind}'):
            pretrained.open_source(str(tmp_path / name))


def test_tensors_of_another_kind_of_model_are_called_by_its_name(tmp_path):
    bare = {name: x for name, x in load_file(DEMO / 'model.safetensors').items()}
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    for tensors, kind in (
        ({'text_model.lora_A.weight': torch.ones(2)}, 'a LoRA adapter.*merge_and_unload'),
        ({'visual.conv1.weight': torch.ones(2)}, 'the image tower of a CLIP alone'),
        ({f'{part}.{name}': torch.ones(2) for part in ('model', 'ema') for name in ('visual.conv1.weight',)},
         "several models, before whose tensors stands 'ema.visual.' and 'model.visual.'"),
        ({name: torch.tensor(x) for name, x in bare.items()}, "Hugging Face's naming.*Put config.json beside it"),
        ({'epoch': 1, 'net_G': module}, 'a whole module among other things.*state_dict'),
        ({'visual.conv1.weight': torch.ones(2), 'bert.embeddings.weight': torch.ones(2)},
         r"the image tower of a CLIP, beside other parts \(bert\) than OpenAI's text tower.*Use a CLIP"),
        ({'token_embedding.weight': torch.ones(2), 'visual.trunk.patch_embed.proj.weight': torch.ones(2)},
         r"the text tower of a CLIP, beside other parts \(visual\) than OpenAI's image tower.*Use a CLIP"),
        ({'visual.conv1.weight': torch.ones(2).to_sparse()}, 'sparse_tensor of torch._utils, expected a plain tensor'),
        ({'proj.weight': torch.ones(2).to(torch.float8_e4m3fn)}, 'found proj.weight.*or of 8 bits.*float32'),
        ([torch.ones(2)], 'no tensor under a name'),
        (torch.ones(2), 'no tensor under a name'),
    ):  # fmt: skip
        torch.save(tensors, tmp_path / 'a.pt')
        with pytest.raises(WeightsError, match=kind):
            pretrained.open_source(str(tmp_path / 'a.pt'))


def test_whole_numbers_are_no_weights(tmp_path):
    demo(tmp_path / 'a')
    tensors = load_file(DEMO / 'model.safetensors')
    name = 'text_model.final_layer_norm.weight'
    save_file(tensors | {name: tensors[name].astype(np.int8)}, tmp_path / 'a' / 'model.safetensors')
    with pytest.raises(WeightsError, match=f'found {name} in int8, expected floating-point.*quantised'):
        params(tmp_path / 'a')


def test_a_part_of_a_folder_stands_for_it_and_a_folder_around_a_model_names_it(tmp_path):
    names = [f'model-0000{i}-of-00002.safetensors' for i in (1, 2)]
    folder = demo(tmp_path / 'hub' / 'snapshots' / 'a1b2', dict.fromkeys(names, save_file))
    for part in ('config.json', names[0], 'model.safetensors.index.json'):
        assert lcr2s_jax.load(folder / part).hash == lcr2s_jax.load(DEMO).hash
    with pytest.raises(WeightsError, match=f'There is a model in it: pass {folder}'):
        pretrained.open_source(str(tmp_path / 'hub'))
    (folder / 'model.safetensors.index.json').unlink()
    with pytest.raises(WeightsError, match='2 shards without their list.*Fetch the missing'):
        pretrained.open_source(str(folder))
    logs, run = tmp_path / 'logs', tmp_path / 'run'
    (run / 'student').mkdir(parents=True)
    (run / 'config.json').write_text('{"made_of": {}}')
    logs.mkdir()
    (logs / 'best.pth').write_bytes(b'x')
    for place, advice in ((logs, f'pass {logs / "best.pth"}'), (run / 'student', f'belongs to a run: pass {run}')):
        with pytest.raises(WeightsError, match=advice):
            pretrained.open_source(str(place))


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(source=None), 'source: found a NoneType, expected text or a path'),
        (dict(source=3), 'source: found a int'),
        (dict(source='a' * 5000), 'a name of 5,000 letters'),
        (dict(source='synthetic-pedestrian'), "Did you mean 'synthetic-pedestrians'"),
        (dict(source='ViT-L/14@336px'), "an architecture; weights of it are 'openai/clip-vit-large-patch14-336'"),
        (dict(image_size='384x128'), "image_size: found '384x128', expected height and width"),
        (dict(image_size=96), "image_size: found '96'"),
        (dict(image_size=(97, 50)), r'^image_size: found \(97, 50\), expected multiples'),
        (dict(resize='nearest'), "resize: found 'nearest'"),
        (dict(tokenizer=5), 'tokenizer: found a int'),
        (dict(activation='GELU'), "^activation: found 'GELU'"),
    ],
)
def test_a_wrong_argument_of_load_is_called_by_its_name(given, message, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(UserError, match=message):
        lcr2s_jax.load(**{'source': str(DEMO)} | given)


def test_a_path_or_a_name_that_nearly_is_one_is_offered(tmp_path):
    demo(tmp_path / 'my_clip')
    with pytest.raises(WeightsError, match='did you mean .*/my_clip'):
        pretrained.open_source(str(tmp_path / 'my_clip2'))


def test_a_module_saved_whole_is_answered_with_the_lines_that_save_its_tensors(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / 'whole.pt')
    with pytest.raises(WeightsError, match='found a whole module .torch.nn.*Sequential.*') as caught:
        pretrained.open_source(str(tmp_path / 'whole.pt'))
    assert 'torch.save(model.state_dict()' in str(caught.value) and 'weights_only=False' in str(caught.value)


def test_tbps_clips_names_give_the_features_of_torch(tmp_path, caplog):
    clip = CLIP(**PEOPLE)
    model = TorchCLIP(clip)
    state = {
        n if n.startswith(('visual', 'logit')) else f'encode_text.{n}': torch.tensor(x)
        for n, x in arrays(model).items()
    }
    heads = {name: torch.ones(3) for name in ('simclr_mlp.0.weight', 'classifier.bias', 'ln_post.weight')}
    torch.save({'model': state | heads, 'epoch': 5}, tmp_path / 'best.pth')
    got, read = load(tmp_path / 'best.pth', clip)
    assert_equal_features(features(got, read, *batch(clip)), torch_features(model, *batch(clip)), tolerance=1e-5)
    assert 'not used: 3 tensors: classifier (1), ln_post (1), simclr_mlp (1)' in caplog.text


@pytest.mark.parametrize('named', ['ViT-B-32', 'ViT-B-32-quickgelu'])
def test_open_clips_own_checkpoint_says_its_activation_by_its_name(tmp_path, named, caplog):
    made = CLIP(**VIT, activation='quick_gelu' if 'quick' in named else 'gelu')
    model = TorchCLIP(made)
    state = {f'module.{name}': torch.tensor(x) for name, x in arrays(model).items()}
    path = tmp_path / 'epoch_32.pt'
    torch.save({'epoch': 32, 'name': f'lr_1e-3-model_{named}-b_256', 'state_dict': state, 'optimizer': {}}, path)
    got, read = load(path, made)
    assert got == made and f"as open_clip's {named} has" in caplog.text
    assert_equal_features(features(got, read, *batch(made)), torch_features(model, *batch(made)), tolerance=1e-5)


def test_every_guess_about_a_bare_checkpoint_is_told_in_one_warning_and_can_be_overruled(tmp_path, caplog):
    made = CLIP(**PEOPLE | dict(vision_heads=4, text_heads=2), activation='gelu')  # heads of 32
    model = TorchCLIP(made)
    path = save_checkpoint(tmp_path / 'best.pth', model, heads=('classifier.weight',))
    wrong, _ = load(path, made)
    assert (wrong.activation, wrong.vision_heads, wrong.text_heads) == ('quick_gelu', 2, 1)
    (told,) = [record.message for record in caplog.records]
    for guess in (
        'activation quick_gelu',
        '2 heads of 64 for images, 1 of 64',
        '6 x 2 patches, 36 x 12',
        'not used: 1',
    ):
        assert guess in told
    caplog.clear()
    (tmp_path / 'adapter_config.json').touch()
    got, read = load(path, made, activation='gelu', heads=4)
    assert 'the PEFT adapter beside them (adapter_config.json) is not applied; Merge it' in caplog.text
    assert got == made
    assert_equal_features(features(got, read, *batch(made)), torch_features(model, *batch(made)), tolerance=1e-5)
    assert 'activation' not in caplog.text and '4 heads for images, as asked, and so 2 for texts' in caplog.text
    assert load(path, made, heads=(4, 1))[0].text_heads == 1
    for asked, message in (
        (dict(activation='relu'), "activation: found 'relu', expected '' or one of quick_gelu, gelu"),
        (dict(heads=5), 'heads: found 5, expected a divisor of the image width 128'),
        (dict(heads=-1), 'heads: found -1'),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path, made, **asked)


def test_what_a_file_tells_is_no_guess(tmp_path, caplog):
    load(save_archive(tmp_path / 'ViT-B-16.pt', TorchCLIP(CLIP(**VIT)), batch(CLIP(**VIT))), CLIP(**VIT))
    load(save_folder(tmp_path / 'clip', TorchCLIP(CLIP(**VIT)), CLIP(**VIT)), CLIP(**VIT))
    params(DEMO)
    assert not caplog.records


# Patches, sides and layers of the models that people use, narrow; images of 224 and people's crops of 384 x 128.
REAL = {
    'ViT-B/16': dict(patch_size=16, image_size=(224, 224), vision_layers=2),
    'ViT-B/16 crops': dict(patch_size=16, image_size=(384, 128), vision_layers=2),
    'ViT-L/14': dict(patch_size=14, image_size=(224, 224), vision_layers=3),
    'laion': dict(patch_size=16, image_size=(224, 224), vision_layers=2, activation='gelu'),
    'RN50': RESNET | dict(image_size=(64, 64), vision_layers=(3, 4, 6, 3), context_length=77, vocab_size=60),
}


@pytest.mark.parametrize('name', REAL)
def test_real_grids_and_depths_give_the_features_of_torch(tmp_path, name):
    made = CLIP(**VIT | dict(context_length=77) | REAL[name])
    model = TorchCLIP(made)
    if name == 'laion':
        path = save_folder(tmp_path / 'clip', model, made, text_cfg=dict(context_length=77))
    else:
        path = save_checkpoint(tmp_path / 'clip.pth', model, prefix='base_model.' if 'crops' in name else '')
    got, read, _ = pretrained.build(pretrained.open_source(str(path)))
    assert got == made, "image size and context length are the file's own"
    few = [x[:2] for x in batch(made)]
    tolerance = 1e-4 if name == 'RN50' else 1e-5  # sixteen blocks of random numbers
    assert_equal_features(features(got, read, *few), torch_features(model, *few), tolerance=tolerance)


@pytest.mark.parametrize('clip', [CLIP(**VIT | dict(text_layers=3)), CLIP(**RESNET | dict(vision_layers=(3, 1, 4, 2)))])
def test_shapes_are_those_of_all_blocks(clip):
    whole = jax.eval_shape(clip.init_params, jax.random.key(0))
    assert jax.tree.map(lambda x: x.shape, shapes_of(clip)) == jax.tree.map(lambda x: x.shape, dict(whole))


def vit(**changes) -> tuple[CLIP, TorchCLIP, dict]:
    """A CLIP in torch and its state dict."""
    clip = CLIP(**VIT | changes)
    model = TorchCLIP(clip)
    buffers = ('input_resolution', 'context_length', 'vocab_size')
    return clip, model, {name: x for name, x in model.state_dict().items() if name not in buffers}


def test_what_torch_puts_into_names_is_taken_out_of_them(tmp_path):
    clip, _, state = vit()
    torch.save(state, tmp_path / 'plain.pt')
    _, plain = load(tmp_path / 'plain.pt', clip)
    for inside in ('_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'):
        wrapped = {name.replace('resblocks.0.', f'resblocks.0.{inside}.'): x for name, x in state.items()}
        torch.save({'state_dict': {f'module.{name}': x for name, x in wrapped.items()}}, tmp_path / 'a.pt')
        jax.tree.map(np.testing.assert_array_equal, load(tmp_path / 'a.pt', clip)[1], plain)
    tensors = load_file(DEMO / 'model.safetensors')
    folder = demo(tmp_path / 'hf')
    for wrapper in ('module.', '_orig_mod.', 'clip.'):
        save_file({wrapper + name: x for name, x in tensors.items()}, folder / 'model.safetensors')
        jax.tree.map(np.testing.assert_array_equal, params(folder), params(DEMO))


def test_which_of_several_models_of_a_checkpoint_is_read_is_told(tmp_path):
    _, _, state = vit()
    average = {f'module.{name}': 2 * x for name, x in state.items()}
    for beside, told in (({'model_ema': average}, ['model_ema']), ({'optimizer': {'state': {}}, 'epoch': 3}, [])):
        torch.save({'model': state, **beside}, tmp_path / 'a.pt')
        guesses = ' '.join(pretrained.open_source(str(tmp_path / 'a.pt')).guesses)
        assert ('and not `model_ema`' in guesses) == bool(told)


def test_heads_that_cannot_be_guessed_can_be_said_of_both_towers(tmp_path):
    clip, model, state = vit(text_width=96, text_heads=3)
    torch.save(state, tmp_path / 'a.pt')
    with pytest.raises(WeightsError, match='a text tower 96 wide.*say how many heads.*`heads`'):
        pretrained.open_source(str(tmp_path / 'a.pt'))
    got, params = load(tmp_path / 'a.pt', clip, heads=(clip.vision_heads, 3))
    assert_equal_features(features(got, params, *batch(clip)), torch_features(model, *batch(clip)))
    assert 'so 1 for texts' in ' '.join(pretrained.open_source(str(tmp_path / 'a.pt'), heads=2).guesses)


def test_an_adapter_in_a_checkpoint_is_called_one(tmp_path):
    _, _, state = vit()
    torch.save(state | {'visual.proj.lora_A.weight': torch.ones(2, 2)}, tmp_path / 'a.pt')
    with pytest.raises(WeightsError, match=r'a LoRA adapter.*merge_and_unload'):
        load(tmp_path / 'a.pt', vit()[0])


@pytest.mark.parametrize(
    'prepared, mean, std',
    [
        ({'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5]}, 0.5, 0.5),
        ({'image_std': [1, 1, 1]}, PIXEL_MEAN, 1),
        ({'do_normalize': False}, 0, 1),
    ],
)
def test_a_model_of_pictures_of_another_mean_and_deviation_gives_what_it_gives_of_those(tmp_path, prepared, mean, std):
    folder = demo(tmp_path / 'a')
    (folder / 'preprocessor_config.json').write_text(json.dumps({'do_resize': True}))
    ours = lcr2s_jax.load(folder)
    assert ours.hash == lcr2s_jax.load(DEMO).hash
    (folder / 'preprocessor_config.json').write_text(json.dumps(prepared))
    theirs = lcr2s_jax.load(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 48, 3)).astype(np.uint8)
    as_theirs = (((pixels / 255 - mean) / std) * PIXEL_STD + PIXEL_MEAN) * 255
    params = {'clip': {'vision': ours.params('vision'), 'logit_scale': np.float32(0)}}
    expected = np.asarray(DualEncoder(ours.clip).embed_image(params, as_theirs.astype(np.float32)))
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(theirs.encode_image(list(pixels)), expected, atol=2e-5)
    assert np.abs(ours.encode_image(list(pixels)) - expected).max() > 1e-3


@pytest.mark.parametrize('prepared', [{'image_mean': [0.5, 0.5]}, {'image_std': [0, 1, 1]}, {'do_rescale': False}])
def test_a_folder_whose_pictures_cannot_be_so_prepared_is_refused(tmp_path, prepared):
    folder = demo(tmp_path / 'a')
    (folder / 'preprocessor_config.json').write_text(json.dumps(prepared))
    with pytest.raises(WeightsError, match=f'found {next(iter(prepared))} = .*expected'):
        pretrained.open_source(str(folder))


@pytest.mark.parametrize(
    'address, change',
    [
        ('file:///data/my%20clip', 'pass the path, /data/my clip'),
        ('HF://openai/clip-vit-base-patch16', 'pass hf://openai/clip-vit-base-patch16$'),
        ('https://huggingface.co/openai/clip-vit-base-patch16/tree/main', 'pass hf://openai/clip-vit-base-patch16$'),
        ('https://huggingface.co/a/b/blob/v2/x/best.pth?download=true', 'pass hf://a/b/x/best.pth$'),
        ('s3://bucket/best.pth', 'fetch it, and pass the path of the file'),
    ],
)
def test_an_address_is_answered_with_what_to_pass(address, change):
    with pytest.raises(WeightsError, match=change):
        lcr2s_jax.load(address)


def test_a_home_that_nobody_has_is_a_place_that_is_not_there():
    with pytest.raises(WeightsError, match='found no folder .~nobody-here/x'):
        lcr2s_jax.load('~nobody-here/x')


def test_what_a_source_has_of_its_own_is_not_passed_over(tmp_path):
    lcr2s_jax.load('synthetic-pedestrians').save(tmp_path / 'saved')
    for given in (dict(image_size=(24, 24)), dict(tokenizer='x'), dict(activation='gelu'), dict(heads=2)):
        with pytest.raises(ConfigError, match=f'{next(iter(given))}: .*a saved model or an index has its own'):
            lcr2s_jax.load(tmp_path / 'saved', **given)
    assert lcr2s_jax.load(tmp_path / 'saved', dtype='bfloat16').clip.dtype == 'bfloat16'
    for source, given, found in (('', {}, 'source: found nothing'), (DEMO, {'context_length': 0}, 'found 0')):
        with pytest.raises(ConfigError, match=found):
            lcr2s_jax.load(source, **given)


def test_zero_of_a_pair_of_heads_is_a_guess_that_cannot_be_made(tmp_path):
    _, _, state = vit(vision_width=96, vision_heads=3)
    torch.save(state, tmp_path / 'a.pt')
    with pytest.raises(WeightsError, match='an image tower 96 wide.*say how many heads'):
        pretrained.open_source(str(tmp_path / 'a.pt'), heads=(0, 1))


def test_what_lies_beside_a_model_does_not_keep_it_from_being_read(tmp_path):
    clip, model, state = vit()
    torch.save({'model': state, 'captions': {'x' * 600: 1}}, tmp_path / 'a.pt')
    got, params = load(tmp_path / 'a.pt', clip)
    assert_equal_features(features(got, params, *batch(clip)), torch_features(model, *batch(clip)))
