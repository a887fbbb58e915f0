"""The head: face, glasses, hair and hat.

Its shape is round, hence turns little: most of it is drawn flat.
"""

from data.demo.brush import SCALE, Brush, darker, lighter, mix

_RX, _RY, _Y = 0.062, 0.08, 0.088  # of the skull
_FRAME = (20, 20, 24)  # of glasses


def paint_head(f: Brush) -> None:
    """All above the collar, but for hair that hangs behind the body."""
    hair, turn = f.paint['hair_colour'], f.sin * _RX
    tucked = f.a['hat'] == 'beanie' and f.a['hair'] in ('short', 'bun')
    style = 'bald' if tucked else f.a['hair']
    f.limb([(0, 0.13, -0.005, 0.034), (0, 0.185, 0, 0.038)], f.skin)
    if style == 'bald':
        f.disc(0, _Y, 0, _RX, _RY, f.skin)
    else:
        f.disc(0, _Y - 0.004, -0.008, _RX * 1.1, _RY * 1.06, hair)
    if f.cos > -0.4:
        wide = _RX * (0.66 + 0.3 * max(f.cos, 0))
        f.pen.ellipse(f.around(f.flat(turn * 0.5, _Y + 0.016), wide, _RY * 0.84), f.skin)
        _face(f, _Y + 0.008, turn * 0.5)
        if style != 'bald':
            fringe = f.around(f.flat(0.3 * turn, _Y - _RY), _RX, 0, 1.7 * _RY)
            f.pen.chord(fringe, 203, 337, hair)
    elif style == 'short':  # the nape stays bare
        f.box(0, 0.16, -0.02, 0.04, 0.016, f.skin)
    if f.cos <= 0.75 and not f.back and style not in ('long', 'bob'):
        ear = f.around(f.flat(-0.15 * turn, _Y + 0.02), 0.014, 0.014)
        f.pen.ellipse(ear, mix(f.skin, (120, 40, 20), 0.2))
    if not f.front or style == 'bun':
        paint_hair(f, over=True)
    if f.a['hat'] != 'none':
        _hat(f, turn)
    start = -80 if f.dark > 0 else 100
    f.pen.pieslice(f.around(f.at(0, _Y), _RX, _RY), start, start + 160, (0, 0, 20, 30))


def _face(f, y, x):
    spread, turn = 0.026 * max(f.cos, 0.2), (f.sin if f.cos > 0 else 1) * 0.022
    eyes = [x - spread + turn, x + spread + turn]
    if abs(f.sin) > 0.9:
        eyes = [f.sin * 0.045]
    glasses, r = f.a['glasses'], 0.0085
    for eye in eyes:
        centre = f.flat(eye, y)
        if glasses == 'sunglasses':
            lens = f.around(centre, 2.6 * r, 1.5 * r, 2 * r)
            f.pen.rounded_rectangle(lens, r * f.h, (14, 14, 18))
        else:
            f.pen.ellipse(f.around(centre, r, r), (30, 24, 24))
        if glasses == 'glasses':
            lens = f.around(centre, 2.7 * r, 2.4 * r, 2.6 * r)
            f.pen.ellipse(lens, (225, 240, 250, 120), _FRAME, SCALE)
    if glasses != 'none' and f.cos < 0.95:
        start = eyes[0 if f.sin > 0 else -1]
        f.pen.line([f.flat(start, y), f.flat(-f.sin * 0.02, y)], _FRAME, SCALE)
    mouth = x + f.sin * 0.02
    lips = [f.flat(mouth - 0.014, 0.142), f.flat(mouth + 0.014, 0.142)]
    f.pen.line(lips, mix(f.skin, (150, 30, 40), 0.55), SCALE)


def paint_hair(f: Brush, over: bool) -> None:
    """Hair below the head; `over` the body seen from behind, else before the body is painted."""
    style, hair = f.a['hair'], f.paint['hair_colour']
    if style == 'long':
        f.limb([(0, 0.1, -0.03, 0.068), (0, 0.215, -0.055, 0.068), (0, 0.235, -0.06, 0.056)], hair)
    elif style == 'bob':
        f.box(0, 0.125, -0.022, 0.073, 0.055, hair, 0.7)
    elif style == 'ponytail' and not f.front:
        f.limb([(0, 0.06, -0.075, 0.028), (0, 0.15, -0.095, 0.033), (0, 0.25, -0.087, 0.012)], hair)
        f.disc(0, 0.062, -0.07, 0.02, 0.016, mix(hair, (230, 60, 90), 0.8))
    elif style == 'bun' and over and f.a['hat'] != 'beanie':
        f.disc(0, 0.008, -0.03, 0.036, 0.032, hair)
        f.disc(0, 0.03, -0.03, 0.03, 0.008, darker(hair, 0.4))


def _hat(f, turn):
    kind, felt = f.a['hat'], f.paint['hat_colour']
    dark, wide, top = darker(felt, 0.3), _RX * 1.16, _Y - _RY * 1.16
    high = _RY * (1.6 if kind == 'cap' else 1.7)
    brow = top + high / 2
    f.pen.chord(f.around(f.flat(0, top), wide, 0, high), 180, 360, felt)
    if kind == 'beanie':
        brim = f.around(f.flat(0, brow), wide * 1.03, 0.012, 0.022)
        f.pen.rounded_rectangle(brim, 0.01 * f.h, dark)
        f.disc(0, top + 0.002, 0, 0.02, 0.018, lighter(felt, 0.35))
    elif f.cos > -0.4:
        peak = f.flat(turn, brow)
        f.pen.ellipse(f.around(peak, wide * (0.95 if f.front else 0.85), 0.012, 0.022), dark)
    else:
        gap = f.around(f.flat(0, brow), 0.02, 0.016, 0)
        f.pen.rectangle(gap, f.paint['hair_colour'])
