"""python main.py index --workdir=W --images=DIR --index=I: embed a folder of pictures, so that `search` can find in it.

Videos are in video.py; one call may take both.
The same again embeds only what is new or changed; killed at any moment, it goes on from its last commit.
"""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterator

from commands import video
from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.files import storable

_LISTED = 10  # unusable files that are named on the terminal


def index(
    uri: str,
    images: str | None,
    workdir: str | None,
    table: str | None,
    prune: bool,
    again: bool,
    as_json: bool,
    videos: video.Wanted | None = None,
) -> int:
    """Bring the index at `uri` up to date with a folder, with videos, or both; tell what was done.

    Args:
      uri: folder, or URL of an object store.
      images: the folder; all pictures below it.
      workdir: of the run whose student embeds; may be left out where the index is there.
      table: a CSV file with a column `path` and others that come beside the pictures; or None.
      prune: forget rows whose file is gone.
      again: take pictures that were deleted or expired, too.
      as_json: print JSON instead of text.
      videos: which, and how.

    Returns:
      0, or 1 where a video cannot be used.
    """
    from lcr2s_jax.search import approximate, metadata, repair, writing
    from lcr2s_jax.search.gallery import OWN, Gallery
    from lcr2s_jax.training import parallel

    clock = time.perf_counter()
    root = images and pathlib.Path(images).resolve()
    _check(uri, root, table)
    if videos:
        video.check(videos, uri, workdir)
    with contextlib.redirect_stdout(sys.stderr):
        searcher = open_model(uri, workdir)
    if parallel.first():
        with writing.alone(uri):
            whole = Gallery(uri, searcher.clip.embed_dim)  # makes the table
        repair.own(whole)
        repair.doubles(whole)
    parallel.wait_for_all('the table is there')
    gallery = Gallery(uri, searcher.clip.embed_dim)
    columns, before = metadata.read(table, gallery.columns, OWN) if table else None, gallery.version
    told = update(gallery, searcher, root, prune, again) if root else {}
    if videos:
        told['videos'] = video.update(gallery, searcher, videos, workdir, again, lambda: _bar(None, 'seconds of video'))
    if parallel.first():
        if columns:
            told |= join(gallery, root, *columns)
        if gallery.version != before:
            gallery.tidy()
        if gallery.count() >= approximate.FROM and not gallery.approximate:  # later rows are added to it by tidy
            approximate.build(gallery)
        told |= {'index': uri, 'model': searcher.hash, 'pictures': gallery.count()}
        told['seconds'] = round(time.perf_counter() - clock, 1)
        print(json.dumps(told, indent=2) if as_json else _text(told))
    return int(any(one['fault'] for one in told.get('videos', ())))


def _check(uri: str, root: pathlib.Path | None, table: str | None) -> None:
    """Raise for mistakes that should not cost the time of embedding."""
    from lcr2s_jax.search import columns, metadata
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.search.gallery import OWN

    if not place.is_remote(uri) and pathlib.Path(uri).exists() and not pathlib.Path(uri).is_dir():
        raise ConfigError(f'--index: found the file {uri}, expected a folder, or a place where one can be made')
    if root and not root.is_dir():
        raise ConfigError(f'--images: found no folder {root}; expected one with pictures below it')
    if root and not storable(str(root)):
        raise ConfigError(f'--images: found {str(root)!r}, a name that is no UTF-8; rename the folder')
    if table:
        columns.check(metadata.read(table, {}, OWN)[0])


def join(gallery, root: pathlib.Path, kinds: dict, values: dict) -> dict:
    """Put a table's columns beside the pictures of a root; counts of what was done."""
    from lcr2s_jax.search import columns
    from lcr2s_jax.search import storage as place

    key = place.stored(gallery.uri, root)
    changed = columns.join(gallery, key, kinds, values)
    strange = sorted(values.keys() - gallery.known(key).keys())
    return {'metadata': {'changed': changed, 'without_picture': strange}}


