"""python main.py index --workdir=W --images=DIR --index=I: embed a folder of pictures, so that `search` can find in it.

The same again embeds only what is new or changed; killed at any moment, it goes on from its last commit.
"""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterator

from lcr2s_jax.errors import ConfigError, SearchError

_LISTED = 10  # unusable files that are named on the terminal


def index(
    uri: str, images: str, workdir: str | None, table: str | None, prune: bool, again: bool, as_json: bool
) -> None:
    """Bring the index at `uri` up to date with a folder; tell what was done.

    Args:
      uri: folder, or URL of an object store.
      images: the folder; all pictures below it.
      workdir: of the run whose student embeds; may be left out where the index is there.
      table: a CSV file with a column `path` and others that come beside the pictures; or None.
      prune: forget rows whose file is gone.
      again: take pictures that were deleted or expired, too.
      as_json: print JSON instead of text.
    """
    from data import metadata
    from lcr2s_jax import parallel
    from lcr2s_jax.retrieval import approximate
    from lcr2s_jax.retrieval.gallery import OWN, Gallery

    clock = time.perf_counter()
    root = pathlib.Path(images).resolve()
    if not root.is_dir():
        raise ConfigError(f'--images: found no folder {images}; expected one with pictures below it')
    if table:
        metadata.read(table, {}, OWN)  # its mistakes should not cost the time of embedding
    with contextlib.redirect_stdout(sys.stderr):
        searcher = open_model(uri, workdir)
    if parallel.first():
        Gallery(uri, searcher.clip.embed_dim)  # makes the table
    parallel.wait_for_all('the table is there')
    gallery = Gallery(uri, searcher.clip.embed_dim)
    columns = metadata.read(table, gallery.columns, OWN) if table else None
    told = update(gallery, searcher, root, prune, again)
    if parallel.first():
        if columns:
            told |= join(gallery, root, *columns)
        if gallery.table.version != told.pop('before'):
            gallery.tidy()
        if gallery.count() >= approximate.FROM and not gallery.approximate:  # later rows are added to it by tidy
            approximate.build(gallery)
        told |= {'index': uri, 'model': searcher.hash, 'pictures': gallery.count()}
        told['seconds'] = round(time.perf_counter() - clock, 1)
        print(json.dumps(told, indent=2) if as_json else _text(told))


def join(gallery, root: pathlib.Path, kinds: dict, values: dict) -> dict:
    """Put a table's columns beside the pictures of a root; counts of what was done."""
    from lcr2s_jax.retrieval import columns

    changed = columns.join(gallery, str(root), kinds, values)
    strange = sorted(values.keys() - gallery.known(str(root)).keys())
    return {'metadata': {'changed': changed, 'without_picture': strange}}


def open_model(uri: str, workdir: str | None):
    """The index's `Searcher`, made from a workdir's student where there is none yet.

    Raises:
      SearchError: the index has another model.
      ConfigError: it has none, and no workdir is given.
    """
    from lcr2s_jax import parallel
    from lcr2s_jax.retrieval import place, searcher

    folder = place.model_folder(uri)
    if workdir is None:
        if folder is None:
            raise ConfigError(f'{uri}: found no index there yet; --workdir=... says whose student shall embed')
        return searcher.Searcher(folder)
    from commands import student

    chosen = student.open_student(pathlib.Path(workdir))
    model = chosen.model()
    if folder is not None:
        there, here = searcher.Searcher(folder), searcher.hash_of(**model)
        if there.hash != here:
            raise SearchError(
                f'{uri} was made with another model, preprocessing or tokenizer: {there.hash[:16]} there, {here[:16]} '
                f"of {workdir}. Their vectors cannot be compared: choose another --index, or that model's --workdir."
            )
        if there.calibration is None and (found := student.calibrate(chosen)) and parallel.first():
            place.add_file(uri, searcher.CALIBRATION, searcher.calibration_file(found))
        parallel.wait_for_all('the calibration is there')
        return searcher.Searcher(place.model_folder(uri))
    calibration = student.calibrate(chosen)
    parallel.wait_for_all('the index was looked at')
    if parallel.first():
        origin = chosen.origin(workdir)
        place.put_model(uri, lambda to: searcher.save(to, **model, origin=origin, calibration=calibration))
    parallel.wait_for_all('the model is there')
    return searcher.Searcher(place.model_folder(uri))


