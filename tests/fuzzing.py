"""Fuzz tests: a hundred invented inputs each in the ordinary tests, as many as FUZZ_MINUTES hold in `make fuzz`."""

import functools
import inspect
import json
import os
import time

import hypothesis
import hypothesis.strategies as st
import pytest

MINUTES = float(os.environ.get('FUZZ_MINUTES', '0'))
_SETTINGS = dict(deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))


def fuzz(strategy, share: float = 1.0, examples: int = 100):
    """Turn a function of one input, and of fixtures after it, into a test of many inputs.

    Args:
        strategy: of the inputs.
        share: of FUZZ_MINUTES that this test takes.
        examples: in the ordinary tests, always the same ones.
    """

    def wrap(check):
        @pytest.mark.fuzz
        @functools.wraps(check)
        def test(**fixtures):
            count, began = 0, time.monotonic()
            while True:
                run = hypothesis.given(strategy)(lambda content: check(content, **fixtures))
                settings = hypothesis.settings(
                    max_examples=2000 if MINUTES else examples, derandomize=not MINUTES, **_SETTINGS
                )
                settings(hypothesis.seed(count)(run) if MINUTES else run)()
                count += 2000 if MINUTES else examples
                if time.monotonic() - began >= 60 * MINUTES * share:
                    break
            print(f'{check.__name__}: {count:,} inputs in {time.monotonic() - began:.0f} s')

        del test.__wrapped__
        # pytest would take the input for a fixture
        test.__signature__ = inspect.Signature(list(inspect.signature(check).parameters.values())[1:])
        return test

    return wrap


odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 70), st.floats(), st.text(max_size=20),
    st.sampled_from([10**9, -1, 0, 2**63, 10**400, '', 'gelu', 'F32', 1e-5, float('nan')]),
    st.sampled_from(['[]', '{}', '[[]]', '[1, 2]']).map(json.loads),  # new ones: `changed` may change them again
    st.lists(st.integers(-1, 100), max_size=5),
)  # fmt: skip
anything = st.recursive(odd, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=9), x, max_size=4))


@st.composite
def changed(draw, value, times=3):
    """A JSON value with some of its parts replaced, dropped or added."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, times))):
        node = value
        while isinstance(node, dict | list) and node:
            keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys[:200]))
            if not isinstance(node[key], dict | list) or not node[key] or draw(st.integers(0, 2)) == 0:
                if draw(st.booleans()):
                    node[key] = draw(anything)
                else:
                    node.pop(key)
                break
            node = node[key]
    return value


@st.composite
def damaged(draw, data: bytes):
    """Bytes with some of them cut, changed or put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 2))
        data[at : at + draw(st.integers(0, 8)) * (kind != 0)] = draw(st.binary(max_size=8)) if kind != 1 else b''
    return bytes(data)
