"""The trunk: garments with their patterns, prints and openings, collars and scarves.

A garment is a barrel; what is sewn on it is a polygon of (phi, y), phi 0 in mid-chest.
"""

import math

import numpy as np

from data.demo.brush import SCALE, Brush, Row, band, darker, lighter, row_at

CUT = {  # hem, looseness of the body, thickness of the sleeves
    'coat': (0.68, 1.1, 1.3), 'blazer': (0.555, 1.0, 1.15), 'jacket': (0.53, 1.06, 1.25),
    'hoodie': (0.54, 1.07, 1.25), 'sweater': (0.515, 1.04, 1.2), 'shirt': (0.515, 1.0, 1.05),
    't-shirt': (0.515, 1.0, 1.05), 'tank top': (0.5, 1.0, 1.05),
}  # fmt: skip


def _rectangle(left, right, top, low):
    return [(left, top), (right, top), (right, low), (left, low)]


def _both(*corners):
    """A polygon on the right half and its mirror image on the left."""
    return [(-phi, y) for phi, y in corners], corners


# Polygons of a print in a square of -1..1, drawn over each other; the band alone is wider.
_PRINTS = {
    'star': [[(math.sin(k * math.pi / 5) * r, -math.cos(k * math.pi / 5) * r)
              for k in range(10) for r in [(1.1, 0.48)[k % 2]]]],
    'circle': [[(math.sin(k * math.pi / 8), math.cos(k * math.pi / 8)) for k in range(16)]],
    'heart': [[(math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)
                - math.cos(4 * t)) / 15) for t in np.linspace(0, 6.1, 20).tolist()]],
    'band': [_rectangle(-1.75, 1.75, -0.42, 0.42)],
    'letter': [_rectangle(-0.85, -0.35, -1, 1), _rectangle(0.35, 0.85, -1, 1),
               _rectangle(-0.4, 0.4, -0.25, 0.25)],
    'triangle': [[(0, -1.05), (1.1, 0.9), (-1.1, 0.9)]],
    'cross': [_rectangle(-0.32, 0.32, -1, 1), _rectangle(-1, 1, -0.32, 0.32)],
}  # fmt: skip


def rows_of(f: Brush) -> list[Row]:
    """The garment's surface from the neck to its hem."""
    a, w, d = f.a, f.W, f.D
    hem, loose, _ = CUT[a['upper']]
    slim = 0.84 if a['gender'] == 'woman' and a['build'] != 'heavy' else 0.94
    belly = 1.12 if a['build'] == 'heavy' else 1.0
    rows = [(0.178, w * 0.42, d * 0.5), (0.2, w * 0.88, d * 0.8), (0.235, w * 1.02, d),
            (0.32, w, d * 1.02), (0.42, w * slim * belly, d * 0.95 * belly),
            (0.5, w * belly, d * belly)]  # fmt: skip
    if hem > 0.5:
        rows.append((hem, w * (1.16 if a['upper'] == 'coat' else 1.03) * belly, d * 1.1 * belly))
    return [(y, x * loose, z * loose) for y, x, z in rows]


def paint_torso(f: Brush, rows: list[Row]) -> None:
    paint, body = f.paint['upper_colour'], rows
    if f.a['upper'] == 'tank top':
        f.barrel(band(rows, 0.178, 0.3), f.skin)
        body = [(0.285, *rows[3][1:]), *rows[3:]]
        f.barrel(body, paint)
        for strap in _both((0.35, 0.185), (0.75, 0.19), (1.1, 0.3), (0.1, 0.3)):
            for middle in (0, math.pi):
                f.patch([(middle + phi, y) for phi, y in strap], rows, paint)
    else:
        f.barrel(rows, paint)
    if f.a['pattern'] != 'plain':
        _pattern(f, body)
    _details(f, rows)
    for place, middle, turn, y in (('chest', 0.0, 1, 0.325), ('back', math.pi, -1, 0.37)):
        for shape in _PRINTS.get(f.a[place], ()):
            corners = [(middle + turn * px * 0.66, y + py * 0.075) for px, py in shape]
            f.patch(corners, rows, f.paint[f'{place}_colour'])
    f.shade(body)


def _pattern(f, rows):
    kind, colour, top, hem = f.a['pattern'], f.paint['pattern_colour'], rows[0][0], rows[-1][0]
    if kind in ('striped', 'checked'):
        for y in np.arange(top + 0.03, hem - 0.02, 0.062).tolist():
            f.barrel(band(rows, y, y + (0.03 if kind == 'striped' else 0.017)), colour)
    if kind == 'checked':
        for phi in np.arange(-3.1, 3.1, 0.52).tolist():
            f.patch(_rectangle(phi, phi + 0.17, top + 0.02, hem), rows, colour)
    if kind == 'dotted':
        for i, y in enumerate(np.arange(top + 0.045, hem - 0.01, 0.052).tolist()):
            row = row_at(rows, y)
            for phi in np.arange(-3.1 + 0.28 * (i % 2), 3.1, 0.56).tolist():
                if f.faces(phi):
                    f.pen.ellipse(f.around(f.on(phi, row), 0.0135, 0.0135), colour)
    if kind == 'two-tone':
        f.barrel(band(rows, 0.36, hem), colour)


