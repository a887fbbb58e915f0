"""What a run tells: metrics.jsonl and TensorBoard files to keep, a bar or lines to watch, a table at the end."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Callable

import jax
from flax.traverse_util import flatten_dict

from lcr2s_jax import files
from lcr2s_jax.progress import clock

_ROW = {'stage': str, 'step': int, 'elapsed?': float}


class Report:
    """The one place that writes about a run, metrics.jsonl and tensorboard/; on many hosts only the first one does."""

    def __init__(self, workdir: str | pathlib.Path, quiet: bool = False):
        self._folder = pathlib.Path(workdir)
        self._jsonl = self._folder / 'metrics.jsonl'
        self._writes = jax.process_index() == 0
        self._prints = self._writes and not quiet
        self._bar = self._task = self._board = None
        self.seconds: dict[str, float] = {}
        self._told: list[str] = []  # of a stage that was finished before

    def say(self, text: str) -> None:
        """One plain line, above the progress bar if there is one."""
        if self._prints:
            (self._bar.console.print if self._bar else print)(text, **({} if self._bar else {'flush': True}))

    def start(self, stage: str, first: int, steps: int) -> None:
        """Begin or resume a stage at step `first`: what an interrupted run logged beyond it is dropped."""
        self._stage, self._steps, self._line, self._told = stage, steps, '', []
        self.seconds[stage] = 0.0
        if not self._writes:
            return
        lines, kept = [], []
        if os.path.lexists(self._jsonl):
            with files.regular(self._jsonl) as file:
                lines = file.read().decode(errors='replace').splitlines()
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):  # cut by a kill
                row = json.loads(line)
                if not files.misfit(row, _ROW) and (row['stage'] != stage or row['step'] <= first):
                    kept.append(line)
                    if row['stage'] == stage and 'elapsed' in row:
                        self.seconds[stage] = row['elapsed']
        files.write(self._jsonl, ''.join(line + '\n' for line in kept))
        if first == steps:
            self._told = kept
            self.say(f'{stage}: finished before, at step {steps:,}')
            return
        self._open_board(stage, first)
        if first:
            self.say(f'{stage}: resumed at step {first:,} of {steps:,}')
        if self._prints and sys.stdout.isatty():
            self._open_bar(stage, first, steps)

    def log(self, stage: str, step: int, values: dict, seconds: float) -> None:
        """Record scalars (nested dictionaries are joined by '/') that took `seconds` more."""
        self.seconds[stage] += seconds
        if not self._writes:
            return
        flat = flatten_dict(values, sep='/')
        row = {'stage': stage, 'step': step, 'elapsed': round(self.seconds[stage], 3), **flat}
        with files.named(self._jsonl), self._jsonl.open('a') as file:
            file.write(json.dumps(row) + '\n')
        for name, value in flat.items():
            self._board.add_scalar(name, value, step)
        if 'loss' in flat:
            left = (self._steps - step) * self.seconds[stage] / max(step, 1)
            self._line = f'loss {flat["loss"]:.3f}  {flat["pairs_per_s"]:,.0f} pairs/s'
            if self._bar:
                self._bar.update(self._task, completed=step, note=self._line)
            else:
                self.say(f'{stage} {step:>6,}/{self._steps:,}  {self._line}  {clock(left)} left')
        else:
            told = ('val/t2i', 'val_with_supports/t2i/R1')
            found = '  '.join(f'{name} {value:.1f}' for name, value in flat.items() if name.startswith(told))
            self.say(f'{stage} {step:>6,}/{self._steps:,}  {found}')

    def end(self, stage: str, step: int, ended: str, **more) -> None:
        """One line of how a stage ended: 'done', 'stopped by a signal', 'not finite', or 'failed: ...'."""
        if not self._writes:
            return
        line = json.dumps({'stage': stage, 'step': step, 'ended': ended} | more)
        if line in self._told:  # a finished stage ends anew in every call
            return
        with contextlib.suppress(OSError), self._jsonl.open('a') as file:  # the disk may be what failed
            file.write(line + '\n')

    def stop(self) -> None:
        if self._bar:
            self._bar.stop()
        if self._board:
            self._board.close()
        self._bar = self._board = None

    def _open_board(self, stage: str, first: int) -> None:
        from tensorboardX import SummaryWriter  # late: searching and serving need no TensorBoard

        # purge_step makes TensorBoard forget what an interrupted run wrote beyond the checkpoint
        self._board = SummaryWriter(str(self._folder / 'tensorboard' / stage), purge_step=first + 1)
        events = self._board.file_writer.event_writer._ev_writer
        for name in ('write_event', 'flush', 'close'):
            setattr(events, name, _forgiving(getattr(events, name)))

    def _open_bar(self, stage: str, first: int, steps: int) -> None:
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn('{task.description}'),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn('{task.fields[note]}'),
            progress.TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(stage, total=steps, completed=first, note='compiling')
        self._bar.start()


def _forgiving(write: Callable) -> Callable:
    """The same, but for a full disk: metrics.jsonl and checkpoints tell that, TensorBoard's thread by tracebacks."""

    def call(*given):
        with contextlib.suppress(OSError):
            write(*given)

    return call
