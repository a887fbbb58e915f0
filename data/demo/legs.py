"""Legs, what covers them, and shoes.

The far leg is painted before the near one, whose foot stands lower in the picture.
"""

from data.demo.brush import SCALE, Brush, darker, lighter, mix

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
