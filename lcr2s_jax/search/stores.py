"""Object stores (s3://, gs://, and file:// for tests): opened with bounded patience, their errors in plain words."""

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from lcr2s_jax import threads
from lcr2s_jax.errors import SearchError

CONNECT, ANSWER, TRIES = 5, 10, 3  # seconds to connect, seconds without a byte, tries: then it is said

_WORDS = (  # what a store, or the way to it, says -> what was found, what to do
    (
        r'NoSuchBucket|NO_SUCH_BUCKET|bucket does not exist',
        'no such bucket is there; make it, or correct the name',
    ),
    (
        r'[Nn]o credentials|CredentialsNotLoaded|credentials? provider|NO_CREDENTIALS',
        'found no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile',
    ),
    (
        r'InvalidAccessKeyId|INVALID_ACCESS_KEY|SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|InvalidToken|ExpiredToken'
        r'|AccessDenied|ACCESS_DENIED|[Ss]tatus:? 40[13]\b',
        'the store refuses these credentials; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN '
        '(or the profile), and that they may read, write, list and delete there',
    ),
    (
        r'SlowDown|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|InternalError|[Ss]tatus:? (429|5\d\d)\b',
        'the store is overloaded or broken just now; give the same command again in a while',
    ),
    (
        r'[Tt]imed? ?out|error sending request|[Cc]onnection (refused|reset|closed)|connect error|dns error'
        r'|NETWORK_CONNECTION|curlCode|CURL error|Retry policy exhausted',
        'the store does not answer; check the address (AWS_ENDPOINT_URL, AWS_REGION) and the network, then give the '
        'same command again',
    ),
)


def is_remote(uri) -> bool:
    """Whether it is an object store's URL."""
    return '://' in str(uri)


def in_words(said: str) -> str | None:
    """What an error of an object store means, and what to do; None where nobody knows."""
    return next((words for pattern, words in _WORDS if re.search(pattern, said)), None)


@contextlib.contextmanager
def told(uri: str) -> Iterator[None]:
    """Say in plain words why an object store did not do what it was asked for. Raises SearchError."""
    try:
        yield
    except OSError as error:
        said = (str(error).strip().splitlines() or [''])[0]
        raise SearchError(f'{uri}: {in_words(str(error)) or said[:200]}') from error


def opened(uri: str):
    """(pyarrow's file system, path in it) of a URL. Raises SearchError."""
    from pyarrow import fs

    uri = uri.rstrip('/')
    if uri.startswith(('http://', 'https://', 'rtsp://', 'ftp://', 'hf://')):
        raise SearchError(
            f'found the address {uri}, expected a folder, s3://... or gs://...; fetch what is there first'
        )
    try:
        if not uri.startswith(('s3://', 'gs://', 'file://')):
            raise ValueError('another kind of address')
        if uri.startswith('gs://') and 'retry_limit_seconds' not in uri:
            uri += f'{"&" if "?" in uri else "?"}retry_limit_seconds={ANSWER}'
        if not uri.startswith('s3://'):
            return fs.FileSystem.from_uri(uri)
        parts = urlsplit(uri)
        if not parts.netloc or parts.query or '@' in parts.netloc:
            raise ValueError('no bucket, or more than a bucket and a path')
        names = ('AWS_REGION', 'AWS_DEFAULT_REGION', 'AWS_ACCESS_KEY_ID', 'AWS_SESSION_TOKEN', 'AWS_PROFILE')
        said = tuple(os.environ.get(name, '') for name in names)
        return _client(parts.netloc, said[0] or said[1], _endpoint(), said[2:]), f'{parts.netloc}{parts.path}'
    except (OSError, ValueError) as error:
        why = in_words(str(error)) or error
        raise SearchError(f'{uri} cannot be reached ({why}); expected a folder, s3://... or gs://...') from None


@functools.lru_cache(maxsize=16)  # a client keeps its connections; one of other credentials is another
def _client(bucket: str, region: str, endpoint: str, credentials: tuple[str, ...]):
    from pyarrow import fs

    if not region and not endpoint:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region or 'us-east-1',
        endpoint_override=endpoint or None,
        connect_timeout=CONNECT,
        request_timeout=ANSWER,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
    )


def check(uri: str) -> None:
    """Raise SearchError where the bucket of a URL is not there or cannot be looked at: quickly, before any work."""
    from pyarrow import fs

    store, path = opened(uri)
    bucket = path.partition('/')[0]
    if uri.startswith('file://'):
        return
    with told(uri):
        if store.get_file_info(bucket).type == fs.FileType.NotFound:
            raise SearchError(f'{uri}: found no bucket {bucket}; make it first, or correct it')


def options(uri: str) -> dict[str, str] | None:
    """What LanceDB needs to know of a store beside what it reads in the environment; None for a folder.

    Credentials and region it reads itself, as every program of AWS does: AWS_ACCESS_KEY_ID and so on.
    """
    if not uri.startswith('s3://'):
        return None
    bounds = {
        'connect_timeout': f'{CONNECT}s',
        'timeout': f'{2 * ANSWER}s',
        'client_max_retries': str(TRIES),
        'client_retry_timeout': str(2 * ANSWER),
    }
    place, end = {}, _endpoint()
    if end:
        place = {'aws_endpoint': end, 'allow_http': str(end.startswith('http://')).lower()}
    if end and not (os.environ.get('AWS_REGION') or os.environ.get('AWS_DEFAULT_REGION')):
        place['aws_region'] = 'us-east-1'  # what other stores than Amazon's take
    return bounds | place


def listing(uri: str) -> Iterator[tuple[str, int, int]]:
    """(path below the URL, bytes, modified in microseconds since 1970) of every object. Raises SearchError."""
    from pyarrow import fs

    store, path = opened(uri)
    with told(uri):
        found = store.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    for one in found:
        if one.type == fs.FileType.File:
            yield one.path[len(path) + 1 :], one.size, (one.mtime_ns or 0) // 1000


def read(uri: str, most: int) -> bytes:
    """At most so many bytes of an object. Raises FileNotFoundError; SearchError where the store does not give it."""
    store, path = opened(uri)
    try:
        with told(uri), store.open_input_stream(path) as file:
            return file.read(most)
    except SearchError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None
        raise


def write(uri: str, content: bytes) -> None:
    """Put one object, whole or not at all. Raises SearchError."""
    store, path = opened(uri)
    with told(uri):
        if not uri.startswith('s3://'):
            store.create_dir(path.rpartition('/')[0])  # a disk behind file:// wants it
        with store.open_output_stream(path) as out:
            out.write(content)


def remove(uri: str, names: Iterable[str]) -> None:
    """Remove objects below a URL; those that are gone already are no mistake. Raises SearchError."""
    store, path = opened(uri)

    def one(name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            store.delete_file(f'{path}/{name}')

    with told(uri):
        for _ in threads.in_order(one, names):
            pass


def _endpoint() -> str:
    return os.environ.get('AWS_ENDPOINT_URL_S3') or os.environ.get('AWS_ENDPOINT_URL') or ''
