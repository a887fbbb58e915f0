"""python main.py build --config=...: build the dataset that training would build, before it or on other machines."""

import pathlib
import shlex

from ml_collections import ConfigDict

from commands.inputs import dataset_of, starting_encoder


def build(config: ConfigDict, beam: bool, options: str) -> pathlib.Path:
    """Build the dataset of a config where that was not done before.

    Args:
      config: of any file in configs/.
      beam: build with Apache Beam.
      options: of Beam, as they would be typed: its runner and what that asks for.

    Returns:
      The folder.
    """
    from data import people

    given = dataset_of(config, starting_encoder(config))
    return people.build(*given, beam=shlex.split(options) if beam else None)
