"""The student for other programs: each format read back by its own runtime, and what must not leave the house."""

import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import lcr2s_jax
import main
from configs import demo
from data.demo import synthetic
from lcr2s_jax import images
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.cli.program import _terminated
from lcr2s_jax.errors import ConfigError, WeightsError
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.training import checkpoint, parallel
from lcr2s_jax.training import run as runs
from lcr2s_jax.training.run import Run, alone_in
from lcr2s_jax.training.train import State
from lcr2s_jax.weights import export as command
from lcr2s_jax.weights import layouts, open_clip, pretrained, runtimes
from lcr2s_jax.weights.tokenizer import Tokenizer
from tests.models.clip_test import assert_equal_features, features
from tests.models.resnet_test import SIZES as RESNET
from tests.models.resnet_test import batch
from tests.torch_clip import TorchCLIP, save_folder, torch_features
from tests.weights.openai_test import TOWERS, load

STEP = 7


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """What a run leaves of a student of the demo, for pictures of 96 x 48: other weights than those it began with."""
    folder = tmp_path_factory.mktemp('run')
    config = demo.get_config()
    config.data.cache = '/secret/place'
    clip, start = pretrained.load(**config.model)
    made_of = {'data': 'demo 1', 'weights': parallel.fingerprint(start)}
    (folder / 'config.json').write_text(json.dumps(json.loads(config.to_json()) | {'made_of': made_of}))
    facts = {'stages': ['teacher', 'student'], 'fusion': {'heads': 8, 'shared': False}, 'views': config.batch.views}
    trained_on = {'dataset': 'demo', 'kind': 'synthetic pedestrians', 'people': 2}
    runs.keep_model(
        folder, clip, Tokenizer(config.tokenizer or config.model.pretrained), facts | {'trained_on': trained_on}
    )
    records = list(synthetic.records(0, {'val': 6}, cameras=False, workers=1))
    captions = [caption for record in records for caption in record.captions]
    pid = np.array([int(record.person[-4:]) for record in records], np.int32)
    runs.keep_sample(
        folder, [one.jpeg for one in records], pid, captions, np.repeat(np.arange(len(records)), 2).astype(np.int32)
    )
    rng = np.random.default_rng(0)
    params = {
        'clip': jax.tree.map(lambda x: x + rng.normal(0, 0.01, x.shape).astype(np.float32), start),
        'head': {'classifier': {'kernel': np.zeros((128, 2), np.float32)}},
    }
    with checkpoint.Checkpoints(folder / 'student') as checkpoints:
        checkpoints.save(State(np.int32(STEP), params, ()), score=1.0)
    figures = dict.fromkeys(('R1', 'R5', 'R10', 'mAP', 'mINP'), 12.34)
    (folder / 'results.json').write_text(
        json.dumps({'student': {'step': STEP, 'test': {'t2i': figures, 'i2t': figures}}})
    )
    return folder


@pytest.fixture(scope='module')
def student(workdir):
    return Run.open(workdir, dtype='float32')


@pytest.fixture(scope='module')
def sample(student):
    """(pixels, tokens, pictures, captions) that the run has kept."""
    kept = student.sample()
    pixels = np.stack([images.pixels(encoded, student.clip.image_size) for encoded in kept['encoded']])
    return pixels, student.tokenizer.encode(kept['captions'], 32), kept['encoded'], kept['captions']


def snippet(folder):
    """How to load it, as the card says."""
    return re.search('```python\n(.*?)\n```', (folder / 'README.md').read_text(), re.DOTALL)[1]


def cosine(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in map(np.asarray, (a, b)))
    return a @ b.T


def nothing_left(out):
    return not list(out.parent.iterdir())


