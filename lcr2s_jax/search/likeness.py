"""What is said of an index whose pictures are unlike those that its model was calibrated on, see `domain`."""

from collections.abc import Sequence

import numpy as np

from lcr2s_jax.search.answer import Hit
from lcr2s_jax.search.calibration import Calibration
from lcr2s_jax.search.gallery import FOUND, Gallery
from lcr2s_jax.search.rows import LOOK, looks_of

UNCHECKED = (
    'not checked: whether these pictures are like those that the model was calibrated on, which were too few to tell'
)
_SOME = 5000  # pictures by which a whole index is judged


def outside(gallery: Gallery, fitted: Calibration | None) -> np.ndarray | None:
    """Which of an index's first 5,000 pictures are unlike those of a calibration; None where that is not known."""
    if not (fitted and fitted.domain):
        return None
    some = gallery.table.search().where(FOUND.sql).select([LOOK]).limit(_SOME).to_arrow()
    return fitted.domain.outside(looks_of(some[LOOK].to_pylist()))


def reasons(fitted: Calibration | None, threshold: float | None, checked: bool, hits: Sequence[Hit]):
    """Why there are no probabilities, or not of all hits."""
    if fitted is None:
        return ['scores and ranks alone, no probabilities: this model came without people to calibrate it on']
    if threshold is None:
        return ['scores and ranks alone, no probabilities: the model was not calibrated for this kind of query']
    if not checked:
        return [UNCHECKED]
    outside = sum(hit.outside for hit in hits)
    if not outside:
        return []
    if outside == len(hits):
        return ['no probabilities: these pictures are unlike those that the model was calibrated on']
    return [f'no probability for {outside} of {len(hits)} hits: unlike the pictures that the model was calibrated on']
