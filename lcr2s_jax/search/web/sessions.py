"""Who is logged in: passwords are checked one after the other for each name; sessions are few a user, and end."""

import asyncio
import collections
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from http import cookies

COOKIE = 'access-token-lcr2s'
_WAIT = 1.0  # seconds that a wrong password costs
_LINE = 5  # logins by one name that wait for each other
_MOST = 16  # sessions of one user; the one that rested longest goes
_IDLE = 12 * 3600  # seconds without a call after which a session ends
_TABS = 16  # pages that one session has open; each has an answer in memory


class Session:
    """Somebody who is in; `tabs` are open pages, by gradio's hash of each, the one that rested longest first."""

    def __init__(self, user: str):
        self.user, self.tabs = user, collections.OrderedDict()
        self.used = time.monotonic()

    def tab(self, name: str) -> list[str]:
        """Remember a page; the names of those that it pushes out."""
        self.tabs[name] = None
        self.tabs.move_to_end(name)
        return [self.tabs.popitem(last=False)[0] for _ in range(len(self.tabs) - _TABS)]


class Sessions:
    """Passwords, name -> password, and who came in by them; `told` writes down (name, accepted) of each attempt."""

    def __init__(self, users: Mapping[str, str], told: Callable[[str, bool], None]):
        self._users, self._told = users, told
        # A line for each name, and one for all that are nobody's: who floods one user's keeps out that user alone.
        self._lines = {name: asyncio.Lock() for name in (*users, None)}
        self._waiting: collections.Counter = collections.Counter()
        self._open: collections.OrderedDict[str, Session] = collections.OrderedDict()

    async def login(self, name: str, password: str) -> tuple[str, list[str]] | None:
        """(token of a new session, pages of sessions that it pushed out); None for a wrong name or password.

        The line of a name is short, and who finds it full is turned away unread and unlogged, or a flood would be
        slowed down by nothing.
        """
        line = name if name in self._users else None
        if self._waiting[line] >= _LINE:
            return None
        self._waiting[line] += 1
        try:
            async with self._lines[line]:
                right = line is not None and hmac.compare_digest(self._users[name].encode(), password.encode())
                await asyncio.to_thread(self._told, name, right)
                if not right:
                    await asyncio.sleep(_WAIT)
                    return None
        finally:
            self._waiting[line] -= 1
        token = secrets.token_urlsafe(24)
        self._open[token] = Session(name)
        own = [token for token, session in self._open.items() if session.user == name]
        return token, [tab for old in own[:-_MOST] for tab in self.end(old)]

    def of(self, header: str) -> tuple[str, Session] | None:
        """(token, session) that a Cookie header belongs to."""
        try:
            found = cookies.SimpleCookie(header).get(COOKIE)
        except cookies.CookieError:
            return None
        session = found and self._open.get(found.value)
        if not session:
            return None
        if time.monotonic() - session.used > _IDLE:
            self.end(found.value)
            return None
        session.used = time.monotonic()
        self._open.move_to_end(found.value)
        return found.value, session

    def end(self, token: str) -> list[str]:
        """End a session; the pages that it had open."""
        session = self._open.pop(token, None)
        return list(session.tabs) if session else []


def cookie(token: str, secure: bool) -> str:
    """The Set-Cookie header of a session; '' as token ends it. The browser forgets it when it is closed."""
    ended = '' if token else '; Max-Age=0'
    return f'{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax{"; Secure" * secure}{ended}'
