"""Training steps for benchmarks.device: compiled side by side, timed in turns, in the order of their importance."""

import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import batches, flops, step
from benchmarks.device_tools import (
    FULL,
    GIB,
    SMALL,
    attention_kernel,
    draw,
    model,
    peak_gib,
    timed_in_turns,
    told_in,
)  # fmt: skip
from lcr2s_jax.method import stages
from lcr2s_jax.models.clip import CLIP
from lcr2s_jax.training import optim, train
from lcr2s_jax.training.parallel import Parallel

PARALLEL_COMPILES = 6  # programs that XLA compiles side by side, where there are cores for it
LEFT_OUT = 'no time was left'


class Case(NamedTuple):
    """One way to compute one stage's training step."""

    kind: str  # 'baseline', 'teacher' or 'student': the one with a cached teacher
    rows: int
    dtype: str = 'bfloat16'
    kernel: str = 'einsum'  # of attention
    scan: bool = False
    remat: bool = False
    chunks: int = 1
    off: str = ''  # an option of XLA's that is turned off

    @property
    def how(self) -> str:
        """What departs from a plain step, in words."""
        words = (self.scan * 'scan', self.remat * 'remat', f'chunks={self.chunks}' * (self.chunks > 1))
        return ', '.join(filter(None, (*words, self.off and f'{self.off}=false')))


def waves(kernel: str, rows: tuple[int, int, int]) -> list[list[Case]]:
    """Cases in the order of their importance. A ratio is to the first in a wave with equal rows and type."""
    few, usual, many = rows
    plain = Case('baseline', usual, kernel=kernel)
    exact = plain._replace(dtype='float32', kernel='einsum')
    thin, large = plain._replace(rows=few), plain._replace(rows=many, remat=True)
    scan = plain._replace(scan=True)

    def stages_of(case: Case) -> list[Case]:
        return [case._replace(kind=kind) for kind in ('baseline', 'teacher', 'student')]

    return [
        [*stages_of(plain), scan],
        [plain, thin, large, exact, plain._replace(kernel='einsum')],
        [plain, plain._replace(remat=True), plain._replace(off='xla_gpu_enable_triton_gemm')],
        [large, large._replace(remat=False, chunks=4), exact, exact._replace(remat=True), exact._replace(rows=few)],
        [exact._replace(rows=many, remat=True), plain._replace(kernel='xla'), plain, scan._replace(remat=True)],
        stages_of(exact),
        stages_of(thin),
        stages_of(large),
        stages_of(scan),
        stages_of(exact._replace(rows=few)),
        stages_of(exact._replace(rows=many, remat=True)),
    ]


