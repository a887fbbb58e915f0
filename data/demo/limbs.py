"""Arms with sleeves and what a hand holds, legs with what covers them, and shoes.

An arm swings against the leg of its side, and bends only to look at a phone. The far leg is painted before the near
one, whose foot stands lower in the picture.
"""

from data.demo.bags import paint_handbag
from data.demo.brush import SCALE, Brush, between, darker, lighter, mix
from data.demo.torso import CUT

# Tubes along a foot: colour, whether the ends are round, and for both ends how far they are below
# and before the foot's middle, and the radius.
_BODY = ('shoe', True, (-0.008, -0.012, 0.026), (0, 0.0675, 0.0221))
_SHOES = {
    'sandals': (
        ('skin', True, (-0.004, -0.015, 0.02), (0, 0.07, 0.018)),
        ('shoe', True, (0.012, -0.03, 0.012), (0.012, 0.08, 0.012)),
        ('shoe', False, (-0.018, 0, 0.024), (-0.012, 0, 0.024)),
        ('shoe', False, (-0.006, 0.045, 0.021), (0.004, 0.05, 0.021)),
    ),
    'sneakers': (('sole', True, (0.01, -0.022, 0.022), (0.01, 0.075, 0.022)), _BODY),
    'leather shoes': (
        ('shoe', True, (-0.008, -0.012, 0.021), (0, 0.0675, 0.01785)),
        ('heel', False, (0.017, -0.03, 0.008), (0.017, 0.075, 0.006)),
    ),
    'boots': (_BODY,),
}
_SKIRTS = {'skirt': (0.725, 1.42), 'long skirt': (0.9, 1.62)}  # hem and flare


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


def paint_legs(f: Brush) -> None:
    """Both legs with shoes, the far one first, then the waist or a skirt."""
    kind, paint = f.a['lower'], f.paint['lower_colour']
    if kind == 'jeans' and f.a['lower_colour'] == 'blue':
        paint = mix(paint, (92, 118, 160), 0.65)
    thick, hip_x = 0.058 + (f.W - 0.12) * 0.35, f.W * 0.5
    for s in sorted((-1, 1), key=lambda s: f.depth(s * hip_x, s * f.stride)):
        z = s * f.stride
        lift = 0.02 * f.depth(s * hip_x, z) / 0.1
        hip = (s * hip_x, 0.53, 0, thick)
        knee = (s * hip_x * 0.95, 0.735 + lift / 2, z * 0.65 + 0.012, thick * 0.78)
        ankle = (s * hip_x * 0.9, 0.935 + lift, z * 1.15 - abs(z) * 0.2, thick * 0.6)
        tucked = kind in ('trousers', 'jeans') and f.a['shoes'] != 'boots'
        if tucked:
            _shoe(f, ankle)
        if kind in ('trousers', 'jeans'):
            _trouser_leg(f, hip, knee, ankle, thick, paint)
        else:
            f.limb([hip, knee, ankle], f.skin)
        if not tucked:
            _shoe(f, ankle)
        if kind == 'shorts':
            _short_leg(f, hip, knee, thick, paint)
    waist = [(0.46, f.W * 0.9, f.D * 0.95), (0.56, f.W, f.D * 1.05)]
    if kind in _SKIRTS:
        _skirt(f, waist, paint)
    else:
        f.barrel(waist, paint)


def _trouser_leg(f, hip, knee, ankle, thick, paint):
    hip_, knee_, hem = hip[:3], knee[:3], ankle[:3]
    if f.a['lower'] == 'trousers':
        f.limb([hip, knee, (*hem, thick * 0.78)], paint)
        f.pen.line([f.at(*hip_), f.at(*knee_), f.at(*hem)], (0, 0, 0, 60), SCALE)
        return
    x, y, z = hem
    f.limb([hip, (*knee_, knee[3] * 0.85), (*hem, thick * 0.62)], paint)
    turn_up = [(x, y - 0.008, z, thick * 0.72), (x, y + 0.012, z, thick * 0.72)]
    f.limb(turn_up, mix(paint, (235, 238, 245), 0.55), ends=False)
    worn = [(hip[0], 0.58, 0.02, thick * 0.3), (*knee_, thick * 0.3)]
    f.limb(worn, lighter(paint, 0.22))


def _short_leg(f, hip, knee, thick, paint):
    x, y, z = knee[0], knee[1] - 0.03, knee[2]
    f.limb([(*hip[:3], thick * 1.12), (x, y, z, thick * 1.05)], paint, ends=False)
    f.disc(*hip[:3], thick * 1.1, thick, paint)
    hem = [(x, y, z, thick * 1.1), (x, y + 0.008, z, thick * 1.1)]
    f.limb(hem, darker(paint, 0.3), ends=False)


def _skirt(f, waist, paint):
    hem, flare = _SKIRTS[f.a['lower']]
    rows = [*waist, (hem, f.W * flare, f.D * flare * 1.1 + abs(f.stride) * 0.5)]
    f.barrel(rows, paint)
    for phi in (-2.6, -1.9, -1.2, -0.5, 0.2, 0.9, 1.6, 2.3, 3.0):
        if f.faces(phi):
            f.pen.line([f.on(phi, rows[1]), f.on(phi, rows[2])], (0, 0, 0, 60), SCALE)
    f.shade(rows)


def _shoe(f, ankle):
    x, y, z, r = ankle
    white = f.a['shoes_colour'] == 'white'
    colours = {
        'shoe': f.paint['shoes_colour'],
        'skin': f.skin,
        'sole': (150, 156, 168) if white else (250, 250, 250),
        'heel': (20, 18, 18),
    }
    for colour, ends, *tube in _SHOES[f.a['shoes']]:
        joints = [(x, y + 0.042 + down, z + ahead, r) for down, ahead, r in tube]
        f.limb(joints, colours[colour], ends)
    if f.a['shoes'] == 'boots':
        f.limb([(x, y - 0.075, z, r * 1.28), (x, y + 0.03, z, r * 1.1)], colours['shoe'])
        rim = [(x, y - 0.085, z, r * 1.4), (x, y - 0.07, z, r * 1.4)]
        f.limb(rim, darker(colours['shoe'], 0.4), ends=False)
