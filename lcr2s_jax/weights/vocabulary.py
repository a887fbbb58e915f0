"""Vocabularies of CLIP's byte-pair encoding, of files of unknown origin: bounded, checked, then built."""

import gzip
import pathlib
import re
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lcr2s_jax.errors import DataError
from lcr2s_jax.files import expanded
from lcr2s_jax.weights import hub, layouts
from lcr2s_jax.weights.reading import brief, integers, parse_object, read_bytes, read_object

SOT, EOT, MASK = '<|startoftext|>', '<|endoftext|>', '<|mask|>'
WORD_END = '</w>'
VOCABULARY = 'bpe_simple_vocab_16e6.txt.gz'  # the file that OpenAI, IRRA and open_clip read
_MERGES = 49152 - 256 - 2  # of them they use so many
_SPLIT = (  # OpenAI's pattern of words, without which merges differ
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_LIMIT = 12 << 20  # bytes of a vocabulary, unpacked; CLIP's are 1 to 4 million
_IDS = 1 << 22  # token ids
_LONGER = 256  # times that what comes before and behind the pairs may lengthen a text
_ADDED = 10_000  # tokens beside the vocabulary
_EXPECTED = "a tokenizer in Hugging Face's format"


def read(name: str) -> tuple[tokenizers.Tokenizer, bytes]:
    """A tokenizer of a folder, a file or a hub name, see `Tokenizer`; and the content of its tokenizer.json.

    Raises DataError: nothing readable there, or what could not be CLIP's.
    """
    if name.startswith(hub.SCHEME):
        return _parse(_from_hub('/'.join(name.removeprefix(hub.SCHEME).split('/')[:2])))
    path = expanded(name)
    if path.is_file():
        if path.name.endswith('.txt.gz'):
            return _merges(path)
        if path.suffix == '.json' and path.name != 'vocab.json' and not layouts.is_part(path):
            return _parse(path)
    elif not path.is_dir():
        return _parse(_from_hub(name))
    folder = path.parent if path.is_file() else path
    for place in (folder, layouts.inner(folder, DataError)):
        if (place / 'tokenizer.json').is_file():
            return _parse(place / 'tokenizer.json')
        if all((place / file).is_file() for file in ('vocab.json', 'merges.txt')):
            return _vocab_and_merges(place)
        if (place / VOCABULARY).is_file():
            return _merges(place / VOCABULARY)
    if path.is_file():
        raise DataError(
            f'{path}: found no tokenizer beside these weights; expected tokenizer.json or {VOCABULARY}. Set '
            '`tokenizer` to a folder with a tokenizer, or to that file.'
        )
    raise DataError(
        f'{folder}: found neither tokenizer.json nor vocab.json with merges.txt, nor {VOCABULARY}; expected a '
        'tokenizer. Put it there, or set `tokenizer` to a folder that has one, or to such a file.'
    )


def _merges(path: pathlib.Path) -> tuple[tokenizers.Tokenizer, bytes]:
    """The tokenizer of OpenAI's vocabulary: one line of version, then a merge a line."""
    read_bytes(path, _LIMIT, VOCABULARY, DataError)  # no pipe, and not too long
    try:
        with gzip.open(path) as file:
            content = file.read(_LIMIT + 1)
        if len(content) > _LIMIT:
            raise ValueError(f'unpacked it has more than {_LIMIT:,} bytes')
        lines = content.decode().split('\n', 1 + _MERGES)[1 : 1 + _MERGES]
        merges = [tuple(line.split()) for line in lines if line.strip()]
        if not merges or any(len(merge) != 2 for merge in merges):
            raise ValueError('a line is not two symbols')
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        symbols = alphabet + [byte + WORD_END for byte in alphabet] + [left + right for left, right in merges]
        ids = {symbol: i for i, symbol in enumerate([*symbols, SOT, EOT])}
        backend = pipeline(models.BPE(vocab=ids, merges=merges, end_of_word_suffix=WORD_END, unk_token=EOT))
        backend.add_special_tokens([SOT, EOT])
        return backend, backend.to_str().encode()
    except BaseException as error:  # gzip, zlib, unicode, and the tokenizers' library, whose panics are no Exception
        raise _unreadable(path, error, f'{VOCABULARY} of OpenAI, IRRA or open_clip') from None


def _vocab_and_merges(folder: pathlib.Path) -> tuple[tokenizers.Tokenizer, bytes]:
    """The tokenizer of Hugging Face's two files, as transformers' CLIPTokenizer makes it."""
    path = folder / 'vocab.json'
    ids = read_object(path, 'a vocabulary of texts to ids', _LIMIT, DataError)
    lines = read_bytes(folder / 'merges.txt', _LIMIT, 'a merge a line', DataError)
    try:
        rows = [line for line in lines.decode().split('\n') if line and not line.startswith('#version')]
        merges = [tuple(row.split(' ')) for row in rows]
        _check_model({'vocab': ids, 'merges': [list(merge) for merge in merges]})
        words = dict(continuing_subword_prefix='', end_of_word_suffix=WORD_END, unk_token=EOT)
        backend = pipeline(models.BPE(vocab=ids, merges=merges, **words))
        backend.add_special_tokens([SOT, EOT])
        backend.post_processor = between_ends(backend)
        return backend, backend.to_str().encode()
    except BaseException as error:  # unicode, and the tokenizers' library, whose panics are no Exception
        raise _unreadable(path, error, 'a vocabulary beside its merges.txt') from None


def _parse(path: pathlib.Path) -> tuple[tokenizers.Tokenizer, bytes]:
    content = read_bytes(path, _LIMIT, _EXPECTED, DataError)
    # an empty list costs thirty times its text
    if content.count(b'[') + content.count(b'{') > len(content) // 8 + 1000:
        raise _unreadable(path, ValueError('more lists than a vocabulary has'), _EXPECTED)
    try:
        _check(parse_object(content, str(path), _EXPECTED, DataError))
        return tokenizers.Tokenizer.from_str(content.decode()), content
    except BaseException as error:  # the library raises bare Exception, and its panics are none
        raise _unreadable(path, error, _EXPECTED) from None


def _unreadable(path: pathlib.Path, error: BaseException, expected: str) -> DataError:
    """What to tell; errors that are a message already, and interrupts, are raised as they are."""
    if isinstance(error, DataError | KeyboardInterrupt | SystemExit):
        raise error
    return DataError(
        f'{path}: found a file that cannot be read ({str(error)[:300] or type(error).__name__}); expected {expected}. '
        'Fetch it again, or change `tokenizer`.'
    )


def _check(content: dict[str, Any]) -> None:
    """Raise ValueError unless it is a vocabulary that takes no longer than its text."""
    _check_model(content.get('model'))
    added = content.get('added_tokens') or []
    if not isinstance(added, list) or len(added) > _ADDED:
        raise ValueError(f'added_tokens is {brief(added)}')
    for token in added:
        if not isinstance(token, dict) or not integers([token.get('id')], 1, 0, _IDS):
            raise ValueError('an added token without an id')
        if not isinstance(token.get('content'), str) or not 0 < len(token['content']) <= 200:
            raise ValueError(f'an added token {brief(token.get("content"))}')
    waiting, growth = [content.get(part) for part in ('normalizer', 'pre_tokenizer', 'post_processor')], 1
    while waiting:
        part = waiting.pop()
        inside = part if isinstance(part, list) else part.values() if isinstance(part, dict) else ()
        waiting += [one for one in inside if isinstance(one, list | dict)]
        growth *= _growth(part) if isinstance(part, dict) else 1
        if growth > _LONGER:
            raise ValueError(f'its parts may make a text more than {_LONGER} times as long')
        pattern = part.get('Regex', '') if isinstance(part, dict) else ''
        if not isinstance(pattern, str) or not _is_fast(pattern):
            raise ValueError(f'the pattern {brief(pattern)} may take for ever')


def _check_model(model: Any) -> None:
    if not isinstance(model, dict) or model.get('type', 'BPE') != 'BPE' or model.get('dropout'):
        raise ValueError("its model is no byte-pair encoding as CLIP's")
    ids, merges = model.get('vocab'), model.get('merges')
    if not isinstance(ids, dict) or not integers(list(ids.values()), None, 0, _IDS):
        raise ValueError('its vocabulary is not of texts to ids')
    if not isinstance(merges, list) or not all(
        isinstance(merge, str)
        or (isinstance(merge, list) and len(merge) == 2 and all(isinstance(one, str) for one in merge))
        for merge in merges
    ):
        raise ValueError('its merges are not pairs of texts')


def _growth(part: dict[str, Any]) -> int:
    """How many times as long as before a text may be behind a part."""
    kind, single = part.get('type'), part.get('single')
    if kind == 'Precompiled':  # may write anything for a letter
        return 1 + _LONGER
    put = [text for text in (part.get('content'), part.get('prepend')) if isinstance(text, str)]
    times = 2 if kind == 'ByteLevel' else 1
    for text in put:
        times *= 1 + len(text)
    repeated = sum('Sequence' in one for one in single if isinstance(one, dict)) if isinstance(single, list) else 1
    return times * max(1, repeated)


def _is_fast(pattern: str) -> bool:
    """Whether matching takes at most some power of the length: no repeated group, few repetitions in a row."""
    plain = pattern.replace('(?', '(')
    if len(plain) > 500 or re.search(r'\)[*+?{]|\\[1-9kg]', plain):
        return False
    return all(len(re.findall(r'[*+?{]', re.sub(r'\\[pP]\{', '', one))) <= 2 for one in plain.split('|'))


def _from_hub(name: str) -> pathlib.Path:
    """tokenizer.json of a hub name; one that was fetched before needs no network."""
    if not hub.is_name(name):
        raise DataError(
            f"Tokenizer '{name[:200]}': found no such folder or file; expected one with tokenizer.json, or a hub name. "
            f'Change `tokenizer`, or the weights where that is empty.{hub.near(name[:200])}'
        )
    try:
        folder = hub.folder_of(name, hub.TEXT_FILES, DataError)
        found = [place / 'tokenizer.json' for place in (folder, layouts.inner(folder, DataError))]
        found = [path for path in found if path.is_file()]
        return found[0] if found else hub.file_of(f'{hub.SCHEME}{name}/tokenizer.json', DataError)
    except DataError as error:
        raise DataError(f'Tokenizer {error} Change `tokenizer`, or the weights.') from None


def between_ends(tokenizer: tokenizers.Tokenizer) -> processors.RobertaProcessing:
    """What puts SOT and EOT around a text where transformers asks for it."""
    sot, eot = ((token, tokenizer.token_to_id(token)) for token in (SOT, EOT))
    return processors.RobertaProcessing(sep=eot, cls=sot, add_prefix_space=False, trim_offsets=False)


def pipeline(model: models.BPE) -> tokenizers.Tokenizer:
    """CLIP's normalisation and split around a model of byte pairs."""
    tokenizer = tokenizers.Tokenizer(model)
    single = normalizers.Replace(tokenizers.Regex(r'\s+'), ' ')
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), single, normalizers.Lowercase()])
    words = pre_tokenizers.Split(tokenizers.Regex(_SPLIT), behavior='removed', invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
