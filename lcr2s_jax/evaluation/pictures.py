"""How well a model ranks pictures that a table describes: a CSV file with the columns image, caption and id."""

import csv
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import DataError
from lcr2s_jax.evaluation import evaluate as evaluation
from lcr2s_jax.images import PictureError
from lcr2s_jax.model import Model

COLUMNS = ('image', 'caption', 'id')


class Pictures(NamedTuple):
    """Pictures, whose they are, their captions, and whose those are."""

    files: list[pathlib.Path]
    image_pid_G: np.ndarray
    captions: list[str]
    text_pid_Q: np.ndarray


def read(file: str, images: str) -> Pictures:
    """Read a table: a row a caption; a picture may have several rows."""
    try:
        with pathlib.Path(file).open(encoding='utf-8-sig', newline='') as lines:
            reader = csv.DictReader(lines, strict=True)
            rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f'--table: {file} cannot be read ({error}); expected a CSV file in UTF-8') from None
    if missing := [name for name in COLUMNS if name not in names]:
        raise DataError(f'--table: {file}: found the columns {names}, expected {", ".join(missing)} too')
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        raise DataError(f'--table: {file}: found the column {twice[0]} more than once in {names}, expected it once')
    rows = [row for row in rows if any((row[name] or '').strip() for name in COLUMNS)]
    if not rows:
        raise DataError(f'--table: {file}: found no row, expected one for each caption')
    people, whose = {}, {}
    for row in rows:
        if not all((row[name] or '').strip() for name in COLUMNS):
            raise DataError(
                f'--table: {file}: found the row {dict(row)} with an empty cell, expected image, caption, id'
            )
        person = people.setdefault(row['id'].strip(), len(people))  # as training reads it
        if whose.setdefault(row['image'], person) != person:
            raise DataError(f'--table: {file}: found the picture {row["image"]} of two ids, expected one')
    return Pictures(
        [pathlib.Path(images) / name for name in whose],
        np.array(list(whose.values())),
        [row['caption'] for row in rows],
        np.array([people[row['id'].strip()] for row in rows]),
    )


def evaluate(model: Model, pictures: Pictures, enriched: Mapping | None = None, near: Model | None = None) -> dict:
    """Embed everything and rank it both ways: t2i, i2t of `metrics.retrieval`, how many, gallery_side if asked for.

    `enriched` are further arguments of `evaluate.gallery_side`, `near` the model by which neighbours are found; None
    for the first. Raises DataError: a picture that cannot be used, named.
    """
    try:
        image_GE = model.encode_image(pictures.files)
    except PictureError as error:
        raise DataError(f'--images: {error}') from None
    image_view_G = np.arange(len(image_GE))
    pids = pictures.image_pid_G, pictures.text_pid_Q
    e = Embeddings(image_GE, model.encode_text(pictures.captions), *pids, image_view_G, None)
    told = evaluation.retrieval_metrics(e)
    if enriched:
        near_GE = near.encode_image(pictures.files) if near else None
        told['gallery_side'] = evaluation.gallery_side(e, **enriched, near_GE=near_GE)
    return told | {
        'images': len(pictures.files),
        'captions': len(pictures.captions),
        'people': int(pictures.text_pid_Q.max()) + 1,
    }
