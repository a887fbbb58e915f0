"""--config=FILE and the --config.field=value behind it become a ConfigDict, without a flag of the whole process."""

import difflib
import pathlib
from collections.abc import Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from lcr2s_jax.errors import ConfigError


def read(file: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """A config with fields set; what follows a : of `file` goes to its get_config.

    Raises ConfigError: no such file or field, or a value that the field cannot have.
    """
    if not pathlib.Path(file.partition(':')[0]).is_file():
        near = difflib.get_close_matches(file, map(str, pathlib.Path('configs').glob('*.py')), n=1)
        raise ConfigError(f'--config: found no file {file}; expected one such as {(near or ["configs/demo.py"])[0]}')
    own = _parse(file, [])
    known = list(_fields(own))
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
        return _parse(file, overrides)
    except ConfigError:
        for word in overrides:  # each alone, as the error does not say which
            _check_value(file, own, word)
        raise


def _check_value(file: str, config: ConfigDict, word: str) -> None:
    try:
        _parse(file, [word])
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


def _parse(file: str, overrides: Sequence[str]) -> ConfigDict:
    values, argv = flags.FlagValues(), ['main.py', f'--config={file}', *overrides]
    holder = config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
    try:
        values(argv)
        found = holder.value
    except flags.IllegalFlagValueError as error:
        raise ConfigError(f'--config: {_short(error)}') from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError, ImportError) as error:
        raise ConfigError(f'--config: {file} cannot be used ({type(error).__name__}: {_short(error)})') from None
    if not isinstance(found, ConfigDict):
        raise ConfigError(f'--config: found no get_config() that works in {file}')
    return found


def _fields(config: ConfigDict, above: str = '') -> Iterator[str]:
    for name, value in config.items():
        yield above + name
        if isinstance(value, ConfigDict):
            yield from _fields(value, f'{above}{name}.')


def _short(error: Exception) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines and lines[0].startswith('Error whilst') else (lines or [''])[0])[:300]
