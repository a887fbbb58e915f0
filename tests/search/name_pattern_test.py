"""Columns out of file names."""

import pytest

from lcr2s_jax.errors import DataError
from lcr2s_jax.search.gallery import OWN
from lcr2s_jax.search.name_pattern import NamePattern


@pytest.mark.parametrize(
    'pattern,path,found',
    [
        (
            '{camera}_{time:%Y%m%d_%H%M%S}_{*}',
            'x/c1_20240501_123000_7.jpg',
            {'camera': 'c1', 'time': '2024-05-01 12:30:00'},
        ),
        ('{camera}_{*}', 'gate.one_x.tar.png', {'camera': 'gate.one'}),
        ('{person}_{view}.jpg', '007_2.jpg', {'person': '007', 'view': '2'}),
        ('{person}_{view}.jpg', '007_2.png', None),
        ('{site}/{*}/{camera}', 'north/a/c3.jpg', {'site': 'north', 'camera': 'c3'}),
        ('{site}/{camera}', 'north/a/c3.jpg', None),
        ('{when:%y-%j}', '24-060.bmp', {'when': '2024-02-29 00:00:00'}),
        ('{when:%Y%m%d%H%M%S%f}', '20240501123000250.jpg', {'when': '2024-05-01 12:30:00.250000'}),
        ('{when:%Y%m%d}', '20240231.jpg', None),
        ('a+b({n})', 'a+b(3).jpg', {'n': '3'}),
    ],
)
def test_a_pattern_fits_the_whole_name_or_not_at_all(pattern, path, found):
    assert NamePattern(pattern).match(path) == found


def test_a_column_is_of_the_kind_that_keeps_all_its_values_or_that_the_index_has():
    pattern = NamePattern('{person}_{view}')
    found = pattern.read(['007_2.jpg', '012_3.jpg', 'x.jpg'], {})
    assert found.kinds == {'person': 'string', 'view': 'int64'} and found.unmatched == ['x.jpg']
    assert found.values['007_2.jpg'] == {'person': '007', 'view': 2}
    with pytest.raises(DataError, match="--name-pattern, a_b.jpg: found 'b' in the column view, .* has as int64"):
        pattern.read(['a_b.jpg'], {'view': 'int64'})


@pytest.mark.parametrize(
    'pattern,words',
    [
        ('x_1', 'found no column'),
        ('{*}', 'found no column'),
        ('{camera', 'a bracket that is not closed'),
        ('{a}_{a}', 'found the column a twice'),
        ('{a b}', 'expected a name of letters'),
        ('{time:2024}', 'expected a time such as {time:%Y%m%d_%H%M%S}'),
        ('{a}{b}_{*}', "found nothing between '{b}' and what stands before it"),
        ('{time:%Q}_{a}', "found '%Q' in '{time:%Q}'"),
        ('{path}_{x}', "none of the index's own"),
    ],
)
def test_a_pattern_that_cannot_be_is_explained(pattern, words):
    with pytest.raises(DataError) as error:
        NamePattern(pattern, OWN)
    assert words in str(error.value)
