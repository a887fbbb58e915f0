"""A program and its commands: the command is run, and whatever happens ends as one line and an exit status.

0 done, 1 a mistake in data or files, 2 one on the command line, 130 or 143 stopped by Ctrl-C or SIGTERM.
"""

import argparse
import atexit
import contextlib
import gc
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lcr2s_jax.cli.parser import Parser, UsageError, integer
from lcr2s_jax.errors import FULL, Interrupted, UserError, meant, printable
from lcr2s_jax.files import user_folder


class _Terminated(KeyboardInterrupt):
    """SIGTERM, taken as Ctrl-C is, so that locks and files are left in order."""


class Program(NamedTuple):
    """What is called from a command line."""

    typed: str  # to call it, before the name of a command
    version: str
    about: str  # what is printed above the commands
    # name -> a module with ABOUT, perhaps WORDS, `arguments(parser)` and `run(args) -> exit status or None`
    commands: Mapping[str, Any]
    default: str = ''  # the command where none is named; '' for none

    def main(self, argv: Sequence[str]) -> int:
        """Run what the words after the program's name ask for; the exit status."""
        argv, name = list(argv), ''
        for stream in ('stdout', 'stderr'):  # closed by who calls, as by `>&-`
            if getattr(sys, stream) is None:
                setattr(sys, stream, open(os.devnull, 'w'))  # noqa: SIM115
        speaker = pathlib.PurePath(self.typed.split()[-1]).name
        try:
            _check_utf8(argv)
            if '--version' in argv:
                print(f'{speaker} {self.version}')
                return 0
            name, words = self._command(argv)
            if not name:
                print(self.help())
                return 0
            return self._run(name, words) or 0
        except UsageError as error:
            more = f' {name}' * bool(name)
            print(f'{speaker}: {printable(str(error))}\nsee {self.typed}{more} --help', file=sys.stderr)
            return 2
        except Interrupted as stop:
            print(f'{speaker}: {stop}', file=sys.stderr)
            return 128 + stop.number  # what a shell reports of a process that the signal ended
        except KeyboardInterrupt as stop:
            print(f'{speaker}: stopped; the same command goes on from what is saved', file=sys.stderr)
            return 143 if isinstance(stop, _Terminated) else 130
        except (BrokenPipeError, SystemExit) as stop:  # nobody reads on, as behind `| head`; Rich makes an exit of it
            if isinstance(stop, SystemExit) and not isinstance(stop.__context__, BrokenPipeError):
                raise
            sys.stdout = open(os.devnull, 'w')  # noqa: SIM115 - Python would complain once more as it ends
            return 141
        except Exception as error:
            print(f'{speaker}: {_told(error)}', file=sys.stderr)
            return 1

    def help(self) -> str:
        width = max(map(len, self.commands)) + 2
        lines = [f'  {name:{width}}{command.ABOUT}' for name, command in self.commands.items()]
        return '\n'.join([self.about, '', *lines, '', f'{self.typed} COMMAND --help lists its flags.'])

    def parser(self, name: str) -> Parser:
        command = self.commands[name]
        parser = Parser(name, command.ABOUT, self.typed, getattr(command, 'WORDS', ''))
        command.arguments(parser)
        return parser

    def _command(self, argv: list[str]) -> tuple[str, list[str]]:
        """The name of the command and the words that are its own; '' where help on all is asked for."""
        if argv and not argv[0].startswith('-'):
            name = argv[0]
            if name not in self.commands:
                words = (*self.commands, '--help', '--version')
                raise UsageError(f'found {ascii(name[:60])}, expected a command{meant(name, words)}')
            return name, argv[1:]
        at = next((place for place, word in enumerate(argv) if word in self.commands), None)
        if at is not None:
            return argv[at], argv[:at] + argv[at + 1 :]
        if {'--help', '-h', '-help'} & set(argv) or (not argv and not self.default):
            return '', []
        if not self.default:
            near = meant(argv[0], ('--help', '--version')) if argv else ''
            raise UsageError(f'found no command; expected one of {", ".join(self.commands)}{near}')
        return self.default, argv

    def _run(self, name: str, words: list[str]) -> int | None:
        command, parser = self.commands[name], self.parser(name)
        overrides, words = _overrides(words) if getattr(command, 'CONFIG', False) else ([], words)
        args = parser.read(words)
        if args.help:
            print(parser.format_help().rstrip())
            return 0
        args.overrides, args.program = overrides, self
        _keep_programs()
        _collect_seldom()
        with _terminated():
            if hasattr(args, 'coordinator'):
                from lcr2s_jax.training.parallel import join

                join(args.coordinator, args.num_processes, args.process_id)
            return command.run(args)


