"""From a dataset's folder to a trained student, and anybody's weights in the same evaluator, through main.py."""

import json

import pytest

from lcr2s_jax.models.clip import CLIP
from tests import folders
from tests.road import fails, line, run_here, tiny_clip
from tests.torch_clip import TorchCLIP, save_checkpoint, save_folder

FEW = {
    'tokenizer': 'data/demo_clip', 'model.image_size': '(96, 48)', 'model.context_length': 32,
    'model.dtype': 'float32', 'batch.identities': 4, 'batch.views': 2, 'evaluate.batch_size': 8,
    'train.steps': 3, 'train.eval_every': 2, 'train.save_every': 2, 'train.log_every': 1, 'parallel.devices': 1,
}  # fmt: skip


def call(*words, config, root, cache):
    given = {'data.root': root, 'data.cache': cache, 'model.pretrained': tiny_clip()}
    return run_here(line(*words, config=f'configs/{config}.py', **FEW | given))


@pytest.mark.parametrize(
    'config,made',
    [
        ('cuhk', folders.cuhk),
        pytest.param('icfg', folders.icfg, marks=pytest.mark.slow),  # its layout has faster tests: no val, one caption
        pytest.param('folder', folders.table, marks=pytest.mark.slow),  # its reading has faster tests
    ],
)
def test_a_folder_becomes_a_trained_student(tmp_path, config, made):
    folder, workdir = made(tmp_path / 'root'), tmp_path / 'w'
    run = call(f'--workdir={workdir}', config=config, root=tmp_path / 'root', cache=tmp_path / 'cache')
    assert run.returncode == 0, run.stderr
    results = json.loads((workdir / 'results.json').read_text())
    test = results['student']['test']['t2i']
    assert 0 <= test['R1'] <= test['R10'] <= 100
    if config != 'folder':
        assert test['queries'] == sum(len(row['captions']) for row in folder.of('test'))
    assert (workdir / 'sheet.png').exists() and (workdir / 'curves.png').exists()
    if config == 'icfg':
        assert 'has no split val: the last step' in run.stdout and results['student']['step'] == 3
    else:
        assert 'val' in results['student']
    if config == 'folder':
        assert (tmp_path / 'root' / 'people.splits.csv').exists(), 'the splits that were made are written down'


def test_a_peer_s_checkpoint_and_an_open_clip_folder_find_the_same(tmp_path):
    folders.rstp(tmp_path)
    clip = CLIP(
        image_size=(96, 48), patch_size=12, vision_width=64, vision_layers=1, vision_heads=1, text_width=64,
        text_layers=1, text_heads=1, context_length=32, vocab_size=1001, embed_dim=20,
    )  # fmt: skip
    model = TorchCLIP(clip)
    text = dict(context_length=32, vocab_size=1001)
    kinds = (
        save_checkpoint(tmp_path / 'best.pth', model, heads=('classifier.weight',)),
        save_folder(tmp_path / 'folder', model, clip, text_cfg=text, quick_gelu=True),
    )
    found = []
    for weights in kinds:
        words = 'evaluate', f'--weights={weights}', '--json'
        run = call(*words, config='rstp', root=tmp_path, cache=tmp_path / 'cache')
        assert run.returncode == 0, run.stderr
        found.append(json.loads(run.stdout)['weights'])
    assert found[0]['test']['t2i']['queries'] == 20
    assert found[0] == found[1]


def test_weights_that_are_not_there_and_flags_of_another_command_are_named(tmp_path):
    folders.rstp(tmp_path)
    run = call('evaluate', '--weights=/no/such.pth', config='rstp', root=tmp_path, cache=tmp_path / 'cache')
    fails(run, 1, '/no/such.pth')
    fails(call('evaluate', config='rstp', root=tmp_path, cache=tmp_path), 2, 'evaluate needs --workdir, or --config')
    fails(call('doctor', '--weights=x', config='rstp', root=tmp_path, cache=tmp_path), 2, "takes no '--weights'")
