"""python main.py --config=... --workdir=...: trains the stages, evaluates them, draws what they find."""

import json
import pathlib
import time

from ml_collections import ConfigDict

from commands.run import Run, alone_in, read_json, refuse_another_config


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Train the config's stages, evaluate them once on test, write results and pictures, print a table."""
    from lcr2s_jax import parallel, report

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
                report.write_text(finished, json.dumps(results, indent=2) + '\n')
    if not parallel.first():
        return
    for split in ('val', 'test'):
        if any(split in part for part in results.values() if isinstance(part, dict)):
            print('\n' + report.table(results, split))
    print(f'\n{workdir}: results.json  curves.png  sheet.png  metrics.jsonl  tensorboard/')
