"""Demo people: who they are, how each view sees them, and what an attribute oracle can know.

All are pure functions of (seed, split, person, view); `demo_draw` paints, `demo_words` speaks.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import math
import multiprocessing
import os
import textwrap
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image, ImageDraw

from data import demo_draw, demo_words
from data.records import DataError, Record

SPLITS = ("train", "val", "test")
YAW = {  # degrees; 0 faces the camera, positive turns the chest to the right of the picture
    "front": 0, "front-left": -38, "front-right": 38, "left": -90, "right": 90,
    "back-left": -142, "back-right": 142, "back": 180,
}  # fmt: skip
FRONT = ("front", "front-left", "front-right")
BACK = ("back", "back-left", "back-right")
SIDE = ("left", "right")
PRINTS = "star circle heart band letter triangle cross"
PRINTABLE = ("t-shirt", "hoodie", "sweater", "tank top")
OPEN = ("jacket", "coat", "blazer")
_PALETTE = "black white grey red orange yellow green blue purple pink brown"
_KEYS = ("gender build upper upper_colour inner_colour pattern lower lower_colour "
         "shoes shoes_colour bag bag_colour hat hat_colour glasses scarf").split()  # fmt: skip
_ALIKE = 8  # people of one circle dress alike ...
_OWN_TASTE = 0.25  # ... but for this share of their attributes
_EPSILON = 1e-3  # the oracle's probability that a shown value contradicts a true caption
_CHUNK = 25  # identities drawn per task of a worker
_IN_PROCESS = 200  # images: below this, starting workers costs more than it saves

# An outfit gives "value:weight" words per attribute. Narrow choices make look-alikes.
_DEFAULTS = {
    "gender": "man woman", "pattern": "plain", "hat": "none",
    "hat_colour": "black:3 red blue grey", "glasses": "none:6 glasses:2 sunglasses",
    "bag": "none", "bag_colour": "black:3 brown:2 red blue", "scarf": "none", "print": "yes no",
    "build": "slim average:2 heavy", "inner_colour": "white:3 black grey red",
}  # fmt: skip
_OUTFITS = (
    {"gender": "man", "upper": "blazer:3 shirt:2 coat", "upper_colour": "black:3 grey:2 blue:2",
     "pattern": "plain:4 striped", "lower": "trousers", "lower_colour": "black:3 grey:2 blue",
     "shoes": "leather~shoes", "shoes_colour": "black:3 brown:2",
     "bag": "shoulder~bag:2 none backpack", "inner_colour": "white:4 blue pink"},
    {"gender": "woman", "upper": "blazer:2 shirt:2 sweater",
     "upper_colour": "black:3 white:2 pink red", "pattern": "plain:3 striped dotted",
     "lower": "skirt:2 trousers", "lower_colour": "black:4 grey:2 brown",
     "shoes": "leather~shoes:3 boots", "shoes_colour": "black:3 red brown",
     "bag": "handbag:3 none shoulder~bag"},
    {"upper": "t-shirt:3 tank~top:2 hoodie", "upper_colour": "white:2 yellow:2 red orange blue",
     "pattern": "plain:3 two-tone:2", "lower": "shorts:3 trousers",
     "lower_colour": "black:4 blue grey", "shoes": "sneakers",
     "shoes_colour": "white:3 black red orange", "hat": "none:3 cap"},
    {"upper": "hoodie:3 t-shirt:2 sweater", "upper_colour": "grey:3 blue:2 green black",
     "lower": "jeans:4 shorts", "lower_colour": "blue:3 black:2", "shoes": "sneakers",
     "shoes_colour": "white:3 black:2 red", "bag": "backpack:3 none:2",
     "bag_colour": "black:2 red blue green", "hat": "none:5 cap beanie"},
    {"upper": "coat:3 jacket:2", "upper_colour": "black:3 grey:2 brown:2 red",
     "lower": "jeans trousers", "lower_colour": "black:3 blue:2", "shoes": "boots",
     "shoes_colour": "black:2 brown:3", "hat": "beanie:2 none",
     "scarf": "none red:2 grey green yellow", "bag": "none:3 shoulder~bag backpack"},
    {"upper": "t-shirt:2 shirt:2", "upper_colour": "white:2 orange blue red yellow",
     "pattern": "plain:2 checked striped:2 dotted", "lower": "shorts:3 jeans",
     "lower_colour": "brown:3 white blue", "shoes": "sandals:2 sneakers",
     "shoes_colour": "brown:2 white black", "hat": "cap:2 none", "hat_colour": "white:2 red blue",
     "glasses": "sunglasses:2 none:3", "bag": "backpack:2 shoulder~bag none"},
    {"gender": "man:4 woman", "upper": "hoodie:2 t-shirt:3",
     "upper_colour": "black:4 purple red green", "pattern": "plain:3 checked",
     "print": "yes:4 no", "lower": "jeans:2 trousers shorts", "lower_colour": "black:3 grey blue",
     "shoes": "sneakers", "shoes_colour": "black:2 white red yellow",
     "hat": "beanie:2 cap:2 none:2", "hat_colour": "black:2 red green yellow"},
    {"gender": "woman", "upper": "t-shirt:2 tank~top:2 shirt",
     "upper_colour": "white:3 pink:3 yellow purple", "pattern": "plain:2 dotted striped",
     "lower": "skirt:2 long~skirt:2 jeans", "lower_colour": "blue:2 white red",
     "shoes": "sandals:2 sneakers", "shoes_colour": "brown white:2 pink",
     "bag": "handbag:2 shoulder~bag none", "bag_colour": "brown:2 red white yellow",
     "glasses": "none:3 sunglasses:2"},
    {"gender": "man:5 woman", "upper": "jacket:3 t-shirt", "upper_colour": "orange:3 yellow:2",
     "print": "yes:3 no", "pattern": "plain striped:2", "inner_colour": "black grey white blue",
     "lower": "trousers:3 jeans", "lower_colour": "blue:2 grey:2 black", "shoes": "boots",
     "shoes_colour": "black:2 brown:2", "hat": "cap none", "hat_colour": "yellow white blue"},
    {"upper": "jacket:3 sweater", "upper_colour": "green:3 blue:2 purple",
     "pattern": "plain:2 two-tone:2", "lower": "trousers", "lower_colour": "brown:3 grey green",
     "shoes": "boots:3 sneakers", "shoes_colour": "brown:3 grey", "bag": "backpack",
     "bag_colour": "green:2 orange:2 blue black", "hat": "none cap beanie"},
    {"upper": "sweater:2 coat jacket", "upper_colour": "brown:3 grey:2 purple green",
     "hair": "grey:4 brown", "pattern": "plain:2 checked striped",
     "lower": "trousers:3 long~skirt", "lower_colour": "grey:2 brown:2 black",
     "shoes": "leather~shoes", "shoes_colour": "brown:2 black:2", "glasses": "glasses:2 none",
     "bag": "none:2 handbag shoulder~bag"},
    {"upper": "shirt:3 t-shirt", "upper_colour": "red:2 blue:2 green",
     "pattern": "checked:4 striped plain", "lower": "jeans:5 trousers",
     "lower_colour": "blue:4 black", "shoes": "boots sneakers", "shoes_colour": "brown:2 white",
     "bag": "none:2 backpack shoulder~bag", "print": "no"},
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Identity:
    """One person.

    Attributes:
      attributes: key to value; 'none' where a thing, and hence its colour, is not there.
      side: -1 or 1, the side on which a bag is carried.
      look: entropy for what no caption can say: shades of colours, proportions, face.
    """

    attributes: Mapping[str, str]
    side: int
    look: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class View:
    """What of one image can be said in words; the rest is drawn from the image's own generator.

    Attributes:
      viewpoint: a key of YAW.
      walking: or standing.
      held: 'none', 'phone', 'bottle' or 'umbrella'.
      occlusion: 'none', 'pole', 'passer-by', 'box', 'car', or 'cut': the crop ends above the feet.
      occluded_side: -1 or 1, the side of the picture where a pole or a passer-by stands.
    """

    viewpoint: str
    walking: bool
    held: str
    occlusion: str
    occluded_side: int


@functools.cache
def _parse(words: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    pairs = [word.replace("~", " ").partition(":") for word in words.split()]
    bounds = np.cumsum([float(weight or 1) for _, _, weight in pairs])
    return tuple(value for value, _, _ in pairs), tuple(bounds / bounds[-1])


def _pick(rng: np.random.Generator, words: str) -> str:
    values, bounds = _parse(words)
    draw = rng.random()
    return next(value for value, bound in zip(values, bounds, strict=True) if draw < bound)


def _rng(seed: int, split: str, *path: int) -> np.random.Generator:
    return np.random.default_rng((seed, SPLITS.index(split), *path))


def identity(seed: int, split: str, person: int) -> Identity:
    """Draw a person (ours): most attributes as the circle has them, the others from its outfit."""
    circle, own = _rng(seed, split, person // _ALIKE, 0), _rng(seed, split, person, 1)
    outfit = _DEFAULTS | _OUTFITS[int(circle.integers(len(_OUTFITS)))]

    def draw(words: str) -> str:
        shared, personal = _pick(circle, words), _pick(own, words)
        return personal if own.random() < _OWN_TASTE else shared

    def other(colour: str) -> str:
        return draw(" ".join(c for c in _PALETTE.split() if c != colour))

    a = {key: draw(outfit[key]) for key in _KEYS}
    if a["gender"] == "man" and "skirt" in a["lower"]:
        a |= {"lower": "trousers"}
    a["hair_colour"] = draw(outfit.get("hair", "black:4 brown:4 blond:2 red grey"))
    man, woman = draw("short:8 bald long"), draw("short:2 bob:2 long:4 ponytail:3 bun")
    a["hair"] = man if a["gender"] == "man" else woman
    if a["hair"] == "bald":
        a["hair_colour"] = "none"
    second, plain = other(a["upper_colour"]), a["pattern"] == "plain"
    a["pattern_colour"] = "none" if plain else second
    on_back = (*PRINTABLE, "jacket") if a["bag"] != "backpack" else ()
    for key, garments in (("chest", PRINTABLE), ("back", on_back)):
        motif, colour, printed = (
            draw(PRINTS),
            other(a["upper_colour"]),
            draw(outfit["print"]) == "yes",
        )
        there = plain and printed and a["upper"] in garments
        a[key], a[f"{key}_colour"] = (motif, colour) if there else ("none", "none")
    for key in ("bag", "hat"):
        if a[key] == "none":
            a[f"{key}_colour"] = "none"
    if a["upper"] not in OPEN:
        a["inner_colour"] = "none"
    side = 1 if own.random() < 0.5 else -1
    return Identity(a, side, (seed, SPLITS.index(split), person, 1))


def views(seed: int, split: str, person: int) -> list[View]:
    """The 4 to 6 views of a person, no viewpoint twice, the front and the back among them."""
    rng = _rng(seed, split, person, 2)
    pick = lambda values: values[int(rng.integers(len(values)))]  # noqa: E731
    chosen = [pick(FRONT), pick(BACK)]
    rest = [viewpoint for viewpoint in YAW if viewpoint not in chosen]
    chosen += [rest[i] for i in rng.permutation(len(rest))[: int(rng.integers(2, 5))]]
    return [
        View(
            viewpoint=chosen[i],
            walking=bool(rng.random() < 0.65),
            held=_pick(rng, "none:6 phone bottle umbrella"),
            occlusion=_pick(rng, "none:13 pole:2 passer-by:2 box:2 car cut:2"),
            occluded_side=1 if rng.random() < 0.5 else -1,
        )
        for i in rng.permutation(len(chosen))
    ]


def shown(person: Identity, view: View) -> dict[str, str]:
    """What this view shows; a key that is missing is hidden, 'none' is seen to be absent."""
    a, hidden = person.attributes, set()
    yaw = math.radians(YAW[view.viewpoint])
    if view.viewpoint not in FRONT:
        hidden |= {"chest", "chest_colour", "inner_colour"}
    if view.viewpoint == "front" and a["bag"] == "backpack":
        hidden |= {"bag", "bag_colour"}
    if view.viewpoint not in BACK:
        hidden |= {"back", "back_colour"}
    else:
        hidden |= {"glasses"} | ({"scarf"} if a["hair"] in ("long", "bob") else set())
        if a["bag"] == "backpack":
            hidden |= {"back", "back_colour"}
            hidden |= {"pattern", "pattern_colour"} if a["pattern"] == "two-tone" else set()
    if a["hair"] == "ponytail" and view.viewpoint in FRONT:
        hidden |= {"hair"}
    if a["hat"] == "beanie" and a["hair"] in ("short", "bald", "bun"):
        hidden |= {"hair", "hair_colour"}
    if a["hat"] == "cap" and a["hair"] in ("bald", "bun"):
        hidden |= {"hair"}
    across, depth = person.side * math.cos(yaw), -person.side * math.sin(yaw)
    covers_side = view.occlusion in ("pole", "passer-by") and across * view.occluded_side > 0.5
    if a["bag"] in ("shoulder bag", "handbag") and (depth < -0.9 or covers_side):
        hidden |= {"bag", "bag_colour"}
    if view.occlusion in ("box", "car", "cut"):
        hidden |= {"shoes", "shoes_colour"}
    if view.occlusion == "car":
        low = a["bag"] in ("shoulder bag", "handbag")
        hidden |= {"lower", "lower_colour"} | ({"bag", "bag_colour"} if low else set())
    return {key: value for key, value in a.items() if key not in hidden}


def captions(seed: int, split: str, person: int) -> list[list[tuple[str, dict[str, str]]]]:
    """For every view of a person its two captions, each with the attributes that it names."""
    who = identity(seed, split, person)
    return [
        demo_words.captions(shown(who, view), view, _rng(seed, split, person, 3, number))
        for number, view in enumerate(views(seed, split, person))
    ]


def _draw(seed: int, split: str, person: int) -> list[Record]:
    who, said = identity(seed, split, person), captions(seed, split, person)
    return [
        Record(
            split,
            f"{split}_{person:04d}",
            f"{split}/{person:04d}_{number}.jpg",
            demo_draw.jpeg(who, view, YAW[view.viewpoint], _rng(seed, split, person, 4, number)),
            tuple(text for text, _ in said[number]),
        )
        for number, view in enumerate(views(seed, split, person))
    ]


def _draw_chunk(seed: int, split: str, start: int, stop: int) -> list[Record]:
    return [record for person in range(start, stop) for record in _draw(seed, split, person)]


def _check(seed: int, people: Mapping[str, int]) -> None:
    if seed < 0 or not set(people) <= set(SPLITS) or min(people.values(), default=0) < 0:
        raise DataError(
            f"Demo people: found seed={seed}, people={dict(people)}; expected a seed of 0 or more "
            f"and, for splits among {', '.join(SPLITS)}, numbers of 0 or more. "
            "Change the seed or the numbers of people in the config."
        )


def records(seed: int, people: Mapping[str, int], workers: int | None = None) -> Iterator[Record]:
    """Draw the people of every split, in order; the bytes do not depend on the number of workers.

    Args:
      seed: 0 or more; another seed gives entirely different people.
      people: how many identities a split has, e.g. {'train': 2000, 'val': 100, 'test': 250}.
      workers: processes that draw; by default one per CPU, and this one alone for a small set.

    Yields:
      4 to 6 records of every identity, two captions each, splits in the order of `people`.

    Raises:
      DataError: an unknown split, or a negative number.
    """
    _check(seed, people)
    small = 5 * sum(people.values()) < _IN_PROCESS
    workers = workers or (1 if small else os.cpu_count() or 1)
    chunks = [
        (seed, split, start, min(start + _CHUNK, count))
        for split, count in people.items()
        for start in range(0, count, _CHUNK)
    ]
    if workers == 1:
        for chunk in chunks:
            yield from _draw_chunk(*chunk)
        return
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork of a process that runs TensorFlow may hang
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(chunks)), context) as pool:
        for drawn in pool.map(_draw_chunk, *zip(*chunks, strict=True)):
            yield from drawn


def log_likelihood(seed: int, people: Mapping[str, int], split: str):
    """The oracle's scores before ties are broken; see `oracle_scores`."""
    _check(seed, people)
    seen, gallery_pid, named, query_pid = [], [], [], []
    for person in range(people[split]):
        who = identity(seed, split, person)
        seen += [shown(who, view) for view in views(seed, split, person)]
        said = captions(seed, split, person)
        gallery_pid += [person] * len(said)
        names = [names for pair in said for _, names in pair]
        named += names
        query_pid += [person] * len(names)
    score_QG = np.zeros((len(named), len(seen)))
    for key in sorted({key for names in named for key in names}):
        values = sorted({image[key] for image in seen if key in image})
        code = {value: i for i, value in enumerate(values)}
        shown_G = np.array([code.get(image.get(key), -1) for image in seen])
        named_Q = np.array([code.get(names.get(key), -1) for names in named])
        counts = np.bincount(shown_G[shown_G >= 0], minlength=len(values))
        table = np.full(
            (len(values), len(values) + 1), np.log(_EPSILON)
        )  # [named, shown]; last: hidden
        np.fill_diagonal(table, np.log1p(-_EPSILON))
        table[:, -1] = np.log(counts / counts.sum())
        rows = named_Q >= 0
        score_QG[rows] += table[named_Q[rows]][:, shown_G]
    return score_QG, np.array(query_pid), np.array(gallery_pid)


