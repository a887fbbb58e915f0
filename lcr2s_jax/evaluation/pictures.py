"""How well a model ranks pictures that a table describes: a CSV file with the columns image, caption and id."""

import csv
import io
import os
import pathlib
import posixpath
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.errors import BadRow, DataError, RowsError, each
from lcr2s_jax.evaluation import evaluate as evaluation
from lcr2s_jax.images import PictureError
from lcr2s_jax.model import Model
from lcr2s_jax.texts import counted, read_text, separator
from lcr2s_jax.texts import near as near_of

COLUMNS = ('image', 'caption', 'id')


class Pictures(NamedTuple):
    """Pictures, whose they are, their captions, and whose those are."""

    files: list[pathlib.Path]
    image_pid_G: np.ndarray
    captions: list[str]
    text_pid_Q: np.ndarray


def read(file: str, images: str) -> Pictures:
    """Read a table: a row a caption; a picture may have several rows. Raises DataError, RowsError for bad rows."""
    where, text = f'--table: {file}', read_text(file, '--table')
    # strict, or a quotation mark that is never closed swallows the rest of the table
    reader = csv.DictReader(io.StringIO(text, newline=''), skipinitialspace=True, strict=True)
    try:
        names, lines = list(reader.fieldnames or ()), [(f'line {reader.line_num}', row) for row in reader]
    except csv.Error as error:
        raise DataError(f'{where} cannot be read ({error}); expected a CSV file, its quotation marks closed') from None
    if any(names.count(name) != 1 for name in COLUMNS):
        found, other = [name[:60] for name in names[:10]], separator(names)
        change = f'; put commas between the cells, not {other}' if other else ''
        raise DataError(f'{where}: found the columns {found}, expected {", ".join(COLUMNS)} once each{change}')
    rows, faults = each(((at, row) for at, row in lines if any(map(_said, row.values()))), _row)
    if faults:
        raise RowsError(where, faults)
    if not rows:
        raise DataError(f'{where}: found no row, expected one for each caption')
    people, whose = {}, {}
    for image, _, person in rows:
        number = people.setdefault(person, len(people))
        if whose.setdefault(image, number) != number:
            raise DataError(f'{where}: found the picture {image} of two ids, expected one')
    return Pictures(
        [pathlib.Path(images) / name for name in whose],
        np.array(list(whose.values())),
        [caption for _, caption, _ in rows],
        np.array([people[person] for *_, person in rows]),
    )


def _said(cell: str | list | None) -> bool:
    return bool(cell.strip() if isinstance(cell, str) else cell)


def _row(at: str, row: Mapping) -> tuple[str, str, str]:
    """Image, one spelling of its path; caption; id, as training reads it. Raises BadRow."""
    if None in row:
        raise BadRow('found more cells than names of columns; put a caption that has commas in quotation marks')
    if empty := [name for name in COLUMNS if not _said(row[name])]:
        raise BadRow(f'found an empty cell as {empty[0]}, expected {", ".join(COLUMNS)}')
    return posixpath.normpath(row['image'].strip().replace('\\', '/')), row['caption'], row['id'].strip()


def evaluate(model: Model, pictures: Pictures, enriched: Mapping | None = None, near: Model | None = None) -> dict:
    """Embed everything and rank it both ways: t2i, i2t of `metrics.retrieval`, how many, gallery_side if asked for.

    `enriched` are further arguments of `evaluate.gallery_side`, `near` the model by which neighbours are found; None
    for the first. Raises DataError: a picture that cannot be used, named.
    """
    if gone := [path for path in pictures.files if not os.path.lexists(path)]:
        raise DataError(
            f'--images: found {counted(len(gone), "picture")} of the table missing, expected all of '
            f'{len(pictures.files):,}; the first is {gone[0]}{near_of(gone[0])}'
        )
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