def test_hugging_faces_libraries_find_the_pictures_and_words_of_our_evaluation(workdir, student, sample, tmp_path):
    out = tmp_path / 'made' / 'hf'
    told = '\n'.join(command.export(workdir, 'hf', out, unchecked=False))
    _, tokens, encoded, captions = sample
    model = student.model()
    assert 'by transformers' in told and 'tokenizer from the sentences: the same tokens' in told
    assert [path.name for path in out.parent.iterdir()] == ['hf']
    pictures = [Image.open(io.BytesIO(encoded)) for encoded in encoded[:8]]
    names = {'pictures': pictures, 'sentences': captions[:8]}
    exec(snippet(out).replace("'.'", f"'{out}'"), names)
    np.testing.assert_allclose(
        names['cosine'].detach().numpy(),
        cosine(model.encode_text(captions[:8]), model.encode_image(encoded[:8])),
        atol=2e-3,
    )
    assert {x.size for x in pictures} != {(48, 96)}, 'they were resized'
    again = Tokenizer(str(out))
    np.testing.assert_array_equal(again.encode(captions, 32), tokens)


def test_open_clips_folder_is_read_back_to_the_very_parameters(workdir, student, tmp_path):
    out = tmp_path / 'oc'
    told = '\n'.join(command.export(workdir, 'open_clip', out, unchecked=False))
    assert re.search('by open_clip|this project.s reader', told)
    assert json.loads((out / layouts.OPEN_CLIP_CONFIG).read_text())['model_cfg']['vision_cfg']['image_size'] == [96, 48]
    clip, params = pretrained.load(**demo.get_config().model.to_dict() | {'pretrained': str(out)})
    assert clip == student.clip
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(np.asarray, student.params['clip']))


def test_stablehlo_needs_jax_alone_and_takes_any_batch(workdir, student, sample, tmp_path):
    out = tmp_path / 'hlo'
    command.export(workdir, 'stablehlo', out, unchecked=False)
    image = np.random.default_rng(1).integers(0, 256, (3, 96, 48, 3)).astype(np.uint8)
    tokens = sample[1][:5]
    np.savez(tmp_path / 'rows.npz', image=image, tokens=tokens)
    program = f"""
rows = np.load({str(tmp_path / 'rows.npz')!r})
pixels, tokens = rows['image'], rows['tokens']
{snippet(out)}
np.savez({str(tmp_path / 'found.npz')!r}, v=v, t=t)
assert text.platforms == ('cpu', 'cuda', 'tpu') and not {{'flax', 'lcr2s_jax', 'torch'}} & set(sys.modules)
"""
    subprocess.run([sys.executable, '-c', 'import sys, numpy as np\n' + program], cwd=out, check=True)
    found = np.load(tmp_path / 'found.npz')
    assert_equal_features(
        (found['v'], found['t']), features(student.clip, student.params['clip'], image, tokens), tolerance=1e-5
    )


def test_the_card_tells_figures_hashes_and_config_and_not_where_the_data_lay(workdir, student, tmp_path):
    command.export(workdir, 'open_clip', tmp_path / 'oc', unchecked=True)
    text = (tmp_path / 'oc' / 'README.md').read_text()
    assert '| 12.3 |' in text and '**Unchecked**' in text and f'step\n{STEP}' in text
    assert parallel.fingerprint(student.params['clip']) in text and '`open_clip_model.safetensors` | `' in text
    assert '"learning_rate": 0.0002' in text and '/secret/place' not in text and 'synthetic pedestrians only' in text


def test_a_spoiled_export_is_refused_and_leaves_nothing(workdir, student, tmp_path, monkeypatch):
    def spoiled(folder, clip, params):
        noise = np.random.default_rng(0)
        params = jax.tree.map(lambda x: x + noise.normal(0, 0.02, x.shape).astype(np.float32), params)
        command.stablehlo.save_stablehlo(folder, clip, params)

    monkeypatch.setattr(command, 'FORMATS', {'stablehlo': spoiled})
    with pytest.raises(
        command.ExportError, match='smallest cosine of images 0.9.*expected 0.9999.*Nothing was written'
    ):
        command.export(workdir, 'stablehlo', tmp_path / 'made' / 'out', unchecked=False)
    assert nothing_left(tmp_path / 'made' / 'out')


