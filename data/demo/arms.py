"""Arms, sleeves and what a hand holds.

An arm swings against the leg of its side, and bends only to look at a phone.
"""

from data.demo.bags import paint_handbag
from data.demo.brush import Brush, between, darker
from data.demo.torso import CUT


def paint_arm(f: Brush, s: int) -> None:
    """The arm of side s, -1 or 1; the free hand holds what the view says, the other the handbag."""
    swing = -s * f.stride * 1.25
    holds = f.view.held if s == -f.side else 'none'
    shoulder = (s * f.W * 0.95, 0.222, 0)
    elbow = (s * (f.W + 0.032), 0.36, swing * 0.35 - 0.012)
    hand = (s * (f.W + 0.042), 0.5, swing + 0.02)
    if holds == 'phone':
        elbow, hand = (s * (f.W + 0.04), 0.37, 0.0), (s * (f.W * 0.95), 0.3, f.D + 0.09)
    thick = 0.036 + (f.W - 0.12) * 0.2
    bulk = thick * CUT[f.a['upper']][2]
    bare = f.a['upper'] in ('t-shirt', 'tank top')
    if bare:
        f.limb([(*shoulder, thick), (*elbow, thick * 0.82), (*hand, thick * 0.62)], f.skin)
    f.disc(*hand, 0.027, 0.03, f.skin)
    sleeve = _short_sleeve if bare else _long_sleeve
    if f.a['upper'] != 'tank top':
        joints = sleeve(f, shoulder, elbow, hand, thick if bare else bulk)
        _stripes(f, joints, bulk)
    _held(f, holds, hand)
    if f.a['bag'] == 'handbag' and s == f.side:
        paint_handbag(f, hand)


def _short_sleeve(f, shoulder, elbow, hand, r):
    paint, end = f.paint['upper_colour'], between(shoulder, elbow, 0.72)
    f.limb([(*shoulder, r * 1.25), (*end, r * 1.28)], paint, ends=False)
    f.disc(*shoulder, r * 1.25, r * 1.2, paint)
    return shoulder, end


def _long_sleeve(f, shoulder, elbow, hand, r):
    paint = f.paint['upper_colour']
    cuff, wrist = between(elbow, hand, 0.74), between(elbow, hand, 0.9)
    f.limb([(*shoulder, r), (*elbow, r * 0.92), (*wrist, r * 0.8)], paint)
    if f.a['upper'] in ('sweater', 'hoodie', 'jacket'):
        f.limb([(*cuff, r * 0.9), (*wrist, r * 0.88)], darker(paint, 0.35), ends=False)
    return shoulder, elbow, cuff


def _stripes(f, joints, r):
    if f.a['pattern'] not in ('striped', 'checked'):
        return
    for p, q in zip(joints, joints[1:], strict=False):
        for t in (0.15, 0.5, 0.85):
            stripe = [(*between(p, q, share), r * 0.95) for share in (t, t + 0.16)]
            f.limb(stripe, f.paint['pattern_colour'], ends=False)


def _held(f, thing, hand):
    x, y, z = hand
    if thing == 'phone':
        f.box(x, y - 0.035, z, 0.018, 0.036, (26, 28, 34))
        f.box(x, y - 0.035, z, 0.012, 0.027, (40, 42, 48) if f.back else (150, 190, 225))
    elif thing == 'bottle':
        f.box(x, y + 0.03, z + 0.02, 0.02, 0.045, (120, 196, 232))
        f.box(x, y - 0.02, z + 0.02, 0.01, 0.014, (240, 240, 245))
    elif thing == 'umbrella':
        folds = ((-0.03, 0.03, 0.008), (0.05, 0.03, 0.022), (0.33, -0.03, 0.005))
        f.limb([(x, y + down, z + ahead, r) for down, ahead, r in folds], (58, 62, 84))
