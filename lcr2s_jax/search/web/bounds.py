"""What bounds a server: few calls of a kind at once, bodies that come in time, and a folder that cannot fill up."""

import asyncio
import collections
import contextlib
import io
import itertools
import os
import pathlib
import re
import threading
import time
from collections.abc import Awaitable, Iterable
from typing import IO, NamedTuple

_CHUNK = 1 << 18  # other calls come in between
# the one boundary of an upload, as RFC 2046 has them: what is counted is what gradio reads
BOUNDARY = re.compile(r'multipart/form-data; ?boundary="?([\w\'()+_,./:=?-]{1,70})"?', re.ASCII | re.IGNORECASE)


class Bounds(NamedTuple):
    call: int = 256 << 10  # bytes of a call: the letters that may be asked, each escaped
    headers: int = 32 << 10  # bytes of a call's headers: 90 kB of cookies take Python a third of a second
    login: int = 4 << 10  # bytes of a login
    upload: int = 64 << 20  # bytes of one upload
    parts: int = 32  # files of one upload
    uploads: int = 256 << 20  # bytes of all uploads that lie there or come, together
    of_user: int = 128 << 20  # bytes of those of one user
    kept: float = 900  # seconds that an upload lies there
    waiting: int = 8  # calls of one user that wait or run
    logins: int = 64  # that are being read at once
    streams: tuple[int, int] = (48, 192)  # open answers of one session; and of all sessions
    arrive: float = 10  # seconds in which a call must have come
    upload_arrives: float = 300  # the same of an upload


class Late(Exception):
    """A body that is longer than it may be, or that does not come in time, or whose sender is gone."""

    def __init__(self, status: int):
        self.status = status


class Newest:
    """At most so many calls at once, of each key and of all (total); where one more comes, the oldest is ended.

    Who holds many open thus ends his own; who comes new, gets in.
    """

    def __init__(self, each: int, total: int):
        self._each, self._total = each, total
        self._calls: collections.OrderedDict[asyncio.Future, object] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    async def run(self, key: object, call: Awaitable) -> bool:
        """Await a call; False where it was ended for another one."""
        task = asyncio.ensure_future(call)
        own = [other for other, of in self._calls.items() if of == key]
        ended = own[: max(0, len(own) - self._each + 1)]
        ended += [other for other in self._calls if other not in ended][: max(0, len(self._calls) - self._total + 1)]
        for other in ended:
            self._calls.pop(other, None)
            other.cancel()
        self._calls[task] = key
        try:
            await asyncio.wait([task])
        finally:
            self._calls.pop(task, None)
            task.cancel()
        if task.cancelled():
            return False
        task.result()
        return True


async def body(receive, most: int, seconds: float) -> bytes:
    """A whole body. Raises Late."""
    file = io.BytesIO()
    await spool(receive, file, most, seconds)
    return file.getvalue()


async def spool(receive, file: IO[bytes], most: int, seconds: float) -> None:
    """Write a body into a file. Raises Late."""
    try:
        async with asyncio.timeout(seconds):
            count, more = 0, True
            while more:
                message = await receive()
                if message['type'] != 'http.request':
                    raise Late(400)
                chunk, more = message.get('body', b''), message.get('more_body', False)
                count += len(chunk)
                if count > most:
                    raise Late(413)
                file.write(chunk)
    except TimeoutError:
        raise Late(408) from None


async def drain(receive, most: int = 8 << 20, seconds: float = 2.0) -> None:
    """Read so much of a body that is refused, and keep none of it.

    A client that is still sending when a connection closes sees a broken one, and not the answer.
    """
    more = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while more and most > 0:
                message = await receive()
                more = message.get('more_body', False)
                most -= len(message.get('body', b''))


def replay(file: IO[bytes], receive):
    """A `receive` that gives what is in a file from its beginning, then goes on."""
    file.seek(0)
    done = False

    async def again():
        nonlocal done
        if done:
            return await receive()
        chunk = file.read(_CHUNK)
        done = len(chunk) < _CHUNK
        await asyncio.sleep(0)
        return {'type': 'http.request', 'body': chunk, 'more_body': not done}

    return again


def occurrences(file: IO[bytes], words: bytes) -> int:
    file.seek(0)
    count, tail = 0, b''
    while chunk := file.read(_CHUNK):
        part = tail + chunk
        count += part.count(words)
        tail = part[-(len(words) - 1) :] if len(words) > 1 else b''
    return count


class Room:
    """The folder that uploads pass through: how much lies there, whose it is, and what is too old to stay.

    Args:
      total: bytes of all together; a file counts as a disk's block at least.
      each: bytes of one user.
      seconds: that a file stays.
      known: paths that gradio has noted; those that are gone are taken out of it.
    """

    def __init__(self, folder: pathlib.Path, total: int, each: int, seconds: float, known: set[str] | None = None):
        self.folder, self._total, self._each, self._seconds = folder.resolve(), total, each, seconds
        self._known, self._owners = set() if known is None else known, collections.defaultdict(set)
        self._coming: collections.Counter = collections.Counter()
        self._one, self._numbers = threading.Lock(), itertools.count()

    def take(self, user: str, count: int) -> int:
        """Reserve bytes for an upload: 0; or 429 where they are too many for the user, 503 for all."""
        with self._one:
            there = self._sweep()
            own = sum(size for path, size in there.items() if user in self._owners.get(path, ()))
            if own + self._coming[user] + count > self._each:
                return 429
            if sum(there.values()) + sum(self._coming.values()) + count > self._total:
                return 503
            self._coming[user] += count
            return 0

    def give(self, user: str, count: int, paths: Iterable[str] = ()) -> None:
        """End an upload that `take` has let in; what came of it is the user's."""
        with self._one:
            self._coming[user] -= count
            for path in paths:
                self._owners[path].add(user)

    def owns(self, user: str, path: str) -> bool:
        return user in self._owners.get(path, ())

    def clear(self, paths: Iterable[str]) -> None:
        with self._one:
            for path in paths:
                if path in self._owners:
                    pathlib.Path(path).unlink(missing_ok=True)
            self._sweep()

    def _sweep(self) -> dict[str, int]:
        """path -> bytes of what lies there, after what is too old has gone."""
        now, there = time.time(), {}
        for folder, names, files in os.walk(self.folder, topdown=False):
            for name in files:
                path = os.path.join(folder, name)
                try:
                    facts = os.stat(path)
                    # gradio leaves an empty file for each that it hands over
                    if now - facts.st_mtime > (self._seconds if facts.st_size else 60):
                        os.unlink(path)
                    else:
                        there[path] = max(facts.st_size, 4096)
                except FileNotFoundError:  # gradio has moved it
                    continue
            if folder != str(self.folder) and not names and not files:
                try:
                    if now - os.stat(folder).st_mtime > self._seconds:
                        os.rmdir(folder)
                except OSError:  # a file came meanwhile
                    continue
        for path in [path for path in self._owners if path not in there]:
            del self._owners[path]
        self._known.intersection_update(there)
        return there


def with_type(headers, kind: bytes) -> list[tuple[bytes, bytes]]:
    """Headers of a call whose content is of this kind, and told to be so once."""
    return [pair for pair in headers if pair[0].lower() != b'content-type'] + [(b'content-type', kind)]