def test_an_export_that_cannot_be_loaded_is_refused_with_the_reason(workdir, student, tmp_path, monkeypatch):
    monkeypatch.setattr(command, 'FORMATS', {'stablehlo': lambda folder, *_: (folder / 'image.npz').touch()})
    with pytest.raises(command.ExportError, match='could not use the export .FileNotFoundError.*image.stablehlo'):
        command.export(workdir, 'stablehlo', tmp_path / 'made' / 'out', unchecked=False)
    assert nothing_left(tmp_path / 'made' / 'out')


@pytest.mark.parametrize(
    'report, message',
    [({'pixel_levels': 3.0}, 'pixels of its image processor 3.0 levels'), ({'captions_differ': 2}, 'in 2 captions')],
)
def test_another_tokenizer_or_image_processor_is_refused(student, sample, tmp_path, monkeypatch, report, message):
    def run(words, **_):
        rows, model = pathlib.Path(words[-1]), student.model()
        np.save(rows / 'found_image.npy', model.embed_image(sample[0]))
        np.save(rows / 'found_text.npy', model.embed_text(sample[1]))
        (rows / 'found.json').write_text(json.dumps({'runtime': 'it'} | report))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, 'run', run)
    with pytest.raises(command.ExportError, match=message):
        command.check(student, 'hf', tmp_path)


def test_without_torch_the_check_is_not_left_out_in_silence(workdir, student, tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ConfigError, match='found no torch.*--unchecked'):
        command.export(workdir, 'hf', tmp_path / 'out', unchecked=False)
    command.export(workdir, 'hf', tmp_path / 'out', unchecked=True)
    assert (tmp_path / 'out' / 'model.safetensors').is_file()


def test_what_is_there_is_never_written_over(workdir, tmp_path):
    with pytest.raises(ConfigError, match='there already'):
        command.export(workdir, 'hf', tmp_path, unchecked=True)


def test_a_folder_without_a_run_or_without_a_stage_is_named(workdir, tmp_path):
    with pytest.raises(ConfigError, match='found no run in'):
        Run.open(tmp_path)
    (tmp_path / 'config.json').write_text('{"model_type": "clip"}')  # of an export, as others have it
    with pytest.raises(ConfigError, match='found no run in'):
        Run.open(tmp_path)
    with pytest.raises(ConfigError, match='found the stages student, expected teacher'):
        Run.open(workdir, 'teacher')
    (tmp_path / 'config.json').write_text((workdir / 'config.json').read_text())
    with pytest.raises(ConfigError, match='as versions before 0.2 left them'):
        Run.open(tmp_path)
    shutil.copytree(workdir / 'model', tmp_path / 'model')
    with pytest.raises(ConfigError, match='found no trained stage'):
        Run.open(tmp_path)
    assert not (tmp_path / 'student').exists()


def test_a_run_that_was_moved_is_whole_without_its_start(workdir, tmp_path, monkeypatch):
    shutil.copytree(workdir, tmp_path / 'there')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, 'open_source', None)
    one, other = (lcr2s_jax.load(folder) for folder in (workdir, 'there'))
    np.testing.assert_array_equal(one.encode_text('a man'), other.encode_text('a man'))
    assert one.hash == other.hash and other.trained_on['kind'] == 'synthetic pedestrians'


@pytest.mark.parametrize('kind', ['hf', 'open_clip', 'stablehlo'])
def test_an_export_is_loaded_as_the_run_is(workdir, student, tmp_path, kind):
    command.export(workdir, kind, tmp_path / kind, unchecked=True)
    model = lcr2s_jax.load(tmp_path / kind)
    assert model.image_size == (96, 48) and model.trained_on == student.facts['trained_on']
    np.testing.assert_allclose(model.encode_text(['a man']), student.model().encode_text(['a man']), atol=1e-5)
    encoded = student.sample()['encoded'][:2]
    np.testing.assert_allclose(model.encode_image(encoded), student.model().encode_image(encoded), atol=1e-5)


@pytest.mark.parametrize('words', [['export'], ['export', '--workdir=w', '--format=onnx', '--out=o']])
def test_a_wrong_command_line_is_usage(words, capsys):
    assert main.main(['main.py', *words]) == 2
    assert 'format' in capsys.readouterr().err