def hosts(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that several processes may work on."""
    several = parser.add_argument_group('several processes, under srun or mpirun without these flags')
    several.add_argument('--coordinator', metavar='HOST:PORT', help='Address of process 0; auto on a TPU pod.')
    several.add_argument('--num-processes', type=integer(1), metavar='N', help='Number of processes.')
    several.add_argument('--process-id', type=integer(0), metavar='I', help='Number of this process: 0, 1, ...')


def _check_utf8(argv: Sequence[str]) -> None:
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f'found {ascii(word)[:80]}, bytes that are no UTF-8; type it anew, or rename the file'
            ) from None


def _overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that set a field of the config, each with its value, and the others."""
    fields, others, left = [], [], list(words)
    while left:
        word = left.pop(0)
        if not word.startswith('--config.'):
            others.append(word)
        elif '=' in word or not left or left[0].startswith('--'):
            fields.append(word)
        else:
            fields.append(f'{word}={left.pop(0)}')
    return fields, others


def _told(error: Exception) -> str:
    """An error in a line, or one for each of several rows; of what nobody foresaw, where its traceback lies."""
    if isinstance(error, UserError):
        return printable(str(error), keep='\n')
    if isinstance(error, OSError) and error.strerror:  # of a file or a disk, where nobody knew more to say
        room = '; make room on the disk and give the same command again' * (error.errno in FULL)
        return printable(f'{f"{error.filename}: " * bool(error.filename)}{error.strerror}{room}')
    if isinstance(error, MemoryError):
        return 'found too little memory for this; close other programs, or ask for less at once'
    first = ascii((str(error).strip().splitlines() or [''])[0][:200])[1:-1]
    return f'a mistake in this program ({type(error).__name__}: {first}); {_log(error)}'


def _log(error: Exception) -> str:
    import datetime
    import tempfile
    import traceback

    now = datetime.datetime.now().astimezone()
    content = ''.join([f'{now.isoformat()}  {" ".join(map(ascii, sys.argv))}\n', *traceback.format_exception(error)])
    state = user_folder('STATE', '~/.local/state') / 'lcr2s_jax'
    for folder in (state, pathlib.Path(tempfile.gettempdir())):
        path = folder / f'error-{now:%Y%m%d-%H%M%S-%f}-{os.getpid()}.log'
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'w', encoding='utf-8') as out:
                out.write(content)
        except OSError:
            continue
        return f'please report it with {path}, which says where it happened'
    return 'where it happened could not be written to any file'


def _keep_programs() -> None:
    """Have JAX keep compiled programs in the user's cache folder, unless the environment says where already.

    A program is of one kind of processor: another one that shares the home folder keeps its own.
    """
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
        return
    cache = user_folder('CACHE', '~/.cache')
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if not os.access(cache, os.W_OK):  # JAX would warn of each program
        return
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(cache / 'lcr2s_jax' / f'programs-{_processor()}')
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
    os.environ.setdefault('JAX_COMPILATION_CACHE_MAX_SIZE', str(2 << 30))


def _collect_seldom() -> None:
    """Look for unreachable cycles seldom, and not at the end of the process.

    Imports make half a million objects that all stay: looking through them again and again took a fifth of the
    processor's time of a search.
    """
    gc.set_threshold(20_000)
    atexit.unregister(gc.freeze)  # of an earlier command of this process
    atexit.register(gc.freeze)


def _processor() -> str:
    import hashlib
    import platform

    found = platform.machine() + platform.processor()
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as lines:
        found += next((line for line in lines if line.startswith(('flags', 'Features'))), '')
    return hashlib.sha256(found.encode()).hexdigest()[:12]


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM raises `_Terminated`; a command may have a handler of its own.

    Python drops what is raised in a finaliser or a callback of a weak reference, as imports have many: the signal is
    sent again then, and so is Ctrl-C's.
    """

    def stop(*_):
        raise _Terminated

    def dropped(lost):
        if issubclass(lost.exc_type, KeyboardInterrupt):
            number = signal.SIGTERM if issubclass(lost.exc_type, _Terminated) else signal.SIGINT
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            hook(lost)

    try:
        before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook
    except ValueError:  # no main thread, as in tests
        yield
        return
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)