def oracle_scores(seed: int, people: Mapping[str, int], split: str):
    """Score captions against images by attributes alone: no pixels, no learning (ours).

    A named value that the image shows adds log(1 - eps), a contradicted one log(eps), a hidden
    one the log of its frequency. What a caption says of the view (walking, a phone) is no trait
    of a person and is ignored. Jitter below 1e-6 ranks equal scores at random, since metrics
    break ties against the system.

    Returns:
      score_QG float64, query_pid_Q, gallery_pid_G: captions and images in the order of `records`.
    """
    score_QG, query_pid_Q, gallery_pid_G = log_likelihood(seed, people, split)
    jitter_QG = _rng(seed, split, people[split], 5).random(score_QG.shape) * 1e-6
    return score_QG + jitter_QG, query_pid_Q, gallery_pid_G


def sheet(seed: int, count: int) -> Image.Image:
    """`count` test people in rows, two of each circle; columns are views, each over a caption."""
    cell_h, cell_w = 300, 150
    page = Image.new("RGB", (6 * cell_w, count * cell_h), "white")
    pen = ImageDraw.Draw(page)
    for row in range(count):
        for column, record in enumerate(_draw(seed, "test", row * _ALIKE // 2)):
            image = demo_draw.decode(record.jpeg).resize((112, 224), Image.Resampling.BICUBIC)
            page.paste(image, (column * cell_w + 19, row * cell_h + 6))
            text = "\n".join(textwrap.wrap(record.captions[0], 28))
            pen.text((column * cell_w + 6, row * cell_h + 234), text, "black", font_size=10)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a contact sheet of demo people.")
    parser.add_argument("--sheet", required=True, help="the PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=6, help="identities, one per row")
    args = parser.parse_args()
    sheet(args.seed, args.count).save(args.sheet)


if __name__ == "__main__":
    main()
