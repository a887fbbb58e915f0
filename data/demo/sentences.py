"""Captions of demo people: sentences about what one image shows, and what each of them names.

A caption names 4 to 6 attributes or so: enough to search by, too few to identify. A speaker chooses the words and keeps
count of what it names.
"""

import numpy as np

from data.demo.views import View

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
_FACING = {
    'front': ('facing the camera', 'seen from the front'),
    'back': ('facing away', 'seen from behind', 'with their back to the camera'),
    'side': ('seen from the side', 'in profile'),
}
_HELD = {'phone': 'a phone', 'bottle': 'a bottle', 'umbrella': 'a folded umbrella'}
_PLACES = {
    'chest': ('on the chest', 'on the front', 'across the chest'),
    'back': ('on the back',),
}
_TOPICS = ('upper', 'lower', 'shoes', 'hat', 'glasses', 'scarf', 'bag', 'hair')
_WEIGHT = {'upper': 5.0, 'lower': 3.5, 'shoes': 1.3, 'hair': 1.3}  # 1.6 for the others


class Speaker:
    """Chooses words about one image, of which `seen` is shown; `named` are the attributes that were named so far."""

    def __init__(self, seen: dict[str, str], rng: np.random.Generator):
        self.seen, self.rng, self.named = seen, rng, {}

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def one_of(self, *options):
        return options[int(self.rng.random() * len(options))]

    def word(self, value: str) -> str:
        """A word for a value, which thereby is not named: 'top' may be any garment."""
        return self.one_of(*_SYNONYMS.get(value, value).split('|'))

    def has(self, key: str) -> bool:
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


def _patterned(say: Speaker) -> str:
    kind = say.name('upper') if say.chance(0.8) else say.word('top')
    pattern = say.name('pattern')
    if say.chance(0.5):
        colours = f'{say.name("upper_colour")} and {say.name("pattern_colour")}'
        if say.chance(0.6):
            return article(f'{colours} {pattern} {kind}')
        return f'a {pattern} {kind} in {colours}'
    colour = say.name('upper_colour') + ' ' if say.chance(0.7) else ''
    return article(f'{colour}{pattern} {kind}')


def _upper(say: Speaker) -> str:
    patterned = say.has('pattern_colour') and say.chance(0.7)
    phrase = _patterned(say) if patterned else say.thing('upper', 'top')
    if say.has('inner_colour') and say.chance(0.3):
        phrase += f' over {article(say.name("inner_colour"))} {say.one_of("shirt", "top")}'
    for place, words in _PLACES.items():
        if say.has(place) and say.chance(0.45):
            motif = say.thing(place, 'print' if say.chance(0.5) else 'logo')
            phrase += f' with {motif}{say.one_of("", " printed")} {say.one_of(*words)}'
    return phrase


def _hair(say: Speaker) -> str:
    style = say.seen.get('hair')
    if style == 'bald':
        say.name('hair')
        return say.one_of('a bald head', 'a shaved head')
    with_colour = say.has('hair_colour') and (not style or say.chance(0.8))
    colour = say.name('hair_colour') + ' ' if with_colour else ''
    if not style or (colour and say.chance(0.3)):
        return f'{colour}hair'
    say.named['hair'] = style
    if style in ('short', 'long'):
        return f'{style} {colour}hair'
    if style == 'bob':
        return say.one_of(article(f'{colour}bob'), f'{colour}hair cut in a bob', f'chin-length {colour}hair')
    return say.one_of(article(colour + style), f'{colour}hair in a {style}', f'{colour}hair tied in a {style}')


def _phrase(say: Speaker, topic: str) -> str:
    if topic == 'upper':
        return _upper(say)
    if topic == 'hair':
        return _hair(say)
    if topic == 'glasses':
        return say.name('glasses')
    if topic == 'scarf':
        return article(f'{say.name("scarf")} {say.word("scarf")}')
    return say.thing(topic, 'footwear' if topic == 'shoes' else '')


