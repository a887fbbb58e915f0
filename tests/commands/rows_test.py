"""Files of rows, and captions at the wrong picture."""

import inspect
import json
import pathlib

import numpy as np
import pytest

from commands import noise, rows
from lcr2s_jax.errors import ConfigError, DataError
from lcr2s_jax.method.fusion_stage import fusion_stage


def read(tmp_path, text):
    path = tmp_path / 'rows.toml'
    path.write_text(text)
    return rows.read(path)


def test_a_row_is_like_another_but_for_what_it_changes(tmp_path):
    first = '[row.a]\nlabel="A"\nstage="baseline"\nset.batch={identities=2, views=3}\n'
    found = read(tmp_path, first + '[row.b]\nlike="a"\nset.batch.views=4\n')
    assert found['b'].set == {'batch': {'identities': 2, 'views': 4}} and found['b'].label == 'b'
    assert found['a'].set == {'batch': {'identities': 2, 'views': 3}}


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('[row.a]\nstage="baseline"\ncolour="red"', 'found colour; expected'),
        ('[row.a]\nstage="pupil"', "found stage 'pupil'"),
        ('[row.a]\nstage="student"', 'names its teacher'),
        ('[row.a]\nstage="student"\nteacher="b"', 'found b among the rows that it needs'),
        ('[row.a]\nlike="b"', "like = 'b'"),
        ('x = 1', 'found no .row.NAME.'),
        ('row = 3', 'found no .row.NAME.'),
        ('[row]\na = 3', 'row a: found 3, expected a table'),
        ('[row.a]\nlabel = "A"', 'row a: found no stage, expected one of'),
        ('[row.a]\nstage = "baseline"\nlabel = 4', 'found 4 as label, expected a text'),
        ('[row.a]\nstage = "baseline"\nset = 3', 'found 3 as set, expected a table'),
        ('[row.a]\nstage = "baseline"\nset.optim = 3', 'found 3 as set.optim, expected a table'),
        ('[row.a]\nstage = "baseline"\nleft_out = [2, 2]', r'found left_out = \[2, 2\], expected \[i, n\]'),
        ('[row.a]\nstage = "baseline"\n[row.b]\nstage = "student"\nteacher = "a"\nteachers = ["a"]', 'combine one of'),
        (
            '[row.a]\nstage="baseline"\n[row.b]\nstage="student"\nteacher="a"\nteachers=["a"]\ncombine="cross"',
            'expected equally many for each fold',
        ),
        ('[row."../a"]\nstage = "baseline"', "found the row '../a', expected a name that files can have"),
        ('[row.""]\nstage = "baseline"', "found the row '', expected"),
        ('[row.a]\nstage = "baseline"\nkeep = "pair"', r"judges = \[\] with keep = 'pair'; expected both"),
        ('[row.a]\nstage = "baseline"\n[row.b]\nstage = "baseline"\njudges = ["a"]', "with keep = ''; expected both"),
        (
            '[row.a]\nstage="baseline"\n[row.b]\nstage="baseline"\nkeep="pair"\njudges=["a", "a"]',
            'one judge, or two that were trained on half = 0 and half = 1',
        ),
        ('[row.a]\nstage="baseline"\n[row.b]\nstage="baseline"\nneighbours_by=["a"]', 'expected test = true'),
        ('[row.a', 'cannot be read as rows'),
        ('[row.a]\nstage="baseline"\nnoise=-0.5', 'found noise = -0.5, expected a share'),
    ],
)
def test_a_mistake_in_a_file_of_rows_is_told(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'optin': {'learning_rate': 1}}, 'found set.optin; expected a field of the config, such as optim'),
        ({'optim': {'learning_rat': 1}}, 'found set.optim.learning_rat; expected .* such as learning_rate'),
        ({'optim': {'learning_rate': 'x'}}, "learning_rate = 'x'; expected a number, as 0.001 is"),
        ({'train': {'steps': 2.5}}, 'set.train.steps = 2.5; expected a whole number, as 2400 is'),
        ({'student': {'cache_teacher': 1}}, 'cache_teacher = 1; expected true or false'),
        ({'optim': {'rules': 'x'}}, "rules = 'x'; expected a list"),
    ],
)
def test_a_change_of_what_the_config_has_not_is_told_before_anything_is_trained(changes, told):
    from benchmarks import testbed

    row = rows.Row('a', 'a', 'baseline', set=changes)
    with pytest.raises(ConfigError, match=told):
        rows.check(pathlib.Path('rows.toml'), {'a': row}, testbed.CONFIG)
    fine = rows.Row('a', 'a', 'baseline', set={'optim': {'learning_rate': 1}, 'batch': {'views': 4}})
    rows.check(pathlib.Path('rows.toml'), {'a': fine}, testbed.CONFIG)


