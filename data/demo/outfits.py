"""Who the demo people are: attributes drawn from outfits, so that circles of people look alike.

A table of outfits gives each attribute its likely values; a narrow choice makes look-alikes.
"""

import dataclasses
from collections.abc import Mapping

from data.demo.draws import SPLITS, generator, pick

ALIKE = 8  # people of one circle dress alike ...
_OWN_TASTE = 0.25  # ... but for this share of their attributes
_OPEN = ('jacket', 'coat', 'blazer')  # garments that show what is worn below
_PRINTABLE = ('t-shirt', 'hoodie', 'sweater', 'tank top')
_PRINTS = 'star circle heart band letter triangle cross'
_PALETTE = 'black white grey red orange yellow green blue purple pink brown'
_KEYS = (
    'gender build upper upper_colour inner_colour pattern lower lower_colour '
    'shoes shoes_colour bag bag_colour hat hat_colour glasses scarf'
)

_DEFAULTS = {
    'gender': 'man woman', 'pattern': 'plain', 'hat': 'none',
    'hat_colour': 'black:3 red blue grey', 'glasses': 'none:6 glasses:2 sunglasses',
    'bag': 'none', 'bag_colour': 'black:3 brown:2 red blue', 'scarf': 'none', 'print': 'yes no',
    'build': 'slim average:2 heavy', 'inner_colour': 'white:3 black grey red',
    'hair': 'black:4 brown:4 blond:2 red grey',
}  # fmt: skip
_OUTFITS = (
    {'gender': 'man', 'upper': 'blazer:3 shirt:2 coat', 'upper_colour': 'black:3 grey:2 blue:2',
     'pattern': 'plain:4 striped', 'lower': 'trousers', 'lower_colour': 'black:3 grey:2 blue',
     'shoes': 'leather~shoes', 'shoes_colour': 'black:3 brown:2',
     'bag': 'shoulder~bag:2 none backpack', 'inner_colour': 'white:4 blue pink'},
    {'gender': 'woman', 'upper': 'blazer:2 shirt:2 sweater',
     'upper_colour': 'black:3 white:2 pink red', 'pattern': 'plain:3 striped dotted',
     'lower': 'skirt:2 trousers', 'lower_colour': 'black:4 grey:2 brown',
     'shoes': 'leather~shoes:3 boots', 'shoes_colour': 'black:3 red brown',
     'bag': 'handbag:3 none shoulder~bag'},
    {'upper': 't-shirt:3 tank~top:2 hoodie', 'upper_colour': 'white:2 yellow:2 red orange blue',
     'pattern': 'plain:3 two-tone:2', 'lower': 'shorts:3 trousers',
     'lower_colour': 'black:4 blue grey', 'shoes': 'sneakers',
     'shoes_colour': 'white:3 black red orange', 'hat': 'none:3 cap'},
    {'upper': 'hoodie:3 t-shirt:2 sweater', 'upper_colour': 'grey:3 blue:2 green black',
     'lower': 'jeans:4 shorts', 'lower_colour': 'blue:3 black:2', 'shoes': 'sneakers',
     'shoes_colour': 'white:3 black:2 red', 'bag': 'backpack:3 none:2',
     'bag_colour': 'black:2 red blue green', 'hat': 'none:5 cap beanie'},
    {'upper': 'coat:3 jacket:2', 'upper_colour': 'black:3 grey:2 brown:2 red',
     'lower': 'jeans trousers', 'lower_colour': 'black:3 blue:2', 'shoes': 'boots',
     'shoes_colour': 'black:2 brown:3', 'hat': 'beanie:2 none',
     'scarf': 'none red:2 grey green yellow', 'bag': 'none:3 shoulder~bag backpack'},
    {'upper': 't-shirt:2 shirt:2', 'upper_colour': 'white:2 orange blue red yellow',
     'pattern': 'plain:2 checked striped:2 dotted', 'lower': 'shorts:3 jeans',
     'lower_colour': 'brown:3 white blue', 'shoes': 'sandals:2 sneakers',
     'shoes_colour': 'brown:2 white black', 'hat': 'cap:2 none', 'hat_colour': 'white:2 red blue',
     'glasses': 'sunglasses:2 none:3', 'bag': 'backpack:2 shoulder~bag none'},
    {'gender': 'man:4 woman', 'upper': 'hoodie:2 t-shirt:3',
     'upper_colour': 'black:4 purple red green', 'pattern': 'plain:3 checked',
     'print': 'yes:4 no', 'lower': 'jeans:2 trousers shorts', 'lower_colour': 'black:3 grey blue',
     'shoes': 'sneakers', 'shoes_colour': 'black:2 white red yellow',
     'hat': 'beanie:2 cap:2 none:2', 'hat_colour': 'black:2 red green yellow'},
    {'gender': 'woman', 'upper': 't-shirt:2 tank~top:2 shirt',
     'upper_colour': 'white:3 pink:3 yellow purple', 'pattern': 'plain:2 dotted striped',
     'lower': 'skirt:2 long~skirt:2 jeans', 'lower_colour': 'blue:2 white red',
     'shoes': 'sandals:2 sneakers', 'shoes_colour': 'brown white:2 pink',
     'bag': 'handbag:2 shoulder~bag none', 'bag_colour': 'brown:2 red white yellow',
     'glasses': 'none:3 sunglasses:2'},
    {'gender': 'man:5 woman', 'upper': 'jacket:3 t-shirt', 'upper_colour': 'orange:3 yellow:2',
     'print': 'yes:3 no', 'pattern': 'plain striped:2', 'inner_colour': 'black grey white blue',
     'lower': 'trousers:3 jeans', 'lower_colour': 'blue:2 grey:2 black', 'shoes': 'boots',
     'shoes_colour': 'black:2 brown:2', 'hat': 'cap none', 'hat_colour': 'yellow white blue'},
    {'upper': 'jacket:3 sweater', 'upper_colour': 'green:3 blue:2 purple',
     'pattern': 'plain:2 two-tone:2', 'lower': 'trousers', 'lower_colour': 'brown:3 grey green',
     'shoes': 'boots:3 sneakers', 'shoes_colour': 'brown:3 grey', 'bag': 'backpack',
     'bag_colour': 'green:2 orange:2 blue black', 'hat': 'none cap beanie'},
    {'upper': 'sweater:2 coat jacket', 'upper_colour': 'brown:3 grey:2 purple green',
     'hair': 'grey:4 brown', 'pattern': 'plain:2 checked striped',
     'lower': 'trousers:3 long~skirt', 'lower_colour': 'grey:2 brown:2 black',
     'shoes': 'leather~shoes', 'shoes_colour': 'brown:2 black:2', 'glasses': 'glasses:2 none',
     'bag': 'none:2 handbag shoulder~bag'},
    {'upper': 'shirt:3 t-shirt', 'upper_colour': 'red:2 blue:2 green',
     'pattern': 'checked:4 striped plain', 'lower': 'jeans:5 trousers',
     'lower_colour': 'blue:4 black', 'shoes': 'boots sneakers', 'shoes_colour': 'brown:2 white',
     'bag': 'none:2 backpack shoulder~bag', 'print': 'no'},
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Identity:
    attributes: Mapping[str, str]  # key to value; 'none' where a thing, and hence its colour, is not there
    side: int  # -1 or 1, the side on which a bag is carried
    look: tuple[int, ...]  # entropy for what no caption can say: shades of colours, proportions, face


def identity(seed: int, split: str, person: int) -> Identity:
    """Draw a person (ours): most attributes as the circle has them, the others from its outfit."""
    circle, own = generator(seed, split, person // ALIKE, 0), generator(seed, split, person, 1)
    outfit = _DEFAULTS | _OUTFITS[int(circle.integers(len(_OUTFITS)))]

    def draw(words: str) -> str:
        shared, personal = pick(circle, words), pick(own, words)
        return personal if own.random() < _OWN_TASTE else shared

    def other(colour: str) -> str:
        return draw(' '.join(c for c in _PALETTE.split() if c != colour))

    a = {key: draw(outfit[key]) for key in _KEYS.split()}
    if a['gender'] == 'man' and 'skirt' in a['lower']:
        a['lower'] = 'trousers'
    a['hair_colour'] = draw(outfit['hair'])
    man, woman = draw('short:8 bald long'), draw('short:2 bob:2 long:4 ponytail:3 bun')
    a['hair'] = man if a['gender'] == 'man' else woman
    a['pattern_colour'] = other(a['upper_colour'])
    plain = a['pattern'] == 'plain'
    on_back = (*_PRINTABLE, 'jacket') if a['bag'] != 'backpack' else ()
    for place, garments in (('chest', _PRINTABLE), ('back', on_back)):
        a[place], a[f'{place}_colour'] = draw(_PRINTS), other(a['upper_colour'])
        printed = draw(outfit['print']) == 'yes'
        if not (printed and plain and a['upper'] in garments):
            a[place] = 'none'
    if plain:
        a['pattern_colour'] = 'none'
    if a['upper'] not in _OPEN:
        a['inner_colour'] = 'none'
    if a['hair'] == 'bald':
        a['hair_colour'] = 'none'
    for thing in ('bag', 'hat', 'chest', 'back'):
        if a[thing] == 'none':
            a[f'{thing}_colour'] = 'none'
    side = 1 if own.random() < 0.5 else -1
    return Identity(a, side, (seed, SPLITS.index(split), person, 1))
