"""Captions of demo people: sentences about what one image shows, and what each of them names."""

import numpy as np

_SYNONYMS = {
    "man": "man|man|man|male|guy|gentleman",
    "woman": "woman|woman|woman|lady|female",
    "anyone": "person|pedestrian|person|individual",
    "slim": "slim|thin|slender",
    "heavy": "heavyset|stocky|heavily built",
    "grey": "grey|gray",
    "t-shirt": "t-shirt|tee|T-shirt|short-sleeved tee",
    "shirt": "shirt|button-up shirt|button-down shirt",
    "hoodie": "hoodie|hooded sweatshirt",
    "jacket": "jacket",
    "coat": "coat|long coat|overcoat",
    "blazer": "blazer|suit jacket|sport coat",
    "sweater": "sweater|jumper|pullover",
    "tank top": "tank top|sleeveless top|vest top",
    "top": "top|upper garment",
    "striped": "striped|stripy",
    "checked": "checked|plaid|checkered",
    "dotted": "dotted|polka dot|spotted",
    "two-tone": "two-tone|two-coloured",
    "trousers": "trousers|pants|slacks",
    "jeans": "jeans|denim jeans|denims",
    "shorts": "shorts|short pants",
    "skirt": "skirt|knee-length skirt",
    "long skirt": "long skirt|ankle-length skirt|maxi skirt",
    "sneakers": "sneakers|trainers|running shoes",
    "boots": "boots",
    "leather shoes": "leather shoes|dress shoes",
    "sandals": "sandals|open sandals",
    "footwear": "shoes|footwear",
    "backpack": "backpack|rucksack",
    "shoulder bag": "shoulder bag|crossbody bag|messenger bag",
    "handbag": "handbag|purse",
    "cap": "cap|baseball cap",
    "beanie": "beanie|knit cap|woollen hat",
    "glasses": "glasses|spectacles|eyeglasses",
    "sunglasses": "sunglasses|dark glasses|shades",
    "star": "star",
    "circle": "circle|round spot|disc",
    "heart": "heart",
    "band": "band|bar",
    "letter": "letter|letter H|capital letter",
    "triangle": "triangle",
    "cross": "cross|plus sign",
    "scarf": "scarf|neck scarf",
}
_PLURAL = (
    "trousers",
    "jeans",
    "shorts",
    "sneakers",
    "boots",
    "leather shoes",
    "sandals",
    "footwear",
)
_FACING = {
    "front": ("facing the camera", "seen from the front"),
    "back": ("facing away", "seen from behind", "with their back to the camera"),
    "side": ("seen from the side", "in profile"),
}
_HELD = {"phone": "a phone", "bottle": "a bottle", "umbrella": "a folded umbrella"}


class _Speaker:
    """Chooses words about one image and remembers the attributes that they name."""

    def __init__(self, seen: dict[str, str], rng: np.random.Generator):
        self.seen, self.rng, self.named = seen, rng, {}

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def one_of(self, options):
        return options[int(self.rng.random() * len(options))]

    def word(self, key: str) -> str:
        return self.one_of(_SYNONYMS.get(key, key).split("|"))

    def has(self, key: str) -> bool:
        return self.seen.get(key, "none") != "none"

    def name(self, key: str) -> str:
        self.named[key] = self.seen[key]
        return self.word(self.seen[key])

    def thing(self, key: str, anything: str, article: bool = True) -> str:
        """'a red shirt', 'a shirt' or, if `anything` is a word for all of its kind, 'a red top'."""
        with_colour = self.has(f"{key}_colour") and self.chance(0.8)
        with_type = not with_colour or not anything or self.chance(0.85)
        adjective = self.name(f"{key}_colour") + " " if with_colour else ""
        kind = self.seen[key] if with_type else anything
        phrase = adjective + (self.name(key) if with_type else self.word(anything))
        if kind in _PLURAL:
            return ("a pair of " if article and self.chance(0.2) else "") + phrase
        return _article(phrase) if article else phrase


def _article(phrase: str) -> str:
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def _upper(say: _Speaker) -> str:
    if say.has("pattern_colour") and say.chance(0.7):
        kind = say.name("upper") if say.chance(0.8) else say.word("top")
        pattern = say.name("pattern")
        if say.chance(0.5):
            colours = f"{say.name('upper_colour')} and {say.name('pattern_colour')}"
            phrase = (
                f"a {colours} {pattern} {kind}"
                if say.chance(0.6)
                else f"a {pattern} {kind} in {colours}"
            )
        else:
            phrase = _article(
                f"{say.name('upper_colour')} {pattern} {kind}"
                if say.chance(0.7)
                else f"{pattern} {kind}"
            )
        phrase = phrase.replace("a orange", "an orange")
    else:
        phrase = say.thing("upper", "top")
    if say.has("inner_colour") and say.chance(0.3):
        phrase += f" over {_article(say.name('inner_colour'))} {say.one_of(('shirt', 'top'))}"
    for place, words in (
        ("chest", "on the chest|on the front|across the chest"),
        ("back", "on the back|on the back"),
    ):
        if say.has(place) and say.chance(0.45):
            motif = say.thing(place, "print" if say.chance(0.5) else "logo")
            phrase += f" with {motif}{say.one_of(('', ' printed'))} {say.one_of(words.split('|'))}"
    return phrase


