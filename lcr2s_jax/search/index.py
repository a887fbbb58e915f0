"""An index is made and brought up to date: only what is new or changed is embedded.

Killed at any moment, the same call goes on from the last commit.
"""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from lcr2s_jax import files, images
from lcr2s_jax import model as model_files
from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.model import Model
from lcr2s_jax.progress import QUIET, Progress
from lcr2s_jax.search import approximate, columns, enrich, folder, ingest, metadata, moved, repair, retention, storage
from lcr2s_jax.search.calibration import Calibration
from lcr2s_jax.search.gallery import OWN, Gallery
from lcr2s_jax.search.likeness import outside
from lcr2s_jax.search.name_pattern import NamePattern
from lcr2s_jax.search.search import Search
from lcr2s_jax.texts import counted

Engine = Callable[[Gallery, Model, ingest.Work, Callable[[int], None]], ingest.Done]


def open_search(uri: str) -> Search:
    """An index, ready for queries. Raises SearchError: nothing there, or it cannot be read."""
    folder = storage.model_folder(uri)
    if folder is None:
        raise SearchError(storage.missing(uri))
    gallery, opened = Gallery(uri), model_files.open_model(folder)
    return Search(gallery, opened, opened.tokenizer)


def embed_picture(model, encoded: bytes, name: str) -> np.ndarray:
    """The vector [E] of a picture that messages call `name`, decoded as indexed ones are. Raises SearchError."""
    try:
        return model.embed_image(images.pixels(encoded, model.image_size)[None])[0]
    except images.PictureError as fault:
        raise SearchError(f'--like: {name} cannot be used: {fault}') from None


def bring_up_to_date(
    uri: str,
    model: Model,
    images: str | None = None,
    *,
    table: str | metadata.Table | None = None,
    name_pattern: str = '',
    moved_from: str = '',
    prune: bool = False,
    readmit: bool = False,
    videos: Callable[[Gallery], list[dict]] | None = None,
    enriched: Callable[[Gallery], None] | None = None,
    progress: Progress = QUIET,
    engine: Engine = ingest.here,
) -> dict:
    """Bring an index up to date with a folder, with videos, or both; and its enriched vectors, where it has any.

    Args:
      uri: folder, or URL of an object store; made where there is none.
      model: of the index, from `lcr2s_jax.search.model.open_model`.
      images: the folder, or the URL of one in an object store; all pictures below it.
      table: a CSV file with a column `path` and others that come beside the pictures, or such a file that was read.
      name_pattern: see `lcr2s_jax.search.name_pattern`; columns out of the pictures' names.
      moved_from: a folder whose pictures lie in `images` now; their rows are taken over.
      prune: forget rows whose file is gone; rows of another folder that is gone are taken over as by `moved_from`.
      readmit: take pictures that were deleted or expired, too.
      videos: brings tracks into the gallery, such as `lcr2s_jax.video.update.update` with all but the gallery given.
      enriched: `enrich.choose` with all but the gallery given; None leaves how vectors are enriched as it is.
      engine: embeds and commits: this process, or the workers of `lcr2s_jax.search.cluster`.

    Returns counts of what was done, see `update` and `join`. Raises UserError.
    """
    table = metadata.Table(table, OWN) if isinstance(table, str) else table
    root = check(uri, images, table, name_pattern)
    pattern = NamePattern(name_pattern, OWN) if name_pattern else None
    gallery = _whole(uri, model)
    columns.check([*(table.columns if table else ()), *(pattern.columns if pattern else ())], gallery.columns)
    joined, before = table.typed(gallery.columns) if table else None, gallery.version
    told: dict = {}
    if root:
        told |= moved.take_over(gallery, root, moved_from, prune)
        more = dict(pattern=pattern, prune=prune, readmit=readmit, progress=progress, engine=engine)
        told |= update(gallery, model, root, **more)
        moved.take_over_by_bytes(gallery, root, told, moved_from, prune)
    if videos:
        told['videos'] = videos(gallery)
    if joined:
        told |= {'metadata': join(gallery, root, *joined)}
    if pattern:
        told |= {'name_pattern': _join_names(gallery, root, pattern)}
    _make_ready(gallery, changed=gallery.version != before)
    told |= enrich.bring_up_to_date(gallery, enriched, progress)
    told |= {'index': uri, 'model': model.hash, 'trained_on': model.trained_on, 'pictures': gallery.count()}
    return told | _likeness(gallery, model.calibration)


