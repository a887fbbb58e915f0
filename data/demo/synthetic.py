"""Demo people: records of a made-up data set, what is known of its images, and what an attribute oracle makes of that.

All is a pure function of (seed, split, person, view).
"""

import concurrent.futures
import functools
import io
import multiprocessing
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from data.demo.draws import SPLITS, generator
from data.demo.outfits import ALIKE, identity
from data.demo.picture import CAMERAS, paint_jpeg
from data.demo.sentences import describe
from data.demo.views import BACK, FRONT, shown, views
from data.records import Record
from lcr2s_jax.errors import DataError

# Of what is drawn and said: built datasets and runs of another version are not used. Raise it when the golden bytes of
# tests/data/synthetic_test.py change, and only then.
VERSION = 1

_EPSILON = 1e-3  # the oracle's probability that a shown value contradicts a true caption
_PART = 2000  # identities of a piece
_CHUNK = 25  # identities drawn per task of a worker
_IN_PROCESS = 200  # images: below this, starting workers costs more than it saves


def captions(seed: int, split: str, person: int) -> list[list[tuple[str, dict[str, str]]]]:
    """For every view of a person its two captions, each with the attributes that it names."""
    who = identity(seed, split, person)
    return [
        describe(shown(who, view), view, generator(seed, split, person, 3, number))
        for number, view in enumerate(views(seed, split, person))
    ]


def _draw(seed: int, cameras: bool, split: str, person: int) -> list[Record]:
    who, said = identity(seed, split, person), captions(seed, split, person)
    # no person is seen by one camera twice
    order = generator(seed, split, person, 6).permutation(len(CAMERAS)).tolist()
    return [
        Record(
            split,
            f'{split}_{person:04d}',
            f'{split}/{person:04d}_' + f'c{order[number] + 1}_' * cameras + f'{number}.jpg',
            paint_jpeg(
                who, view, generator(seed, split, person, 4, number), CAMERAS[order[number]] if cameras else None
            ),
            tuple(text for text, _ in said[number]),
        )
        for number, view in enumerate(views(seed, split, person))
    ]


def _draw_chunk(seed: int, cameras: bool, split: str, start: int, stop: int) -> list[Record]:
    return [record for person in range(start, stop) for record in _draw(seed, cameras, split, person)]


def _check(seed: int, people: Mapping[str, int]) -> None:
    if seed < 0 or not set(people) <= set(SPLITS) or min(people.values(), default=0) < 0:
        raise DataError(
            f'Demo people: found seed={seed}, people={dict(people)}; expected a seed of 0 or more '
            f'and, for splits among {", ".join(SPLITS)}, numbers of 0 or more. '
            'Change the seed or the numbers of people in the config.'
        )


def records(seed: int, people: Mapping[str, int], cameras: bool, workers: int | None = None) -> Iterator[Record]:
    """Draw the people of every split, in order; the bytes do not depend on the number of workers.

    Args:
      seed: 0 or more; another seed gives entirely different people.
      cameras: every view of a person by another of six surveillance cameras; False: clear photographs.
      workers: processes that draw; by default one per CPU, and this one alone for a small set.

    Yields 4 to 6 records of every identity, two captions each. Raises DataError: an unknown split, a negative number.
    """
    _check(seed, people)
    return _in_chunks(seed, cameras, [(split, 0, count) for split, count in people.items()], workers)


def parts(seed: int, people: Mapping[str, int], cameras: bool, split: str) -> list[Callable[[], Iterator[Record]]]:
    """The records of a split in pieces of `_PART` people; arguments and errors as of `records`."""
    _check(seed, people)
    return [
        functools.partial(_in_chunks, seed, cameras, [(split, start, min(start + _PART, people[split]))])
        for start in range(0, people[split], _PART)
    ]


def _in_chunks(seed: int, cameras: bool, wanted: list[tuple[str, int, int]], workers=None) -> Iterator[Record]:
    small = 5 * sum(stop - start for _, start, stop in wanted) < _IN_PROCESS
    workers = workers or (1 if small else os.cpu_count() or 1)
    chunks = [
        (seed, cameras, split, first, min(first + _CHUNK, stop))
        for split, start, stop in wanted
        for first in range(start, stop, _CHUNK)
    ]
    if workers == 1:
        for chunk in chunks:
            yield from _draw_chunk(*chunk)
        return
    # A fork of a process that runs TensorFlow may hang.
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(chunks)), context) as pool:
        for drawn in pool.map(_draw_chunk, *zip(*chunks, strict=True)):
            yield from drawn


class Seen(NamedTuple):
    """A split of drawn people, images and captions in the order of `records`."""

    traits: list[Mapping[str, str]]  # of every person, key -> value: the truth
    image_person: np.ndarray  # int, who is on every image
    caption_person: np.ndarray  # int, whom every caption describes
    # of every image, what of its person's traits it shows; a key that is missing is hidden
    shown: list[Mapping[str, str]]
    named: list[Mapping[str, str]]  # of every caption, the traits that it names
    viewpoint: list[str]  # of every image, a key of `data.demo.views.YAW`


