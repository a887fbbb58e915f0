"""An index is made and brought up to date: only what is new or changed is embedded.

Killed at any moment, the same call goes on from the last commit.
"""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from lcr2s_jax import images
from lcr2s_jax import model as model_files
from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.files import storable
from lcr2s_jax.model import Model
from lcr2s_jax.progress import QUIET, Progress
from lcr2s_jax.search import approximate, columns, folder, ingest, metadata, repair, retention, storage, writing
from lcr2s_jax.search.gallery import OWN, Gallery
from lcr2s_jax.search.search import Search
from lcr2s_jax.training import parallel


def open_index(uri: str) -> Search:
    """An index, ready for queries.

    Raises:
      ConfigError: there is none. SearchError: it cannot be read.
    """
    model_folder = storage.model_folder(uri)
    if model_folder is None:
        raise ConfigError(
            f'--index: found no index at {uri}; make one: python main.py index --workdir=... --images=... --index={uri}'
        )
    opened = model_files.open_model(model_folder)
    return Search(Gallery(uri), opened, opened.tokenizer)


def embed_picture(model, encoded: bytes, name: str) -> np.ndarray:
    """The vector [E] of one example picture, decoded as indexed ones are.

    Args:
      model: of the index.
      encoded: the file's bytes.
      name: that the user knows it by.

    Raises:
      SearchError: it cannot be used.
    """
    try:
        return model.embed_image(images.pixels(encoded, model.image_size)[None])[0]
    except images.PictureError as fault:
        raise SearchError(f'--like: {name} cannot be used: {fault}') from None


def bring_up_to_date(
    uri: str,
    model: Model,
    images: str | None = None,
    *,
    table: str | None = None,
    prune: bool = False,
    readmit: bool = False,
    videos: Callable[[Gallery], list[dict]] | None = None,
    progress: Progress = QUIET,
) -> dict:
    """Bring an index up to date with a folder, with videos, or both.

    Args:
      uri: folder, or URL of an object store; made where there is none.
      model: of the index, from `open_model`.
      images: the folder; all pictures below it.
      table: a CSV file with a column `path` and others that come beside the pictures.
      prune: forget rows whose file is gone.
      readmit: take pictures that were deleted or expired, too.
      videos: brings the videos' tracks into the gallery, such as `lcr2s_jax.video.update.update` with all but the
        gallery given.
      progress: is told.

    Returns:
      Counts of what was done, see `update` and `join`.

    Raises:
      UserError: what was found, what was expected, what to change.
    """
    root = check(uri, images, table)
    if parallel.is_primary():
        with writing.alone(uri):
            gallery = Gallery(uri, model.clip.embed_dim)  # makes the table
        repair.own(gallery)
        repair.doubles(gallery)
    parallel.wait_for_all('the table is there')
    gallery = Gallery(uri, model.clip.embed_dim)
    joined, before = metadata.read(table, gallery.columns, OWN) if table else None, gallery.version
    told = update(gallery, model, root, prune=prune, readmit=readmit, progress=progress) if root else {}
    if videos:
        told['videos'] = videos(gallery)
    if not parallel.is_primary():
        return told
    if joined:
        told |= join(gallery, root, *joined)
    if gallery.version != before:
        gallery.tidy()
    if gallery.count() >= approximate.FROM and not gallery.approximate:  # later rows are added to it by tidy
        approximate.build(gallery)
    return told | {'index': uri, 'model': model.hash, 'pictures': gallery.count()}


def check(uri: str, images: str | None, table: str | None) -> pathlib.Path | None:
    """The resolved folder of pictures. Raises for mistakes that should not cost the time of embedding."""
    root = images and pathlib.Path(images).resolve()
    if not storage.is_remote(uri) and pathlib.Path(uri).exists() and not pathlib.Path(uri).is_dir():
        raise ConfigError(f'--index: found the file {uri}, expected a folder, or a place where one can be made')
    if root and not root.is_dir():
        raise ConfigError(f'--images: found no folder {root}; expected one with pictures below it')
    if root and not storable(str(root)):
        raise ConfigError(f'--images: found {str(root)!r}, a name that is no UTF-8; rename the folder')
    if table:
        columns.check(metadata.read(table, {}, OWN)[0])
    return root


def join(gallery: Gallery, root: pathlib.Path, kinds: dict, values: dict) -> dict:
    """Put a table's columns beside the pictures of a root; counts of what was done."""
    key = storage.stored(gallery.uri, root)
    changed = columns.join(gallery, key, kinds, values)
    strange = sorted(values.keys() - gallery.known(key).keys())
    return {'metadata': {'changed': changed, 'without_picture': strange}}


