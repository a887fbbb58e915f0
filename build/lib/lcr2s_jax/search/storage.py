"""Where an index lies: a local folder or an object store; the model in it is a local folder either way."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable

from lcr2s_jax import files
from lcr2s_jax.errors import SearchError

MODEL = 'model'
TRACKS = 'tracks'
UPLOADS = 'uploads'
# roots of the index's own pictures as its table has them, relative, so that an index may be moved
TRACKED, UPLOADED = f'./{TRACKS}', f'./{UPLOADS}'


def is_remote(uri: str) -> bool:
    """Whether it is an object store's URL."""
    return '://' in uri


def tracks_folder(uri: str) -> pathlib.Path | None:
    """Where the pictures that an index cut out of videos lie; None on an object store."""
    return None if is_remote(uri) else pathlib.Path(uri).resolve() / TRACKS


def uploads(uri: str) -> pathlib.Path | None:
    """Where uploaded pictures lie; None on an object store, where an index keeps none."""
    return None if is_remote(uri) else pathlib.Path(uri).resolve() / UPLOADS


def stored(uri: str, root: pathlib.Path) -> str:
    """How the table of an index names a root: a resolved folder; TRACKED or UPLOADED if it is the index's own."""
    return {tracks_folder(uri): TRACKED, uploads(uri): UPLOADED}.get(root, str(root))


def located(uri: str, root: str, path: str) -> str:
    """The folder that a picture of a table lies below.

    Earlier versions wrote the place that an index had then before its own pictures; they are where the index is now.
    """
    folder = {TRACKS: tracks_folder(uri), UPLOADS: uploads(uri)}.get(root.rpartition('/')[2])
    if folder is None:
        return root
    return str(folder) if root in (TRACKED, UPLOADED) or (folder / path).is_file() else root


def model_folder(uri: str) -> pathlib.Path | None:
    """The model's folder, fetched first (once) from an object store; None where the index has none yet."""
    if not is_remote(uri):
        folder = pathlib.Path(uri) / MODEL
        return folder if folder.is_dir() else None
    from pyarrow import fs

    store, path = _store(uri)
    facts = store.get_file_info(f'{path}/{MODEL}/model.json')
    if facts.type == fs.FileType.NotFound:
        return None
    with store.open_input_stream(facts.path) as file:
        folder = _cache() / hashlib.sha256(file.read()).hexdigest()[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = pathlib.Path(tempfile.mkdtemp(dir=folder.parent))
        fs.copy_files(
            f'{path}/{MODEL}', str(aside), source_filesystem=store, destination_filesystem=fs.LocalFileSystem()
        )
        try:
            aside.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def put_model(uri: str, write) -> pathlib.Path:
    """Have `write(folder)` make the model and leave it in the index; its local folder."""
    if not is_remote(uri):
        folder = pathlib.Path(uri) / MODEL
        write(folder)
        return folder

    store, path = _store(uri)
    with tempfile.TemporaryDirectory() as aside:
        folder = pathlib.Path(aside) / MODEL
        write(folder)
        store.create_dir(f'{path}/{MODEL}')  # means nothing to most stores
        for file in sorted(folder.iterdir(), key=lambda file: file.name == 'model.json'):  # last: it says all is there
            with store.open_output_stream(f'{path}/{MODEL}/{file.name}') as out:
                out.write(file.read_bytes())
    return model_folder(uri)


def add_file(uri: str, name: str, content: bytes) -> None:
    """Put one more file into the model's folder of an index that has one."""
    if not is_remote(uri):
        files.write(pathlib.Path(uri) / MODEL / name, content)
        return
    store, path = _store(uri)
    with store.open_output_stream(f'{path}/{MODEL}/{name}') as out:
        out.write(content)


def listed(uri: str, folder: str) -> set[str]:
    """Every file below a folder of an index, by its path below the index; nothing where there is no folder."""
    if not is_remote(uri):
        root = pathlib.Path(uri)
        below = (pathlib.Path(at) / name for at, _, names in os.walk(root / folder) for name in names)
        return {path.relative_to(root).as_posix() for path in below}
    from pyarrow import fs

    store, path = _store(uri)
    found = store.get_file_info(fs.FileSelector(f'{path}/{folder}', recursive=True, allow_not_found=True))
    return {one.path[len(path) + 1 :] for one in found if one.type == fs.FileType.File}


def unlink(uri: str, names: Iterable[str]) -> None:
    """Remove files of an index, those that can be."""
    if is_remote(uri):
        store, path = _store(uri)
    for name in names:
        with contextlib.suppress(OSError):
            store.delete_file(f'{path}/{name}') if is_remote(uri) else (pathlib.Path(uri) / name).unlink()


def mark(uri: str, name: str) -> None:
    """Leave an empty file in an index."""
    if not is_remote(uri):
        (pathlib.Path(uri) / name).touch()
        return
    store, path = _store(uri)
    store.open_output_stream(f'{path}/{name}').close()


def is_marked(uri: str, name: str) -> bool:
    """Whether `mark` left it, and nobody took it away."""
    if not is_remote(uri):
        return (pathlib.Path(uri) / name).exists()
    from pyarrow import fs

    store, path = _store(uri)
    return store.get_file_info(f'{path}/{name}').type != fs.FileType.NotFound


def _store(uri: str):
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(uri.rstrip('/'))
    except (OSError, ValueError) as error:
        raise SearchError(
            f'--index: {uri} cannot be reached ({error}); expected a folder, s3://... or gs://...'
        ) from None


def _cache() -> pathlib.Path:
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'lcr2s_jax' / 'models'
