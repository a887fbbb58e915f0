"""Fuzz tests: a hundred invented inputs each in the ordinary tests, as many as FUZZ_MINUTES hold in `make fuzz`."""

import functools
import os
import time

import hypothesis
import pytest

MINUTES = float(os.environ.get('FUZZ_MINUTES', '0'))
_SETTINGS = dict(deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))


def fuzz(strategy, share: float = 1.0, examples: int = 100):
    """Turn a function of one input into a test of many.

    Args:
        strategy: of the inputs.
        share: of FUZZ_MINUTES that this test takes.
        examples: in the ordinary tests, always the same ones.
    """

    def wrap(check):
        @pytest.mark.fuzz
        @functools.wraps(check)
        def test():
            count, began = 0, time.monotonic()
            while True:
                run = hypothesis.given(strategy)(check)
                settings = hypothesis.settings(
                    max_examples=2000 if MINUTES else examples, derandomize=not MINUTES, **_SETTINGS
                )
                settings(hypothesis.seed(count)(run) if MINUTES else run)()
                count += 2000 if MINUTES else examples
                if time.monotonic() - began >= 60 * MINUTES * share:
                    break
            print(f'{check.__name__}: {count:,} inputs in {time.monotonic() - began:.0f} s')

        del test.__wrapped__  # pytest would take the input for a fixture
        return test

    return wrap
