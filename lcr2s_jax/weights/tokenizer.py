"""Captions to token ids, as CLIP does it."""

import hashlib
import html
import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import tokenizers

from lcr2s_jax.errors import ConfigError, DataError
from lcr2s_jax.weights import vocabulary
from lcr2s_jax.weights.vocabulary import EOT, MASK, SOT

PAD = 0  # OpenAI and IRRA pad so; Hugging Face pads with EOT. The feature is read at EOT: both agree
# Text in which there is something to mend: what is not ASCII, control characters, and HTML's entities.
_ODD = re.compile(r'[^\t\n\r -%\'-~]')

# of every kind of character
_TRIED = ("a man's 2 bags, (red)", 'Über-große é 人', '', ' ', '\U0001f9e5!?')


def clean(text: str) -> str:
    """A text as CLIP's own tokenizer takes it [OpenAI, IRRA]: typographic quotes and wide letters made plain, mojibake
    mended, HTML's entities written out, white space single. What has none of these keeps its tokens."""
    if _ODD.search(text):
        import ftfy

        text = ftfy.fix_text(text)
        try:
            text = html.unescape(html.unescape(text))
        except ValueError:  # an entity of thousands of digits is text
            pass
    return ' '.join(text.split())


# tokenizers that come with the package, by name
BUILT_IN = {'synthetic-pedestrians': str(pathlib.Path(__file__).parent / 'demo_clip')}


class Tokenizer:
    """CLIP's byte-pair encoding, read from a folder or the hub.

    Attributes:
      sot, eot: ids around every caption; eot is the highest, as the model pools where the id is
        highest.
      mask_token: id that hides a word: '<|mask|>' where the vocabulary has it, else the last
        ordinary id [IRRA].
      ordinary: ids 1 .. ordinary - 1 stand for text: none of them pads, hides, begins or ends.
      files: name -> bytes: a folder of these is read back as this very tokenizer.
      fingerprint: hex digest, another for every other vocabulary.
    """

    def __init__(self, name: str):
        """Read a tokenizer.

        `name` is a folder with tokenizer.json, with vocab.json and merges.txt, or with OpenAI's vocabulary,
        bpe_simple_vocab_16e6.txt.gz; that file itself, or tokenizer.json; a file of weights beside which one of them
        lies; or a name on the Hugging Face hub. Raises DataError: nothing readable there, or a vocabulary that CLIP's
        pooling cannot use.
        """
        self._name = name
        self._backend, content = vocabulary.read(BUILT_IN.get(name, name))
        # A caption that spells '<|endoftext|>' is text, or the model would pool in its middle.
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self.files = {'tokenizer.json': content}
        self.fingerprint = hashlib.sha256(content).hexdigest()
        ids = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(ids.values()) + 1
        missing = [token for token in (SOT, EOT) if token not in ids]
        if missing or ids[EOT] != self.vocab_size - 1:
            found = f'no {missing[0]}' if missing else f'{EOT} = {ids[EOT]} of 0..{self.vocab_size - 1}'
            raise DataError(
                f"Tokenizer '{name}': found {found}; expected a CLIP vocabulary, in which {EOT} "
                'has the highest id. Change `tokenizer` to the tokenizer of a CLIP.'
            )
        self.sot, self.eot = ids[SOT], ids[EOT]
        self.mask_token = ids.get(MASK, self.sot - 1)
        self.ordinary = min(self.sot, self.mask_token)
        self._apart(_TRIED)  # what is damaged inside shows at the first texts

    def __setstate__(self, state: dict):
        self.__dict__.update(state)
        self._backend.encode_special_tokens = True  # which its own pickling forgets

    def encode(self, captions: Sequence[str], length: int) -> np.ndarray:
        """Token ids of n captions, int32 [n, length]: SOT, words, EOT, then 0 [OpenAI, IRRA].

        A caption that needs more than `length` tokens is cut and ends in EOT all the same.
        """
        tokens_nL = np.full((len(captions), length), PAD, np.int32)
        for row, words in zip(tokens_nL, self._words(captions), strict=True):
            ids = [self.sot, *words[: length - 2], self.eot]
            row[: len(ids)] = ids
        return tokens_nL

    def lengths(self, captions: Sequence[str]) -> np.ndarray:
        """Tokens that each caption needs uncut, SOT and EOT included: int32 [n]."""
        return np.array([len(words) + 2 for words in self._words(captions)], np.int32)

    def save(self, folder: str, context_length: int) -> None:
        """Write it as `save_tokenizer` does: the same ids, whatever kind of file it was read from."""
        save_tokenizer(tokenizers.Tokenizer.from_str(self._backend.to_str()), folder, context_length)

    def _words(self, captions: Sequence[str]) -> list[list[int]]:
        if isinstance(captions, str | bytes) or not all(isinstance(one, str) for one in captions):
            odd = captions if isinstance(captions, str | bytes) else next(x for x in captions if not isinstance(x, str))
            raise DataError(f'found a {type(odd).__name__} in place of captions, expected a list of texts')
        try:
            cleaned = [clean(one) for one in captions]
            ''.join(cleaned).encode()
        except UnicodeEncodeError:  # bytes of a command line or of JSON that are no text
            raise DataError('found a caption with half a character, expected text. Save it as UTF-8.') from None
        return self._apart(cleaned)

    def _apart(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exception, and its panics are none
            raise DataError(
                f"Tokenizer '{self._name}': found one that cannot take a text apart ({str(error)[:200]}); expected a "
                'CLIP vocabulary. Fetch it again, or change `tokenizer` to the tokenizer of a CLIP.'
            ) from None
        return [one.ids for one in encoded]


def open_tokenizer(name: str, vocab_size: int) -> Tokenizer:
    """The tokenizer of a model with so many token ids.

    Raises DataError: it cannot be read. ConfigError: it is another model's.
    """
    words = Tokenizer(name)
    if words.vocab_size != vocab_size:
        raise ConfigError(
            f'tokenizer: found {words.vocab_size} token ids, expected the {vocab_size} of the model; use the tokenizer '
            'that the weights were trained with'
        )
    return words


def save_tokenizer(tokenizer: tokenizers.Tokenizer, folder: str, context_length: int) -> None:
    """Write the folder that `Tokenizer`, and transformers' CLIPTokenizer and AutoTokenizer, read.

    Transformers cuts captions to `context_length` tokens when asked.
    """
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.post_processor = vocabulary.between_ends(tokenizer)
    tokenizer.save(str(path / 'tokenizer.json'))
    config = dict(
        tokenizer_class='CLIPTokenizer', bos_token=SOT, eos_token=EOT, unk_token=EOT, pad_token=EOT,
        model_max_length=context_length, do_lower_case=True,
        split_special_tokens=True,  # a caption that spells one is text, as in `Tokenizer`
    )  # fmt: skip
    config |= {} if tokenizer.token_to_id(MASK) is None else {'mask_token': MASK}
    (path / 'tokenizer_config.json').write_text(json.dumps(config, indent=2) + '\n')
