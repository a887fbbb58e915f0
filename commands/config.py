"""--config=FILE and the --config.field=value behind it become a ConfigDict, without a flag of the whole process."""

import difflib
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from commands import limits
from configs import base
from lcr2s_jax.errors import ConfigError, UserError, meant


def read(file: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """A config with fields set; what follows a : of `file` goes to its get_config.

    Raises ConfigError: no such file or field, or a value that the field cannot have.
    """
    if not pathlib.Path(file.partition(':')[0]).is_file():
        near = difflib.get_close_matches(file, map(str, pathlib.Path('configs').glob('*.py')), n=1)
        raise ConfigError(f'--config: found no file {file}; expected one such as {(near or ["configs/demo.py"])[0]}')
    own = _executed(file)
    known = [name for name, _ in _items(own)]
    for word in overrides:
        name = word.removeprefix('--config.').partition('=')[0]
        if name not in known:
            last, group = name.rpartition('.')[2], name.rpartition('.')[0]
            same = [one for one in known if one.rpartition('.')[2] == last]  # in another group
            initials = [one for one in known if _initials(one) == last and one.startswith(group)]
            near = (same or initials or difflib.get_close_matches(name, known, n=1, cutoff=0.5))[:1]
            raise ConfigError(
                f'found the unknown config field {name}, expected one of {file}'
                + (f'; did you mean --config.{near[0]}?' if near else '')
            )
    try:
        found = _set(own, overrides)
    except ConfigError:
        for word in overrides:  # each alone, as the error does not say which
            _check_value(own, word)
        raise
    limits.check(found.to_dict())
    return found


def _executed(file: str) -> ConfigDict:
    """What get_config() of a file returns. Raises ConfigError, whatever the file does, naming its line."""
    path, _, argument = file.partition(':')
    module = types.ModuleType('__config__')
    module.__file__ = path
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for what it defines
    try:
        exec(compile(pathlib.Path(path).read_bytes(), path, 'exec', dont_inherit=True), vars(module))
        found = module.get_config(*[argument] * bool(argument))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is a program, and may do anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        at = f', line {lines[-1]}' if lines else ''
        raise ConfigError(f'--config: {path}{at} cannot be used ({type(error).__name__}: {_short(error)})') from error
    if not isinstance(found, ConfigDict):
        raise ConfigError(f'--config: found {type(found).__name__} from get_config() of {path}, expected a ConfigDict')
    _check_fields(path, found)
    return found.lock()


def _check_fields(path: str, found: ConfigDict) -> None:
    """Raise ConfigError unless a file has just the fields of configs/base.py: another would be set and never read."""
    here, there = ({name: type(value) for name, value in _items(config)} for config in (found, base.get_config()))
    for name in here:
        if name not in there:
            raise ConfigError(
                f'--config: found {name} in {path}, expected a field of configs/base.py{meant(name, there)}'
            )
    for name, kind in there.items():
        if name not in here or (here[name] is not kind and {here[name], kind} != {list, tuple}):
            what = f'{name} of the type {here[name].__name__}' if name in here else f'no {name}'
            raise ConfigError(
                f'--config: found {what} in {path}, expected {kind.__name__}, as in configs/base.py. Start from '
                'base.get_config() and change values alone.'
            )


def _check_value(config: ConfigDict, word: str) -> None:
    try:
        _set(config, [word])
    except ConfigError:
        name = word.removeprefix('--config.').partition('=')[0]
        raise ConfigError(f'found {word[:100]}, expected {_expected(config, name)}') from None


def _expected(config: ConfigDict, name: str) -> str:
    """What a field may be set to, by what the file sets it to."""
    for part in name.split('.'):
        config = config[part]
    if isinstance(config, ConfigDict):
        return f'one of its fields to be set, such as --config.{name}.{next(iter(config), "...")}=...'
    kinds = {bool: 'true or false', int: 'a whole number', float: 'a number', tuple: 'values in brackets'}
    return f'{kinds.get(type(config), "text")}, such as {str(config)[:60]}'


def _initials(name: str) -> str:
    """lr of optim.learning_rate."""
    return ''.join(part[:1] for part in name.rpartition('.')[2].split('_'))


def _set(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A copy with fields set."""
    values, argv = flags.FlagValues(), ['main.py', *overrides]
    try:
        holder = config_flags.DEFINE_config_dict(
            'config', config.copy_and_resolve_references(), flag_values=values, sys_argv=argv
        )
        values(argv)
        return holder.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'--config: {_short(error)}') from None


def _items(config: ConfigDict, above: str = '') -> Iterator[tuple[str, Any]]:
    """Name and value of every field and group, fields of groups after them."""
    for name, value in config.items():
        yield above + name, value
        if isinstance(value, ConfigDict):
            yield from _items(value, f'{above}{name}.')


def _short(error: BaseException) -> str:
    """The first line that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), '')[:300]