def open_model(uri: str, workdir: str | None):
    """The index's `Searcher`, made from a workdir's student where there is none yet.

    Raises:
      SearchError: the index has another model, or its pictures were made ready otherwise than is done here.
      ConfigError: it has none, and no workdir is given.
    """
    from lcr2s_jax.search import folder as pictures
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.search import writing
    from lcr2s_jax.training import parallel
    from lcr2s_jax.weights import bundle as searcher

    folder = place.model_folder(uri)
    if workdir is None:
        if folder is None:
            raise ConfigError(f'{uri}: found no index there yet; --workdir=... says whose student shall embed')
        found = searcher.Searcher(folder)
        recipe = found.facts['preprocessing']['recipe']
        if recipe != pictures.RECIPE:
            raise SearchError(
                f"{uri}: found pictures made by '{recipe}', expected '{pictures.RECIPE}': vectors of new ones could "
                'not be compared. Index the folder again into another --index.'
            )
        return found
    from commands import student

    chosen = student.open_student(pathlib.Path(workdir))
    model = chosen.model()
    here = searcher.hash_of(**model)
    if folder is not None:
        there = searcher.Searcher(folder)
        _refuse_another(uri, workdir, there.hash, here)
        if there.calibration is None and (found := student.calibrate(chosen)) and parallel.first():
            place.add_file(uri, searcher.CALIBRATION, searcher.calibration_file(found))
        parallel.wait_for_all('the calibration is there')
        return searcher.Searcher(place.model_folder(uri))
    calibration = student.calibrate(chosen)
    parallel.wait_for_all('the index was looked at')
    if parallel.first():
        origin = chosen.origin(workdir)
        with writing.alone(uri):
            if place.model_folder(uri) is None:  # another call may have been faster
                place.put_model(uri, lambda to: searcher.save(to, **model, origin=origin, calibration=calibration))
    parallel.wait_for_all('the model is there')
    made = searcher.Searcher(place.model_folder(uri))
    _refuse_another(uri, workdir, made.hash, here)
    return made


def _refuse_another(uri: str, workdir: str, there: str, here: str) -> None:
    if there != here:
        raise SearchError(
            f'{uri} was made with another model, preprocessing or tokenizer: {there[:16]} there, {here[:16]} of '
            f"{workdir}. Their vectors cannot be compared: choose another --index, or that model's --workdir."
        )


def update(gallery, searcher, root: pathlib.Path, prune: bool, again: bool) -> dict:
    """Embed and commit what is new or changed below `root`, this host's share of it; counts of what was done."""
    import jax

    from lcr2s_jax.search import folder, retention
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.training import parallel

    key = place.stored(gallery.uri, root)
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
    mine = slice(jax.process_index(), None, jax.process_count())
    done = [add(gallery, searcher, root, some[mine], new=some is new, again=again) for some in (changed, new)]
    told |= {name: sum(one[name] for one in done) for name in ('embedded', 'copied', 'kept_out')}
    told['unusable'] = faults | {path: why for one in done for path, why in one['unusable']}
    parallel.wait_for_all('all hosts have committed')
    gallery.refresh()
    if prune and gone and parallel.first():
        retention.prune(gallery, key, gone)
    return told | {'gone': len(gone), 'pruned': len(gone) * prune}


def _own_folders(uri: str, root: pathlib.Path) -> list[pathlib.Path]:
    """Folders below a root, or the root itself, whose pictures the index knows by roots of its own."""
    from lcr2s_jax.search import storage as place

    tracks, uploads = place.tracks_folder(uri), place.uploads(uri)
    own = [tracks] if root == uploads else [tracks, uploads]  # uploads may be indexed as they are, crops only as tracks
    return [folder for folder in own if folder and (folder.is_relative_to(root) or root.is_relative_to(folder))]


