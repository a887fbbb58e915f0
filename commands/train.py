"""python main.py --config=... --workdir=...: trains the stages, evaluates them, draws what they find."""

import json
import os
import pathlib
import shlex
import sys
import time

from ml_collections import ConfigDict

from commands.run import Run
from commands.workdir import alone_in, read_json, refuse_another_config
from lcr2s_jax import files


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Train the config's stages, evaluate them once on test, write results and pictures, print a table."""
    from lcr2s_jax.training import parallel, report

    clock = time.perf_counter()
    with parallel.agreed('the comparison with the run in the workdir'):
        refuse_another_config(workdir, config)
    finished = workdir / 'results.json'
    if finished.exists():
        results = read_json(finished)
        print(f'{workdir} is finished: delete {finished} to evaluate it again')
    else:
        with alone_in(workdir):
            run = Run(config, workdir)
            if 'val' not in run.splits:
                run.report.say(f"'{config.data.dataset}' has no split val: the last step of each stage is taken")
            for name in config.stages:
                run.train_stage(name)
            results = run.evaluate()
            results['seconds']['this_call'] = round(time.perf_counter() - clock, 1)
            if parallel.first():
                if config.data.dataset == 'demo':
                    _crops(run.splits['test'], workdir)
                files.write(finished, json.dumps(results, indent=2) + '\n')
    if not parallel.first():
        return
    for split in ('val', 'test'):
        if any(split in part for part in results.values() if isinstance(part, dict)):
            print('\n' + report.table(results, split))
    print(f'\n{workdir}: results.json  curves.png  sheet.png  metrics.jsonl  tensorboard/')
    if 'student' in config.stages:
        print(_next(config, workdir))


def _crops(split, workdir: pathlib.Path) -> None:
    """The drawn people of test as files, as a folder of one's own would be, and a table of who is who beside them."""
    rows = ['path,person,camera,view' if split.file_names[0].count('_') == 2 else 'path,person,view']
    for name, jpeg in zip(split.file_names, split.jpegs, strict=True):
        file = workdir / 'crops' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg)
        rows.append(f'{name},' + ','.join(file.stem.split('_')))
    (workdir / 'crops.csv').write_text('\n'.join(rows) + '\n')


def _next(config: ConfigDict, workdir: pathlib.Path) -> str:
    """What to type to search in pictures with the student."""
    python = (
        os.path.relpath(sys.executable) if pathlib.Path(sys.executable).is_relative_to(pathlib.Path.cwd()) else 'python'
    )
    crops, index = workdir / 'crops', f'--index={shlex.quote(str(workdir / "index"))}'
    drawn = config.data.dataset == 'demo' and crops.is_dir()
    images = shlex.quote(str(crops if drawn else config.data.root or 'DIR'))
    metadata = f' --metadata={shlex.quote(str(workdir / "crops.csv"))}' * drawn
    return (
        '\nSearch with it, in these pictures or in a folder of your own:\n'
        f'  {python} main.py index --workdir={shlex.quote(str(workdir))} --images={images}{metadata} {index}\n'
        f'  {python} main.py search {index} "a woman in a red coat with a black backpack"'
    )
