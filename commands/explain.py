"""python main.py explain --workdir=...: what the teacher's fusion looks at and where features lie, drawn."""

import json
import pathlib

import numpy as np

from commands.workdir import open_finished
from data.demo import synthetic
from lcr2s_jax import files
from lcr2s_jax.evaluation import evaluate, figures
from lcr2s_jax.evaluation import explain as explaining

_SPLIT = 'test'

_SHOWN, _SCATTERED = 4, 12  # identities: whose attention is drawn, whose features are
_PANELS = {
    'baseline': 'baseline, one view',
    'student': 'student, one view',
    'teacher': 'teacher, one view',
    'teacher with supports': 'teacher with supports (told who is who)',
}


def explain(workdir: pathlib.Path) -> None:
    """Write attention.png, embedding.png and explain.json into <workdir>/explain, from the test split.

    Identities are drawn by config.seed and never chosen by result; the numbers are of all of them.
    """
    folder = workdir / 'explain'
    files.check_writable(folder / 'explain.json', '--workdir')
    run = open_finished(workdir, needed=('teacher',), reads=(_SPLIT,))
    features = {name: run.features(name, _SPLIT) for name in _PANELS if name in run.stages}
    teacher = (run.stages['teacher'].fusion, run.stages['teacher'].params)
    rich = evaluate.with_supports(*teacher, features['teacher'], run.config.batch.views, run.config.seed)
    circles = _circles(run)
    rows, attention = _attention(run, teacher, features['teacher'])
    panels, embedding = _embedding(features | {'teacher with supports': rich}, circles)

    folder.mkdir(exist_ok=True)
    figures.attention_sheet(rows, folder / 'attention.png', _title(run))
    figures.embedding(panels, circles, folder / 'embedding.png')
    told = {'split': _SPLIT, 'attention': attention, 'embedding': embedding}
    files.write(folder / 'explain.json', json.dumps(told, indent=2) + '\n')
    for modality in ('image', 'text'):
        found = {name: f'{value:.3f}' for name, value in attention[modality].items() if isinstance(value, float)}
        print(
            f'{modality}s: a view gives itself {found["own"]}, its strongest support {found["strongest_support"]}, its '
            f'weakest {found["weakest_support"]}; each would have {found["uniform"]} if all were looked at alike'
        )
    print(f'{folder}: attention.png  embedding.png  explain.json')


def _attention(run, teacher, e) -> tuple[list[dict], dict]:
    """What is drawn of a few people, and the numbers of all."""
    seed, labels = run.config.seed, _labels(run)
    g = explaining.groups(e, run.config.batch.views, seed)
    weights, moved = explaining.attention(*teacher, e, g)
    told: dict = {'people': len(g.pid_B), 'views': int(g.real_BK.sum()), 'heads': weights['image'].shape[1]}
    for modality, weights_BHKK in weights.items():
        told[modality] = explaining.summary(weights_BHKK, g.real_BK) | {'cosine_to_rich': moved[modality]}
        for kind, label_G in labels.items():
            label_BK = label_G[g.image_BK]
            told[modality][f'own_by_{kind}'] = explaining.kept(weights_BHKK, g.real_BK, label_BK)
            told[modality][f'borrowed_from_{kind}'] = explaining.received(weights_BHKK, g.real_BK, label_BK)
        if 'side' in labels:
            side_BK = labels['side'][g.image_BK]
            told[modality]['who_borrows_from_whom'] = {
                str(asks): explaining.received(weights_BHKK, g.real_BK, side_BK, side_BK == asks)
                for asks in np.unique(side_BK)
            }
    drawn = np.sort(np.random.default_rng(seed).permutation(len(g.pid_B))[:_SHOWN])
    return [_row(run, labels, g, weights, b) for b in drawn], told


def _row(run, labels: dict, g, weights: dict, b: int) -> dict:
    people, count = run.inputs.splits[_SPLIT], g.real_BK[b].sum()
    image, caption = g.image_BK[b, :count], g.caption_BK[b, :count]
    notes = [label_G for kind, label_G in labels.items() if kind != 'side']
    return {
        'name': f'person {g.pid_B[b]}',
        'jpegs': [people.jpegs[i] for i in image],
        'notes': [[str(label_G[i]) for label_G in notes] for i in image],
        'captions': [people.captions[i] for i in caption],
        'weights': {modality: weights_BHKK[b, :, :count, :count] for modality, weights_BHKK in weights.items()},
    }


def _labels(run) -> dict[str, np.ndarray]:
    """What is known of each image, by kind; of drawn people alone."""
    data = run.config.data
    if data.dataset != 'demo':
        return {}
    viewpoint = synthetic.seen(data.demo.seed, data.demo.people.to_dict(), _SPLIT).viewpoint
    labels = {'viewpoint': viewpoint, 'side': [synthetic.side(word) for word in viewpoint]}
    if data.demo.cameras:
        labels['camera'] = synthetic.cameras(run.inputs.splits[_SPLIT].file_names)
    return {kind: np.array(values) for kind, values in labels.items()}


def _circles(run) -> dict[str, list[int]]:
    """The identities whose features are drawn, by what they have in common."""
    rng, split = np.random.default_rng(run.config.seed), run.inputs.splits[_SPLIT]
    pids = np.unique(split.image_pid)
    if run.config.data.dataset != 'demo':
        return {'drawn by seed': np.sort(rng.permutation(pids)[:_SCATTERED]).tolist()}
    names = ('one circle of look-alikes', 'another circle', 'other people')
    return {name: part for name, part in zip(names, synthetic.circles(rng, _SCATTERED, pids), strict=True) if part}


def _embedding(features: dict, circles: dict) -> tuple[list[dict], dict]:
    """A panel of each kind of features, and the numbers of the drawn identities and of all."""
    drawn = [pid for part in circles.values() for pid in part]
    panels, told = [], {'identities': drawn}
    for name, e in features.items():
        few = explaining.only(e, drawn)
        point_N2, share = explaining.project(np.concatenate([few.image_GE, few.text_QE]))
        told[name] = {'drawn': explaining.closeness(few), 'all': explaining.closeness(e), 'variance_shown': share}
        count = len(few.image_GE)
        panels.append(
            dict(name=_PANELS[name], image_N2=point_N2[:count], text_N2=point_N2[count:], image_pid=few.image_pid_G,
                 text_pid=few.text_pid_Q, numbers=told[name])
        )  # fmt: skip
    return panels, told


def _title(run) -> str:
    kind = 'shared by images and texts' if run.config.teacher.shared_fusion else 'one for images, one for texts'
    return f"Attention of the teacher's fusion ({run.config.teacher.heads} heads; {kind}) on unseen people"
