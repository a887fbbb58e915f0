"""What is looked for: sentences and example pictures about one person, made into one vector.

    q = sum_i w_i q_i,  w_i ~ 1 / deviation of q_i's scores over the cohort,  sum_i w_i = 1

so a score is a weighted mean of cosines, and a part whose scores spread widely (a picture) does not drown the others.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lcr2s_jax.errors import SearchError

# where a description goes on to its next thing; what precedes the word stays whole. Of texts with single blanks
_PHRASES = re.compile(r' ?[,;.] ?(?:and )?| (?=(?:and|with|wearing|carrying|holding|who|in)\b)', re.IGNORECASE)
_SENTENCES = re.compile(r'(?<=[.!?;]) ')
_WORDS = re.compile(' ')
_MOST_PARTS = 256  # searches by a part of a text that telling what each phrase did may take


class Query(NamedTuple):
    """One person that is looked for."""

    sentences: tuple[str, ...]  # about that person; may be empty where there are examples
    example_nE: tuple[np.ndarray, ...] = ()  # unit vectors of pictures of that person
    # hashes of their files in hex, by which the same picture is known again; may be left out
    example_sha256: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What a calibration is chosen by."""
        text = ('', 'sentence', 'sentences')[min(len(self.sentences), 2)]
        return ' and '.join(filter(None, (text, 'example' if self.example_nE else '')))


def chunks(sentence: str, lengths: Callable[[Sequence[str]], np.ndarray], longest: int) -> list[str]:
    """A sentence in parts of at most `longest` tokens, cut between sentences, else phrases, else words.

    `lengths` counts the tokens that each of some texts needs, its two ends included.
    """
    if lengths([sentence])[0] <= longest:
        return [sentence]
    sentence = _spaced(sentence)
    for cut in (_SENTENCES, _PHRASES, _WORDS):
        parts = [part for part in cut.split(sentence) if part and part.strip()]
        if len(parts) > 1 and max(lengths(parts)) <= longest:
            break
    packed, joint = [], ' ' if cut is not _PHRASES else ', '
    for part in parts:
        if packed and lengths([packed[-1] + joint + part])[0] <= longest:
            packed[-1] += joint + part
        else:
            packed.append(part)
    return packed


def phrases(sentence: str) -> list[str]:
    """The things that a sentence says, each as it stands there but for its blanks."""
    return [part.strip() for part in _PHRASES.split(_spaced(sentence)) if part and part.strip()]


def check_phrases(sentences: Sequence[str], lengths: Callable[[Sequence[str]], np.ndarray], longest: int) -> None:
    """Raise SearchError where sentences are too long to be searched once for each of their phrases; see `chunks`."""
    said = sum(len(phrases(one)) for one in sentences)
    parts = sum(len(chunks(one, lengths, longest)) for one in sentences) if said <= _MOST_PARTS else said
    if said * parts > _MOST_PARTS:
        raise SearchError(
            f'--why: found {said:,} phrases in texts of {parts:,} parts or more, all of which are searched once a '
            f'phrase; expected {_MOST_PARTS} such searches at most. Ask in fewer words.'
        )


def without(sentence: str, number: int) -> str:
    """The sentence less one of its `phrases`."""
    kept = phrases(sentence)
    del kept[number]
    return ' '.join(kept)


def fuse(parts_nE: np.ndarray, deviation_n: np.ndarray) -> np.ndarray:
    """One vector for several, see above; its length says how much they agree, and is left as it is."""
    weight_n = 1 / np.maximum(deviation_n, 1e-6)
    return (weight_n / weight_n.sum()) @ parts_nE


def _spaced(sentence: str) -> str:
    """Single blanks: a pattern that may begin at each of n blanks and runs to the last takes n^2 steps."""
    return ' '.join(sentence.split())
