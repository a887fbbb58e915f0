"""Text-to-image person re-identification with LCR2S.

  python main.py --config=configs/demo.py --workdir=runs/demo     train, distil and evaluate; the same again resumes
  python main.py doctor --config=configs/cuhk.py [--json]         is the dataset's folder fit to train on?
  python main.py evaluate --config=configs/cuhk.py --weights=W    any CLIP, or a peer's checkpoint, as it is [--json]
  python main.py export --workdir=W --format=hf --out=DIR         the student for other programs [--unchecked]; also
                                                                  --format=open_clip, --format=stablehlo
  python main.py explain --workdir=W                              what the teacher's fusion looks at, where features lie

Any field of a config can be set: --config.train.steps=1000
Several hosts work on one run with --coordinator=host:port --num_processes=N --process_id=I, under srun or mpirun with
none of these, on a TPU pod with --coordinator=auto.
"""

import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from data.records import DataError
from lcr2s_jax.errors import ConfigError, Interrupted, UserError
from lcr2s_jax.parallel import join

_CONFIG = config_flags.DEFINE_config_file('config', help_string='A file such as configs/demo.py.')
flags.DEFINE_string('workdir', None, 'Folder of a run: checkpoints, results, pictures.')
flags.DEFINE_string('weights', None, "What config.model.pretrained takes, or a peer's checkpoint.")
flags.DEFINE_enum('format', None, ('hf', 'open_clip', 'stablehlo'), 'Whose layout an export has.')
flags.DEFINE_string('out', None, 'Folder that an export makes.')
flags.DEFINE_bool('unchecked', False, 'Export without comparing what others will read with what was trained.')
flags.DEFINE_bool('json', False, 'Print JSON instead of text.')
flags.DEFINE_string('coordinator', None, 'host:port of process 0, where several work on one run; auto on a TPU pod.')
flags.DEFINE_integer('num_processes', None, 'How many processes work on the run.')
flags.DEFINE_integer('process_id', None, 'Which of them this is: 0, 1, ...')
_OWN = ('workdir', 'weights', 'json', 'format', 'out', 'unchecked')


class UsageError(Exception):
    """The command line itself is wrong."""


class Command(NamedTuple):
    """What main.py can be asked to do.

    Attributes:
      run: (config, flags) -> exit status, or None for 0; config is None where none is taken.
      needs: flags that must be given, --config aside.
      takes: flags that may be given.
      config: whether --config is needed; without, it is not taken.
    """

    run: Callable[[ConfigDict | None, flags.FlagValues], int | None]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    config: bool = True


def _train(config: ConfigDict, given: flags.FlagValues) -> None:
    from commands.train import train

    train(config, pathlib.Path(given.workdir))


def _doctor(config: ConfigDict, given: flags.FlagValues) -> int:
    from commands.doctor import doctor

    return doctor(config, given.json)


def _evaluate(config: ConfigDict, given: flags.FlagValues) -> None:
    from commands.evaluate import evaluate

    evaluate(config, given.weights, given.json)


def _export(_, given: flags.FlagValues) -> None:
    from commands.export import export

    export(pathlib.Path(given.workdir), given.format, pathlib.Path(given.out), given.unchecked)


def _explain(_, given: flags.FlagValues) -> None:
    from commands.explain import explain

    explain(pathlib.Path(given.workdir))


COMMANDS: Mapping[str, Command] = {
    'train': Command(_train, needs=('workdir',)),
    'doctor': Command(_doctor, takes=('json',)),
    'evaluate': Command(_evaluate, needs=('weights',), takes=('json',)),
    'export': Command(_export, needs=('workdir', 'format', 'out'), takes=('unchecked',), config=False),
    'explain': Command(_explain, needs=('workdir',), config=False),
}


def main(argv: list[str], commands: Mapping[str, Command] = COMMANDS) -> int:
    """Run the command that `argv` names, the first of `commands` where it names none.

    Returns:
      0 done, 1 a mistake in config, data or files (or what the command returns), 2 one on the command line, 130 or 143
      stopped by Ctrl-C or SIGTERM.
    """
    try:
        command, config = parse(argv, commands)
        given = flags.FLAGS
        join(given.coordinator, given.num_processes, given.process_id)
        return command.run(config, given) or 0
    except UsageError as error:
        print(f'main.py: {error}\n\n{__doc__}', file=sys.stderr)
        return 2
    except (UserError, DataError) as error:
        print(f'main.py: {error}', file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(f'main.py: {stop}', file=sys.stderr)
        return 143  # what a shell reports of a process that SIGTERM ended
    except KeyboardInterrupt:
        print('main.py: stopped; the same command goes on from what is saved', file=sys.stderr)
        return 130


def parse(argv: list[str], commands: Mapping[str, Command]) -> tuple[Command, ConfigDict | None]:
    """The command and its config, overrides applied, or None where it takes none. Raises UsageError, ConfigError."""
    for file in (word.partition('=')[2] for word in argv if word.startswith('--config=')):
        if not pathlib.Path(file.partition(':')[0]).is_file():  # config_flags would log a traceback of it
            raise ConfigError(f'--config: found no file {file}; expected one such as configs/demo.py')
    try:
        words = flags.FLAGS(argv)[1:] or list(commands)[:1]
    except flags.Error as error:
        raise UsageError(error) from error
    except (AttributeError, KeyError) as error:  # config_flags' answer to a field that is not there
        raise ConfigError(f'unknown config field: {error}') from error
    if len(words) > 1 or words[0] not in commands:
        raise UsageError(f"found '{' '.join(words)}', expected one of {', '.join(commands)}, and flags")
    command = commands[words[0]]
    needs = ('config', *command.needs) if command.config else command.needs
    missing = [name for name in needs if not flags.FLAGS[name].present]
    foreign = [n for n in ('config', *_OWN) if flags.FLAGS[n].present and n not in needs + command.takes]
    if missing or foreign:
        problem = [f'needs --{name}' for name in missing] + [f'takes no --{name}' for name in foreign]
        raise UsageError(f'{words[0]} {", ".join(problem)}')
    if not command.config:
        return command, None
    if not isinstance(_CONFIG.value, ConfigDict):
        file = flags.FLAGS['config'].config_filename
        raise ConfigError(f'--config: found no get_config() that works in {file}')
    return command, _CONFIG.value


if __name__ == '__main__':
    sys.exit(main(sys.argv))