def open_model(uri: str, new: Model | None = None) -> Model:
    """The index's model, written there first where there is none yet.

    Raises:
      SearchError: the index has another model, or its pictures were made ready otherwise than is done here.
      ConfigError: it has none, and no new one is given.
    """
    there = storage.model_folder(uri)
    if new is None:
        if there is None:
            raise ConfigError(f'{uri}: found no index there yet; --weights=... or --workdir=... says what shall embed')
        return _of_this_recipe(uri, model_files.open_model(there))
    if there is not None:
        found = model_files.open_model(there)
        _refuse_another(uri, new, found.hash)
        if found.calibration is None and new.calibration is not None and parallel.is_primary():
            storage.add_file(uri, model_files.CALIBRATION, model_files.calibration_file(new.calibration))
        parallel.wait_for_all('the calibration is there')
        return model_files.open_model(storage.model_folder(uri))
    parallel.wait_for_all('the index was looked at')
    if parallel.is_primary():
        with writing.alone(uri):
            if storage.model_folder(uri) is None:  # another call may have been faster
                storage.put_model(uri, new.save)
    parallel.wait_for_all('the model is there')
    made = model_files.open_model(storage.model_folder(uri))
    _refuse_another(uri, new, made.hash)
    return made


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


def update(
    gallery: Gallery,
    model: Model,
    root: pathlib.Path,
    *,
    prune: bool = False,
    readmit: bool = False,
    progress: Progress = QUIET,
) -> dict:
    """Embed and commit what is new or changed below `root`, this host's share of it; counts of what was done.

    See `bring_up_to_date` for the arguments.
    """
    key = storage.stored(gallery.uri, root)
    with gallery.writing():
        known = gallery.known(key)
    found, faults = folder.walk(root)
    own = _own_folders(gallery.uri, root)
    files = [file for file in found if not any((root / file.path).is_relative_to(one) for one in own)]
    if prune and known and not files:
        raise SearchError(
            f'--prune: found no picture at all below {root}, and {len(known):,} rows to forget. Is the disk there? To '
            'forget them all the same use `delete`.'
        )
    new = [file for file in files if file.path not in known]
    changed = [file for file in files if file.path in known and known[file.path][:2] != file[1:]]
    gone = known.keys() - {file.path for file in files}
    # what could not be looked at may be there
    gone = sorted(path for path in gone if faults.keys().isdisjoint((path, *map(str, pathlib.PurePath(path).parents))))
    told = {'root': str(root), 'files': len(files), 'new': len(new), 'changed': len(changed)}
    told['unchanged'] = len(files) - len(new) - len(changed)
    parallel.wait_for_all('all hosts have compared')
    mine, more = slice(jax.process_index(), None, jax.process_count()), dict(readmit=readmit, progress=progress)
    done = [add(gallery, model, root, some[mine], new=some is new, **more) for some in (changed, new)]
    told |= {name: sum(one[name] for one in done) for name in ('embedded', 'copied', 'kept_out')}
    told['unusable'] = faults | {path: why for one in done for path, why in one['unusable']}
    parallel.wait_for_all('all hosts have committed')
    gallery.refresh()
    if prune and gone and parallel.is_primary():
        with gallery.writing():
            gallery.drop(key, gone)
            retention.erase(gallery)
    return told | {'gone': len(gone), 'pruned': len(gone) * prune}


def _own_folders(uri: str, root: pathlib.Path) -> list[pathlib.Path]:
    """Folders below a root, or the root itself, whose pictures the index knows by roots of its own."""
    tracks, uploads = storage.tracks_folder(uri), storage.uploads(uri)
    own = [tracks] if root == uploads else [tracks, uploads]  # uploads may be indexed as they are, crops only as tracks
    return [one for one in own if one and (one.is_relative_to(root) or root.is_relative_to(one))]


def add(
    gallery: Gallery,
    model: Model,
    root: pathlib.Path,
    files: Sequence[folder.File],
    *,
    new: bool,
    readmit: bool = False,
    progress: Progress = QUIET,
) -> dict:
    """Embed and commit some files of a root, less those that were deleted from the index once.

    Args:
      gallery, model: of the index.
      root: resolved.
      files: below it.
      new: none of them has a row yet.
      readmit: also those that were deleted.
      progress: is told.

    Returns:
      embedded, copied, kept_out: how many; unusable: [(path, why)].
    """
    if not files:
        return ingest.Done(0, 0, [])._asdict() | {'kept_out': 0}
    with gallery.writing():
        there, forgotten = gallery.hashes(), set() if readmit else retention.forgotten(gallery)
    key = storage.stored(gallery.uri, root)
    known_by = {file: retention.key('file', key, *file) for file in files}
    left = [file for file in files if known_by[file] not in forgotten]
    met, taken = [], []  # deleted pictures under another name: by bytes, which takes reading them

    def admitted() -> Iterator[folder.Picture]:
        for one in folder.read(left, root, model.image_size, lambda sha: sha not in there):
            if retention.key('bytes', one.sha256) in forgotten:
                met.append(one.file)
            else:
                taken.extend([retention.key('bytes', one.sha256)] * readmit)
                yield one

    with progress.counting('pictures', len(left)) as tell:
        done = ingest.ingest(gallery, model, key, admitted(), new=new, tell=tell)
    if readmit:
        retention.readmit(gallery, [*known_by.values(), *taken])
    retention.remember(gallery, [known_by[file] for file in met])  # so that the next call need not read them
    if not new:
        gallery.drop(key, [file.path for file in met])
    return done._asdict() | {'kept_out': len(files) - len(left) + len(met)}


def add_files(gallery: Gallery, model: Model, root: pathlib.Path, paths: Sequence[str]) -> None:
    """Embed and commit files of a root that have no row yet, by their paths below it."""
    add(gallery, model, root, [folder.look(root, root / path) for path in paths], new=True)
