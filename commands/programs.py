"""Compiled steps of rows: what is alike in two rows is one program, and programs compile beside the training."""

import concurrent.futures
import json
import threading
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from commands.material import KNOBS, Material
from commands.rows import Row
from lcr2s_jax.training import optim, resident


class Programs(Material):
    """Material, and the programs that train it; arguments as of `Material`.

    With `together` the seeds of a row, and rows of one program, train side by side (`jax.vmap`): for accelerators.
    """

    def __init__(self, *material, together: bool = False, say: Callable[[str], None] = print):
        super().__init__(*material)
        self.together, self.say = together, say
        self._programs: dict[tuple, Callable | concurrent.futures.Future] = {}

    def _signature(self, row: Row) -> str:
        """What of a row is in its program; rows that are alike in it train side by side."""
        config = self.given(row)
        groups = ('model', 'batch', 'augment', 'masking', 'optim', 'train', row.stage)
        static = {g: {k: v for k, v in config.get(g, {}).items() if k not in KNOBS.get(g, ())} for g in groups}
        if row.stage == 'student':
            del static['student']['from_teacher']  # where it starts
            of = self.rows[row.teacher]
            fusion = of.stage in ('teacher', 'fusion') and self.given(of)['teacher']
            static['of'] = [fusion, self.given(of)['model'], row.beside]
        if row.stage == 'fusion':
            static['teacher'] = config['teacher']
        return json.dumps([row.stage, static], sort_keys=True)

    def _program(self, row: Row, seed: int, count: int) -> Callable:
        """The compiled steps between two validations of so many members."""
        key = (self._signature(row), count)
        if key not in self._programs:
            self._programs[key] = self._jitted(row, seed)
        known = self._programs[key]
        return known.result() if isinstance(known, concurrent.futures.Future) else known

    def _jitted(self, row: Row, seed: int) -> Callable:
        config = self.given(row)

        def run(state, frozen, split, index, seed_, knobs):
            stage = self._stage(row, seed, knobs)
            rate = {'learning_rate': knobs['learning_rate']}
            tx = optim.adam(steps=config['train']['steps'], **config['optim'] | rate)
            given = {'augment_with': config['augment'], 'mask_with': config['masking']}
            return resident.run_steps(state, frozen, split, index, seed_, loss=stage.loss, tx=tx, **given)

        if self.together:  # the pixels are shared, the captions may be a row's own
            shared = resident.ResidentSplit(None, 0, None, None)
            run = jax.vmap(run, in_axes=(0, 0, shared, 0, 0, 0))
        return jax.jit(run, donate_argnums=0)

    def compile(self, groups: Sequence[Sequence[tuple[Row, int]]]) -> None:
        """Begin to compile every program beside the training, in its order: a fast device would wait for each."""
        jobs = {}
        for group in groups:
            (row, seed), count = group[0], len(group) if self.together else 1
            key = (self._signature(row), count)
            if row.stage != 'start' and key not in self._programs:
                self._programs[key] = jobs[key] = concurrent.futures.Future()
                jobs[key].about = row, seed, count
        threading.Thread(target=self._compile, args=(list(jobs.values()),), daemon=True).start()

    def _compile(self, jobs: Sequence[concurrent.futures.Future]) -> None:
        """Trace one after the other, which Python does alone, and compile side by side; fulfil each job."""
        clock = time.perf_counter()

        def finish(job, lowered):
            try:
                job.set_result(lowered.compile())
            except Exception as error:  # it is raised where the program is asked for
                job.set_exception(error)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            for job in jobs:
                try:
                    row, seed, _ = job.about
                    lowered = self._jitted(row, seed).lower(*self._shapes(*job.about))
                except Exception as error:  # the same
                    job.set_exception(error)
                else:
                    pool.submit(finish, job, lowered)
        self.say(f'{len(jobs)} programs compiled by {time.perf_counter() - clock:.0f} s')

    def _shapes(self, row: Row, seed: int, count: int) -> tuple:
        """Shapes of a program's arguments, also before its teacher is trained."""
        config, stage = self.given(row), self._stage(row, seed)
        tx = optim.adam(steps=config['train']['steps'], **config['optim'])
        batch, every = config['batch'], config['train']['eval_every']
        index = jax.ShapeDtypeStruct((every, batch['identities'], batch['views']), jnp.int32)
        split, knobs = self._resident['train'], jax.eval_shape(lambda: self.knobs(row))
        one = (
            jax.eval_shape(lambda: resident.initial_state(stage.init(jax.random.key(0)), tx)), stage.frozen,
            (index, index), jax.ShapeDtypeStruct((), jnp.int32), knobs, split.tokens_QL,
        )  # fmt: skip
        lead = (count,) if self.together else ()
        state, frozen, index, seed_, knobs, tokens = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), one
        )
        shared = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), split)
        return state, frozen, shared._replace(tokens_QL=tokens), index, seed_, knobs