def _clauses(say: Speaker, budget: int) -> tuple[list[str], list[str], list[str]]:
    """Phrases that follow 'wearing', 'with' and 'carrying', until `budget` attributes are named."""
    topics = [t for t in _TOPICS if say.has(t) or (t == 'hair' and say.has('hair_colour'))]
    keys = {topic: say.rng.random() ** (1 / _WEIGHT.get(topic, 1.6)) for topic in topics}
    wearing, having, carrying = [], [], []
    for topic in sorted(topics, key=keys.get, reverse=True):
        if len(say.named) >= budget:
            break
        {'hair': having, 'bag': carrying}.get(topic, wearing).append(_phrase(say, topic))
    return wearing, having, carrying


def _subject(say: Speaker) -> tuple[str, str]:
    """A noun with its adjectives and a pronoun that gives away no more than the noun does."""
    noun, pronoun = say.word('anyone'), 'they'
    if say.chance(0.75):
        noun = say.name('gender')
        pronoun = {'man': 'he', 'woman': 'she'}[say.named['gender']]
    if say.seen.get('build', 'average') != 'average' and say.chance(0.25):
        noun = f'{say.name("build")} {noun}'
    return noun, pronoun


def _aside(say: Speaker, view: View) -> str:
    """What the view, not the person, adds: rarely anything."""
    end = 'side' if view.viewpoint in ('left', 'right') else view.viewpoint.split('-')[0]
    options = list(_FACING[end])
    if view.occlusion != 'car':
        options += ['walking', 'walking along'] if view.walking else ['standing', 'standing still']
        options += [f'holding {_HELD[view.held]}'] * 2 if view.held != 'none' else []
    return say.one_of(*options) if say.chance(0.35) else ''


def _caption(say: Speaker, view: View, template: int) -> str:
    noun, they = _subject(say)
    wearing, having, carrying = _clauses(say, int(say.rng.integers(4, 7)))
    wearing = [wearing[i] for i in say.rng.permutation(len(wearing))]
    aside = _aside(say, view)
    have, carry, wear = ('have', 'carry', 'wear') if they == 'they' else ('has', 'carries', 'wears')
    who, clothes, bag = article(noun), join(wearing), join(carrying)
    extra = [f'{have} {join(having)}'] * bool(having) + [f'{carry} {bag}'] * bool(bag)
    second = f' {they.capitalize()} {join(extra)}.' if extra else ''
    tail = f', with {join(having)}' * bool(having) + f', carrying {bag}' * bool(bag)
    late = f', {aside}' if aside else ''
    comma = f'{late},' if aside else ''
    if not wearing:
        return f'{who}{late}{tail}.'
    if template == 0:
        return f'{who}{comma} wearing {clothes}.{second}'
    if template == 1:
        return f'the {noun}{comma} is dressed in {clothes}{tail}.'
    if template == 2 and (having or bag):
        start = f'with {join(having)}' if having else f'carrying {bag}'
        rest = f' and carries {bag}' if having and bag else ''
        return f'{start}, this {noun}{comma} wears {clothes}{rest}.'
    if template == 3:
        return f'{noun} in {clothes}{late}{tail}.'
    if template == 4:
        return f'this {noun} {say.one_of("has on", "is wearing")} {clothes}{late}.{second}'
    if template == 5 and len(wearing) > 1:
        also = f'{they.capitalize()} also {wear} {join(wearing[1:])}'
        return f'{who}{comma} in {wearing[0]}{tail}. {also}.'
    return f'{clothes} on {who}{late}{tail}.'


def describe(seen: dict[str, str], view: View, rng: np.random.Generator) -> list[tuple[str, dict[str, str]]]:
    """Two captions of one image that shows `seen`, drawn independently: [(sentence, {key: value that it names})]."""
    result = []
    for template in rng.permutation(7)[:2]:
        say = Speaker(seen, rng)
        text = _caption(say, view, int(template))
        if not say.chance(0.15):
            text = text[0].upper() + text[1:]
        elif text.count('.') == 1:
            text = text.rstrip('.')
        result.append((text, say.named))
    return result