def add(gallery, searcher, root: pathlib.Path, files, new: bool, again: bool = False) -> dict:
    """Embed and commit some files of a root, less those that were deleted from the index once.

    Args:
      gallery, searcher: of the index.
      root: resolved.
      files: `lcr2s_jax.search.folder.File`s below it.
      new: none of them has a row yet.
      again: also those that were deleted.

    Returns:
      embedded, copied, kept_out: how many; unusable: [(path, why)].
    """
    from lcr2s_jax.search import folder, ingest, retention
    from lcr2s_jax.search import storage as place

    if not files:
        return ingest.Done(0, 0, [])._asdict() | {'kept_out': 0}
    with gallery.writing():
        there, forgotten = gallery.hashes(), set() if again else retention.forgotten(gallery)
    key = place.stored(gallery.uri, root)
    known_by = {file: retention.key('file', key, *file) for file in files}
    left = [file for file in files if known_by[file] not in forgotten]
    met, taken = [], []  # deleted pictures under another name: by bytes, which takes reading them

    def admitted():
        max_pixels = searcher.facts['origin']['max_pixels']
        for one in folder.read(left, root, searcher.clip.image_size, max_pixels, lambda sha: sha not in there):
            if retention.key('bytes', one.sha256) in forgotten:
                met.append(one.file)
            else:
                taken.extend([retention.key('bytes', one.sha256)] * again)
                yield one

    with _bar(len(left)) as tell:
        done = ingest.ingest(gallery, searcher, key, admitted(), new=new, tell=tell)
    if again:
        retention.readmit(gallery, [*known_by.values(), *taken])
    retention.remember(gallery, [known_by[file] for file in met])  # so that the next call need not read them
    if not new:
        gallery.drop(key, [file.path for file in met])
    return done._asdict() | {'kept_out': len(files) - len(left) + len(met)}


@contextlib.contextmanager
def _bar(total: int | None, what: str = 'pictures') -> Iterator:
    """Something to call with how many more are done; a bar on a terminal, nothing elsewhere."""
    import rich.console
    import rich.progress

    console = rich.console.Console(stderr=True)
    columns = rich.progress.BarColumn(), rich.progress.TimeRemainingColumn(), f'{{task.completed:,.0f}} {what}'
    with rich.progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task('', total=total)
        yield lambda count: bar.advance(task, count)


def _text(told: dict) -> str:
    lines = [f'{told["index"]}: {told["pictures"]:,} pictures can be found (model {told["model"][:16]})']
    if 'root' in told:
        lines += _text_of_folder(told)
    lines += map(video.text, told.get('videos', ()))
    return '\n'.join([*lines, f'in {told["seconds"]} s'])


def _text_of_folder(told: dict) -> list[str]:
    lines = [
        f'{told["root"]}: {told["files"]:,} files, {told["new"]:,} new, {told["changed"]:,} changed, '
        f'{told["unchanged"]:,} as before; {told["embedded"]:,} embedded, {told["copied"]:,} known by their bytes',
    ]
    if told['gone'] and not told['pruned']:
        lines.append(f'{told["gone"]:,} are gone from the folder and can still be found: --prune forgets them')
    if told['pruned']:
        lines.append(f'{told["pruned"]:,} are gone from the folder and were forgotten')
    if told['kept_out']:
        lines.append(f'{told["kept_out"]:,} were deleted from this index once and stay out: --readmit takes them again')
    if 'metadata' in told:
        strange = told['metadata']['without_picture']
        lines.append(
            f'{told["metadata"]["changed"]:,} rows have new metadata'
            + (f'; {len(strange):,} lines of it are of no picture here, such as {strange[0]!r}' if strange else '')
        )
    unusable = told['unusable']
    if unusable:
        lines.append(f'{len(unusable):,} cannot be used:')
        lines += [f'  {path!r}: {why}' for path, why in list(unusable.items())[:_LISTED]]
        lines += ['  ... (all of them with --json)'] * (len(unusable) > _LISTED)
    return lines
