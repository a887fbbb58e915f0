"""Text-to-image person re-identification with LCR2S: every command, those of `lcr2s` and those that need a config.

  python main.py --config=configs/demo.py --workdir=runs/demo     train, distil and evaluate; the same command resumes
  python main.py build --config=configs/cuhk.py [--beam]          build only the dataset, before training
  python main.py doctor --config=configs/cuhk.py [--json]         check the dataset's folder
  python main.py evaluate --config=configs/cuhk.py --weights=W    evaluate any CLIP or another method's checkpoint
  python main.py compare --config=C --rows=R --out=DIR            table of rows and seeds; or: compare RUN RUN ...
  python main.py explain --workdir=W                              draw the fusion's attention and the embedding space

Any field of a config can be set: --config.train.steps=1000
Several hosts work on one run with --coordinator=host:port --num-processes=N --process-id=I, under srun or mpirun with
none of these, on a TPU pod with --coordinator=auto.
"""

import sys

from commands import line
from lcr2s_jax import __version__, cli
from lcr2s_jax.cli.program import Program

COMMANDS = {**line.COMMANDS, **{name: one for name, one in cli.COMMANDS.items() if name not in line.COMMANDS}}
PROGRAM = Program('python main.py', __version__, __doc__.rstrip(), COMMANDS, default='train')


def main(argv: list[str]) -> int:
    """Run the command that `argv` names, `train` where it names none; its exit status, see `lcr2s_jax.cli.program`."""
    return PROGRAM.main(argv[1:])


if __name__ == '__main__':
    sys.exit(main(sys.argv))