def _parts(kind: str, hem: float):
    """What tells one garment from another: (colour, shapes), a shape of two heights goes round."""
    if kind == 'jacket':
        return (
            ('inner', [(-0.5, 0.18), (0.5, 0.18), (0.36, hem), (-0.36, hem)]),
            ('dark', *_both((0.5, 0.18), (0.68, 0.2), (0.5, hem), (0.34, hem)),
             *_both((0.8, 0.43), (1.15, 0.41), (1.15, 0.43), (0.8, 0.45)), (hem - 0.03, hem)),
            ('inner', _rectangle(-0.36, 0.36, hem - 0.03, hem)),
        )  # fmt: skip
    if kind in ('coat', 'blazer'):
        closed = 0.45 if kind == 'coat' else 0.42
        belt = ((0.43, 0.455), _rectangle(3.1, 3.2, 0.5, hem)) if kind == 'coat' else ()
        return (
            ('inner', [(-0.5, 0.18), (0.5, 0.18), (0.03, closed), (-0.03, closed)]),
            ('light', *_both((0.45, 0.18), (0.95, 0.24), (0.75, 0.29), (0.05, closed))),
            ('dark', *_both(*_rectangle(0.6, 1.1, 0.45, 0.47)),
             _rectangle(-0.03, 0.05, closed, hem), *belt),
        )  # fmt: skip
    if kind == 'shirt':
        buttons = np.arange(0.23, hem, 0.055).tolist()
        return (
            ('light', _rectangle(-0.06, 0.06, 0.19, hem)),
            ('button', *[_rectangle(-0.08, 0.1, y, y + 0.013) for y in buttons]),
            ('light', *_both((0.03, 0.182), (0.8, 0.18), (0.75, 0.215), (0.35, 0.23))),
        )
    if kind == 'hoodie':
        pocket = [(-0.5, 0.42), (0.5, 0.42), (0.85, 0.51), (-0.85, 0.51)]
        return (('dark', pocket, (hem - 0.025, hem)),)
    if kind == 'sweater':
        ribs = [_rectangle(phi, phi + 0.1, hem - 0.04, hem) for phi in np.arange(-3, 3.1, 0.35)]
        return ('dark', (hem - 0.04, hem)), ('same', *ribs)
    return ()


def _details(f, rows):
    paint = f.paint['upper_colour']
    colours = {
        'same': paint,
        'dark': darker(paint, 0.35),
        'light': lighter(paint, 0.3),
        'inner': f.paint['inner_colour'],
        'button': (40, 40, 40),
    }
    for colour, *shapes in _parts(f.a['upper'], rows[-1][0]):
        for shape in shapes:
            if len(shape) == 2:
                f.barrel(band(rows, *shape), colours[colour])
            else:
                f.patch(shape, rows, colours[colour])


def paint_collar(f: Brush) -> None:
    """What lies about the neck: a hood, a collar, a scarf."""
    kind, paint = f.a['upper'], f.paint['upper_colour']
    dark = darker(paint, 0.3)
    if kind == 'hoodie' and f.back:
        f.disc(0, 0.225, -f.D, 0.085, 0.06, dark)
        f.disc(0, 0.215, -f.D, 0.07, 0.045, paint)
    elif kind == 'hoodie':
        f.disc(0, 0.188, -0.03, 0.082, 0.032, dark)
        f.disc(0, 0.18, 0.01, 0.045, 0.03, f.skin)
        for s in (-1, 1):
            string = [f.at(s * 0.03, 0.205, f.D), f.at(s * 0.034, 0.285, f.D)]
            f.pen.line(string, (250, 250, 250, 230), SCALE)
    elif kind == 'sweater':
        f.box(0, 0.176, 0, 0.056, 0.019, dark)
    elif kind in ('jacket', 'coat') and not f.front:
        f.box(0, 0.175, -0.01, 0.06, 0.02, dark)
    elif kind == 't-shirt' and f.front:
        f.disc(0, 0.182, f.D * 0.5, 0.05, 0.024, dark)
        f.disc(0, 0.178, f.D * 0.5, 0.042, 0.02, f.skin)
    if f.a['scarf'] != 'none':
        wool = f.paint['scarf']
        end = wool if f.back else darker(wool, 0.12)
        f.box(0.05, 0.27, f.D * 1.1, 0.03, 0.075, end, 0.2)
        f.box(0, 0.182, 0, 0.082, 0.029, wool, 1.0)
        f.box(0, 0.192, 0.01, 0.08, 0.008, darker(wool, 0.3), 1.0)
