"""The picture about a person: what is behind and what is in the way.

Backgrounds are code, because they repeat; single things are tables of shapes.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data.demo.brush import HEIGHT, SCALE, WIDTH, Brush, darker, mix

# Shapes: left, top, right, bottom; None for an ellipse or the radius of a rectangle's corners; and
# a colour, 'own' for a random one. `_put` says what a unit is.
_CLUTTER = (
    (  # somebody far away
        (-3, -22, 3, -15, None, (190, 150, 120)),
        (-5, -15, 5, 5, 3, 'own'),
        (-4, 5, 4, 22, 0, (50, 54, 70)),
    ),
    ((-7, 2, 7, 26, 0, 'own'), (-8, -1, 8, 3, 0, (40, 44, 44))),  # a bin
    ((-1, -HEIGHT, 1, 20, 0, (66, 68, 72)),),  # a lamp post
    (  # a parked car
        (-30, -4, 30, 14, 5, 'own'),
        (-18, -14, 18, 0, 5, (70, 84, 96)),
        (-22, 8, -10, 20, None, (26, 26, 28)),
        (10, 8, 22, 20, None, (26, 26, 28)),
    ),
)
_IN_THE_WAY = {
    'none': (),
    'cut': (),
    'pole': ((-1, 0, 1, 1, 0, (92, 96, 100)), (-1, 0, -0.3, 1, 0, (124, 128, 132))),
    'passer-by': (
        (-0.2, 0.14, 0.2, 0.56, 0.1, 'own'),
        (-0.16, 0.54, 0.16, 1, 0, (52, 54, 66)),
        (-0.1, 0.01, 0.1, 0.15, None, (86, 62, 50)),
    ),
    'box': (
        (0.08, 0, 0.92, 1, 0, (176, 132, 84)),
        (0.08, 0, 0.92, 0.025, 0, (206, 164, 112)),
        (0.44, 0, 0.56, 1, 0, (196, 170, 128)),
    ),
    'car': (
        (-0.2, 0.47, 1.2, 0.95, 0.09, 'own'),
        (-0.1, 0.51, 1.1, 0.62, 0.05, (66, 80, 94)),
        (0, 0.71, 1, 0.72, 0, 'dark'),
        (0.52, 0.63, 0.54, 0.94, 0, 'dark'),
        (0, 0.93, 1, 1, 0, (40, 40, 44)),
        (0.02, 0.83, 0.34, 1, None, (28, 28, 30)),
        (0.1, 0.87, 0.26, 0.96, None, (150, 152, 156)),
    ),
}


def _put(pen, shapes, own, x, y, w, h):
    """Draw shapes in units of w and h, from (x, y) on; the radius of corners in units of w."""
    colours = {'own': own, 'dark': darker(own, 0.4)}
    for left, top, right, low, radius, paint in shapes:
        frame, colour = (x + left * w, y + top * h, x + right * w, y + low * h), paint
        if isinstance(paint, str):
            colour = colours[paint]
        if radius is None:
            pen.ellipse(frame, colour)
        else:
            pen.rounded_rectangle(frame, radius * w, colour)


def _wall(pen, rng, far, tone):
    brick = (138 + tone[3], 92 + tone[4], 78 + tone[5])
    mortar = mix(brick, (210, 200, 190), 0.4)
    pen.rectangle((0, 0, WIDTH, far + 30), brick)
    for row, y in enumerate(range(0, far + 30, 7)):
        pen.line((0, y, WIDTH, y), mortar)
        for x in range(row % 2 * 7 - 3, WIDTH, 14):
            pen.line((x, y, x, y + 7), mortar)
    pen.rectangle((0, far + 30, WIDTH, HEIGHT), (128 + tone[6],) * 3)


def _grass(pen, rng, far, tone):
    w, h = WIDTH, HEIGHT
    pen.rectangle((0, 0, w, far), (172 + tone[3], 196 + tone[4], 212 + tone[5]))
    leaves = (60 + tone[6], 96 + tone[7], 56 + tone[8] // 2)
    for _ in range(5):
        x, r = rng.random() * w, 10 + rng.random() * 14
        pen.ellipse((x - r, far - 2.2 * r, x + r, far + 4), leaves)
    pen.rectangle((0, far, w, h), (98 + tone[9], 138 + tone[10], 76 + tone[11]))
    pen.polygon([(0, h), (w * 0.3, far), (w * 0.55, far), (w, h)], (186, 178 - tone[0], 150))


def _shop(pen, rng, far, tone):
    pen.rectangle((0, 0, WIDTH, far + 24), (96 + 2 * tone[3], 100 + tone[4], 110 + tone[5]))
    for x in range(-int(rng.random() * 24), WIDTH, 29):
        window = (176 + tone[6], 196 + tone[7], 206 + tone[8])
        pen.rectangle((x + 2, 20, x + 26, far + 14), window)
        pen.line((x + 6, far, x + 18, 26), (225, 232, 236), 3)
    pen.rectangle((0, 6, WIDTH, 17), tuple(rng.integers(60, 220, 3).tolist()))
    pen.rectangle((0, far + 24, WIDTH, HEIGHT), (168 - tone[9],) * 3)


def _houses(pen, rng, far, tone):
    pen.rectangle((0, 0, WIDTH, far), (126 + tone[3], 132 + tone[4], 142 + tone[5]))
    window = (96 + tone[6], 108 + tone[7], 124 + tone[8])
    for x in range(int(rng.random() * -9), WIDTH, 13):
        for y in range(4, far - 8, 16):
            pen.rectangle((x, y, x + 6, y + 9), window)


def _pavement(pen, rng, far, tone):
    _houses(pen, rng, far, tone)
    w, h, ground = WIDTH, HEIGHT, 166 + tone[9]
    pen.rectangle((0, far, w, h), (ground,) * 3)
    joints = [(0, y, w, y) for y in range(far + 6, h, 13)]
    joints += [(w // 2 + (x - w // 2) // 3, far, x, h) for x in range(-w, 2 * w, 22)]
    for joint in joints:
        pen.line(joint, (ground - 26,) * 3)


def _crossing(pen, rng, far, tone):
    _houses(pen, rng, far, tone)
    pen.rectangle((0, far, WIDTH, HEIGHT), (92 + tone[9],) * 3)
    for y in range(far + 6, HEIGHT, 13):
        pen.rectangle((0, y, WIDTH, y + 6), (222, 222, 216))


_PLACES = (_pavement, _wall, _grass, _crossing, _shop)


def paint_street(rng: np.random.Generator) -> Image.Image:
    """A background, painted at the final size and softened: depth of field."""
    tone = rng.integers(0, 40, 12).tolist()
    place = _PLACES[int(rng.random() * len(_PLACES))]
    far = int(HEIGHT * (0.42 + 0.2 * rng.random()))
    image = Image.new('RGB', (WIDTH, HEIGHT), (150 + tone[0], 152 + tone[1], 150 + tone[2]))
    pen = ImageDraw.Draw(image)
    place(pen, rng, far, tone)
    for _ in range(int(rng.random() * 3)):
        x, own = rng.random() * WIDTH, tuple(rng.integers(30, 220, 3).tolist())
        _put(pen, _CLUTTER[int(rng.random() * len(_CLUTTER))], own, x, far, 1, 1)
    soft = image.filter(ImageFilter.BoxBlur(0.6))
    return soft.resize((WIDTH * SCALE, HEIGHT * SCALE), Image.Resampling.NEAREST)


def paint_occlusion(f: Brush, rng: np.random.Generator) -> None:
    """What stands between the camera and the person."""
    kind, side, own = f.view.occlusion, f.view.occluded_side, rng.integers(40, 210, 3).tolist()
    w, h = WIDTH * SCALE, HEIGHT * SCALE
    x, y, unit = 0, 0, w
    if kind == 'pole':
        x = w / 2 + side * (0.23 + 0.06 * rng.random()) * w
        unit = (0.045 + 0.02 * rng.random()) * w
    elif kind == 'passer-by':
        x = w / 2 + side * 0.47 * w
    elif kind == 'box':
        y = (0.865 - 0.02 * rng.random()) * h
    _put(f.pen, _IN_THE_WAY[kind], tuple(own), x, y, unit, h)