def _whole(uri: str, model: Model) -> Gallery:
    """The gallery of a model; made where there is none, mended where a call was killed."""
    gallery = Gallery(uri, model.clip.embed_dim)
    repair.own(gallery)
    repair.doubles(gallery)
    repair.vectors(gallery)
    gallery.bind(model.hash)
    return gallery


def _make_ready(gallery: Gallery, changed: bool) -> None:
    if changed:
        gallery.tidy()
    if gallery.count() >= approximate.FROM and not gallery.approximate:  # later rows are added to it by tidy
        approximate.build(gallery)


def _likeness(gallery: Gallery, fitted: Calibration | None) -> dict:
    """Whether the pictures are of the kind that the model was calibrated on."""
    unlike = outside(gallery, fitted)
    if unlike is None or not len(unlike):
        return {'calibrated': fitted is not None}
    share, foreign = round(float(np.mean(unlike)), 3), fitted.domain.foreign(unlike)
    return {'outside': share, 'foreign': foreign, 'calibrated': True}


def check(
    uri: str, images: str | None, table: metadata.Table | None = None, name_pattern: str = ''
) -> folder.Root | None:
    """The resolved folder of pictures, or its URL. Raises for mistakes that should not cost the time of embedding."""
    storage.check_place(uri)
    if not storage.is_remote(uri):
        files.check_writable(pathlib.Path(uri) / storage.MODEL, '--index')
    root = images and (images.rstrip('/') if storage.is_remote(images) else pathlib.Path(images).resolve())
    if root:
        folder.check(root)
    named = NamePattern(name_pattern, OWN).columns if name_pattern else []
    if table:
        table.check()
        columns.check(table.columns)
        if twice := [name for name in named if name in table.columns]:
            raise ConfigError(f'--name-pattern: found the column {twice[0]}, which --metadata has too; choose one')
    return root


def join(gallery: Gallery, root: folder.Root, kinds: dict, values: dict) -> dict:
    """Put a table's columns beside the pictures of a root; counts of what was done."""
    key = storage.stored(gallery.uri, root)
    changed = columns.join(gallery, key, kinds, values)
    known = gallery.known(key).keys()
    strange = sorted(values.keys() - known)
    return {'changed': changed, 'without_picture': strange, 'nearly': metadata.nearly(strange, known)}


def _join_names(gallery: Gallery, root: folder.Root, pattern: NamePattern) -> dict:
    key = storage.stored(gallery.uri, root)
    found = pattern.read(sorted(gallery.known(key)), gallery.columns)
    changed = columns.join(gallery, key, found.kinds, found.values)
    return {'columns': found.kinds, 'matched': len(found.values), 'changed': changed, 'unmatched': found.unmatched}


