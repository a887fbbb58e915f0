"""Are probabilities and thresholds of a student true on test?  python -m benchmarks.calibration --workdir=runs/demo

Fitted on val, looked at on test. ECE: of the ten best hits of every query, ten bins of equal size. False alarms: the
person's own pictures are taken out of test. Both with N the size of test, as a search has it, and with N that of val,
as if strangers did not multiply with the gallery.
"""

import argparse
import pathlib

import numpy as np

from benchmarks import common
from commands.workdir import open_finished
from lcr2s_jax.search import calibration


def main() -> None:
    """Print the table and write docs/evidence/calibration.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--workdir', required=True, help='of a finished run')
    run = open_finished(pathlib.Path(parser.parse_args().workdir), ['student'], ('val', 'test'))
    val, test = (run.features('student', split) for split in ('val', 'test'))
    fitted = calibration.fit(val)
    _, kinds = calibration.scores(test, np.arange(len(test.text_pid_Q)), fitted.deviation)
    rows = []
    for kind, (score_QG, strangers_QG) in kinds.items():
        for size, searched in (('test', score_QG.shape[1]), ('val', fitted.pictures)):
            rows.append({'query': kind, 'N of': size, **_row(fitted, kind, score_QG, strangers_QG, searched)})
    common.write('calibration', rows)


def _row(fitted, kind: str, score_QG, strangers_QG, searched: int) -> dict:
    top_QK = np.argsort(-score_QG, axis=1)[:, : calibration.TOP]
    hit_QK, right_QK = np.take_along_axis(score_QG, top_QK, 1), ~np.take_along_axis(strangers_QG, top_QK, 1)
    probability_QK = fitted.probability(kind, hit_QK, searched)
    best_Q = np.where(strangers_QG, score_QG, -np.inf).max(axis=1)
    first = {'first hit, said': probability_QK[:, 0].mean(), 'is': right_QK[:, 0].mean()}
    alarms = {f'alarms at {rate:g}': (best_Q >= fitted.threshold(kind, rate, searched)).mean() for rate in (0.05, 0.2)}
    found = {
        f'right at {rate:g}': (right_QK[:, 0] & (hit_QK[:, 0] >= fitted.threshold(kind, rate, searched))).mean()
        for rate in (0.05, 0.2)
    }
    return {'ECE': error(probability_QK.ravel(), right_QK.ravel())} | {
        name: float(value) for name, value in (first | alarms | found).items()
    }


def error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean over bins of equal size of |mean probability - share that is right|."""
    parts = np.array_split(np.argsort(probability), bins)
    return float(sum(len(i) * abs(probability[i].mean() - right[i].mean()) for i in parts) / len(probability))


if __name__ == '__main__':
    main()
