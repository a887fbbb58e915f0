"""What a workdir's config.json refuses."""

import json

import pytest

from commands.workdir import config_of, refuse_another_config
from configs import demo
from lcr2s_jax.errors import ConfigError


def test_a_workdir_that_is_none_names_the_run_beside_it(tmp_path):
    (tmp_path / 'runs' / 'a' / 'model').mkdir(parents=True)
    (tmp_path / 'runs' / 'a' / 'student').mkdir()
    (tmp_path / 'runs' / 'a' / 'model' / 'model.json').write_text('{}')
    for place in ('runs/a/student', 'runs', 'runs/a2'):
        with pytest.raises(ConfigError, match=f'found no run in .*{place}; .*did you mean {tmp_path}/runs/a'):
            config_of(tmp_path / place)
    (tmp_path / 'config.json').write_text('{"model_type": "clip"}')  # of an export
    with pytest.raises(ConfigError, match='found no run in'):
        config_of(tmp_path)


def test_other_images_of_the_same_annotations_are_refused_and_older_runs_go_on(tmp_path):
    config = demo.get_config()
    made_of = {'data': 'd', 'images_train': '27 images, aa', 'weights': 'w'}

    def left(made_of):
        (tmp_path / 'config.json').write_text(json.dumps(json.loads(config.to_json()) | {'made_of': made_of}))

    left(made_of)
    refuse_another_config(tmp_path, config, made_of=made_of)
    refuse_another_config(tmp_path, config)
    with pytest.raises(ConfigError, match='made_of.images_train: 27 images, aa there, 28 images, bb now'):
        refuse_another_config(tmp_path, config, made_of=made_of | {'images_train': '28 images, bb'})
    left({'data': 'd', 'weights': 'w'})  # of a run before images were written down
    refuse_another_config(tmp_path, config, made_of=made_of)
    with pytest.raises(ConfigError, match='made_of.data: d there, e now'):
        refuse_another_config(tmp_path, config, made_of=made_of | {'data': 'e'})


def test_checkpoints_without_the_config_that_they_were_trained_with_are_refused(tmp_path):
    refuse_another_config(tmp_path, demo.get_config())
    (tmp_path / 'teacher').mkdir()  # a run that was killed before its first checkpoint
    refuse_another_config(tmp_path, demo.get_config())
    (tmp_path / 'teacher' / '100').mkdir()
    with pytest.raises(ConfigError, match='found checkpoints of teacher and no config.json'):
        refuse_another_config(tmp_path, demo.get_config())
