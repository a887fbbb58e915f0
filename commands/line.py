"""What is typed behind main.py for the commands that need a config: parsed here, done in the files beside this one."""

import argparse
import pathlib
import shlex
from collections.abc import Callable
from typing import NamedTuple

from lcr2s_jax.cli import evaluate as pictures
from lcr2s_jax.cli import model as models
from lcr2s_jax.cli.parser import UsageError, place
from lcr2s_jax.cli.program import hosts


class Command(NamedTuple):
    """A command of main.py's own, see `lcr2s_jax.cli.program.Program.commands`."""

    ABOUT: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    CONFIG: bool = True
    WORDS: str = ''


def _config(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    parser.add_argument(
        '--config', required=needed, type=place, metavar='FILE',
        help='Such as configs/demo.py; --config.train.steps=1000 sets a field.',
    )  # fmt: skip


def _read(args: argparse.Namespace):
    from commands import config

    return config.read(args.config, args.overrides)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument(
        '--workdir', required=True, type=place, metavar='W', help='Folder of the run: made, or resumed.'
    )
    hosts(parser)


def _train(args: argparse.Namespace) -> None:
    config = _read(args)
    from commands.train import train

    train(config, pathlib.Path(args.workdir), args.config)


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument('--beam', action='store_true', help='Build with Apache Beam, in several processes.')
    parser.add_argument(
        '--beam-options', default='', metavar='TEXT',
        help="Its runner and options, such as '--runner=FlinkRunner --flink_master=HOST:8081'; with --beam.",
    )  # fmt: skip


def _build(args: argparse.Namespace) -> None:
    if args.beam_options and not args.beam:
        raise UsageError('build takes --beam-options with --beam alone')
    config = _read(args)
    from commands.inputs import dataset_of, starting_encoder
    from data import people

    given = dataset_of(config, starting_encoder(config))
    print(people.build(*given, beam=shlex.split(args.beam_options) if args.beam else None))


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument('--json', action='store_true', help='Print JSON instead of text.')


def _doctor(args: argparse.Namespace) -> int:
    config = _read(args)
    from commands.doctor import doctor

    return doctor(config, args.json)


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--workdir', required=True, type=place, metavar='W', help='Folder of a finished run.')
    hosts(parser)


def _explain(args: argparse.Namespace) -> None:
    from commands.explain import explain

    explain(pathlib.Path(args.workdir))


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _config(parser, needed=False)
    pictures.arguments(parser)
    hosts(parser)


def _evaluate(args: argparse.Namespace) -> None:
    """A dataset of a config with weights, a run's own dataset, or a table of pictures as `lcr2s evaluate` has it."""
    if args.images or args.table:
        if args.config or args.overrides:
            raise UsageError('evaluate takes either --config or --images and --table')
        return pictures.run(args)
    if not models.source(args) or (args.workdir and args.config) or (args.weights and not args.config):
        raise UsageError('evaluate needs --workdir, or --config and --weights, or --weights, --images and --table')
    models.check_enriching(args)
    enriched = models.enriched(args)
    if args.workdir:
        from commands.evaluate import evaluate_run

        return evaluate_run(pathlib.Path(args.workdir), args.stage, args.dtype, args.json, enriched, args.neighbours_by)
    if given := models.of_weights(args):
        raise UsageError(f'evaluate takes --{given[0]} without --config alone; set --config.model.... instead')
    config = _read(args)
    from commands.evaluate import evaluate_weights

    return evaluate_weights(config, args.weights, args.dtype, args.json, enriched, args.neighbours_by)


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('runs', nargs='*', type=place, metavar='RUN', help='Finished runs on one dataset.')
    _config(parser, needed=False)
    parser.add_argument('--rows', type=place, metavar='FILE', help='Rows to train, such as benchmarks/demo.toml.')
    parser.add_argument('--out', type=place, metavar='DIR', help='Folder of results; alone: only make its tables.')
    parser.add_argument('--seeds', type=int, default=3, metavar='N', help='Seeds 0 .. N - 1 of each row.')
    parser.add_argument('--against', default='', metavar='ROW', help='Row to compare with; by default the first.')
    parser.add_argument('--split', default='test', choices=('val', 'test'), help='Split of finished runs.')
    parser.add_argument('--stage', default='', help='Stage of finished runs; by default all.')


def _compare(args: argparse.Namespace) -> None:
    """Rows trained on a config's data, or finished runs side by side."""
    trained = args.config and args.rows and args.out
    if not (args.runs or args.out) or (args.runs and (args.config or args.rows)) or (args.config and not trained):
        raise UsageError('compare takes finished runs, --config with --rows and --out, or --out alone')
    if args.seeds < 1:
        raise UsageError(f'--seeds: found {args.seeds}, expected 1 or more')
    from commands.compare import compare, tabulate
    from lcr2s_jax.training.run import refuse_no_folder

    rows, out = args.rows and pathlib.Path(args.rows), args.out and pathlib.Path(args.out)
    if out:
        refuse_no_folder(out)
    if args.runs:
        from commands.runs_table import compare_runs

        runs = [pathlib.Path(run) for run in args.runs]
        print(compare_runs(runs, args.split, args.stage, args.against, out))
        return
    if not args.config:
        print(tabulate(out, rows, args.against))
        return
    given = (rows, out, range(args.seeds))
    print(compare(_read(args), *given, against=args.against))


COMMANDS = {
    'train': Command('Train, distil and evaluate. The same command resumes.', _train_arguments, _train),
    'build': Command('Build the dataset of a config before training.', _build_arguments, _build),
    'doctor': Command("Check whether a dataset's folder can be used for training.", _doctor_arguments, _doctor),
    'evaluate': Command(
        'Measure any weights, or a run, on a dataset or on a table of pictures.', _evaluate_arguments, _evaluate
    ),
    'compare': Command(
        'Train the rows of a file with several seeds, or tabulate finished runs.', _compare_arguments, _compare
    ),
    'explain': Command("Draw the attention of a teacher's fusion.", _explain_arguments, _explain, CONFIG=False),
}
