"""python main.py --config=... --workdir=...: trains the stages, evaluates them, draws what they find."""

import json
import os
import pathlib
import shlex
import sys
import time

from ml_collections import ConfigDict

from commands.training import devices_line, open_training
from commands.workdir import refuse_another_config
from lcr2s_jax import __version__, files
from lcr2s_jax.evaluation.table import table
from lcr2s_jax.training import parallel
from lcr2s_jax.training.run import alone_in, refuse_no_folder
from lcr2s_jax.training.run_files import MODEL, identity, read_results


def train(config: ConfigDict, workdir: pathlib.Path, config_file: str = '') -> None:
    """Train the config's stages, evaluate them once on test, write results and pictures, print a table."""
    clock = time.perf_counter()
    refuse_no_folder(workdir)
    if parallel.is_primary():
        print(
            f'lcr2s {__version__}  config {config_file or "given by a program"}  data {config.data.dataset}  '
            f'workdir {workdir}\n{devices_line()}  {config.model.dtype}',
            flush=True,
        )
    with parallel.agreed('the comparison with the run in the workdir'):
        refuse_another_config(workdir, config)
    finished = workdir / 'results.json'
    if finished.exists() and (workdir / MODEL / 'model.json').exists():
        results = read_results(workdir, config.stages)
        print(f'{workdir} is finished: delete {finished} to evaluate it again')
    else:
        with alone_in(workdir):
            training = open_training(config, workdir)
            if 'val' not in training.inputs.splits:
                training.report.say(f"'{config.data.dataset}' has no split val: the last step of each stage is taken")
            for name in config.stages:
                training.train_stage(name)
            results = training.evaluate()
            results['seconds']['this_call'] = round(time.perf_counter() - clock, 1)
            if parallel.is_primary():
                if config.data.dataset == 'demo':
                    _crops(training.inputs.splits['test'], workdir)
                files.write(finished, json.dumps({'run': identity(workdir), **results}, indent=2) + '\n')
    if not parallel.is_primary():
        return
    for split in ('val', 'test'):
        if any(split in part for part in results.values() if isinstance(part, dict)):
            print('\n' + table(results, split))
    print(f'\n{workdir}: results.json  curves.png  sheet.png  metrics.jsonl  tensorboard/')
    print(_next(config, workdir))


def _crops(split, workdir: pathlib.Path) -> None:
    """The synthetic pedestrians of test as files, and a table of who is who beside them."""
    rows = ['path,person,camera,view' if split.file_names[0].count('_') == 2 else 'path,person,view']
    for name, jpeg in zip(split.file_names, split.jpegs, strict=True):
        file = workdir / 'crops' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write(file, jpeg)
        rows.append(f'{name},' + ','.join(file.stem.split('_')))
    files.write(workdir / 'crops.csv', '\n'.join(rows) + '\n')


def _next(config: ConfigDict, workdir: pathlib.Path) -> str:
    """What to type to search in pictures with the student."""
    python = (
        os.path.relpath(sys.executable) if pathlib.Path(sys.executable).is_relative_to(pathlib.Path.cwd()) else 'python'
    )
    crops, index = workdir / 'crops', f'--index={shlex.quote(str(workdir / "index"))}'
    drawn = config.data.dataset == 'demo' and crops.is_dir()
    there = files.expanded(config.data.root) / files.expanded(config.data.images)
    images = shlex.quote(str(crops if drawn else there if config.data.root or config.data.images else 'DIR'))
    metadata = f' --metadata={shlex.quote(str(workdir / "crops.csv"))}' * drawn
    return (
        '\nSearch with it, in these pictures or in a folder of your own:\n'
        f'  {python} main.py index --workdir={shlex.quote(str(workdir))} --images={images}{metadata} {index}\n'
        f'  {python} main.py search {index} "a woman in a red coat with a black backpack"'
    )
