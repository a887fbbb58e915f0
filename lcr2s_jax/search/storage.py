"""Where an index lies: a local folder or an object store; the model in it is a local folder either way."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterable

from lcr2s_jax import files, images
from lcr2s_jax.errors import ConfigError, SearchError
from lcr2s_jax.search import stores
from lcr2s_jax.search.stores import is_remote
from lcr2s_jax.texts import near

MODEL = 'model'
TRACKS = 'tracks'
UPLOADS = 'uploads'
# roots of the index's own pictures as its table has them, relative, so that an index may be moved
TRACKED, UPLOADED = f'./{TRACKS}', f'./{UPLOADS}'
HALF_CUT = '.partial'  # behind the name of a video's folder among the tracks, while it is cut
_PARTS = (MODEL, TRACKS, UPLOADS, 'images.lance', 'gone.lance')  # folders


def check_place(uri: str) -> None:
    """Raise ConfigError where no index can be: a path that LanceDB cannot take, a file, a folder of pictures.

    Raises SearchError as `check_parts` does.
    """
    path = absolute(uri)
    if strange := [sign for sign in path if ord(sign) < 32 or ord(sign) == 127]:
        raise ConfigError(
            f'--index: found the control character {strange[0]!a} in the path {path!a}, expected none; rename that '
            'folder, or choose another'
        )
    place = pathlib.Path(path)
    check_parts(uri)
    if is_remote(uri) or not place.exists() or (place / MODEL).is_dir():
        return
    if not place.is_dir():
        raise ConfigError(f'--index: found the file {uri}, expected a folder, or a place where one can be made')
    try:
        picture = next((one.name for one in place.iterdir() if one.name.lower().endswith(images.SUFFIXES)), '')
    except OSError as error:
        raise ConfigError(f'--index: {uri} cannot be read ({error.strerror}); expected a folder of yours') from None
    if picture:
        raise ConfigError(
            f'--index: found the folder {uri} with pictures of yours, such as {picture}; expected the folder of an '
            'index, or a name where one can be made'
        )


def check_parts(uri: str) -> None:
    """Raise SearchError where something else has the name of a folder of an index: it would be taken for no index."""
    for part in () if is_remote(uri) else (pathlib.Path(uri) / name for name in _PARTS):
        if (found := files.kind(part)) and not part.is_dir():
            to = ' that leads to no folder' * (found == 'a link')
            raise SearchError(f'{part} is {found}{to}, expected a folder of the index; restore it from a copy')


def missing(uri: str) -> str:
    """That there is no index, what is there, and what to do."""
    path = pathlib.Path(uri)
    if is_remote(uri):
        place = ''
    elif os.path.isdir(table := path / 'images.lance') and not os.access(table, os.R_OK | os.X_OK):
        return f'{table}: Permission denied; expected a folder of the index that you may read'
    elif path.is_file():
        return f'found no index at {uri}: it is a file; expected the folder of an index'
    elif any(table.glob('_versions/*.manifest')) and not (path / MODEL).exists():
        return (
            f'{uri}: found no folder {MODEL} in this index, expected the model of its vectors; restore it from a copy, '
            'or have `lcr2s index` write it with the --weights or --workdir that it was made with'
        )
    elif (path / 'sealed.json').exists():
        return (
            f'{uri}: damaged: found no rows in images.lance, which this index had; restore it from a copy, or index '
            'the pictures again into another folder'
        )
    elif path.name in (MODEL, 'images.lance') and (path.parent / 'images.lance').is_dir():
        return f'found no index at {uri}: it is a part of one; expected {path.parent}'
    else:
        inside = next(iter(sorted(path.glob('*/images.lance'))), None) if path.is_dir() else None
        place = f'; did you mean {inside.parent}?' if inside else near(uri)
    return f'found no index at {uri}{place}; make one: lcr2s index --weights=... --images=... --index={uri}'


def tracks_folder(uri: str) -> pathlib.Path | None:
    """Where the pictures that an index cut out of videos lie; None on an object store."""
    return None if is_remote(uri) else pathlib.Path(uri).resolve() / TRACKS


def cutting_lock(folder: pathlib.Path) -> pathlib.Path:
    """What is held by the call that cuts a video into a folder of the tracks."""
    return folder.with_name(f'.{folder.name}.lock')


def uploads(uri: str) -> pathlib.Path | None:
    """Where uploaded pictures lie; None on an object store, where an index keeps none."""
    return None if is_remote(uri) else pathlib.Path(uri).resolve() / UPLOADS


def absolute(uri: str) -> str:
    """The place of an index, whatever the folder that a later call is made in."""
    return uri if is_remote(uri) else os.path.abspath(uri)


def resolved(uri: str) -> str:
    """The place of an index, by whatever links it was named."""
    return uri.rstrip('/') if is_remote(uri) else os.path.realpath(uri)


def stored(uri: str, root: pathlib.Path | str) -> str:
    """How the table of an index names a root, a resolved folder or a URL: the index's own is TRACKED or UPLOADED."""
    return {str(tracks_folder(uri)): TRACKED, str(uploads(uri)): UPLOADED}.get(str(root), str(root))