def seen(seed: int, people: Mapping[str, int], split: str) -> Seen:
    """Of all people of a split; arguments as of `records`. Raises DataError where it has none."""
    if not people.get(split):
        raise DataError(f"Demo people: found no people in the split '{split}' of {dict(people)}; expected 1 or more")
    found = Seen([], [], [], [], [], [])
    for person in range(people[split]):
        who = identity(seed, split, person)
        found.traits.append(who.attributes)
        for view, said in zip(views(seed, split, person), captions(seed, split, person), strict=True):
            found.image_person.append(person)
            found.viewpoint.append(view.viewpoint)
            found.shown.append(shown(who, view))
            found.named.extend(names for _, names in said)
            found.caption_person.extend([person] * len(said))
    return found._replace(image_person=np.array(found.image_person), caption_person=np.array(found.caption_person))


def log_likelihood(seed: int, people: Mapping[str, int], split: str):
    """The oracle's scores before ties are broken; see `oracle_scores`."""
    _check(seed, people)
    truth = seen(seed, people, split)
    score_QG = np.zeros((len(truth.named), len(truth.shown)))
    for key in sorted({key for names in truth.named for key in names}):
        values = sorted({image[key] for image in truth.shown if key in image})
        code = {value: i for i, value in enumerate(values)}
        shown_G = np.array([code.get(image.get(key), -1) for image in truth.shown])
        named_Q = np.array([code.get(names.get(key), -1) for names in truth.named])
        counts = np.bincount(shown_G[shown_G >= 0], minlength=len(values))
        # [named, shown]; the last column is for what is hidden.
        table = np.full((len(values), len(values) + 1), np.log(_EPSILON))
        np.fill_diagonal(table, np.log1p(-_EPSILON))
        table[:, -1] = np.log(counts / counts.sum())
        rows = named_Q >= 0
        score_QG[rows] += table[named_Q[rows]][:, shown_G]
    return score_QG, truth.caption_person, truth.image_person


def oracle_scores(seed: int, people: Mapping[str, int], split: str):
    """Score captions against images by attributes alone, no pixels, no learning (ours): float64 [Q, G], and identities.

    A named value that the image shows adds log(1 - eps), a contradicted one log(eps), a hidden one the log of its
    frequency. What a caption says of the view (walking, a phone) is no trait of a person and is ignored. Jitter below
    1e-6 ranks equal scores at random, since metrics break ties against the system.
    """
    score_QG, query_pid_Q, gallery_pid_G = log_likelihood(seed, people, split)
    jitter_QG = generator(seed, split, people[split], 5).random(score_QG.shape) * 1e-6
    return score_QG + jitter_QG, query_pid_Q, gallery_pid_G


def sheet(seed: int, count: int) -> Image.Image:
    """`count` test people in rows, two of each circle; columns are views, each over a caption."""
    cell_h, cell_w = 318, 150
    page = Image.new('RGB', (6 * cell_w, count * cell_h), 'white')
    pen = ImageDraw.Draw(page)
    for row in range(count):
        for column, record in enumerate(_draw(seed, True, 'test', row * ALIKE // 2)):
            image = Image.open(io.BytesIO(record.jpeg)).resize((112, 224), Image.Resampling.BICUBIC)
            page.paste(image, (column * cell_w + 19, row * cell_h + 6))
            text = '\n'.join(textwrap.wrap(record.captions[0], 28))
            pen.text((column * cell_w + 6, row * cell_h + 234), text, 'black', font_size=10)
    return page


def side(viewpoint: str) -> str:
    """'front', 'back' or 'side'."""
    return 'front' if viewpoint in FRONT else 'back' if viewpoint in BACK else 'side'


def cameras(file_names: Iterable[str]) -> list[str]:
    """'camera 1' to 'camera 6' of every image by its name; '' where none filmed it."""
    words = [name.rpartition('/')[2].split('_')[1:-1] for name in file_names]
    return [f'camera {word[0][1:]}' if word else '' for word in words]


def circles(rng: np.random.Generator, count: int, pids: np.ndarray) -> list[list[int]]:
    """`count` of the identities `pids`: a third from one circle of look-alikes, a third from another, and others.

    Three lists, empty where there are no such people.
    """
    circle = pids // ALIKE
    chosen = rng.permutation(np.unique(circle))[:2]
    alike = [rng.permutation(pids[circle == one])[: count // 3].tolist() for one in chosen]
    rest = rng.permutation(pids[~np.isin(circle, chosen)])[: count - sum(map(len, alike))].tolist()
    return [sorted(map(int, part)) for part in (*alike, *[[]] * (2 - len(alike)), rest)]
