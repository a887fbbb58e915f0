"""python main.py build --config=...: build the dataset that training would build, before it or on other machines."""

import pathlib
import shlex

from ml_collections import ConfigDict

from commands.inputs import starting_encoder


def build(config: ConfigDict, beam: bool, options: str) -> pathlib.Path:
    """Build the dataset of a config where that was not done before.

    Args:
      config: of any file in configs/.
      beam: build with Apache Beam.
      options: of Beam, as they would be typed: its runner and what that asks for.

    Returns:
      The folder.
    """
    from data import people, sources

    encoder, data = starting_encoder(config), config.data.to_dict()
    cache = data.pop('cache')
    del data['in_memory']
    given = sources.open_source(**data), encoder.tokenizer, encoder.clip.context_length, cache
    return people.build(*given, beam=shlex.split(options) if beam else None)
