"""Sentences come apart without losing a word, and together by their weights."""

import numpy as np
import pytest

from lcr2s_jax.search import query

LONG = (
    'The woman wears a long red coat and black shoes. She has short hair, a grey scarf, and a brown bag. '
    'In her left hand she carries an umbrella with white dots, and she is walking a small dog.'
)


def lengths(texts):
    """Tokens as words, with two ends."""
    return np.array([len(text.split()) + 2 for text in texts])


@pytest.mark.parametrize('longest', [4, 8, 14, 30, 60])
def test_a_long_caption_is_cut_into_chunks_that_fit_and_lose_no_word(longest):
    parts = query.chunks(LONG, lengths, longest)
    assert max(lengths(parts)) <= longest
    words = [word.strip('.,;') for part in parts for word in part.split()]
    lost = set(LONG.replace(',', '').replace('.', '').split()) - set(words)
    assert lost <= {'and'}, 'a comma and "and" may be where it is cut'


def test_a_caption_that_fits_is_left_as_it_is():
    assert query.chunks(LONG, lengths, 200) == [LONG]


def test_a_word_longer_than_the_model_reads_is_its_own_chunk():
    assert query.chunks('x ' + 'y' * 50, lambda texts: np.array([len(t) for t in texts]), 10) == ['x', 'y' * 50]


def test_the_phrases_of_a_sentence_are_the_things_it_says():
    said = query.phrases('a woman in a red coat with a black backpack, white shoes and a hat')
    assert said == ['a woman', 'in a red coat', 'with a black backpack', 'white shoes', 'and a hat']
    assert query.without('a woman in a red coat with a bag', 1) == 'a woman with a bag'


def test_equal_parts_are_averaged_and_what_spreads_more_weighs_less():
    x_nE = np.eye(3)
    np.testing.assert_allclose(query.fuse(x_nE, np.ones(3)), np.full(3, 1 / 3))
    np.testing.assert_allclose(query.fuse(x_nE[:2], np.array([1.0, 3.0])), [0.75, 0.25, 0])
    np.testing.assert_allclose(query.fuse(x_nE[:1], np.array([0.2])), x_nE[0])
