"""Every config file binds to the callables that its groups are the keyword arguments of."""

import importlib
import inspect
import pathlib

import pytest

from benchmarks import step
from lcr2s_jax.method import stages
from lcr2s_jax.training import optim, parallel, train
from lcr2s_jax.weights import pretrained

NEUTRAL = {'activation', 'heads'}  # of pretrained.load: '' and 0 leave the matter to the file, for any caller
ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / 'configs').glob('[a-z]*.py'))


def config(name):
    return importlib.import_module(f'configs.{name}').get_config()


def bind(function, group, *positional, **given):
    inspect.signature(function).bind(*positional, **group, **given)
    defaults = [p.name for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
    assert not set(defaults) & set(group) - NEUTRAL, f'{function}: second default of {defaults}'


@pytest.mark.parametrize('name', NAMES)
def test_every_group_is_the_arguments_of_one_callable(name):
    from data import people, pipeline, plan, sources, table, transforms

    c = config(name)
    bind(pretrained.load, c.model)
    bind(stages.baseline_stage, c.baseline, *range(3))
    bind(stages.teacher_stage, c.teacher, *range(3))
    bind(stages.student_stage, c.student, *range(6))
    bind(optim.adam, c.optim, steps=1)
    bind(parallel.Parallel, c.parallel)
    bind(train.fit, c.train, 0, 0, tx=0, parallel=0, checkpoints=0, report=0, validate=0, seed=0)
    bind(plan.Plan, c.batch, 0, 0, seed=0)
    bind(transforms.augment, c.augment, 0, 0)
    bind(transforms.mask_tokens, c.masking, 0, 0, mask_token=0, ordinary=0)
    bind(pipeline.gallery_batches, c.evaluate, 0, 0)
    data = c.data.to_dict()
    inspect.signature(people.load).bind(0, 0, 0, cache=data.pop('cache'), in_memory=data.pop('in_memory'))
    bind(sources.open_source, data)
    bind(table.read, data['folder'] | {'path': data['folder'].pop('table')})


@pytest.mark.parametrize('name', NAMES)
def test_a_config_is_locked_and_has_the_fields_of_base(name):
    c = config(name)
    assert c.is_locked
    assert set(c.keys()) == set(config('base').keys())
    with pytest.raises(AttributeError):
        c.train.stepz = 3


def test_the_step_benchmark_times_what_the_base_config_trains():
    base = config('base')
    assert (step.BASE, step.TEACHER, step.STUDENT) == (
        base.baseline.to_dict(), base.teacher.to_dict(), base.student.to_dict(),
    )  # fmt: skip
    for name, file in (('demo', 'demo'), ('vit-b16', 'base')):
        model = config(file).model
        expected = step.MODELS[name] | ({'architecture': model.architecture} if name == 'demo' else {})
        assert {field: getattr(model, field) for field in expected} == expected
