"""Bags and their straps.

From the front a backpack is webbing alone, hence without a colour to name.
"""

import math

from data.demo.brush import SCALE, Brush, Row, between, darker, lighter, row_at

_WEBBING = (44, 44, 50)  # whatever the backpack's colour, which the front must not give away


def paint_backpack(f: Brush) -> None:
    bag = f.paint['bag_colour']
    dark, light = darker(bag, 0.35), lighter(bag, 0.2)
    z = -(f.D + 0.045)
    half = math.hypot(f.W * 0.82 * f.cos, 0.062 * f.sin)
    f.box(0, 0.345, z, half + 0.006, 0.142, dark, 0.5)
    f.box(0, 0.345, z, half, 0.136, bag, 0.5)
    if f.back:
        f.box(0, 0.41, z - 0.01, half * 0.72, 0.055, light, 0.4)
        f.box(0, 0.362, z - 0.01, half * 0.72, 0.009, dark, 0.5)
        f.box(0, 0.27, z - 0.01, half * 0.6, 0.006, dark, 0.5)
        f.disc(0, 0.2, z, 0.022, 0.014, dark)
    elif not f.front:
        f.box(0, 0.4, z - 0.05, 0.025, 0.06, dark, 0.5)


def paint_straps(f: Brush, rows: list[Row]) -> None:
    """Straps on the body: both of a backpack, or the one across that a shoulder bag hangs from."""
    if f.a['bag'] == 'backpack':
        for s in (-1, 1):
            strap = [(s * 0.58, 0.185), (s * 0.82, 0.185), (s * 1.02, 0.37), (s * 0.86, 0.37)]
            f.patch(strap, rows, _WEBBING)
    elif f.a['bag'] == 'shoulder bag':
        for middle, turn in ((0.0, f.side), (math.pi, -f.side)):
            if f.depth(0, math.cos(middle)) > 0.2:
                top, low = (middle - turn * 0.62, 0.185), (middle + turn * 1.25, 0.49)
                points = [between(top, low, share) for share in (0, 0.35, 0.7, 1)]
                line = [f.on(phi, row_at(rows, y)) for phi, y in points]
                dark = darker(f.paint['bag_colour'], 0.25)
                f.pen.line(line, dark, int(0.026 * f.h), 'curve')


def paint_shoulder_bag(f: Brush) -> None:
    bag, x = f.paint['bag_colour'], f.side * (f.W + 0.03)
    half = math.hypot(0.05 * f.cos, 0.085 * f.sin)
    f.box(x, 0.535, 0, half + 0.005, 0.066, darker(bag, 0.45))
    f.box(x, 0.535, 0, half, 0.06, bag)
    f.box(x, 0.508, 0, half, 0.034, darker(bag, 0.2))
    f.box(x, 0.54, 0, 0.009, 0.01, (226, 200, 120))


def paint_handbag(f: Brush, hand: tuple[float, float, float]) -> None:
    bag, (x, y, z) = f.paint['bag_colour'], hand
    handle = f.around(f.at(*hand), 0.04, 0.012, 0.096)
    f.pen.arc(handle, 180, 360, darker(bag, 0.3), 2 * SCALE)
    f.box(x, y + 0.1, z, 0.075, 0.052, bag)
    f.box(x, y + 0.068, z, 0.075, 0.02, darker(bag, 0.25))
    f.box(x, y + 0.085, z, 0.01, 0.01, (236, 206, 110))
