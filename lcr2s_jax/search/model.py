"""The model of an index: opened, or written there first. Vectors of two models are never compared."""

import pathlib

from lcr2s_jax import files, images
from lcr2s_jax import model as models
from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.model import Model
from lcr2s_jax.search import storage, writing
from lcr2s_jax.weights import manifest


def open_model(uri: str, new: Model | None = None) -> Model:
    """The index's model, written there first where there is none yet.

    Raises SearchError where the index has another model or its pictures were made ready otherwise than here,
    ConfigError where it has none and no new one is given.
    """
    there = storage.model_folder(uri)
    if new is None:
        if there is None and (pathlib.Path(uri) / 'images.lance').is_dir():
            raise SearchError(storage.missing(uri))
        if there is None:
            raise ConfigError(f'{uri}: found no index there yet; --weights=... or --workdir=... says what shall embed')
        return _of_this_recipe(uri, models.open_model(there))
    if there is None:
        with writing.alone(uri):
            if storage.model_folder(uri) is None:  # another call may have been faster
                storage.put_model(uri, new.save)
        there = storage.model_folder(uri)
    found = models.open_model(there)
    _refuse_another(uri, new, found.hash)
    if found.calibration is None and new.calibration is not None:
        _add_calibration(uri, there, new)
        found = models.open_model(storage.model_folder(uri))
    return found


def _add_calibration(uri: str, folder: pathlib.Path, new: Model) -> None:
    content = models.calibration_file(new.calibration)
    facts = manifest.seal(models.read_facts(folder), {models.CALIBRATION: content})
    storage.write(uri, f'{storage.MODEL}/{models.CALIBRATION}', content)  # it counts once the model says so
    storage.write(uri, f'{storage.MODEL}/{models.FILE}', files.to_json(facts).encode())


def _of_this_recipe(uri: str, found: Model) -> Model:
    recipe = found.facts['preprocessing']['recipe']
    if recipe != images.RECIPE:
        raise SearchError(
            f"{uri}: found pictures made by '{recipe}', expected '{images.RECIPE}': vectors of new ones could not be "
            'compared. Index the folder again into another --index.'
        )
    return found


def _refuse_another(uri: str, new: Model, there: str) -> None:
    if there != new.hash:
        name = next(iter(new.origin.values()), 'the model')
        raise SearchError(
            f'{uri} was made with another model, preprocessing or tokenizer: {there[:16]} there, {new.hash[:16]} of '
            f"{name}. Their vectors cannot be compared: choose another --index, or that model's --weights or --workdir."
        )
