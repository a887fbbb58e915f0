"""Where an index lies: a local folder or an object store; the model in it is a local folder either way."""

import os
import pathlib
import shutil
import tempfile

from lcr2s_jax.errors import SearchError

MODEL = 'model'


def is_remote(uri: str) -> bool:
    """Whether it is an object store's URL."""
    return '://' in uri


def model_folder(uri: str) -> pathlib.Path | None:
    """The model's folder, fetched first (once) from an object store; None where the index has none yet."""
    if not is_remote(uri):
        folder = pathlib.Path(uri) / MODEL
        return folder if folder.is_dir() else None
    from pyarrow import fs

    store, path = _store(uri)
    facts = f'{path}/{MODEL}/model.json'
    if store.get_file_info(facts).type == fs.FileType.NotFound:
        return None
    with store.open_input_stream(facts) as file:
        content = file.read()
    folder = _cache() / _name(content)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = pathlib.Path(tempfile.mkdtemp(dir=folder.parent))
        fs.copy_files(f'{path}/{MODEL}', str(aside), source_filesystem=store, destination_filesystem=fs.LocalFileSystem())
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
    from pyarrow import fs

    store, path = _store(uri)
    with tempfile.TemporaryDirectory() as aside:
        folder = pathlib.Path(aside) / MODEL
        write(folder)
        for file in sorted(folder.iterdir(), key=lambda file: file.name == 'model.json'):  # last: it says all is there
            with store.open_output_stream(f'{path}/{MODEL}/{file.name}') as out:
                out.write(file.read_bytes())
    return model_folder(uri)


def _store(uri: str):
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(uri.rstrip('/'))
    except (OSError, ValueError) as error:
        raise SearchError(f'--index: {uri} cannot be reached ({error}); expected a folder, s3://... or gs://...') from None


def _cache() -> pathlib.Path:
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'lcr2s_jax' / 'models'


def _name(facts: bytes) -> str:
    import hashlib

    return hashlib.sha256(facts).hexdigest()[:32]
