"""What a model cannot read of a query is noted, and what it can read is not."""

import time

import numpy as np
import pytest

from data.demo import synthetic
from lcr2s_jax.search import query, wording
from lcr2s_jax.weights.tokenizer import Tokenizer
from tests import folders


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer(folders.WORDS)


@pytest.fixture(scope='module')
def captions():
    people = [synthetic.captions(0, 'val', person) for person in range(40)]
    return [text for views in people for view in views for text, _ in view]


@pytest.fixture(scope='module')
def pieces(captions, tokenizer):
    return wording.pieces_of(captions, tokenizer.lengths)


def test_no_caption_of_the_demo_gets_a_note(captions, tokenizer, pieces):
    assert pieces == 1
    assert not [text for text in captions if wording.notes([text], tokenizer.lengths, pieces)]


@pytest.mark.parametrize(
    'text,words',
    [
        ('une femme en manteau rouge', 'unknown to the model ("une", "femme"'),
        ('qwrtz plmkn bvcxs', 'unknown to the model ("qwrtz"'),
        ('穿红色外套的女人', 'another script than Latin'),
        ('женщина в красном пальто', 'another script than Latin'),
        ('🧥🔴', 'found no word'),
        ('?!...', 'found no word'),
        ('12345', 'found no word'),
        ('a woman in a dark blue uniform', 'unknown to the model: "uniform"'),
    ],
)
def test_what_the_model_cannot_read_gets_one_note(tokenizer, pieces, text, words):
    (note,) = wording.notes([text], tokenizer.lengths, pieces)
    assert words in note


def test_what_the_tokenizer_mends_is_no_unknown_word(tokenizer, pieces):
    for text in ('a woman in a red coat &amp; a black hat', 'a woman in a \u201cred\u201d coat', '\ufeffa red coat'):
        assert not wording.notes([text], tokenizer.lengths, pieces)
    (note,) = wording.notes(['a donâ€™t wear red coat'], tokenizer.lengths, pieces)
    assert "don't" in note and 'â' not in note


@pytest.mark.parametrize(
    'text,language',
    [
        ('une femme avec un manteau', 'French'),
        ('eine frau mit rotem mantel', 'German'),
        ('una mujer con abrigo rojo', 'Spanish'),
        ('een vrouw met rode jas', 'Dutch'),
        ('a man in a red coat with a la mode hat', ''),
    ],
)
def test_a_language_is_known_by_its_small_words_where_a_large_vocabulary_has_them(text, language):
    whole = lambda texts: np.full(len(texts), 3)  # noqa: E731  every word is one token, as in a vocabulary of 49,408
    notes = wording.notes([text], whole, None)
    assert (language in notes[0]) if language else notes == []


def test_one_sentence_that_cannot_be_read_is_not_hidden_by_another_that_can(tokenizer, pieces):
    assert wording.notes(['a man with a hat', 'a woman in a uniform'], tokenizer.lengths, pieces)


def test_blanks_take_time_that_grows_with_their_number_alone(tokenizer):
    def seconds(count):
        clock = time.perf_counter()
        query.chunks('a' + ' ' * count + 'b', lambda texts: np.full(len(texts), 99), 5)
        query.phrases('a' + ' ' * count + 'b')
        return time.perf_counter() - clock

    assert query.phrases('a red   coat ,  and \t a hat') == ['a red coat', 'a hat']
    assert seconds(1_000_000) < 2, '10,000 blanks took 19 s'


def test_signs_that_nobody_sees_and_typographic_hyphens_are_read_as_what_is_meant(tokenizer):
    for typed, meant in (
        ('a red\u200b c\u00adoat\u202e', 'a red coat'),
        ('a t\u2011shirt \u2013 blue', 'a t-shirt - blue'),
        ('the woman\u00b4s and the man\u2032s', "the woman's and the man's"),
    ):
        assert wording.plain(typed) == meant
        assert wording.plain(meant) == meant