def _hair(say: _Speaker) -> str:
    style = say.seen.get("hair")
    if style == "bald":
        say.name("hair")
        return say.one_of(("a bald head", "a shaved head"))
    colour = (
        say.name("hair_colour") + " "
        if say.has("hair_colour") and (not style or say.chance(0.8))
        else ""
    )
    if not style or (colour and say.chance(0.3)):
        return f"{colour}hair"
    say.named["hair"] = style
    if style in ("ponytail", "bun"):
        return say.one_of(
            (
                f"{_article(colour + style)}",
                f"{colour}hair in a {style}",
                f"{colour}hair tied in a {style}",
            )
        )
    if style == "bob":
        return say.one_of(
            (
                f"{_article(colour + 'bob')}",
                f"{colour}hair cut in a bob",
                f"chin-length {colour}hair",
            )
        )
    return f"{style} {colour}hair"


def _clauses(say: _Speaker, budget: int) -> tuple[list[str], list[str], list[str]]:
    """Phrases that follow 'wearing', 'with' and 'carrying', until `budget` attributes are named."""
    wearing, having, carrying = [], [], []
    topics = {
        "upper": lambda: wearing.append(_upper(say)),
        "lower": lambda: wearing.append(say.thing("lower", "")),
        "shoes": lambda: wearing.append(say.thing("shoes", "footwear")),
        "hat": lambda: wearing.append(say.thing("hat", "")),
        "glasses": lambda: wearing.append(say.name("glasses")),
        "scarf": lambda: wearing.append(_article(f"{say.name('scarf')} {say.word('scarf')}")),
        "bag": lambda: carrying.append(say.thing("bag", "")),
        "hair": lambda: having.append(_hair(say)),
    }
    open_topics = [
        topic for topic in topics if say.has(topic) or (topic == "hair" and say.has("hair_colour"))
    ]
    weight = {"upper": 5.0, "lower": 3.5, "shoes": 1.3, "hair": 1.3}
    keys = {topic: say.rng.random() ** (1 / weight.get(topic, 1.6)) for topic in open_topics}
    for topic in sorted(open_topics, key=keys.get, reverse=True):
        if len(say.named) >= budget:
            break
        topics[topic]()
    return wearing, having, carrying


def _join(phrases: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(phrases[:-1]), *phrases[-1:])))


def _subject(say: _Speaker) -> tuple[str, str]:
    """A noun with its adjectives and a pronoun that gives away no more than the noun does."""
    noun, pronoun = say.word("anyone"), "they"
    if say.chance(0.75):
        noun = say.name("gender")
        pronoun = {"man": "he", "woman": "she"}[say.named["gender"]]
    if say.seen.get("build", "average") != "average" and say.chance(0.25):
        noun = f"{say.name('build')} {noun}"
    return noun, pronoun


def _aside(say: _Speaker, view) -> str:
    """What the view, not the person, adds: rarely anything."""
    end = "side" if view.viewpoint in ("left", "right") else view.viewpoint.split("-")[0]
    options = list(_FACING[end])
    if view.occlusion != "car":
        options += ["walking", "walking along"] if view.walking else ["standing", "standing still"]
        options += [f"holding {_HELD[view.held]}"] * 2 if view.held != "none" else []
    return say.one_of(options) if say.chance(0.35) else ""


def _caption(say: _Speaker, view, template: int) -> str:
    noun, they = _subject(say)
    wearing, having, carrying = _clauses(say, int(say.rng.integers(4, 7)))
    order = say.rng.permutation(len(wearing))
    wearing = [wearing[i] for i in order]
    aside = _aside(say, view)
    have, carry, wear = ("have", "carry", "wear") if they == "they" else ("has", "carries", "wears")
    who = _article(noun)
    extra = [f"{have} {_join(having)}"] * bool(having) + [f"{carry} {_join(carrying)}"] * bool(
        carrying
    )
    second = f" {they.capitalize()} {_join(extra)}." if extra else ""
    tail = "".join(
        [f", with {_join(having)}"] * bool(having)
        + [f", carrying {_join(carrying)}"] * bool(carrying)
    )
    comma = f", {aside}," if aside else ""
    if not wearing:
        return f"{who}{comma.rstrip(',')}{tail}."
    clothes, late = _join(wearing), f", {aside}" if aside else ""
    if template == 0:
        return f"{who}{comma} wearing {clothes}.{second}"
    if template == 1:
        return f"the {noun}{comma} is dressed in {clothes}{tail}."
    if template == 2 and (having or carrying):
        start = f"with {_join(having)}" if having else f"carrying {_join(carrying)}"
        rest = f" and carries {_join(carrying)}" if having and carrying else ""
        return f"{start}, this {noun}{comma} wears {clothes}{rest}."
    if template == 3:
        return f"{noun} in {clothes}{late}{tail}."
    if template == 4:
        return f"this {noun} {say.one_of(('has on', 'is wearing'))} {clothes}{late}.{second}"
    if template == 5 and len(wearing) > 1:
        also = f"{they.capitalize()} also {wear} {_join(wearing[1:])}"
        return f"{who}{comma} in {wearing[0]}{tail}. {also}."
    return f"{clothes} on {who}{late}{tail}."


def captions(
    seen: dict[str, str], view, rng: np.random.Generator
) -> list[tuple[str, dict[str, str]]]:
    """Two captions of one image.

    Args:
      seen: the attributes that the image shows, 'none' for what is seen to be absent.
      view: its `demo.View`.
      rng: the image's own generator.

    Returns:
      [(sentence, {key: value that it names}), ...]: parts of `seen`, drawn independently.
    """
    result = []
    for template in rng.permutation(7)[:2]:
        say = _Speaker(seen, rng)
        text = _caption(say, view, int(template))
        if not say.chance(0.15):
            text = text[0].upper() + text[1:]
        elif text.count(".") == 1:
            text = text.rstrip(".")
        result.append((text, say.named))
    return result
