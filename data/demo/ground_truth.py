"""What is known of drawn people's images without looking at them: for figures and for errors by attribute.

Apart from data/demo/synthetic.py, on whose source the identity of every built dataset depends.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from data.demo import synthetic as demo
from data.demo.outfits import ALIKE, identity
from data.demo.views import BACK, FRONT, shown, views
from lcr2s_jax.errors import DataError


class Seen(NamedTuple):
    """A split of drawn people, images and captions in the order of `data.demo.synthetic.records`.

    Attributes:
      traits: of every person, key -> value: the truth.
      image_person, caption_person: int, who.
      shown: of every image, what of its person's traits it shows; a key that is missing is hidden.
      named: of every caption, the traits that it names.
      viewpoint: of every image, a key of `data.demo.views.YAW`.
    """

    traits: list[Mapping[str, str]]
    image_person: np.ndarray
    caption_person: np.ndarray
    shown: list[Mapping[str, str]]
    named: list[Mapping[str, str]]
    viewpoint: list[str]


def seen(seed: int, people: Mapping[str, int], split: str) -> Seen:
    """Of all people of a split; arguments as of `synthetic.oracle_scores`. Raises DataError where it has none."""
    if not people.get(split):
        raise DataError(f"Demo people: found no people in the split '{split}' of {dict(people)}; expected 1 or more")
    found = Seen([], [], [], [], [], [])
    for person in range(people[split]):
        who = identity(seed, split, person)
        found.traits.append(who.attributes)
        for view, said in zip(views(seed, split, person), demo.captions(seed, split, person), strict=True):
            found.image_person.append(person)
            found.viewpoint.append(view.viewpoint)
            found.shown.append(shown(who, view))
            found.named.extend(names for _, names in said)
            found.caption_person.extend([person] * len(said))
    return found._replace(image_person=np.array(found.image_person), caption_person=np.array(found.caption_person))


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