def located(uri: str, root: str) -> str:
    """The folder that a root of a table means, the inverse of `stored`."""
    return str({TRACKED: tracks_folder(uri), UPLOADED: uploads(uri)}.get(root) or root)


def model_folder(uri: str) -> pathlib.Path | None:
    """The model's folder, fetched first (once) from an object store; None where the index has none yet."""
    if not is_remote(uri):
        check_parts(uri)
        folder = pathlib.Path(uri) / MODEL
        return folder if folder.is_dir() else None
    from pyarrow import fs

    store, path = stores.opened(uri)
    with stores.told(uri):
        facts = store.get_file_info(f'{path}/{MODEL}/model.json')
        if facts.type == fs.FileType.NotFound:
            stores.check(uri)  # there may be no bucket either
            return None
        with store.open_input_stream(facts.path) as file:
            name = hashlib.sha256(file.read()).hexdigest()[:32]
    folder = files.user_folder('CACHE', '~/.cache') / 'lcr2s_jax/models' / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as aside, stores.told(uri):
            fetched = pathlib.Path(aside) / MODEL
            fetched.mkdir()
            fs.copy_files(
                f'{path}/{MODEL}', str(fetched), source_filesystem=store, destination_filesystem=fs.LocalFileSystem()
            )
            with contextlib.suppress(OSError):  # another process was faster
                fetched.rename(folder)
    return folder


def put_model(uri: str, write) -> pathlib.Path:
    """Have `write(folder)` make the model and leave it in the index; its local folder."""
    if not is_remote(uri):
        folder = pathlib.Path(uri) / MODEL
        write(folder)
        return folder
    with tempfile.TemporaryDirectory() as aside:
        folder = pathlib.Path(aside) / MODEL
        write(folder)
        for file in sorted(folder.iterdir(), key=lambda file: file.name == 'model.json'):  # last: it says all is there
            stores.write(f'{uri}/{MODEL}/{file.name}', file.read_bytes())
    return model_folder(uri)


def read(uri: str, name: str, most: int = 1 << 20) -> bytes | None:
    """A file of an index, of at most so many bytes; None where there is none. Raises SearchError."""
    try:
        if is_remote(uri):
            return stores.read(f'{uri}/{name}', most)
        return files.read_bytes(pathlib.Path(uri) / name, most)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SearchError(f'{uri}: {name} cannot be read ({error.strerror}); restore the index from a copy') from None


def write(uri: str, name: str, content: bytes) -> None:
    """Put a file into an index, whole or not at all."""
    if is_remote(uri):
        stores.write(f'{uri}/{name}', content)
    else:
        files.write(pathlib.Path(uri) / name, content)


def listed(uri: str, folder: str) -> set[str]:
    """Every file below a folder of an index, by its path below the index; nothing where there is no folder.

    Raises SearchError where one cannot be looked into: its files would be taken for gone.
    """
    if is_remote(uri):
        return {f'{folder}/{path}' for path, *_ in stores.listing(f'{uri}/{folder}')}

    def refuse(error: OSError):
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise SearchError(f'{error.filename}: {error.strerror}; expected a folder of the index that you may read')

    root = pathlib.Path(uri)
    below = (pathlib.Path(at) / name for at, _, names in os.walk(root / folder, onerror=refuse) for name in names)
    return {path.relative_to(root).as_posix() for path in below}


def unlink(uri: str, names: Iterable[str]) -> None:
    """Remove files of an index, those that can be."""
    if is_remote(uri):
        stores.remove(uri, names)
        return
    for name in names:
        with contextlib.suppress(OSError):
            (pathlib.Path(uri) / name).unlink()
