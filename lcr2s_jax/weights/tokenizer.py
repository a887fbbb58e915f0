"""Captions to token ids, as CLIP does it, and the training of a small tokenizer of that kind."""

import gzip
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from lcr2s_jax.errors import DataError

SOT, EOT, MASK = '<|startoftext|>', '<|endoftext|>', '<|mask|>'
PAD = 0  # OpenAI and IRRA pad so; Hugging Face pads with EOT. The feature is read at EOT: both agree
_WORD_END = '</w>'
VOCABULARY = 'bpe_simple_vocab_16e6.txt.gz'  # the file that OpenAI, IRRA and open_clip read
_MERGES = 49152 - 256 - 2  # of them they use so many
_SPLIT = (  # OpenAI's pattern of words, without which merges differ
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


# tokenizers that come with the package, by name
BUILT_IN = {'synthetic-pedestrians': str(pathlib.Path(__file__).parent / 'demo_clip')}


class Tokenizer:
    """CLIP's byte-pair encoding, read from a folder or the hub.

    Attributes:
      vocab_size: ids are 0 .. vocab_size - 1.
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

        Args:
          name: a folder with tokenizer.json, with vocab.json and merges.txt, or with OpenAI's vocabulary,
            bpe_simple_vocab_16e6.txt.gz; that file itself, or tokenizer.json; a file of weights beside which
            one of them lies; or a name on the Hugging Face hub.

        Raises:
          DataError: nothing readable there, or a vocabulary that CLIP's pooling cannot use.
        """
        self._backend, content = _read(name)
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
                'has the highest id. Change config.tokenizer to the tokenizer of a CLIP.'
            )
        self.sot, self.eot = ids[SOT], ids[EOT]
        self.mask_token = ids.get(MASK, self.sot - 1)
        self.ordinary = min(self.sot, self.mask_token)

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
        encoded = self._backend.encode_batch_fast(list(captions), add_special_tokens=False)
        return [one.ids for one in encoded]


def _read(name: str) -> tuple[tokenizers.Tokenizer, bytes]:
    path = pathlib.Path(BUILT_IN.get(name, name)).expanduser()
    if path.is_file():
        if path.name.endswith('.txt.gz'):
            return _merges(path)
        if path.suffix == '.json':
            return _parse(path)
    elif not path.is_dir():
        return _parse(_from_hub(name))
    folder = path.parent if path.is_file() else path
    if (folder / 'tokenizer.json').is_file():
        return _parse(folder / 'tokenizer.json')
    if all((folder / file).is_file() for file in ('vocab.json', 'merges.txt')):
        from transformers import CLIPTokenizer

        content = CLIPTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.to_str()
        return tokenizers.Tokenizer.from_str(content), content.encode()
    if (folder / VOCABULARY).is_file():
        return _merges(folder / VOCABULARY)
    if path.is_file():
        raise DataError(
            f'{path}: found no tokenizer beside these weights; expected tokenizer.json or {VOCABULARY}. Set '
            'config.tokenizer to a folder with a tokenizer, or to that file.'
        )
    raise DataError(
        f'{folder}: found neither tokenizer.json nor vocab.json with merges.txt, nor {VOCABULARY}; expected a '
        'tokenizer. Put it there, or set config.tokenizer to a folder that has one, or to such a file.'
    )


