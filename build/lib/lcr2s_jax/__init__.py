"""Text-to-image person re-identification: LCR2S (ACM MM 2023) in JAX.

    model = lcr2s_jax.load('runs/demo')
    v, t = model.encode_image(pictures), model.encode_text(sentences)
    model.similarity(t, v)
    lcr2s_jax.metrics.retrieval(t, v, text_pid, image_pid)
    lcr2s_jax.open_index('my-index').search('a woman in a red coat')

Nothing is imported until it is used: importing this package takes milliseconds.
"""

import importlib

__version__ = '0.2.0'

TYPE_CHECKING = False  # importing typing costs more than all else here
if TYPE_CHECKING:
    from lcr2s_jax.api import load, open_index
    from lcr2s_jax.evaluation import metrics
    from lcr2s_jax.model import Model

_WHERE = {
    'load': ('lcr2s_jax.api', 'load'),
    'open_index': ('lcr2s_jax.api', 'open_index'),
    'Model': ('lcr2s_jax.model', 'Model'),
    'metrics': ('lcr2s_jax.evaluation.metrics', ''),
}
__all__ = ['Model', '__version__', 'load', 'metrics', 'open_index']


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'lcr2s_jax' has no attribute '{name}'")
    module, attribute = _WHERE[name]
    value = importlib.import_module(module)
    globals()[name] = value = getattr(value, attribute) if attribute else value
    return value


def __dir__():
    return sorted([*globals(), *_WHERE])
