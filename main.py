"""Text-to-image person re-identification with LCR2S.

  python main.py --config=configs/demo.py --workdir=runs/demo     train, distil and evaluate; the same again resumes
  python main.py doctor --config=configs/cuhk.py [--json]         is the dataset's folder fit to train on?
  python main.py evaluate --config=configs/cuhk.py --weights=W    any CLIP, or a peer's checkpoint, as it is [--json]
  python main.py export --workdir=W --format=hf --out=DIR         the student for other programs [--unchecked]; also
                                                                  --format=open_clip, --format=stablehlo
  python main.py explain --workdir=W                              what the teacher's fusion looks at, where features lie
  python main.py index --workdir=W --images=DIR --index=I         embed a folder of pictures; again: what changed
  python main.py index --workdir=W --video=FILE --index=I         the people of a video, followed and embedded
  python main.py search --index=I "a woman in a red coat"         rank them
  python main.py serve --index=I [--port=7860]                    the same as a page in the browser
  python main.py delete --index=I --where="camera = 'c1'"         forget some of them
  python main.py expire --index=I --older-than=30d                forget what was indexed long ago

  python main.py search --help                                    what a command takes

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

from lcr2s_jax.errors import ConfigError, Interrupted, UserError

_CONFIG = config_flags.DEFINE_config_file('config', help_string='A file such as configs/demo.py.')
flags.DEFINE_string('workdir', None, 'Folder of a run: checkpoints, results, pictures.')
flags.DEFINE_string('weights', None, "What config.model.pretrained takes, or a peer's checkpoint.")
flags.DEFINE_enum('format', None, ('hf', 'open_clip', 'stablehlo'), 'Whose layout an export has.')
flags.DEFINE_string('out', None, 'Folder that an export makes.')
flags.DEFINE_bool('unchecked', False, 'Export without comparing what others will read with what was trained.')
flags.DEFINE_bool('json', False, 'Print JSON instead of text.')
flags.DEFINE_string('index', None, 'Folder of an index, or URL of an object store (s3://..., gs://...).')
flags.DEFINE_string('images', None, 'Folder; every picture below it is indexed.')
flags.DEFINE_multi_string('video', [], 'Video file, whose people are indexed; may be repeated.')
flags.DEFINE_float('every', 0.2, 'Seconds of video from one frame that is looked at to the next.', 0.001)
flags.DEFINE_string('detector', 'hog', 'What finds people in a frame: hog, frame (all of it), or module:callable.')
flags.DEFINE_string('pooling', 'mean', "One vector of a track's crops: mean (the student's), or teacher (its fusion).")
flags.DEFINE_string('metadata', None, 'CSV file with a column path (below --images) and others: camera, time, track.')
flags.DEFINE_bool('prune', False, 'Forget pictures whose file is gone.')
flags.DEFINE_bool('readmit', False, 'Index again what was deleted or expired.')
flags.DEFINE_string('where', '', 'Condition in SQL over the columns, such as "camera = \'c1\'".')
flags.DEFINE_bool('yes', False, 'Do it; without, only say what would be done.')
flags.DEFINE_string('older-than', None, 'Age since a picture was indexed: 30d, 12h, 45m.')
flags.DEFINE_multi_string('and', [], 'Another sentence about the same person; may be repeated.')
flags.DEFINE_multi_string('like', [], 'Picture file of that person; may be repeated.')
flags.DEFINE_string('queries', None, 'File with a sentence a line, searched in one batch.')
flags.DEFINE_integer('top', 10, 'Hits of each query.', lower_bound=1)
flags.DEFINE_string('group-by', '', 'Column of which every value is shown once, by its best picture.')
flags.DEFINE_bool('why', False, 'Show how much each phrase moved the score of the hits.')
flags.DEFINE_bool('exact', False, 'Compare every vector, however many there are.')
flags.DEFINE_float(
    'false-alarms', 0.05, 'Of searches for somebody who is not there, the share that may find somebody.', 0.01, 0.5
)
flags.DEFINE_string('html', None, 'File to write: one page with the pictures in it.')
flags.DEFINE_integer('port', 7860, 'Where the page is served: http://localhost:7860/.', 1, 65535)
flags.DEFINE_string('host', '127.0.0.1', 'Address to listen on; anything but this machine needs --auth.')
flags.DEFINE_string('auth', None, 'user:password, or (better) a file of such lines that only you can read.')
flags.DEFINE_string('root-path', '', 'Path, or URL with a path, that a proxy has the page below.')
flags.DEFINE_string('audit', None, 'File that the audit log is appended to instead of the one in the index.')
flags.DEFINE_string('coordinator', None, 'host:port of process 0, where several work on one run; auto on a TPU pod.')
flags.DEFINE_integer('num_processes', None, 'How many processes work on the run.')
flags.DEFINE_integer('process_id', None, 'Which of them this is: 0, 1, ...')


class UsageError(Exception):
    """The command line itself is wrong."""


class Command(NamedTuple):
    """What main.py can be asked to do.

    Attributes:
      run: (config, flags) -> exit status, or None for 0. Without a config it gets the words that follow the command.
      needs: flags that must be given, --config aside.
      takes: flags that may be given.
      config: whether --config is needed; without, it is not taken.
      words: what may follow the command, for its help; '' for nothing.
      alone: it does not join other processes.
    """

    run: Callable[..., int | None]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    config: bool = True
    words: str = ''
    alone: bool = False


def _train(config: ConfigDict, given: flags.FlagValues) -> None:
    from commands.train import train

    train(config, pathlib.Path(given.workdir), flags.FLAGS['config'].config_filename)


def _doctor(config: ConfigDict, given: flags.FlagValues) -> int:
    from commands.doctor import doctor

    return doctor(config, given.json)


def _evaluate(config: ConfigDict, given: flags.FlagValues) -> None:
    from commands.evaluate import evaluate_weights

    evaluate_weights(config, given.weights, 'float32', given.json)


def _export(_, given: flags.FlagValues) -> None:
    from lcr2s_jax.weights.export import export

    print('\n'.join(export(pathlib.Path(given.workdir), given.format, pathlib.Path(given.out), given.unchecked)))


def _explain(_, given: flags.FlagValues) -> None:
    from commands.explain import explain

    explain(pathlib.Path(given.workdir))


def _index(words: list[str], given: flags.FlagValues) -> int:
    from lcr2s_jax.cli.index import index
    from lcr2s_jax.video.update import VideoOptions

    if not given.images and not given.video:
        raise UsageError('index needs --images or --video')
    if not given.images and (given.metadata or given.prune):
        raise UsageError('index takes --metadata and --prune only with --images')
    videos = VideoOptions(tuple(given.video), given.every, given.detector) if given.video else None
    options = given.metadata, given.prune, given.readmit, given.json, videos, given.pooling
    return index(given.index, given.images, given.workdir, *options)


def _search(words: list[str], given: flags.FlagValues) -> int:
    from lcr2s_jax.cli.search import Wanted, search

    wanted = Wanted(
        tuple(words), tuple(given['and'].value), tuple(given.like), given.queries, given.top, given.where,
        given['group-by'].value, given['false-alarms'].value, given.exact, given.why,
    )  # fmt: skip
    return search(given.index, wanted, given.html, given.json)


def _serve(words: list[str], given: flags.FlagValues) -> None:
    from lcr2s_jax.search.web.app import is_local, serve

    if not is_local(given.host) and not given.auth:
        raise UsageError(f'serve --host={given.host}: others could reach the page; that needs --auth')
    serve(given.index, given.host, given.port, given.auth, given.audit, given['root-path'].value)


def _delete(words: list[str], given: flags.FlagValues) -> None:
    from lcr2s_jax.cli.delete import delete

    delete(given.index, given.where, given.yes)


def _expire(words: list[str], given: flags.FlagValues) -> None:
    from lcr2s_jax.cli.delete import expire

    expire(given.index, given['older-than'].value, given.yes)


COMMANDS: Mapping[str, Command] = {
    'train': Command(_train, needs=('workdir',)),
    'doctor': Command(_doctor, takes=('json',)),
    'evaluate': Command(_evaluate, needs=('weights',), takes=('json',)),
    'export': Command(_export, needs=('workdir', 'format', 'out'), takes=('unchecked',), config=False),
    'explain': Command(_explain, needs=('workdir',), config=False),
    'index': Command(
        _index,
        needs=('index',),
        takes=('images', 'video', 'every', 'detector', 'pooling', 'workdir', 'metadata', 'prune', 'readmit', 'json'),
        config=False,
    ),
    'search': Command(
        _search,
        needs=('index',),
        takes=('and', 'like', 'queries', 'top', 'where', 'group-by', 'false-alarms', 'exact', 'why', 'html', 'json'),
        config=False,
        words='"sentence" ...',
        alone=True,
    ),
    'serve': Command(_serve, needs=('index',), takes=('port', 'host', 'auth', 'audit', 'root-path'), config=False, alone=True),
    'delete': Command(_delete, needs=('index', 'where'), takes=('yes',), config=False, alone=True),
    'expire': Command(_expire, needs=('index', 'older-than'), takes=('yes',), config=False, alone=True),
}


def main(argv: list[str], commands: Mapping[str, Command] = COMMANDS) -> int:
    """Run the command that `argv` names, the first of `commands` where it names none.

    Returns:
      0 done, 1 a mistake in config, data or files (or what the command returns), 2 one on the command line, 130 or 143
      stopped by Ctrl-C or SIGTERM.
    """
    if any(word in ('--help', '-h', '-help') for word in argv):
        print(usage(argv, commands))
        return 0
    try:
        command, config = parse(argv, commands)
        given = flags.FLAGS
        if not command.alone:
            from lcr2s_jax.training.parallel import join

            join(given.coordinator, given.num_processes, given.process_id)
        return command.run(config, given) or 0
    except UsageError as error:
        print(f'main.py: {error}\n\n{__doc__}', file=sys.stderr)
        return 2
    except UserError as error:
        print(f'main.py: {error}', file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(f'main.py: {stop}', file=sys.stderr)
        return 143  # what a shell reports of a process that SIGTERM ended
    except OSError as error:  # of a file or a disk, where nobody knew more to say
        print(f'main.py: {f"{error.filename}: " if error.filename else ""}{error.strerror or error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('main.py: stopped; the same command goes on from what is saved', file=sys.stderr)
        return 130


def usage(argv: list[str], commands: Mapping[str, Command]) -> str:
    """What the command named in `argv` takes, or the whole docstring."""
    name = next((word for word in argv[1:] if not word.startswith('-')), '')
    if name not in commands:
        return __doc__
    command = commands[name]
    line = ' '.join(
        ['python main.py', name, *(f'--{need}=...' for need in ('config',) * command.config + command.needs)]
        + [command.words] * bool(command.words)
    )
    rows = [(flags.FLAGS[flag], flag in command.needs) for flag in command.needs + command.takes]
    width = max(len(flag.name) for flag, _ in rows) + 2
    told = []
    for flag, needed in rows:
        more = ' (needed)' if needed else f' [{flag.default}]' * bool(flag.default)
        told.append(f'  --{flag.name:{width}}{flag.help.splitlines()[0].rstrip(";")}{more}')
    return '\n'.join([line, '', *told])


def parse(argv: list[str], commands: Mapping[str, Command]) -> tuple[Command, ConfigDict | list[str]]:
    """The command, and its config with overrides applied or the words behind it. Raises UsageError, ConfigError."""
    for file in (word.partition('=')[2] for word in argv if word.startswith('--config=')):
        if not pathlib.Path(file.partition(':')[0]).is_file():  # config_flags would log a traceback of it
            raise ConfigError(f'--config: found no file {file}; expected one such as configs/demo.py')
    try:
        words = flags.FLAGS(argv)[1:] or list(commands)[:1]
    except flags.Error as error:
        raise UsageError(error) from error
    except (AttributeError, KeyError) as error:  # config_flags' answer to a field that is not there
        raise ConfigError(f'unknown config field: {error}') from error
    if words[0] not in commands or (len(words) > 1 and not commands[words[0]].words):
        raise UsageError(f"found '{' '.join(words)}', expected one of {', '.join(commands)}, and flags")
    command = commands[words[0]]
    needs, takes = ('config',) * command.config + command.needs, command.takes
    own = {flag for one in (*COMMANDS.values(), command) for flag in ('config', *one.needs, *one.takes)}
    missing = [name for name in needs if not flags.FLAGS[name].present]
    foreign = sorted(name for name in own if flags.FLAGS[name].present and name not in needs + takes)
    if missing or foreign:
        problem = [f'needs --{name}' for name in missing] + [f'takes no --{name}' for name in foreign]
        raise UsageError(f'{words[0]} {", ".join(problem)}')
    if not command.config:
        return command, words[1:]
    if not isinstance(_CONFIG.value, ConfigDict):
        file = flags.FLAGS['config'].config_filename
        raise ConfigError(f'--config: found no get_config() that works in {file}')
    return command, _CONFIG.value


if __name__ == '__main__':
    sys.exit(main(sys.argv))
