"""How an image sees a person: the viewpoints, what is in the way and what is therefore hidden.

Captions and the oracle may use nothing but what `shown` leaves.
"""

import dataclasses
import math

from data.demo.draws import generator, pick
from data.demo.outfits import Identity

YAW = {  # degrees; 0 faces the camera, positive turns the chest to the right of the picture
    'front': 0, 'front-left': -38, 'front-right': 38, 'left': -90, 'right': 90,
    'back-left': -142, 'back-right': 142, 'back': 180,
}  # fmt: skip
FRONT = ('front', 'front-left', 'front-right')
BACK = ('back', 'back-left', 'back-right')


@dataclasses.dataclass(frozen=True)
class View:
    """What of one image can be said in words; the rest is drawn from the image's own generator."""

    viewpoint: str
    walking: bool
    held: str  # 'none', 'phone', 'bottle' or 'umbrella'
    occlusion: str  # 'none', 'pole', 'passer-by', 'box', 'car', or 'cut': the crop ends above the feet
    occluded_side: int  # -1 or 1, the side of the picture where a pole or a passer-by stands


def views(seed: int, split: str, person: int) -> list[View]:
    """The 4 to 6 views of a person, no viewpoint twice, the front and the back among them."""
    rng = generator(seed, split, person, 2)
    chosen = [ends[int(rng.integers(len(ends)))] for ends in (FRONT, BACK)]
    rest = [viewpoint for viewpoint in YAW if viewpoint not in chosen]
    chosen += [rest[i] for i in rng.permutation(len(rest))[: int(rng.integers(2, 5))]]
    return [
        View(
            viewpoint=chosen[i],
            walking=bool(rng.random() < 0.65),
            held=pick(rng, 'none:6 phone bottle umbrella'),
            occlusion=pick(rng, 'none:13 pole:2 passer-by:2 box:2 car cut:2'),
            occluded_side=1 if rng.random() < 0.5 else -1,
        )
        for i in rng.permutation(len(chosen))
    ]


def shown(person: Identity, view: View) -> dict[str, str]:
    """What this view shows; a key that is missing is hidden, 'none' is seen to be absent."""
    a, end, in_the_way = person.attributes, view.viewpoint, view.occlusion
    yaw = math.radians(YAW[end])
    across, depth = person.side * math.cos(yaw), -person.side * math.sin(yaw)
    covers_side = in_the_way in ('pole', 'passer-by') and across * view.occluded_side > 0.5
    backpack, low_bag = a['bag'] == 'backpack', a['bag'] in ('shoulder bag', 'handbag')
    from_behind = end in BACK
    hidden = {
        'chest': end not in FRONT,
        'inner_colour': end not in FRONT,
        'back': not from_behind or backpack,
        'pattern': from_behind and backpack and a['pattern'] == 'two-tone',
        'glasses': from_behind,
        'scarf': from_behind and a['hair'] in ('long', 'bob'),
        'hair': (a['hair'] == 'ponytail' and end in FRONT)
        or (a['hat'] == 'beanie' and a['hair'] in ('short', 'bald', 'bun'))
        or (a['hat'] == 'cap' and a['hair'] in ('bald', 'bun')),
        'hair_colour': a['hat'] == 'beanie' and a['hair'] in ('short', 'bald', 'bun'),
        'bag': (backpack and end == 'front') or (low_bag and (depth < -0.9 or covers_side or in_the_way == 'car')),
        'shoes': in_the_way in ('box', 'car', 'cut'),
        'lower': in_the_way == 'car',
    }
    with_colour = ('chest', 'back', 'pattern', 'bag', 'shoes', 'lower')
    hidden |= {f'{key}_colour': hidden[key] for key in with_colour}
    return {key: value for key, value in a.items() if not hidden.get(key)}
