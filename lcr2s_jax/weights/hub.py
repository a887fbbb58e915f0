"""Files of the Hugging Face hub: from its cache where they are there, else fetched; without a network, told at once."""

import contextlib
import difflib
import functools
import pathlib
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable

from lcr2s_jax.errors import UserError, WeightsError
from lcr2s_jax.files import expanded

_PATIENCE = 2.0  # seconds until the hub counts as out of reach; its own client tries for half a minute
SCHEME = 'hf://'
TEXT_FILES = ['*.json', '*.txt', '*.txt.gz']  # configs and tokenizers
_FILES = ('.pt', '.pth', '.bin', '.ckpt', '.safetensors')  # endings that no name of a repository has
# Names that are often meant.
_KNOWN = (
    'openai/clip-vit-base-patch16', 'openai/clip-vit-base-patch32', 'openai/clip-vit-large-patch14',
    'openai/clip-vit-large-patch14-336', 'laion/CLIP-ViT-B-16-laion2B-s34B-b88K',
    'laion/CLIP-ViT-B-32-laion2B-s34B-b79K', 'laion/CLIP-ViT-L-14-laion2B-s32B-b82K',
    'laion/CLIP-ViT-H-14-laion2B-s32B-b79K', 'synthetic-pedestrians',
)  # fmt: skip
_ARCHITECTURES = {
    'vit-b/16': _KNOWN[0], 'vit-b-16': _KNOWN[0], 'vit-b/32': _KNOWN[1], 'vit-b-32': _KNOWN[1], 'vit-l/14': _KNOWN[2],
    'vit-l-14': _KNOWN[2], 'vit-l/14@336px': _KNOWN[3], 'vit-l-14-336': _KNOWN[3], 'clip': _KNOWN[0],
}  # fmt: skip


def is_name(text: str) -> bool:
    """Whether it can be the name of a repository: owner/name."""
    return re.fullmatch(r'[\w-][\w.-]{0,95}/[\w.-]{1,96}', text, re.ASCII) is not None and '..' not in text


def is_meant(text: str) -> bool:
    """Whether it names a repository and nothing on this disk."""
    path = expanded(text)
    return is_name(text) and path.suffix not in _FILES and not path.parent.is_dir()


def folder_of(name: str, patterns: list[str], error: type[UserError] = WeightsError, fresh: bool = False):
    """The folder of a repository's files that fit `patterns`, huggingface_hub's allow_patterns.

    With `fresh` the hub is asked even where the cache has some of it. Raises `error`: no such repository, no network
    and nothing in the cache.
    """
    from huggingface_hub import snapshot_download

    return _fetched(name, error, functools.partial(snapshot_download, name, allow_patterns=patterns), fresh)


def file_of(uri: str, error: type[UserError] = WeightsError) -> pathlib.Path:
    """The file of 'hf://owner/name/path/in/it'. Raises `error`."""
    from huggingface_hub import hf_hub_download

    owner, _, rest = uri.removeprefix(SCHEME).partition('/')
    name, _, file = rest.partition('/')
    if not is_name(f'{owner}/{name}') or not file or '..' in file.split('/'):
        raise error(f"found '{uri}', expected {SCHEME}OWNER/NAME/FILE, such as {SCHEME}someone/irra/best.pth")
    return _fetched(uri, error, functools.partial(hf_hub_download, f'{owner}/{name}', file))


def near(name: str, others=()) -> str:
    """A sentence that names what is like `name`; '' where nothing is."""
    if name.lower() in _ARCHITECTURES:
        return f" '{name}' is an architecture; weights of it are '{_ARCHITECTURES[name.lower()]}'."
    folded = {other.lower(): other for other in (*_KNOWN, *others)}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.75)
    return f" Did you mean '{folded[found[0]]}'?" if found and folded[found[0]] != name else ''


def _fetched(name: str, error: type[UserError], download: Callable[..., str], fresh: bool = False) -> pathlib.Path:
    """What `download` gives: from the cache, unless `fresh`, else from the hub. Raises `error`: why not, what to do."""
    from huggingface_hub import constants, errors

    if not fresh:
        with contextlib.suppress(Exception):  # the client has several ways to say that it is not there
            return pathlib.Path(download(local_files_only=True))
    why = 'HF_HUB_OFFLINE is set' if constants.HF_HUB_OFFLINE else _out_of_reach(constants.ENDPOINT)
    if not why:
        try:
            return pathlib.Path(download())
        except errors.GatedRepoError:
            raise error(
                f"'{name}': the hub gives it only to those who accepted its licence; accept it on the "
                "repository's page, then `hf auth login`."
            ) from None
        except (errors.RepositoryNotFoundError, errors.EntryNotFoundError, errors.HFValidationError) as reason:
            raise error(
                f"'{name}': found nothing by that name, neither here nor on the hub ({type(reason).__name__}); "
                f'expected a folder, a file, or a repository that is public or yours.{near(name)}'
            ) from None
        except Exception as reason:  # the client has a dozen ways to say that the network failed
            why = f'{type(reason).__name__}: {str(reason).strip().partition(chr(10))[0][:200]}'
    cache = pathlib.Path(constants.HF_HUB_CACHE)
    cached = [path.name[len('models--') :].replace('--', '/') for path in cache.glob('models--*')]
    raise error(
        f"'{name}': found no such folder or file, it is not whole in the cache of the hub ({cache}), and "
        f'the hub is out of reach ({why}). Without a network, pass the path of a folder or file; with one, '
        f'fetch it: `hf download {_words(name)}`. HF_HUB_OFFLINE=1 keeps everything from asking.'
        f'{near(name, cached)}'
    )


def _words(name: str) -> str:
    """owner/name, and the file in it where there is one, as `hf download` takes them."""
    owner, _, rest = name.removeprefix(SCHEME).partition('/')
    return f'{owner}/{rest.replace("/", " ", 1)}'


def _out_of_reach(endpoint: str) -> str:
    """Why nothing answers there, or at the proxy before it, found within seconds; '' where something does."""
    url = urllib.parse.urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(url.scheme, '')
    if proxy and not urllib.request.proxy_bypass(url.hostname or ''):
        url = urllib.parse.urlsplit(proxy if '//' in proxy else f'//{proxy}')
    place = url.hostname or '', url.port or (80 if url.scheme == 'http' else 443)
    reasons = [f'no answer of {place[0]} in {_PATIENCE:.0f} s']

    def connect():
        try:
            socket.create_connection(place, timeout=_PATIENCE).close()
            reasons.clear()
        except OSError as reason:
            reasons[:] = [f'{place[0]}: {reason.strerror or reason}']

    thread = threading.Thread(target=connect, daemon=True)  # looking a name up has no timeout of its own
    thread.start()
    thread.join(_PATIENCE + 0.2)
    return reasons[0] if reasons else ''
