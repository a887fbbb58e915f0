"""A polite end: SIGTERM is noted, and the loop stops where it stands well, on every host at the same step."""

import itertools
import signal

import jax
from jax.experimental import multihost_utils

# Steps begin anew with every stage; a number that the hosts agree on must come even where a stage ends before it.
_QUESTIONS = itertools.count(1)


class Interrupt:
    """Notes SIGTERM while its `with` block runs.

    Under `jax.distributed` the runtime itself listens and makes the hosts agree on a step; alone, we do.
    """

    def __init__(self):
        self._noted = False

    def __enter__(self):
        self._alone = jax.process_count() == 1
        if self._alone:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_):
        if self._alone:
            signal.signal(signal.SIGTERM, self._before)

    def due(self) -> bool:
        """Whether to stop after this step; every host must ask after every step, and all get the same answer."""
        if self._alone:
            return self._noted
        return multihost_utils.reached_preemption_sync_point(next(_QUESTIONS))

    def _note(self, *_):
        self._noted = True
