"""How far a long task is: the library says it here, and whoever calls decides what is shown."""

import contextlib
from collections.abc import Callable, Iterator


class Progress:
    """Told how far a task is; this one shows nothing."""

    def say(self, text: str) -> None:
        """A line of its own, such as that another process is waited for."""

    @contextlib.contextmanager
    def counting(self, what: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Give a function to call with how many more are done, of `total`; None where nobody knows."""
        yield lambda count: None


QUIET = Progress()


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
