"""Which vector should a track have?  python -m benchmarks.tracks --workdir=runs/demo

Every person of a split is a track, all views its crops; every caption searches the tracks. `unseen`: the view that the
caption was written of is taken out of the person's own track, as a witness saw another moment than the camera. False
alarms and probabilities are those of the calibration on single pictures, with crops or tracks counted as N.
"""

import argparse
import pathlib

import jax
import numpy as np

from benchmarks import common
from commands.workdir import open_finished
from lcr2s_jax.evaluation import metrics
from lcr2s_jax.search import calibration
from lcr2s_jax.video import pooling


def main() -> None:
    """Print the table and write docs/evidence/tracks.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--workdir', required=True, help='of a finished run')
    workdir = pathlib.Path(parser.parse_args().workdir)
    run = open_finished(workdir, ['teacher', 'student'], ('val', 'test'))
    teacher = run.stages['teacher']
    enrich = jax.jit(lambda v_BKE, view_BK: teacher.fusion.enrich(teacher.params, 'image', v_BKE, view_BK))
    rows, fitted = [], None
    for split in ('val', 'test'):
        ours, theirs = (run.features(name, split) for name in ('student', 'teacher'))
        fitted = fitted or calibration.fit(ours)
        for name, text_QE, vectors, pool in _ways(ours, theirs, enrich, teacher.views):
            rows.append({'split': split, **_row(name, text_QE, vectors, pool, ours, fitted)})
    common.write('tracks', rows)


def _ways(ours, theirs, enrich, views: int):
    """(name, sentences, (pictures, their track) -> what is pooled, how) of every way."""

    def fused(image_GE):
        return lambda rows, track_N: pooling.enriched(enrich, image_GE[rows], track_N, views)

    student_text, teacher_text = ours.text_QE, theirs.text_QE
    yield 'student, best crop', student_text, lambda rows, _: ours.image_GE[rows], 'max'
    yield 'student, mean', student_text, lambda rows, _: ours.image_GE[rows], 'mean'
    yield 'teacher, mean of single crops', student_text, lambda rows, _: theirs.image_GE[rows], 'mean'
    yield 'teacher, fused, best crop', student_text, fused(theirs.image_GE), 'max'
    yield 'teacher, fused, mean', student_text, fused(theirs.image_GE), 'mean'
    yield "student's crops in the teacher's fusion, mean", student_text, fused(ours.image_GE), 'mean'
    yield 'teacher, mean of single crops; its text', teacher_text, lambda rows, _: theirs.image_GE[rows], 'mean'
    yield 'teacher, fused, mean; its text', teacher_text, fused(theirs.image_GE), 'mean'


def _row(name: str, text_QE, vectors, pool: str, e, fitted) -> dict:
    people, track_G = np.unique(e.image_pid_G, return_inverse=True)
    own_Q = np.searchsorted(people, e.text_pid_Q)
    whole_QP = _scores(text_QE, vectors(np.arange(len(track_G)), track_G), track_G, pool)
    unseen_QP = whole_QP.copy()
    for view in np.unique(e.text_view_Q):
        kept = np.flatnonzero((track_G == track_G[view]) & (np.arange(len(track_G)) != view))
        asked = np.flatnonzero(e.text_view_Q == view)
        if len(kept):
            alone = _scores(text_QE[asked], vectors(kept, track_G[kept]), track_G[kept], pool)
            unseen_QP[asked, track_G[view]] = alone[:, 0]
    found = {'way': name}
    for title, score_QP in (('', whole_QP), ('unseen ', unseen_QP)):
        told = metrics.from_scores(score_QP.__getitem__, own_Q, np.arange(len(people)))
        found |= {f'{title}{metric}': told[metric] for metric in ('R1', 'R5', 'mAP')}
    stranger_Q = np.where(own_Q[:, None] == np.arange(len(people)), -np.inf, whole_QP).max(axis=1)
    best_Q = whole_QP.max(axis=1)
    for counted, searched in (('crops', len(track_G)), ('tracks', len(people))):
        bar, said_Q = fitted.threshold('sentence', 0.05, searched), fitted.probability('sentence', best_Q, searched)
        found[f'alarms at 0.05, N {counted}'] = float((stranger_Q >= bar).mean())
        found[f'first hit, said, N {counted}'] = float(said_Q.mean())
    return found


def _scores(text_QE, vector_NE, track_N, pool: str) -> np.ndarray:
    """[Q, P]: the cosine with the track's vector, or with its best crop."""
    text_QE = text_QE / np.linalg.norm(text_QE, axis=1, keepdims=True)
    if pool == 'mean':
        return text_QE @ pooling.mean(vector_NE, track_N).T
    score_QN = text_QE @ (vector_NE / np.linalg.norm(vector_NE, axis=1, keepdims=True)).T
    return np.stack([score_QN[:, track_N == track].max(axis=1) for track in np.unique(track_N)], axis=1)


if __name__ == '__main__':
    main()
