"""Tokens: CLIP's ids, one EOT at the end, the same as transformers' from the same folder."""

import gzip
import json

import numpy as np
import pytest

from benchmarks.train_tokenizer import train_tokenizer
from lcr2s_jax.errors import DataError
from lcr2s_jax.weights import vocabulary as vocabularies
from lcr2s_jax.weights.tokenizer import Tokenizer, save_tokenizer

CAPTIONS = [
    'A man wearing a red shirt and blue jeans.',
    "The woman's   black handbag,\n in profile; she wears boots",
    'café 中文 🙂 42! \u0301e',
    '',
]
TEXT = [
    'a man wearing a red shirt and blue jeans',
    'the woman wears black boots and carries a handbag',
] * 20


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('clip')
    save_tokenizer(train_tokenizer(TEXT, 550), path, context_length=32)
    return path


@pytest.fixture(scope='module')
def tokenizer(folder):
    return Tokenizer(str(folder))


def test_mask_start_and_end_are_the_last_ids(tokenizer):
    assert (tokenizer.mask_token, tokenizer.sot, tokenizer.eot) == (547, 548, 549)
    assert tokenizer.vocab_size == 550
    assert tokenizer.ordinary == tokenizer.mask_token


def test_every_caption_is_start_words_end_and_zeros(tokenizer):
    tokens_nL = tokenizer.encode(CAPTIONS, 60)
    assert tokens_nL.dtype == np.int32 and tokens_nL.shape == (4, 60)
    for row, length in zip(tokens_nL, tokenizer.lengths(CAPTIONS), strict=True):
        assert row[0] == tokenizer.sot and row[length - 1] == tokenizer.eot
        assert row.argmax() == length - 1
        assert (row[length:] == 0).all()
        assert (row[1 : length - 1] < tokenizer.mask_token).all()


def test_a_long_caption_is_cut_and_still_ends_in_eot(tokenizer):
    whole, cut = tokenizer.encode(CAPTIONS[:1], 60)[0], tokenizer.encode(CAPTIONS[:1], 6)[0]
    np.testing.assert_array_equal(cut[:5], whole[:5])
    assert cut[5] == tokenizer.eot


def test_case_and_white_space_do_not_matter(tokenizer):
    a, b = tokenizer.encode(['A Red   SHIRT', ' a red\tshirt '], 12)
    np.testing.assert_array_equal(a, b)


def test_a_caption_that_spells_the_end_token_does_not_end_there(tokenizer):
    row = tokenizer.encode(['a <|endoftext|> man <|mask|>'], 60)[0]
    assert (row == tokenizer.eot).sum() == 1 and (row == tokenizer.mask_token).sum() == 0


def test_transformers_reads_the_same_ids_from_the_same_folder(folder, tokenizer):
    from transformers import AutoTokenizer, CLIPTokenizer

    ours = tokenizer.encode(CAPTIONS, 20)
    for kind in (CLIPTokenizer, AutoTokenizer):
        theirs = kind.from_pretrained(folder)
        ids = theirs(CAPTIONS, truncation=True, max_length=20)['input_ids']
        assert [row[: row.argmax() + 1].tolist() for row in ours] == ids
        assert theirs.mask_token_id == tokenizer.mask_token


def test_vocab_and_merges_give_the_ids_of_tokenizer_json(folder, tokenizer, tmp_path):
    model = json.loads((folder / 'tokenizer.json').read_text())['model']
    (tmp_path / 'vocab.json').write_text(json.dumps(model['vocab']))
    (tmp_path / 'merges.txt').write_text('\n'.join(['#version: 0.2'] + [' '.join(pair) for pair in model['merges']]))
    np.testing.assert_array_equal(Tokenizer(str(tmp_path)).encode(CAPTIONS, 30), tokenizer.encode(CAPTIONS, 30))


@pytest.fixture(scope='module')
def vocabulary(folder, tmp_path_factory):
    """The merges of the folder's tokenizer in a file laid out like OpenAI's."""
    merges = json.loads((folder / 'tokenizer.json').read_text())['model']['merges']
    path = tmp_path_factory.mktemp('openai') / vocabularies.VOCABULARY
    path.write_bytes(gzip.compress('\n'.join(['"version: 0.2', *map(' '.join, merges), '']).encode()))
    return path


