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


def index(uri: str, images: str, workdir: str | None, metadata: str | None, prune: bool, readmit: bool, as_json: bool) -> None:
    """Bring the index at `uri` up to date with a folder; tell what was done.

    Args:
      uri: folder, or URL of an object store.
      images: the folder; all pictures below it.
      workdir: of the run whose student embeds; may be left out where the index is there.
      metadata: a CSV file with a column `path` and others that come beside the pictures.
      prune: forget rows whose file is gone.
      as_json: print JSON instead of text.
    """
    from lcr2s_jax import parallel
    from lcr2s_jax.retrieval.gallery import Gallery

    clock = time.perf_counter()
    root = pathlib.Path(images).resolve()
    if not root.is_dir():
        raise ConfigError(f'--images: found no folder {images}; expected one with pictures below it')
    with contextlib.redirect_stdout(sys.stderr):
        searcher = open_model(uri, workdir)
    if parallel.first():
        Gallery(uri, searcher.clip.embed_dim)  # makes the table
    parallel.wait_for_all('the table is there')
    gallery = Gallery(uri, searcher.clip.embed_dim)
    told = update(gallery, searcher, root, prune)
    if parallel.first():
        told |= {'index': uri, 'model': searcher.hash, 'pictures': gallery.count()}
        told['seconds'] = round(time.perf_counter() - clock, 1)
        print(json.dumps(told, indent=2) if as_json else _text(told))


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
                f'of {workdir}. Their vectors cannot be compared: choose another --index, or that model\'s --workdir.'
            )
        if there.calibration is None and (found := student.calibrate(chosen)) and parallel.first():
            place.add(uri, searcher.calibration_file(found))
        parallel.wait_for_all('the calibration is there')
        return searcher.Searcher(place.model_folder(uri))
    calibration = student.calibrate(chosen)
    parallel.wait_for_all('the index was looked at')
    if parallel.first():
        origin = chosen.origin(workdir)
        place.put_model(uri, lambda to: searcher.save(to, **model, origin=origin, calibration=calibration))
    parallel.wait_for_all('the model is there')
    return searcher.Searcher(place.model_folder(uri))


def update(gallery, searcher, root: pathlib.Path, prune: bool) -> dict:
    """Embed and commit what is new or changed below `root`, this host's share of it; counts of what was done."""
    import jax

    from data import folder
    from lcr2s_jax import parallel

    files, known = folder.walk(root), gallery.known(str(root))
    new = [file for file in files if file.path not in known]
    changed = [file for file in files if file.path in known and known[file.path][:2] != file[1:]]
    gone = sorted(known.keys() - {file.path for file in files})
    told = {'root': str(root), 'files': len(files), 'new': len(new), 'changed': len(changed)}
    told['unchanged'] = len(files) - len(new) - len(changed)
    parallel.wait_for_all('all hosts have compared')
    mine = slice(jax.process_index(), None, jax.process_count())
    done = [add(gallery, searcher, root, some[mine], new=some is new) for some in (changed, new)]
    told['embedded'], told['copied'] = (sum(part[i] for part in done) for i in (0, 1))
    told['unusable'] = dict(pair for part in done for pair in part.unusable)
    parallel.wait_for_all('all hosts have committed')
    gallery.refresh()
    told['gone'], told['pruned'] = len(gone), 0
    if prune and gone and parallel.first():
        if not files:
            raise SearchError(
                f'{root}: found no picture at all, so --prune would forget all {len(gone):,} of it. Is the disk there? '
                'To forget them all the same use `delete`.'
            )
        gallery.drop(str(root), gone)
        told['pruned'] = len(gone)
    return told


def add(gallery, searcher, root: pathlib.Path, files, new: bool):
    """Embed and commit some files of a root; `lcr2s_jax.retrieval.ingest.Done`."""
    from data import folder
    from lcr2s_jax.retrieval import ingest

    if not files:
        return ingest.Done(0, 0, [])
    hashes = gallery.hashes()
    wanted = hashes.isdisjoint
    max_pixels = searcher.facts['origin']['max_pixels']
    pictures = folder.read(files, root, searcher.clip.image_size, max_pixels, lambda sha: wanted((sha,)))
    with _bar(len(files)) as tell:
        return ingest.ingest(gallery, searcher, str(root), pictures, new=new, tell=tell)


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
    unusable = told['unusable']
    if unusable:
        lines.append(f'{len(unusable):,} cannot be used:')
        lines += [f'  {path!r}: {why}' for path, why in list(unusable.items())[:_LISTED]]
        lines += ['  ... (all of them with --json)'] * (len(unusable) > _LISTED)
    return '\n'.join(lines)
