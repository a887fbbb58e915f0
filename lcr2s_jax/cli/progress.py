"""Progress on a terminal: a bar that goes away."""

import contextlib
import sys

from lcr2s_jax.progress import Progress


class Shown(Progress):
    """Told to standard error."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)

    @contextlib.contextmanager
    def counting(self, what: str, total: float | None = None):
        import rich.console
        import rich.progress

        console = rich.console.Console(stderr=True)
        columns = rich.progress.BarColumn(), rich.progress.TimeRemainingColumn(), f'{{task.completed:,.0f}} {what}'
        with rich.progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task('', total=total)
            yield lambda count: bar.advance(task, count)