def test_openais_vocabulary_gives_the_ids_of_the_same_merges(tokenizer, vocabulary):
    openais = Tokenizer(str(vocabulary))
    assert openais.vocab_size == 549, 'one less: it has no word for masking'
    assert (openais.sot, openais.eot, openais.mask_token) == (547, 548, 546)
    ours, theirs = (t.encode(CAPTIONS[:3], 60) for t in (tokenizer, openais))
    np.testing.assert_array_equal(np.where(ours > 547, ours - 1, ours), theirs)


def test_openais_vocabulary_is_found_in_a_folder_and_beside_weights(vocabulary):
    weights = vocabulary.parent / 'ViT-B-16.pt'
    weights.write_bytes(b'')
    for name in (vocabulary.parent, weights):
        assert Tokenizer(str(name)).fingerprint == Tokenizer(str(vocabulary)).fingerprint


def test_of_openais_vocabulary_as_many_merges_are_read_as_openai_reads(vocabulary, monkeypatch):
    monkeypatch.setattr(vocabularies, '_MERGES', 5)
    assert Tokenizer(str(vocabulary)).vocab_size == 512 + 5 + 2


def test_weights_without_a_tokenizer_beside_them_say_what_to_set(tmp_path):
    (tmp_path / 'best.pth').write_bytes(b'')
    with pytest.raises(DataError, match='best.pth: found no tokenizer.*Set `tokenizer` to a folder.*that file'):
        Tokenizer(str(tmp_path / 'best.pth'))


@pytest.mark.parametrize(
    'content', [b'', b'PK', gzip.compress(b'version\n', mtime=0), gzip.compress(b'version\na b c\n', mtime=0)]
)
def test_a_spoilt_vocabulary_is_named(tmp_path, content):
    (tmp_path / vocabularies.VOCABULARY).write_bytes(content)
    with pytest.raises(DataError, match='txt.gz: found a file that cannot be read'):
        Tokenizer(str(tmp_path))


def test_a_tokenizer_json_may_be_named_itself(folder, tokenizer):
    assert Tokenizer(str(folder / 'tokenizer.json')).fingerprint == tokenizer.fingerprint


def test_frequent_words_become_one_token(tokenizer):
    assert tokenizer.lengths(['man'])[0] == 3


def test_without_a_mask_token_the_last_ordinary_id_masks(folder, tmp_path):
    content = json.loads((folder / 'tokenizer.json').read_text().replace('<|mask|>', '<|other|>'))
    (tmp_path / 'tokenizer.json').write_text(json.dumps(content))
    assert Tokenizer(str(tmp_path)).mask_token == 547


def test_the_fingerprint_follows_the_vocabulary(folder, tokenizer, tmp_path):
    save_tokenizer(train_tokenizer(TEXT, 540), tmp_path, context_length=32)
    assert Tokenizer(str(tmp_path)).fingerprint != tokenizer.fingerprint
    assert Tokenizer(str(folder)).fingerprint == tokenizer.fingerprint


def test_an_end_token_that_is_not_the_highest_id_is_refused(folder, tmp_path):
    content = json.loads((folder / 'tokenizer.json').read_text())
    content['added_tokens'].append(dict(content['added_tokens'][-1], id=550, content='<|later|>'))
    (tmp_path / 'tokenizer.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match='highest id'):
        Tokenizer(str(tmp_path))


def test_a_folder_without_tokenizer_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(DataError, match='neither tokenizer.json nor'):
        Tokenizer(str(tmp_path))
    (tmp_path / 'tokenizer.json').write_text('{')
    with pytest.raises(DataError, match='cannot be read'):
        Tokenizer(str(tmp_path))


def test_a_name_that_is_neither_folder_nor_on_the_hub_is_named(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(DataError, match="Tokenizer 'no/such'.*`tokenizer`"):
        Tokenizer('no/such')


def test_a_vocabulary_without_room_for_merges_is_refused():
    with pytest.raises(ValueError, match='at least 516'):
        train_tokenizer(TEXT, 515)


class Panic(BaseException):
    """As the tokenizers' library raises: no Exception."""


def test_a_library_that_gives_up_on_a_text_is_told(tokenizer, monkeypatch):
    class Backend:
        def encode_batch_fast(self, *_, **__):
            raise Panic('index out of bounds: the len is 3 but the index is 3')

    monkeypatch.setattr(tokenizer, '_backend', Backend())
    with pytest.raises(DataError, match='cannot take a text apart .index out of bounds.*Fetch it again'):
        tokenizer.encode(['a man'], 12)