def test_numbers_of_a_row_are_compared_with_those_that_the_config_says():
    from configs import smoke

    given = json.loads(smoke.get_config().to_json())
    for changes in ({'augment': {'pad': 24}}, {'model': {'image_size': [2, 2]}}):
        with pytest.raises(ConfigError, match=r'row a: set\.augment\.pad: found .*, expected less than'):
            rows.check(pathlib.Path('r.toml'), {'a': rows.Row('a', 'a', 'baseline', set=changes)}, given)


def test_the_rows_of_the_testbed_change_fields_that_there_are():
    from benchmarks import testbed

    for row in rows.read(pathlib.Path('benchmarks/testbed.toml')).values():
        for group, changes in row.set.items():
            assert set(changes) <= set(testbed.CONFIG[group]), row.name
        batch = rows.merged(testbed.CONFIG, row.set)['batch']
        assert batch['identities'] * batch['views'] == 64, 'rows of a batch are equal'


def test_the_testbed_has_the_arguments_of_every_stage():
    from benchmarks import testbed
    from configs import base
    from lcr2s_jax.method import stages

    for name in ('teacher', 'student'):
        assert set(testbed.CONFIG[name]) == set(base.get_config()[name])
    for name, of in (('baseline', stages.baseline_stage), ('fusion', fusion_stage)):
        inspect.signature(of).bind(*range(3), **testbed.CONFIG[name])


def test_wrong_captions_are_so_many_and_stand_at_somebody_elses_picture():
    source = noise.shuffled(1000, 0.5)
    assert (source != np.arange(1000)).sum() == 500 and sorted(source) == list(range(1000))
    np.testing.assert_array_equal(noise.shuffled(1000, 0.0), np.arange(1000))


def test_a_caption_is_judged_by_the_other_images_of_its_identity():
    rng = np.random.default_rng(0)
    pid = np.repeat(np.arange(50), 4)
    who = rng.normal(size=(50, 16))
    image = who[pid] + 0.5 * rng.normal(size=(200, 16))
    text = who[pid] + 0.5 * rng.normal(size=(200, 16))
    places = np.arange(200)
    wrong = noise.shuffled(200, 0.5) != places
    text = text[noise.shuffled(200, 0.5)]
    score = noise.consensus_scores(image, text, pid, places)
    kept = score > noise.two_groups(score)
    assert np.mean(kept == ~wrong) > 0.97
    # an image that learnt its wrong caption by heart deceives the pair, not the others
    image[wrong] = text[wrong]
    pair = noise.pair_scores(image, text, places)
    assert np.mean((pair > noise.two_groups(pair)) == ~wrong) < 0.7
    score = noise.consensus_scores(image, text, pid, places)
    assert np.mean((score > noise.two_groups(score)) == ~wrong) > 0.8


def test_an_identity_of_one_image_is_judged_by_that_one():
    found = noise.consensus_scores(np.eye(2), np.eye(2), np.array([0, 1]), np.array([0, 1]))
    np.testing.assert_allclose(found, [1, 1])


def test_an_index_file_of_another_method_is_read_and_one_of_another_split_refused(tmp_path):
    index = noise.shuffled(40, 0.2)
    np.save(tmp_path / '0.2.npy', index)
    np.testing.assert_array_equal(noise.from_file(tmp_path / '0.2.npy', 40), index)
    with pytest.raises(DataError, match='expected each of 0..49 once'):
        noise.from_file(tmp_path / '0.2.npy', 50)
    with pytest.raises(DataError, match='cannot be read'):
        noise.from_file(tmp_path / 'none.npy', 50)
    (tmp_path / 'empty.npy').touch()
    np.savez(tmp_path / 'several.npz', a=index)
    for name in ('empty.npy', 'several.npz'):
        with pytest.raises(DataError, match='expected an index file of RDE, .npy'):
            noise.from_file(tmp_path / name, 40)
