"""What a run's teachers make of the unaugmented training split: computed once, kept in the workdir, for the student."""

import time
from collections.abc import Sequence

import numpy as np

from lcr2s_jax import files
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.method import targets
from lcr2s_jax.method.stages import STAGES
from lcr2s_jax.training import parallel

_FIELDS = ('image_GE', 'text_QE')


def teacher_features(run, names: Sequence[str]) -> Embeddings:
    """Features of every training image and caption, memory-mapped from <workdir>/teacher_features/<a hash>/.

    Of several teachers the mean; of the folds' baselines each tells of the people that it never saw. On several hosts
    all compute them and the first writes.
    """
    # of one teacher its own, by which runs of before know it
    hashed = parallel.fingerprint({name: run.params[name] for name in names} if names[1:] else run.params[names[0]])
    folder, split = run.workdir / 'teacher_features' / hashed[:16], run.inputs.splits['train']
    parallel.wait_for_all('all look for the same features')
    done = all((folder / f'{field}.npy').exists() for field in _FIELDS)
    parallel.wait_for_all('the features were looked for')
    if not done:
        clock = time.perf_counter()
        who = f'{" and ".join(names)} look' if names[1:] else f'the {names[0]} looks'
        run.report.say(f'student: {who} at the training split once ({folder})')
        caches = [run.inputs.embed(run.embedders[name], run.params[name], 'train') for name in names]
        fold_G = split.image_pid % len(names)
        everybody = STAGES[names[0]].kind != 'fold'
        told = [(fold_G == fold) | everybody for fold in range(len(names))]
        found = targets.mean_features(caches, told) if caches[1:] else caches[0]
        with parallel.agreed("keeping the teacher's features"):
            if parallel.is_primary():
                folder.mkdir(parents=True, exist_ok=True)
                for field in _FIELDS:
                    with files.aside(folder / f'{field}.npy') as partial, partial.open('wb') as file:
                        np.save(file, getattr(found, field))
        run.seconds['teacher_features'] = time.perf_counter() - clock
    places = np.arange(len(split.image_pid), dtype=np.int32)
    # as plain arrays, still of the file: on several hosts JAX places no subclass of them
    features = (np.load(folder / f'{field}.npy', mmap_mode='r').view(np.ndarray) for field in _FIELDS)
    return Embeddings(*features, split.image_pid, split.caption_pid, places, split.caption_image)
