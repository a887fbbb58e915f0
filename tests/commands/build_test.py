"""`python main.py build`: what training would build, where training looks for it."""

import pathlib

from commands.inputs import open_inputs
from configs import demo
from tests.road import SMALL, line, tiny_clip, typed

FEW = {f'data.demo.people.{split}': 2 for split in ('train', 'val', 'test')}


def test_training_finds_what_build_has_built(tmp_path, capfd):
    fields = SMALL | FEW | {'data.cache': str(tmp_path), 'model.pretrained': tiny_clip()}
    run = typed(*line('build', **fields)[1:])
    folder = pathlib.Path(run.stdout.strip())
    assert run.returncode == 0 and folder.is_dir() and 'Built dataset' in capfd.readouterr().err
    config = demo.get_config()
    config.update_from_flattened_dict(fields)
    splits = open_inputs(config, ('test',)).splits
    assert splits['test'].jpegs.folder == folder and 'Built' not in capfd.readouterr().err


def test_options_of_beam_without_beam_are_a_mistake():
    run = typed(*line('build')[1:], '--beam-options=--runner=DirectRunner')
    assert run.returncode == 2 and 'build takes --beam-options with --beam alone' in run.stderr