def _merges(path: pathlib.Path) -> tuple[tokenizers.Tokenizer, bytes]:
    """The tokenizer of OpenAI's vocabulary: one line of version, then a merge a line."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split('\n')[1 : 1 + _MERGES]
        merges = [tuple(line.split()) for line in lines if line.strip()]
        if not merges or any(len(merge) != 2 for merge in merges):
            raise ValueError('a line is not two symbols')
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        symbols = alphabet + [byte + _WORD_END for byte in alphabet] + [left + right for left, right in merges]
        ids = {symbol: i for i, symbol in enumerate([*symbols, SOT, EOT])}
        backend = _pipeline(models.BPE(vocab=ids, merges=merges, end_of_word_suffix=_WORD_END, unk_token=EOT))
    except Exception as error:  # gzip, zlib, unicode and the tokenizers' library, which raises bare Exception
        raise DataError(
            f'{path}: found a file that cannot be read ({error}); expected {VOCABULARY} of OpenAI, IRRA or open_clip. '
            'Fetch it again, or change config.tokenizer.'
        ) from error
    backend.add_special_tokens([SOT, EOT])
    return backend, backend.to_str().encode()


def _parse(path: pathlib.Path) -> tuple[tokenizers.Tokenizer, bytes]:
    content = path.read_bytes()
    try:
        return tokenizers.Tokenizer.from_str(content.decode()), content
    except Exception as error:  # the library raises bare Exception
        raise DataError(
            f'{path}: found a file that cannot be read ({error}); expected a tokenizer in Hugging '
            "Face's format. Fetch it again, or change config.tokenizer."
        ) from error


def _from_hub(name: str) -> pathlib.Path:
    """tokenizer.json of a hub name; one that was fetched before needs no network."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        try:
            return pathlib.Path(huggingface_hub.hf_hub_download(name, 'tokenizer.json', local_files_only=True))
        except errors.LocalEntryNotFoundError:
            return pathlib.Path(huggingface_hub.hf_hub_download(name, 'tokenizer.json'))
    except Exception as error:  # OSError, ValueError and the network library's own
        raise DataError(
            f"Tokenizer '{name}': found no such folder, and the Hugging Face hub gave none "
            f'({type(error).__name__}). Change config.tokenizer, or config.model.pretrained where '
            'that is empty, to a downloaded folder that has one.'
        ) from error


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Train a BPE laid out like CLIP's: 256 bytes, 256 word ends, merges, three special ids.

    Args:
      captions: the text to learn merges from.
      vocab_size: ids wanted, at least 516; fewer come out where the text has no more pairs to
        merge.

    Returns:
      A tokenizer whose last ids are '<|mask|>', '<|startoftext|>', '<|endoftext|>', in this order.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = alphabet + [byte + _WORD_END for byte in alphabet]
    special = [MASK, SOT, EOT]
    room = vocab_size - len(symbols) - len(special)
    if room < 1:
        raise ValueError(f'found vocab_size={vocab_size}, expected at least {len(symbols) + len(special) + 1}')
    learner = _pipeline(models.BPE(end_of_word_suffix=_WORD_END))
    learner.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=alphabet,
            end_of_word_suffix=_WORD_END,
            show_progress=False,
        ),
    )
    merges, words = [], dict.fromkeys(symbols)
    for left, right in json.loads(learner.to_str())['model']['merges']:  # most frequent first
        if len(words) == len(symbols) + room and left + right not in words:
            break
        words[left + right] = None  # two merges may make one word
        merges.append((left, right))
    vocabulary = {word: i for i, word in enumerate([*words, *special])}
    model = models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=_WORD_END, unk_token=EOT)
    tokenizer = _pipeline(model)
    tokenizer.add_special_tokens(special)
    return tokenizer


def _pipeline(model: models.BPE) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(tokenizers.Regex(r'\s+'), ' '),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_SPLIT), behavior='removed', invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save_tokenizer(tokenizer: tokenizers.Tokenizer, folder: str, context_length: int) -> None:
    """Write the folder that `Tokenizer`, and transformers' CLIPTokenizer and AutoTokenizer, read.

    Args:
      tokenizer: from `train_tokenizer`, or of any CLIP.
      folder: made if it is not there.
      context_length: tokens of the model, which transformers cuts captions to when asked.
    """
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=(EOT, ids[EOT]), cls=(SOT, ids[SOT]), add_prefix_space=False, trim_offsets=False
    )
    tokenizer.save(str(path / 'tokenizer.json'))
    config = dict(
        tokenizer_class='CLIPTokenizer', bos_token=SOT, eos_token=EOT, unk_token=EOT, pad_token=EOT,
        model_max_length=context_length, do_lower_case=True,
        split_special_tokens=True,  # a caption that spells one is text, as in `Tokenizer`
    )  # fmt: skip
    config |= {'mask_token': MASK} if MASK in ids else {}
    (path / 'tokenizer_config.json').write_text(json.dumps(config, indent=2) + '\n')
