"""What `benchmarks.ablation` trains, a row a name: a stage, and what is other than in the demo's config.

Every row has the same starting weights, people, steps, rows a batch, augmentation, optimiser and selection on val.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

BASELINE = 'sdm'  # the matched baseline
_RANDOM = {'identities': 64, 'views': 1}
_ALONE = {'identity_weight': 0.0}  # without the classifier
_TAUGHT = _ALONE | {'cache_teacher': True}
_TAL = {'align': 'tal', 'scale': 1 / 0.015}
FEATURE, RELATION = 3.0, 1.0  # the weights of the claims


@dataclasses.dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
      label: in tables.
      stage: 'none' (the CLIP as it is), 'baseline', 'teacher' or 'student'.
      changes: arguments of the stage that differ from the demo's config.
      batch: arguments of the plan that differ.
      teachers: the row whose teacher is frozen; or two, of half of the people each, that teach each other's.
      half: 0 or 1 trains on the people of even or odd number alone.
      claim: on every seed and on test; otherwise read on val, one seed.
      selected_by: val R@1 of 'single' views, or, of a teacher, with 'supports', which its student learns from.
    """

    label: str
    stage: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    teachers: tuple[str, ...] = ()
    half: int | None = None
    claim: bool = False
    selected_by: str = 'single'


def _student(label: str, *, teacher: str = 'teacher', claim: bool = False, batch: Mapping = (), **changes) -> Row:
    weights = {'feature_weight': FEATURE, 'relation_weight': RELATION}
    return Row(label, 'student', _TAUGHT | weights | changes, dict(batch), tuple(teacher.split()), claim=claim)


ROWS = {
    'clip': Row('demo CLIP, not fine-tuned', 'none', _ALONE, claim=True),
    'infonce-random': Row('InfoNCE, random batches', 'baseline', _ALONE | {'align': 'infonce'}, _RANDOM, claim=True),
    'sdm-random': Row('SDM, random batches', 'baseline', _ALONE, _RANDOM, claim=True),
    'sdm': Row('SDM, identity-balanced: the matched baseline', 'baseline', _ALONE, claim=True),
    'sdm-id': Row('+ identity loss', 'baseline', {'identity_weight': 1.0}, claim=True),
    'tal': Row('TAL in place of SDM', 'baseline', _ALONE | _TAL, claim=True),
    'teacher': Row('teacher', 'teacher', _ALONE, claim=True),
    'student-feature': _student('student, feature distillation only', relation_weight=0.0, claim=True),
    'student-relation': _student('student, relation distillation only', feature_weight=0.0, claim=True),
    'student': _student('student, both (LCR2S)', claim=True),
    'student-from-teacher': _student('student, started from the teacher', from_teacher=True, claim=True),
    'teacher-rich': Row('teacher, step chosen by its oracle', 'teacher', _ALONE, claim=True, selected_by='supports'),
    'student-rich': _student('student of that teacher', teacher='teacher-rich', claim=True),
    'student-live': _student('student, teacher in every step, not cached', cache_teacher=False, claim=True),
}
# one seed, on val
ROWS |= {
    f'student-f{weight:g}': _student(f'student, w_f {weight:g}, w_r 0', feature_weight=weight, relation_weight=0.0)
    for weight in (0.3, 1.0, 10.0, 30.0)
}
ROWS |= {
    f'student-r{weight:g}': _student(f'student, w_f 0, w_r {weight:g}', feature_weight=0.0, relation_weight=weight)
    for weight in (0.3, 3.0, 10.0)
}
ROWS |= {
    'student-kl': _student('student, relation by KL, w_r 1', relation='kl'),
    'student-fixed': _student('student, one draw of supports for good', redraw_supports=False),
    'student-id': _student('student + identity loss', identity_weight=1.0),
    'student-random': _student('student, random batches, one draw of supports', redraw_supports=False, batch=_RANDOM),
    'teacher-coupled': Row('teacher, gradient from fusion into encoders', 'teacher', _ALONE | {'detach': False}),
    'student-coupled': _student('student of that teacher', teacher='teacher-coupled'),
    'teacher-dropout': Row('teacher, half of the supports dropped', 'teacher', _ALONE | {'support_dropout': 0.5}),
    'teacher-shared': Row('teacher, one fusion for both modalities', 'teacher', _ALONE | {'shared_fusion': True}),
    'student-shared': _student('student of that teacher', teacher='teacher-shared'),
    'student-rich-f10': _student(
        'student of the teacher chosen by its oracle, w_f 10', teacher='teacher-rich', feature_weight=10.0
    ),
    'student-rich-kl': _student('student of that teacher, relation by KL', teacher='teacher-rich', relation='kl'),
    'teacher-even': Row('teacher of every other person', 'teacher', _ALONE, half=0, selected_by='supports'),
    'teacher-odd': Row('teacher of the other half', 'teacher', _ALONE, half=1, selected_by='supports'),
    'student-crossed': _student(
        'student, targets by the teacher that has not seen the person',
        teacher='teacher-even teacher-odd',
        redraw_supports=False,
    ),
    'student-crossed-feature': _student(
        'the same, feature distillation only',
        teacher='teacher-even teacher-odd',
        redraw_supports=False,
        relation_weight=0.0,
    ),
    'teacher-tal': Row('teacher, TAL, step chosen by its oracle', 'teacher', _ALONE | _TAL, selected_by='supports'),
    'student-tal': _student('student of that teacher, TAL', teacher='teacher-tal', **_TAL),
    # the recipe of configs/demo.py as it is
    'teacher-id': Row('teacher + identity loss, step chosen by its oracle', 'teacher', selected_by='supports'),
    'student-demo': Row("student of that teacher, by the demo's config", 'student', teachers=('teacher-id',)),
    'teacher-heads-1': Row('teacher, 1 head', 'teacher', _ALONE | {'heads': 1}),
    'teacher-heads-2': Row('teacher, 2 heads', 'teacher', _ALONE | {'heads': 2}),
}
for _views in (2, 3):
    _batch = {'identities': 64 // _views, 'views': _views}
    ROWS[f'sdm-k{_views}'] = Row(f'baseline, K = {_views}', 'baseline', _ALONE, _batch)
    ROWS[f'teacher-k{_views}'] = Row(f'teacher, K = {_views}', 'teacher', _ALONE, _batch)
    ROWS[f'student-k{_views}'] = _student(f'student, K = {_views}', teacher=f'teacher-k{_views}', batch=_batch)
for _word, _wanted in (('without', False), ('with', True)):
    ROWS[f'teacher-texts-{_word}'] = Row(
        f"teacher, 2 images x 2 captions, text support {_word} the image's other caption",
        'teacher',
        _ALONE | {'same_image_texts': _wanted},
        {'captions': 2},
    )