class Steps:
    """Compiles and times training steps; parameters are drawn once and shared."""

    def __init__(self, tiny: bool):
        self.tiny, self.size = tiny, SMALL if tiny else FULL
        self.parallel = Parallel('jit', 1, fsdp=False)
        self.tx = optim.adam(steps=1000, **step.OPTIM)
        clip = model(tiny)
        teacher = stages.teacher_stage(clip, None, self.size.people, **step.TEACHER)
        shapes = jax.eval_shape(lambda key: clip.init_params(key), jax.random.key(0))
        shapes = jax.eval_shape(teacher.init, jax.random.key(0)) | {'clip': shapes}
        self.params = self.parallel.put_state(draw(shapes))
        self.compiled: dict[Case, tuple] = {}

    def stage(self, case: Case, clip: CLIP, batch) -> stages.Stage:
        """The stage of a case, its parameters those that are shared."""
        given = (clip, self.params['clip'], self.size.people)
        if case.kind == 'baseline':
            stage = stages.baseline_stage(*given, **step.BASE)
        else:
            stage = stages.teacher_stage(*given, **step.TEACHER)
        if case.kind == 'student':
            cached = step.STUDENT | {'cache_teacher': True}
            stage = stages.student_stage(*given, stage, self.params, batches.features(clip, batch), **cached)
        names = ('clip', 'head', 'fusion') if case.kind == 'teacher' else ('clip', 'head')
        return dataclasses.replace(stage, init=lambda key: {name: self.params[name] for name in names})

    def lower(self, case: Case):
        """Trace a case; () -> its row, compiled and kept, is for another thread."""
        how = dict(dtype=case.dtype, kernel=case.kernel, scan=case.scan, remat=case.remat, chunks=case.chunks)
        clip = model(self.tiny, **how)
        batch = batches.random_batch(clip, case.rows // step.VIEWS, step.VIEWS)
        stage = self.stage(case, clip, batch)
        frozen, placed = self.parallel.put_state(stage.frozen), self.parallel.put(batch)
        shapes = train.shaped_state(stage, self.tx, self.parallel, seed=0)
        lowered = step.jitted(stage, self.tx, self.parallel).lower(shapes, frozen, placed)
        options = {case.off: False} if case.off else None

        def compile_() -> dict:
            clock = time.perf_counter()
            run = lowered.compile(compiler_options=options)
            used = run.memory_analysis()
            self.compiled[case] = run, stage, frozen, placed
            operations = case.rows * flops.train_pair(clip)
            planned = used.temp_size_in_bytes + used.argument_size_in_bytes + used.output_size_in_bytes
            return {
                'compile_seconds': time.perf_counter() - clock,
                'planned_gib': (planned - used.alias_size_in_bytes) / GIB,
                'teraflop': operations / 1e12,
            }

        return compile_

    def running(self, case: Case) -> Callable[[int], None]:
        """n -> None: n steps from a fresh state, the last one waited for."""
        run, stage, frozen, batch = self.compiled[case]
        held = [train.initial_state(stage, self.tx, self.parallel, seed=0)]

        def call(n: int) -> None:
            for _ in range(n):
                held[0], metrics = run(held[0], frozen, batch)
            if not np.isfinite(float(metrics['loss'])):
                raise FloatingPointError(f'the loss became {float(metrics["loss"])}')
            jax.block_until_ready(held[0])

        return call


def train_steps(tiny: bool, left: Callable[[], float], chosen: Sequence[int] = ()) -> Iterator[dict]:
    """Training steps, wave by wave: compiled side by side, then timed in turns. What finds no time is told.

    Args:
      tiny, left: see `device_parts`.
      chosen: numbers of the waves, from 1; none for all.
    """
    kernel, why = attention_kernel()
    yield {'what': 'attention', 'kernel': kernel, **({'not_cudnn': why} if why else {})}
    steps, told, costs = Steps(tiny), set(), 0.0
    threads = max(1, min(PARALLEL_COMPILES, (os.cpu_count() or 1) // 2))
    everything = waves(kernel, steps.size.rows)
    if not set(chosen) <= set(range(1, len(everything) + 1)):
        raise ValueError(f'--waves: found {chosen}, expected numbers from 1 to {len(everything)}')
    everything = [everything[number - 1] for number in chosen] or everything
    for wave in everything:
        new = [case for case in wave if case not in told]
        fits = len(new) if not costs else max(0, int(left() / costs)) * threads
        clock = time.perf_counter()
        if new and left() > 0 and fits:
            rows = wave_rows(steps, [case for case in wave if case not in new[fits:]], threads)
            yield from (row for case, row in rows.items() if case not in told)
            told |= set(rows)
            costs = (time.perf_counter() - clock) / -(-len(new[:fits]) // threads)
    rest = dict.fromkeys(case for wave in everything for case in wave if case not in told)
    yield from (about(case) | {'left_out': LEFT_OUT} for case in rest)


def about(case: Case) -> dict:
    """The columns that name a case."""
    return {
        'what': case.kind, 'rows': case.rows, 'dtype': case.dtype, 'attention': case.kernel, 'how': case.how,
    }  # fmt: skip


def wave_rows(steps: Steps, wave: list[Case], threads: int) -> dict[Case, dict]:
    """A row a case, whatever becomes of it."""
    rows, jobs, calls = {case: about(case) for case in wave}, {}, {}
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for case in wave:
            if case not in steps.compiled:
                with told_in(rows[case]):
                    jobs[case] = pool.submit(steps.lower(case))
        for case, job in jobs.items():
            with told_in(rows[case]):
                rows[case] |= job.result()
    for case in wave:  # each alone first: one that does not fit must not stop the turns
        if case in steps.compiled:
            with told_in(rows[case]):
                call = steps.running(case)
                call(1)
                rows[case]['peak_gib'] = peak_gib()
                calls[case] = call
    for case, found in timed_in_turns(calls).items() if calls else ():
        first = next(other for other in calls if (other.rows, other.dtype) == (case.rows, case.dtype))
        rows[case] |= {name: found[name] for name in ('seconds', 'fastest', 'slowest')}
        rows[case] |= {'pairs_per_s': case.rows / found['seconds'], 'ratio': found['ratios'][first]}
        rows[case]['to'] = ' '.join(filter(None, (first.kind, first.kernel, first.how)))
        if 'teraflop' in rows[case]:
            rows[case]['tflops'] = rows[case]['teraflop'] / found['seconds']
    return rows