def update(gallery, searcher, root: pathlib.Path, prune: bool, again: bool) -> dict:
    """Embed and commit what is new or changed below `root`, this host's share of it; counts of what was done."""
    import jax

    from data import folder
    from lcr2s_jax import parallel
    from lcr2s_jax.retrieval import retention

    files, known, before = folder.walk(root), gallery.known(str(root)), gallery.version
    if prune and known and not files:
        raise SearchError(
            f'--prune: found no picture at all below {root}, and {len(known):,} rows to forget. Is the disk there? To '
            'forget them all the same use `delete`.'
        )
    new = [file for file in files if file.path not in known]
    changed = [file for file in files if file.path in known and known[file.path][:2] != file[1:]]
    gone = sorted(known.keys() - {file.path for file in files})
    told = {'root': str(root), 'files': len(files), 'new': len(new), 'changed': len(changed), 'before': before}
    told['unchanged'] = len(files) - len(new) - len(changed)
    parallel.wait_for_all('all hosts have compared')
    mine = slice(jax.process_index(), None, jax.process_count())
    done = [add(gallery, searcher, root, some[mine], new=some is new, again=again) for some in (changed, new)]
    told |= {name: sum(one[name] for one in done) for name in ('embedded', 'copied', 'kept_out')}
    told['unusable'] = {path: why for one in done for path, why in one['unusable']}
    parallel.wait_for_all('all hosts have committed')
    gallery.refresh()
    if prune and gone and parallel.first():
        gallery.drop(str(root), gone)
        retention.erase(gallery)
    return told | {'gone': len(gone), 'pruned': len(gone) * prune}


def add(gallery, searcher, root: pathlib.Path, files, new: bool, again: bool = False) -> dict:
    """Embed and commit some files of a root, less those that were deleted from the index once.

    Args:
      gallery, searcher: of the index.
      root: resolved.
      files: `data.folder.File`s below it.
      new: none of them has a row yet.
      again: also those that were deleted.

    Returns:
      embedded, copied, kept_out: how many; unusable: [(path, why)].
    """
    from data import folder
    from lcr2s_jax.retrieval import ingest, retention

    if not files:
        return ingest.Done(0, 0, [])._asdict() | {'kept_out': 0}
    there, forgotten = gallery.hashes(), retention.forgotten(gallery)
    place = {file: retention.key('file', root, *file) for file in files}
    if again:
        forgotten = set()
    left = [file for file in files if place[file] not in forgotten]
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
        done = ingest.ingest(gallery, searcher, str(root), admitted(), new=new, tell=tell)
    if again:
        retention.readmit(gallery, [*place.values(), *taken])
    retention.remember(gallery, [place[file] for file in met])  # so that the next call need not read them
    if not new:
        gallery.drop(str(root), [file.path for file in met])
    return done._asdict() | {'kept_out': len(files) - len(left) + len(met)}


@contextlib.contextmanager
def _bar(total: int) -> Iterator:
    """Something to call with the number of pictures done; a bar on a terminal, nothing elsewhere."""
    import rich.console
    import rich.progress

    console = rich.console.Console(stderr=True)
    columns = rich.progress.BarColumn(), rich.progress.TimeRemainingColumn(), '{task.completed:,} pictures'
    with rich.progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task('', total=total)
        yield lambda count: bar.advance(task, count)


def _text(told: dict) -> str:
    lines = [
        f'{told["index"]}: {told["pictures"]:,} pictures can be found (model {told["model"][:16]})',
        f'{told["root"]}: {told["files"]:,} files, {told["new"]:,} new, {told["changed"]:,} changed, '
        f'{told["unchanged"]:,} as before; {told["embedded"]:,} embedded, {told["copied"]:,} known by their bytes, '
        f'in {told["seconds"]} s',
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
    return '\n'.join(lines)
