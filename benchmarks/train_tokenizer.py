"""Trains a small tokenizer laid out like CLIP's; `benchmarks.demo_clip` makes that of the demo's CLIP so."""

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from lcr2s_jax.weights import vocabulary
from lcr2s_jax.weights.vocabulary import EOT, MASK, SOT, WORD_END


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Train a BPE laid out like CLIP's: 256 bytes, 256 word ends, merges, then MASK, SOT and EOT.

    `vocab_size` is 516 or more; fewer ids come out where the text has no more pairs to merge.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = alphabet + [byte + WORD_END for byte in alphabet]
    special = [MASK, SOT, EOT]
    room = vocab_size - len(symbols) - len(special)
    if room < 1:
        raise ValueError(f'found vocab_size={vocab_size}, expected at least {len(symbols) + len(special) + 1}')
    learner = vocabulary.pipeline(models.BPE(end_of_word_suffix=WORD_END))
    how = dict(initial_alphabet=alphabet, end_of_word_suffix=WORD_END, show_progress=False)
    learner.train_from_iterator(captions, trainers.BpeTrainer(vocab_size=vocab_size, **how))
    merges, words = [], dict.fromkeys(symbols)
    for left, right in json.loads(learner.to_str())['model']['merges']:  # most frequent first
        if len(words) == len(symbols) + room and left + right not in words:
            break
        words[left + right] = None  # two merges may make one word
        merges.append((left, right))
    ids = {word: i for i, word in enumerate([*words, *special])}
    model = models.BPE(vocab=ids, merges=merges, end_of_word_suffix=WORD_END, unk_token=EOT)
    tokenizer = vocabulary.pipeline(model)
    tokenizer.add_special_tokens(special)
    return tokenizer