def update(
    gallery: Gallery,
    model: Model,
    root: folder.Root,
    *,
    pattern: NamePattern | None = None,
    prune: bool = False,
    readmit: bool = False,
    progress: Progress = QUIET,
    engine: Engine = ingest.here,
) -> dict:
    """Embed and commit what is new or changed below `root`, as in `bring_up_to_date`; counts of what was done."""
    key = storage.stored(gallery.uri, root)
    with gallery.writing():
        known = gallery.known(key)
    itself = [] if storage.is_remote(gallery.uri) else [pathlib.Path(gallery.uri).resolve()]
    files, faults, passed_over = folder.walk(root, [*_own_folders(gallery.uri, root), *itself])
    if prune and known and not files:
        raise SearchError(
            f'--prune: found no picture at all below {root}, and {counted(len(known), "row")} to forget. Is the disk '
            'there? To forget them all the same use `delete`.'
        )
    if not files and not faults:
        raise SearchError(
            f'--images: found no picture below {root}, expected files such as .jpg or .png'
            + (f'; {folder.summary(passed_over)}' if passed_over else '')
        )
    if pattern:
        pattern.check(file.path for file in files)
    new = [file for file in files if file.path not in known]
    changed = [file for file in files if file.path in known and known[file.path][:2] != file[1:]]
    gone = known.keys() - {file.path for file in files}
    # what could not be looked at may be there
    gone = sorted(path for path in gone if faults.keys().isdisjoint((path, *map(str, pathlib.PurePath(path).parents))))
    told = {'root': str(root), 'files': len(files), 'new': len(new), 'changed': len(changed)}
    told |= {'unchanged': len(files) - len(new) - len(changed), 'passed_over': passed_over}
    more = dict(readmit=readmit, progress=progress, engine=engine)
    done = [add(gallery, model, root, some, new=some is new, **more) for some in (changed, new)]
    told |= {name: sum(one[name] for one in done) for name in ('embedded', 'copied', 'kept_out')}
    told['unusable'] = faults | {path: why for one in done for path, why in one['unusable']}
    if gone and new:
        now, left = moved.hashes(gallery, key), {path: known[path][2] for path in gone}
        here = {file.path: now[file.path] for file in new if file.path in now}
        told |= {'renamed': renamed} if (renamed := moved.carry(gallery, key, left, key, here)) else {}
    if prune and gone:
        retention.prune(gallery, key, gone)
    return told | {'gone': len(gone), 'pruned': len(gone) * prune}


def _own_folders(uri: str, root: folder.Root) -> list[pathlib.Path]:
    """Folders whose pictures the index knows by roots of its own."""
    if isinstance(root, str):
        return []
    tracks, uploads = storage.tracks_folder(uri), storage.uploads(uri)
    own = [tracks] if root == uploads else [tracks, uploads]  # uploads may be indexed as they are, crops only as tracks
    own = [one for one in own if one]
    if any(root.is_relative_to(one) for one in own):
        raise SearchError(
            f'--images: found {root}, where the index keeps pictures of its own; expected a folder of yours'
        )
    return own


def add(
    gallery: Gallery,
    model: Model,
    root: folder.Root,
    files: Sequence[folder.File],
    *,
    new: bool,
    readmit: bool = False,
    progress: Progress = QUIET,
    engine: Engine = ingest.here,
) -> dict:
    """Embed and commit some files of a root, less those that were deleted from the index once.

    `new` says that none has a row yet, `readmit` takes deleted ones too. Returns embedded, copied, kept_out: how many;
    unusable: [(path, why)].
    """
    if not files:
        return {'embedded': 0, 'copied': 0, 'unusable': [], 'kept_out': 0}
    with gallery.writing():
        there, forgotten = gallery.hashes(), set() if readmit else retention.forgotten(gallery)
    key = storage.stored(gallery.uri, root)
    known_by = {file: retention.key('file', key, *file) for file in files}
    left = [file for file in files if known_by[file] not in forgotten]
    work = ingest.Work(root, key, left, new, frozenset(there), frozenset(forgotten), readmit)
    with progress.counting('pictures', len(left)) as tell:
        done = engine(gallery, model, work, tell)
    if readmit:
        retention.readmit(gallery, [*known_by.values(), *(retention.key('bytes', sha) for sha in done.hashes)])
    retention.remember(gallery, [known_by[file] for file in done.met])  # so that the next call need not read them
    if not new:
        gallery.drop(key, [file.path for file in done.met])
    told = {name: getattr(done, name) for name in ('embedded', 'copied', 'unusable')}
    return told | {'kept_out': len(files) - len(left) + len(done.met)}
