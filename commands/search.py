"""python main.py search --index=I "a woman in a red coat": the pictures of an index, ranked by a sentence."""

import json
import pathlib
import sys

from lcr2s_jax.errors import ConfigError


def open_search(uri: str):
    """An index, ready for queries: `lcr2s_jax.retrieval.search.Search`. Needs neither workdir nor TensorFlow."""
    from data import tokens
    from lcr2s_jax.retrieval import gallery, place, search, searcher

    folder = place.model_folder(uri)
    if folder is None:
        raise ConfigError(f'{uri}: found no index; make one with `python main.py index --workdir=... --images=... --index={uri}`')
    model = searcher.Searcher(folder)
    return search.Search(gallery.Gallery(uri), model, tokens.Tokenizer(str(folder)))


def search(uri: str, sentences: list[str], top: int, where: str, as_json: bool) -> int:
    """Search and print."""
    from lcr2s_jax.retrieval.query import Query

    found = open_search(uri)([Query((s,)) for s in sentences], top=top, where=where, false_alarms=0.05)
    for answer in found:
        for hit in answer.hits:
            print(hit)
    return 0
