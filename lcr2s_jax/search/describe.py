"""What is in an index: its model, its pictures, its columns; and which rows a path names."""

import difflib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lcr2s_jax import model as models
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import storage, tables
from lcr2s_jax.search.gallery import OK, Gallery
from lcr2s_jax.search.rows import ENRICHED

_EXAMPLES = 3  # values of a column


def describe(uri: str) -> dict[str, Any]:
    """Everything that `lcr2s info` tells of an index, as JSON has it. Raises SearchError."""
    return tables.lasting(lambda: _described(uri, Gallery(uri)))


def _described(uri: str, gallery: Gallery) -> dict[str, Any]:
    rows = gallery.rows('', ['root', 'status', *gallery.columns])
    status = rows['status'].to_pylist()
    usable = rows.filter(np.array([one == OK for one in status], bool))  # an empty list has no type
    return {
        'index': uri,
        'bytes': _size(uri),
        'version': gallery.version,
        'approximate': gallery.approximate,
        'enriched': _enriched(gallery),
        'model': _model(uri),
        'pictures': usable.num_rows,
        'unusable': len(status) - usable.num_rows,
        'roots': _counts(usable['root']),
        'columns': {
            name: {'type': kind, 'examples': _examples(usable[name])} for name, kind in gallery.columns.items()
        },
    }


def rows_of(uri: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """(root, path) of the rows that paths name, as `search` shows them or as files of this disk. Raises SearchError."""
    found = tables.lasting(lambda: Gallery(uri).rows('', ['root', 'path']))
    rows = list(zip(found['root'].to_pylist(), found['path'].to_pylist(), strict=True))
    by_place = {os.path.join(storage.located(uri, root), path): (root, path) for root, path in rows}
    known, chosen = {path for _, path in rows}, []
    for path in paths:
        place = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if place in by_place:
            chosen.append(by_place[place])
        elif path in known:
            chosen += [row for row in rows if row[1] == path]
        else:
            folded = {one.casefold(): one for one in sorted(known)}
            near = [folded[one] for one in difflib.get_close_matches(path.casefold(), folded, n=1)]
            raise SearchError(
                f'--path: found no picture {path!r} in {uri}; expected a path as `search` shows it'
                + (f', such as {near[0]!r}' if near else '')
            )
    return chosen


def _enriched(gallery: Gallery) -> dict | None:
    state = gallery.enriched
    if state is None:
        return None
    told = {'how': state.how, 'neighbours': state.neighbours, 'in_words': str(state)}
    return told | {'up_to_date': gallery.compared == ENRICHED}


def _model(uri: str) -> dict | None:
    folder = storage.model_folder(uri)
    if folder is None:
        return None

    model = models.open_model(folder)
    return {
        'hash': model.hash,
        'image_size': list(model.image_size),
        'numbers': model.clip.embed_dim,
        'context_length': model.clip.context_length,
        'origin': model.origin,
        'trained_on': model.trained_on,
        'calibrated': model.calibration is not None,
    }


def _size(uri: str) -> int | None:
    """Bytes of all files of an index; None on an object store."""
    if storage.is_remote(uri):
        return None
    return sum(file.stat().st_size for file in pathlib.Path(uri).rglob('*') if file.is_file())


def _counts(column) -> dict[str, int]:
    counted = column.value_counts().to_pylist()
    return {one['values']: one['counts'] for one in sorted(counted, key=lambda one: -one['counts'])}


def _examples(column) -> list:
    """The most frequent values."""
    counted = column.drop_null().value_counts().to_pylist()
    return [one['values'] for one in sorted(counted, key=lambda one: (-one['counts'], str(one['values'])))[:_EXAMPLES]]
