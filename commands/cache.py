"""What a run's teacher makes of the unaugmented training split: computed once, kept in the workdir, for the student."""

import time

import numpy as np

from lcr2s_jax import files
from lcr2s_jax.arrays import Embeddings
from lcr2s_jax.training import parallel

_FIELDS = ('image_GE', 'text_QE')


def teacher_features(run) -> Embeddings:
    """Features of every training image and caption, memory-mapped from <workdir>/teacher_features/<teacher's hash>/.

    On several hosts all compute them and the first writes.

    Args:
      run: a `commands.training.Training` whose teacher is trained.
    """
    teacher = run.params['teacher']
    folder = run.workdir / 'teacher_features' / parallel.fingerprint(teacher)[:16]
    parallel.wait_for_all('all look for the same features')
    done = all((folder / f'{field}.npy').exists() for field in _FIELDS)
    parallel.wait_for_all('the features were looked for')
    if not done:
        clock = time.perf_counter()
        run.report.say(f'student: the teacher looks at the training split once ({folder})')
        found = run.inputs.embed(run.embedders['teacher'], teacher, 'train')
        with parallel.agreed("keeping the teacher's features"):
            if parallel.is_primary():
                folder.mkdir(parents=True, exist_ok=True)
                for field in _FIELDS:
                    with files.aside(folder / f'{field}.npy') as partial, partial.open('wb') as file:
                        np.save(file, getattr(found, field))
        run.seconds['teacher_features'] = time.perf_counter() - clock
    split = run.inputs.splits['train']
    places = np.arange(len(split.image_pid), dtype=np.int32)
    # as plain arrays, still of the file: on several hosts JAX places no subclass of them
    features = (np.load(folder / f'{field}.npy', mmap_mode='r').view(np.ndarray) for field in _FIELDS)
    return Embeddings(*features, split.image_pid, split.caption_pid, places, split.caption_image)
