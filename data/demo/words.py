"""The words of captions: what each value of an attribute may be called.

A speaker chooses among them and keeps count of the attributes that it names.
"""

import numpy as np

_SYNONYMS = {
    'man': 'man|man|man|male|guy|gentleman',
    'woman': 'woman|woman|woman|lady|female',
    'anyone': 'person|pedestrian|person|individual',
    'slim': 'slim|thin|slender',
    'heavy': 'heavyset|stocky|heavily built',
    'grey': 'grey|gray',
    't-shirt': 't-shirt|tee|T-shirt|short-sleeved tee',
    'shirt': 'shirt|button-up shirt|button-down shirt',
    'hoodie': 'hoodie|hooded sweatshirt',
    'coat': 'coat|long coat|overcoat',
    'blazer': 'blazer|suit jacket|sport coat',
    'sweater': 'sweater|jumper|pullover',
    'tank top': 'tank top|sleeveless top|vest top',
    'top': 'top|upper garment',
    'striped': 'striped|stripy',
    'checked': 'checked|plaid|checkered',
    'dotted': 'dotted|polka dot|spotted',
    'two-tone': 'two-tone|two-coloured',
    'trousers': 'trousers|pants|slacks',
    'jeans': 'jeans|denim jeans|denims',
    'shorts': 'shorts|short pants',
    'skirt': 'skirt|knee-length skirt',
    'long skirt': 'long skirt|ankle-length skirt|maxi skirt',
    'sneakers': 'sneakers|trainers|running shoes',
    'leather shoes': 'leather shoes|dress shoes',
    'sandals': 'sandals|open sandals',
    'footwear': 'shoes|footwear',
    'backpack': 'backpack|rucksack',
    'shoulder bag': 'shoulder bag|crossbody bag|messenger bag',
    'handbag': 'handbag|purse',
    'cap': 'cap|baseball cap',
    'beanie': 'beanie|knit cap|woollen hat',
    'glasses': 'glasses|spectacles|eyeglasses',
    'sunglasses': 'sunglasses|dark glasses|shades',
    'circle': 'circle|round spot|disc',
    'band': 'band|bar',
    'letter': 'letter|letter H|capital letter',
    'cross': 'cross|plus sign',
    'scarf': 'scarf|neck scarf',
}
_PLURAL = ('trousers', 'jeans', 'shorts', 'sneakers', 'boots', 'leather shoes', 'sandals',
           'footwear')  # fmt: skip


class Speaker:
    """Chooses words about one image.

    Attributes:
      seen: the attributes that the image shows.
      rng: the source of all choices.
      named: the attributes that were named so far.
    """

    def __init__(self, seen: dict[str, str], rng: np.random.Generator):
        self.seen, self.rng, self.named = seen, rng, {}

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.rng.random() < p

    def one_of(self, *options):
        """One of the options, all as likely."""
        return options[int(self.rng.random() * len(options))]

    def word(self, value: str) -> str:
        """A word for a value, which thereby is not named: 'top' may be any garment."""
        return self.one_of(*_SYNONYMS.get(value, value).split('|'))

    def has(self, key: str) -> bool:
        """Whether the image shows such a thing."""
        return self.seen.get(key, 'none') != 'none'

    def name(self, key: str) -> str:
        """A word for the attribute's value, which it names."""
        self.named[key] = self.seen[key]
        return self.word(self.seen[key])

    def thing(self, key: str, anything: str = '') -> str:
        """'a red shirt', 'a shirt' or, if `anything` is a word for all of its kind, 'a red top'."""
        with_colour = self.has(f'{key}_colour') and self.chance(0.8)
        with_type = not with_colour or not anything or self.chance(0.85)
        adjective = self.name(f'{key}_colour') + ' ' if with_colour else ''
        phrase = adjective + (self.name(key) if with_type else self.word(anything))
        if (self.seen[key] if with_type else anything) in _PLURAL:
            return ('a pair of ' if self.chance(0.2) else '') + phrase
        return article(phrase)


def article(phrase: str) -> str:
    """'an orange hat', 'a hat'."""
    return ('an ' if phrase[0].lower() in 'aeiou' else 'a ') + phrase


def join(phrases: list[str]) -> str:
    """'a, b and c'."""
    return ' and '.join(filter(None, (', '.join(phrases[:-1]), *phrases[-1:])))
