"""A command's line, read by argparse; a mistake becomes one sentence that names the nearest real word."""

import argparse
import errno
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from lcr2s_jax.errors import meant

REPEATED = {'action': 'append', 'default': []}  # of a flag that may be given several times


class UsageError(Exception):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    """What one command takes; flags and words may come in any order.

    `program` is what is typed before the name, `words` how those that may follow are shown, '' where there are none.
    """

    def __init__(self, name: str, about: str, program: str, words: str = ''):
        usage = ' '.join(filter(None, [program, name, words, '--flag=value ...']))
        super().__init__(usage=usage, description=about, allow_abbrev=False, add_help=False, formatter_class=_Help)
        self.name = name
        self.add_argument('--help', '-h', action='store_true', help='Print this.')

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags and words of a line. Raises UsageError."""
        needed = [action for action in self._actions if action.required and action.option_strings]
        for action in needed:
            action.required = False  # all that is missing is told at once, and after what is misspelled
        try:
            found, left = self.parse_known_intermixed_args([_dashed(word) for word in argv])
        finally:
            for action in needed:
                action.required = True
        if left:
            self.error(self._strange(left))
        missing = [action for action in needed if getattr(found, action.dest) in (None, [])]
        if missing and not found.help:
            self.error('needs ' + ' and '.join(action.option_strings[0] for action in missing))
        return found

    def _strange(self, left: Sequence[str]) -> str:
        word = next((one for one in left if one.startswith('-')), None)
        if word is None:
            return f'takes no word {_shown(left[0])}'
        flag = word.partition('=')[0]
        return f'takes no {_shown(flag)}{meant(flag, [*self.flags(), "--version"])}'

    def flags(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings if name.startswith('--')]

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, in our words."""
        message = re.sub(r'^argument (\S+?)(/\S+)?: ', r'\1: ', message)
        message = message.replace('expected one argument', 'expected a value')
        message = re.sub(r'ignored explicit argument .*', 'takes no value', message)
        raise UsageError(f'{self.name} {message}' if message.startswith(('needs', 'takes')) else message)


class _Help(argparse.HelpFormatter):
    """A flag a line where there is room."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=26, width=118)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return action.metavar or action.dest
        name = action.option_strings[0]
        return f'{name} ' if action.nargs == 0 else f'{name}={action.metavar or "..."}'

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.required and action.option_strings:
            return f'{action.help} (needed)'
        if action.default in (None, '', False, []) or action.nargs == 0:
            return action.help
        return f'{action.help} [%(default)s]'


def place(text: str) -> str:
    """A type of flag: a folder, a file or a URL. ~ is the home folder, which shells leave alone behind a =."""
    if not text:
        raise argparse.ArgumentTypeError('found nothing, expected a place')
    if '://' in text:
        return text
    if variable := re.match(r'\$(\w+|\{\w+\})(?=/|$)', text):
        name = variable[1].strip('{}')
        raise argparse.ArgumentTypeError(
            f'found {_shown(text)}, in which no shell has filled in {variable[0]}, expected a place; '
            + (f'it is {os.environ[name]} here' if os.environ.get(name) else 'it is not set here')
        )
    path = os.path.expanduser(text)
    if re.match(r'~[\w.-]+/', path):
        raise argparse.ArgumentTypeError(
            f'found {_shown(text)}, but nobody of that name has a home folder here; expected a place (a folder whose '
            'name begins so is ./~...)'
        )
    try:
        os.stat(path)
    except OSError as error:  # what is not there may come
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise argparse.ArgumentTypeError(f'found {_shown(text)}: {error.strerror}; expected a place') from None
    return path


def one_of(*names: str) -> Callable[[str], str]:
    """A type of flag: one of some words."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f'found {_shown(text)}, expected {" or ".join(names)}{meant(text, names)}')
        return text

    return read


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """A type of flag: a whole number in a range."""
    return _within(int, 'a whole number', low, high)


def number(low: float, high: float | None = None) -> Callable[[str], float]:
    """A type of flag: a number in a range."""
    return _within(float, 'a number', low, high)


def _within(kind: Callable[[str], float], what: str, low: float, high: float | None) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            found = kind(text)
        except ValueError:
            found = math.nan
        if not low <= found <= (math.inf if high is None else high):
            expected = f'{low:g} or more' if high is None else f'{low:g} to {high:g}'
            raise argparse.ArgumentTypeError(f'found {_shown(text)}, expected {what}, {expected}')
        return found

    return read


def size(text: str) -> tuple[int, int]:
    """A type of flag: height and width in pixels, such as 384x128, or one number for both."""
    sides = re.split(r'[x,]', text.strip('() '))
    try:
        found = tuple(int(side) for side in sides)
    except ValueError:
        found = ()
    if len(found) not in (1, 2) or not all(0 < side < 10_000 for side in found):
        raise argparse.ArgumentTypeError(f'found {_shown(text)}, expected height x width in pixels, such as 384x128')
    return (found[0], found[-1])


def _dashed(word: str) -> str:
    """A flag with - for _: both are taken."""
    if not word.startswith('--'):
        return word
    name, sign, value = word.partition('=')
    return name.replace('_', '-') + sign + value


def _shown(text: str) -> str:
    """A word of the command line, short and without what could speak to the terminal."""
    return ascii(text if len(text) <= 60 else text[:57] + '...')
