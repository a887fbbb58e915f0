"""lcr2s completion bash|zsh|fish: a script that has the shell complete commands and flags."""

import argparse

from lcr2s_jax.cli.parser import UsageError, place

ABOUT = 'Print a script that completes commands and flags in a shell.'
SHELLS = ('bash', 'zsh', 'fish')
WORDS = '|'.join(SHELLS)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('shell', nargs='*', help='eval "$(lcr2s completion bash)", in ~/.bashrc; or zsh, fish.')


def run(args: argparse.Namespace) -> None:
    import shtab

    if len(args.shell) != 1 or args.shell[0] not in SHELLS:
        raise UsageError(f'completion needs one of {", ".join(SHELLS)}, found {" ".join(args.shell) or "nothing"}')
    program = args.program
    whole = argparse.ArgumentParser(prog=program.typed.split()[-1], description=program.about)
    chosen = whole.add_subparsers()
    for name, command in program.commands.items():
        command.arguments(one := chosen.add_parser(name, help=command.ABOUT))
        for action in one._actions:
            if action.type is place:
                action.complete = shtab.FILE
    print(shtab.complete(whole, args.shell[0]))
