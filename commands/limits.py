"""What the numbers of a config may be: told before anything is opened, all that are wrong at once."""

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax.traverse_util import flatten_dict

from lcr2s_jax.errors import ConfigError

_LIMITS: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (  # in words, a test, fields
    (
        'a whole number from 0 to 2147483647',  # seeds are int32 on a device
        lambda x: 0 <= x < 2**31,
        ('seed', 'reseed.*', 'data.demo.seed', 'data.folder.seed'),
    ),
    (
        '1 or more',
        lambda x: x >= 1,
        ('train.*', 'batch.*', 'evaluate.batch_size', 'data.max_pixels', 'teacher.heads', 'model.chunks'),
    ),
    ('2 or more', lambda x: x >= 2, ('model.vocab_size', 'model.context_length', 'fusion.support_views')),
    ('above 0', lambda x: x > 0, ('*.scale', 'optim.eps')),
    ('0 or more and below 1', lambda x: 0 <= x < 1, ('optim.b[12]', 'data.folder.[vt]*')),
    (
        '0 to 1',
        lambda x: 0 <= x <= 1,
        (
            'augment.flip', 'augment.erase', 'optim.warmup', 'masking.*', '*.support_dropout', '*.wrong_supports',
            '*.target_share',
        ),
    ),
    (
        '0 or more',
        lambda x: x >= 0,
        (
            '*_weight', 'augment.pad', 'data.demo.people.*', 'model.heads', 'optim.learning_rate', 'optim.warmup_start',
            'optim.clip_norm', 'parallel.devices', '*.fade_steps', '*.gate', 'student.support_views',
        ),
    ),
)  # fmt: skip
_MOST = 10**18  # no whole number that a field says comes near
_WORDS = {  # fields that are read for some models alone: for others, a misspelt value would pass unnoticed
    'model.dtype': ('float32', 'bfloat16'),
    'model.resize': ('bicubic', 'bilinear'),
    'model.activation': ('', 'quick_gelu', 'gelu'),
}


def check(config: Mapping, where: str = 'config.') -> None:
    """Raise ConfigError, naming every field with a value that it cannot have; `where` stands before their names.

    `config` is nested, as configs/base.py has it, or a part of that.
    """
    faults = [f'{where}{field}: {fault}' for field, fault in _faults(flatten_dict(config, sep='.'))]
    if faults:
        raise ConfigError('\n'.join(faults))


def limit_of(field: str) -> tuple[str, Callable[[float], bool]] | None:
    """What the number of a field has to be, in words and as a test; None where that was never said."""
    for words, test, fields in _LIMITS:
        if any(fnmatch.fnmatchcase(field, pattern) for pattern in fields):
            return words, test
    return None


def _faults(flat: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, value in flat.items():
        if field in _WORDS and value not in _WORDS[field]:
            yield field, f"found '{value}', expected {' or '.join(map(repr, _WORDS[field]))}"
        elif isinstance(value, int | float) and not isinstance(value, bool) and (limit := limit_of(field)):
            words, test = limit
            # math.isfinite fails for integers of 400 digits
            known = abs(value) < _MOST if isinstance(value, int) else math.isfinite(value)
            if not (known and test(value)):
                words = words if known else 'a finite number, a whole one below 1e18'
                yield field, f'found {str(value)[:40]}, expected {words}'
    pad, size = flat.get('augment.pad', 0), flat.get('model.image_size', ())
    if size and all(type(side) is int for side in size) and 0 < min(size) <= pad < _MOST:
        # a crop could lie beside the picture, and be of padding alone
        yield 'augment.pad', f'found {pad}, expected less than {min(size)}, the smaller side of model.image_size'