def test_every_format_that_there_is_can_be_asked_for(capsys):
    assert main.main(['main.py', 'export', '--help']) == 0
    shown = capsys.readouterr().out
    assert all(kind in shown for kind in command.FORMATS) and set(command.FORMATS) == set(runtimes.RUNTIMES)


def test_export_takes_the_config_of_its_run_and_no_other(capsys):
    words = ['--workdir=w', '--format=hf', '--out=o', '--config=configs/demo.py']
    assert main.main(['main.py', 'export', *words]) == 2
    assert '--config' in capsys.readouterr().err


def test_a_run_under_way_is_not_exported(workdir, tmp_path):
    with alone_in(workdir), pytest.raises(ConfigError, match='another process is running in it'):
        Run.open(workdir)


def test_sigterm_leaves_nothing_and_is_the_program_s_to_hear(tmp_path):
    heard = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), _terminated(), command._folder(tmp_path / 'made' / 'out') as folder:
        (folder / 'half').touch()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert nothing_left(tmp_path / 'made' / 'out')
    with command._folder(tmp_path / 'out'):  # one of its own would be lost in a finaliser
        assert signal.getsignal(signal.SIGTERM) is heard


def test_pictures_that_an_export_is_checked_with_lie_in_its_own_folder_alone(workdir, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(command, '_check', lambda run, kind, folder, rows: seen.append((folder, rows)) or ['checked'])
    command.export(workdir, 'stablehlo', tmp_path / 'out', unchecked=False)
    ((folder, rows),) = seen
    assert rows.parent == folder and folder.parent == tmp_path
    assert not [path for path in (tmp_path / 'out').iterdir() if path.is_dir()]


def embeddings(rng):
    image, pid = rng.normal(size=(6, 4)), np.arange(6, dtype=np.int32)
    return Embeddings(image, image + rng.normal(size=(6, 4)) * 0.1, pid, pid, pid, pid)


def test_r1_must_be_equal_but_a_tie_is_nobodys_fault():
    e = embeddings(np.random.default_rng(0))
    assert command.compare(e, 3 * e.image_GE, e.text_QE).faults() == [], 'length is no matter'
    theirs = e.image_GE.copy()
    for image_GE, sign in ((e.image_GE, 1), (theirs, -1)):  # 0's sentence finds 1 with one, 0 with the other, by a hair
        image_GE[1] = image_GE[0] + sign * 1e-5 * e.text_QE[0]
    tie = command.compare(e, theirs, e.text_QE)
    assert (tie.ties, tie.moved, tie.faults()) == (1, 0, []) and tie.ours < tie.theirs
    swapped = command.compare(e, e.image_GE[[0, 1, 3, 2, 4, 5]], e.text_QE)
    assert swapped.moved == 2 and any('R@1' in fault for fault in swapped.faults())
    nothing = command.compare(e, np.full((6, 4), np.nan), e.text_QE)
    assert 'smallest cosine of images nan' in nothing.faults()[0] and nothing.moved


@pytest.mark.parametrize('tower, activation', [('vit', 'gelu'), ('resnet', 'quick_gelu')])
def test_what_open_clip_gets_are_torchs_own_weights(tmp_path, tower, activation):
    made = CLIP(**TOWERS[tower] | dict(activation=activation))
    model = TorchCLIP(made)
    params = load(save_folder(tmp_path / 'theirs', model, made), made)[1]
    open_clip.save_open_clip(tmp_path, made, params)
    clip, again = load(tmp_path / 'open_clip_model.safetensors', made)
    assert clip == made
    jax.tree.map(np.testing.assert_array_equal, again, params)
    fresh = TorchCLIP(made)
    fresh.load_state_dict(load_file(tmp_path / 'open_clip_model.safetensors'), strict=False)
    for ours, theirs in zip(torch_features(fresh, *batch(made)), torch_features(model, *batch(made)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_resnet_for_crops_is_not_written_where_open_clip_could_not_read_it(tmp_path):
    with pytest.raises(WeightsError, match='ResNet for 96 x 32 pixels'):
        open_clip.save_open_clip(tmp_path, CLIP(**RESNET | dict(image_size=(96, 32))), {})
    assert nothing_left(tmp_path / 'any')
