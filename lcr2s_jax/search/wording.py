"""What a model cannot read of a query: no words, other scripts and languages, words that its vocabulary spells out.

All by the tokenizer: a word that val's captions use has as many pieces as words have there, one that no caption had has
more. Ours.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from lcr2s_jax.weights.tokenizer import clean

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SHOWN = 5  # words that a note names
_PIECES = 3  # of a word, at most, where no captions were counted
_SHARE = 0.3  # of the letters: from there on, another script is told
# Words that sentences need in these languages and English does not have; two of them tell the language.
_LANGUAGES = {
    'French': 'une le la les des du avec femme homme et dans qui sur porte manteau',
    'German': 'eine einen einem einer ein mit und der das dem den frau mann trägt',
    'Spanish': 'una un con mujer hombre el los las y que lleva abrigo',
    'Italian': 'una un con donna uomo il che gli nel indossa cappotto',
    'Portuguese': 'uma um com mulher homem os que na vestindo casaco',
    'Dutch': 'een met vrouw het en van draagt jas',
    'Polish': 'kobieta mężczyzna w z i na płaszcz',
    'Swedish': 'en ett kvinna med och som bär',
}


def notes(sentences: Sequence[str], lengths: Callable[[Sequence[str]], np.ndarray], pieces: float | None) -> list[str]:
    """What the user should know of how the words of a query were read; [] where there is nothing to say.

    `lengths` counts the tokens of texts, their two ends included; `pieces` see `pieces_of`, None where not known.
    """
    text = unicodedata.normalize('NFC', clean(' '.join(sentences))).lower()
    letters = [sign for sign in text if sign.isalpha()]
    if not letters:
        return ['found no word in it; the model reads English descriptions such as "a woman in a red coat"']
    foreign = [sign for sign in letters if not unicodedata.name(sign, '').startswith(('LATIN', 'FULLWIDTH LATIN'))]
    if len(foreign) > _SHARE * len(letters):
        return [
            'most of it is in another script than Latin: the model was taught English descriptions, and its ranking '
            'means little here'
        ]
    words = list(dict.fromkeys(_WORD.findall(text)))
    unknown = _unknown(words, lengths, pieces)
    if 2 * len(unknown) > len(words):
        return [
            f'most of these words are unknown to the model ({_listed(unknown)}): it was taught English descriptions, '
            'and its ranking means little here'
        ]
    told = []
    if language := _language(words):
        told.append(
            f'this looks like {language}: the model was taught English descriptions, and its ranking may mean little'
        )
    if unknown:
        told.append(
            f'unknown to the model: {_listed(unknown)}. It spells such words in pieces, and they may count for little; '
            'try another word'
        )
    return told


def plain(text: str) -> str:
    """What somebody typed, without signs that nobody sees, and with the plain hyphen and apostrophe."""
    seen = ''.join(sign for sign in text if unicodedata.category(sign) != 'Cf')
    return re.sub('[\u00b4`\u2032]', "'", re.sub('[\u2010-\u2015\u2212]', '-', seen))


def visible(text: str) -> bool:
    """Whether anything can be seen of a text: blanks and controls of all kinds cannot."""
    return any(unicodedata.category(sign)[0] not in 'CZ' or unicodedata.category(sign) == 'Cs' for sign in text)


def pieces_of(captions: Sequence[str], lengths: Callable[[Sequence[str]], np.ndarray]) -> float | None:
    """Tokens that 99.9 % of the words of some captions have at most; None without a word."""
    said = [word for text in captions for word in _WORD.findall(text.lower())]
    words, count = np.unique(np.array(said), return_counts=True)
    if not len(words):
        return None
    return float(np.quantile(np.repeat(lengths(words.tolist()) - 2, count), 0.999, method='lower'))


def _unknown(words: list[str], lengths: Callable, pieces: float | None) -> list[str]:
    found = []
    for word, count in zip(words, lengths(words) - 2, strict=True):
        spelled = count >= 3 and len(word) < 2 * count  # pieces of less than two letters
        if count > (_PIECES if pieces is None else pieces) or spelled:
            found.append(word)
    return found


def _language(words: Sequence[str]) -> str:
    met = {name: len(set(words) & set(those.split())) for name, those in _LANGUAGES.items()}
    best = max(met, key=met.get)
    return best if met[best] >= max(2, len(words) / 5) else ''


def _listed(words: list[str]) -> str:
    shown = ', '.join(f'"{word[:40]}"' for word in words[:_SHOWN])
    return shown + f' and {len(words) - _SHOWN} more' * (len(words) > _SHOWN)
