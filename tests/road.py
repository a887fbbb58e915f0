"""The way through main.py that tests walk: its command line, as a process of its own or in this one, on a tiny CLIP."""

import atexit
import contextlib
import functools
import io
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import main
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.weights import huggingface
from tests import tiny

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {
    'data.demo.people.train': 24, 'data.demo.people.val': 6, 'data.demo.people.test': 6,
    'batch.identities': 8, 'batch.views': 3, 'evaluate.batch_size': 16, 'tokenizer': 'data/demo_clip',
    'train.steps': 6, 'train.eval_every': 2, 'train.save_every': 2, 'train.log_every': 1,
}  # fmt: skip


def free_port() -> int:
    """A port that a server can have a little later: below those that the kernel gives to connections meanwhile."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(('127.0.0.1', port))
            return port
    raise OSError('found no free port below 32,000')


def nothing_can_be_written(monkeypatch) -> None:
    """From now on `os.open` opens files for reading alone."""
    real = os.open

    def unwritable(path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(13, 'Permission denied')
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, 'open', unwritable)


@functools.cache
def tiny_clip() -> str:
    """Folder of a CLIP of one block a tower, random, for the demo's pictures and tokens: a quarter of its programs."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    clip = CLIP(
        image_size=(96, 48), patch_size=24, vision_width=32, vision_layers=1, vision_heads=2,
        text_width=32, text_layers=1, text_heads=2, context_length=32, vocab_size=1001, embed_dim=32,
    )  # fmt: skip
    huggingface.save_huggingface(folder, clip, tiny.clip_params(clip), 'float32')
    return folder


def line(*words, config='configs/demo.py', **fields):
    """What is typed after python: `words`, and every field that is set."""
    return ['main.py', *words, f'--config={config}', *(f'--config.{name}={value}' for name, value in fields.items())]


def command(workdir, cache, *more, **changes):
    """A process that trains."""
    fields = SMALL | {'data.cache': str(cache), 'model.pretrained': tiny_clip()} | changes
    return [sys.executable, *line(f'--workdir={workdir}', *more, **fields)]


def call(*args, **changes):
    """Train in a process of its own, and wait for it."""
    return subprocess.run(command(*args, **changes), cwd=ROOT, capture_output=True, text=True, timeout=600)


def here(*args, **changes):
    """As `call`, in this process: Python, TensorFlow and JAX are not started once more."""
    return run_here(command(*args, **changes)[1:])


def typed(*words):
    """What `python main.py words` would print and return, in this process."""
    return run_in(main.PROGRAM, list(map(str, words)))


def run_here(argv):
    """What `python main.py ...` would print and return."""
    return run_in(main.PROGRAM, argv[1:])


def run_in(program, words):
    """What `python main.py words` or `lcr2s words` would print and return."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = program.main(words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def fails(run, status, *words):
    """It ended with that status and one message that has the words."""
    assert run.returncode == status, run.stderr
    assert 'Traceback' not in run.stderr
    for word in words:
        assert word in run.stderr, run.stderr


def wait_for(path, text, *processes):
    """Until a file of running processes has the text."""
    deadline = time.time() + 400
    while not (path.exists() and text in path.read_text()):
        ended = [process.args for process in processes if process.poll() is not None]
        assert not ended and time.time() < deadline, f'{path} has no {text}; ended: {ended}'
        time.sleep(0.02)
