"""Paints one view of a demo person: a figure of tubes and surfaces turned by its yaw, in a street.

Body units: 1 is a person's height; x to the person's left, y down, z out of the chest.
"""

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HEIGHT, WIDTH = 128, 64
_S = 2  # supersampling
_PAINT = {
    "black": (36, 36, 42), "white": (240, 240, 236), "grey": (134, 137, 142),
    "red": (198, 34, 40), "orange": (236, 122, 26),
    "yellow": (240, 208, 48), "green": (42, 134, 68), "blue": (38, 82, 188),
    "purple": (118, 56, 156), "pink": (242, 142, 180), "brown": (118, 78, 46),
}  # fmt: skip
_HAIR = {"black": (32, 27, 30), "brown": (98, 62, 38), "blond": (220, 184, 100),
         "red": (176, 78, 36), "grey": (166, 166, 168), "none": (120, 100, 90)}  # fmt: skip
_SKIN = ((250, 216, 186), (232, 184, 146), (198, 142, 100), (142, 94, 64), (96, 62, 44))
_SHADE = (0, 0, 20, 56)
_GLOSS = (255, 255, 255, 34)
# Film grain is cut from one strip at a random place: fresh noise would cost a tenth of the drawing.
_NOISE = np.random.default_rng(0).standard_normal(8 * HEIGHT * WIDTH * 3, np.float32)
# Points of a print in a square of -1..1, drawn over each other; the band alone is wider.
_MOTIFS = {
    "star": [[(math.sin(k * math.pi / 5) * r, -math.cos(k * math.pi / 5) * r)
              for k in range(10) for r in [(1.1, 0.48)[k % 2]]]],
    "circle": [[(math.sin(k * math.pi / 8), math.cos(k * math.pi / 8)) for k in range(16)]],
    "heart": [[(math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)
                - math.cos(4 * t)) / 15) for t in np.linspace(0, 6.1, 20)]],
    "band": [[(-1.75, -0.42), (1.75, -0.42), (1.75, 0.42), (-1.75, 0.42)]],
    "letter": [[(-0.85, -1), (-0.35, -1), (-0.35, 1), (-0.85, 1)],
               [(0.35, -1), (0.85, -1), (0.85, 1), (0.35, 1)],
               [(-0.4, -0.25), (0.4, -0.25), (0.4, 0.25), (-0.4, 0.25)]],
    "triangle": [[(0, -1.05), (1.1, 0.9), (-1.1, 0.9)]],
    "cross": [[(-0.32, -1), (0.32, -1), (0.32, 1), (-0.32, 1)],
              [(-1, -0.32), (1, -0.32), (1, 0.32), (-1, 0.32)]],
}  # fmt: skip


def decode(jpeg_bytes: bytes) -> Image.Image:
    """The picture of a JPEG's bytes."""
    return Image.open(io.BytesIO(jpeg_bytes))


def _mix(a, b, share):
    return tuple(int(x + (y - x) * share) for x, y in zip(a, b, strict=True))


class _Figure:
    """A brush in body units: turns points by the yaw; tubes get a light and a dark side."""

    def __init__(self, image, person, view, yaw, rng):
        look = np.random.default_rng(person.look)
        self.pen = ImageDraw.Draw(image, "RGBA")
        self.a, self.view, self.side = person.attributes, view, person.side
        self.cos, self.sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
        self.front, self.back = self.cos > 0.3, self.cos < -0.3
        self.h = (0.9 + 0.07 * rng.random()) * HEIGHT * _S
        self.ox = WIDTH * _S * (0.5 + 0.06 * (rng.random() - 0.5))
        self.oy = HEIGHT * _S * (0.985 - 0.02 * rng.random()) - self.h
        if view.occlusion == "cut":
            self.oy += self.h * (0.08 + 0.03 * rng.random())
        self.dark = 1 if rng.random() < 0.5 else -1
        wide = {"slim": 0.100, "average": 0.122, "heavy": 0.155}[self.a["build"]]
        self.W = wide * (0.97 + 0.06 * look.random()) * (0.94 if self.a["gender"] == "woman" else 1)
        self.D = self.W * (0.78 if self.a["build"] == "heavy" else 0.62)
        self.skin = _SKIN[int(look.random() * 5)]
        shades = look.normal(0, 3, (16, 3)) + look.normal(0, 9, (16, 1))
        keys = [key for key in self.a if key.endswith("colour") or key == "scarf"]
        self.paint = {}
        for key, shade in zip(keys, shades, strict=False):
            base = (_HAIR if key == "hair_colour" else _PAINT).get(self.a[key], (0, 0, 0))
            self.paint[key] = tuple(
                int(min(255, max(0, c + d))) for c, d in zip(base, shade, strict=True)
            )
        self.stride = (
            (0.075 + 0.035 * rng.random()) * (1 if rng.random() < 0.5 else -1)
            if view.walking
            else 0.012
        )

    def at(self, x, y, z=0.0):
        return self.ox + (x * self.cos + z * self.sin) * self.h, self.oy + y * self.h

    def depth(self, x, z):
        return z * self.cos - x * self.sin

    def disc(self, x, y, z, rx, ry, colour):
        cx, cy = self.at(x, y, z)
        rx, ry = rx * self.h, ry * self.h
        self.pen.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), colour)

    def box(self, x, y, z, rx, ry, colour, round_=0.3):
        cx, cy = self.at(x, y, z)
        rx, ry = rx * self.h, ry * self.h
        self.pen.rounded_rectangle(
            (cx - rx, cy - ry, cx + rx, cy + ry), round_ * min(rx, ry), colour
        )

    def limb(self, joints, colour, ends=True):
        """A chain of tapered tubes through (x, y, z, radius)."""
        flat = [(*self.at(x, y, z), r * self.h) for x, y, z, r in joints]
        for (ax, ay, ar), (bx, by, br) in zip(flat, flat[1:], strict=False):
            long = math.hypot(bx - ax, by - ay) or 1.0
            nx, ny = (by - ay) / long, -(bx - ax) / long
            quad = [(ax - nx * ar, ay - ny * ar), (ax + nx * ar, ay + ny * ar),
                    (bx + nx * br, by + ny * br), (bx - nx * br, by - ny * br)]  # fmt: skip
            self.pen.polygon(quad, colour)
        for x, y, r in flat if ends else ():
            self.pen.ellipse((x - r, y - r, x + r, y + r), colour)
        for (ax, ay, ar), (bx, by, br) in zip(flat, flat[1:], strict=False):
            d = self.dark
            dark = [
                (ax + d * ar * 0.25, ay),
                (ax + d * ar, ay),
                (bx + d * br, by),
                (bx + d * br * 0.25, by),
            ]
            self.pen.polygon(dark, _SHADE)

    def edges(self, row):
        y, w, d = row
        half = math.hypot(w * self.cos, d * self.sin)
        return (
            self.ox - half * self.h,
            self.ox + half * self.h,
            self.oy + y * self.h,
            half * self.h,
        )

    def barrel(self, rows, colour):
        """A surface of revolution through rows of (y, half width, half depth)."""
        edges = [self.edges(row) for row in rows]
        outline = [(left, y) for left, _, y, _ in edges] + [
            (right, y) for _, right, y, _ in reversed(edges)
        ]
        self.pen.polygon(outline, colour)

    def shade(self, rows, share=0.35):
        edges, d = [self.edges(row) for row in rows], self.dark
        outer = [(self.ox + d * half, y) for _, _, y, half in edges]
        inner = [(self.ox + d * half * share, y) for _, _, y, half in reversed(edges)]
        self.pen.polygon(outer + inner, _SHADE)
        bright = [(self.ox - d * half * 0.75, y) for _, _, y, half in edges]
        bright += [(self.ox - d * half * 0.4, y) for _, _, y, half in reversed(edges)]
        self.pen.polygon(bright, _GLOSS)

    def on(self, phi, row):
        """A point of a barrel's surface; phi 0 is the middle of the chest, pi of the back."""
        y, w, d = row
        return self.at(w * math.sin(phi), y, d * math.cos(phi))

    def faces(self, phi):
        return self.depth(math.sin(phi), math.cos(phi)) > -0.05

    def patch(self, corners, rows, colour):
        """A polygon on the surface through (phi, y)."""
        if self.faces(sum(phi for phi, _ in corners) / len(corners)):
            self.pen.polygon([self.on(phi, _row_at(rows, y)) for phi, y in corners], colour)


def _row_at(rows, y):
    for (y0, w0, d0), (y1, w1, d1) in zip(rows, rows[1:], strict=False):
        if y <= y1:
            t = min(1.0, max(0.0, (y - y0) / (y1 - y0)))
            return y, w0 + (w1 - w0) * t, d0 + (d1 - d0) * t
    return y, *rows[-1][1:]


def _legs(f):
    a, kind = f.a, f.a["lower"]
    paint = f.paint["lower_colour"]
    if kind == "jeans" and a["lower_colour"] == "blue":
        paint = _mix(paint, (92, 118, 160), 0.65)
    thick = 0.058 + (f.W - 0.12) * 0.35
    hip = f.W * 0.5
    sides = sorted((-1, 1), key=lambda s: f.depth(s * hip, s * f.stride))
    for s in sides:
        z = s * f.stride
        lift = 0.02 * f.depth(s * hip, z) / 0.1
        hip_, knee = (
            (s * hip, 0.53, 0, thick),
            (s * hip * 0.95, 0.735 + lift / 2, z * 0.65 + 0.012, thick * 0.78),
        )
        ankle = (s * hip * 0.9, 0.935 + lift, z * 1.15 - abs(z) * 0.2, thick * 0.6)
        if kind in ("trousers", "jeans"):
            _shoe(f, ankle)
            slim = 0.85 if kind == "jeans" else 1.0
            wide = ankle[:3] + (thick * (0.62 if kind == "jeans" else 0.78),)
            f.limb([hip_, (*knee[:3], knee[3] * slim), wide], paint)
            if kind == "jeans":
                cuff = (wide[0], wide[1] + 0.012, wide[2])
                f.limb([(wide[0], wide[1] - 0.008, wide[2], thick * 0.72), (*cuff, thick * 0.72)],
                       _mix(paint, (235, 238, 245), 0.55), ends=False)  # fmt: skip
                f.limb(
                    [(s * hip, 0.58, 0.02, thick * 0.3), (*knee[:3], thick * 0.3)],
                    _mix(paint, (255, 255, 255), 0.22),
                )
            else:
                f.pen.line([f.at(*hip_[:3]), f.at(*knee[:3]), f.at(*wide[:3])], (0, 0, 0, 60), _S)
            if a["shoes"] == "boots":
                _shoe(f, ankle, shaft=True)
        else:
            f.limb([hip_, knee, ankle], f.skin)
            _shoe(f, ankle, shaft=a["shoes"] == "boots")
            if kind == "shorts":
                mid = (knee[0], knee[1] - 0.03, knee[2])
                f.limb([(*hip_[:3], thick * 1.12), (*mid, thick * 1.05)], paint, ends=False)
                f.disc(*hip_[:3], thick * 1.1, thick, paint)
                hem = [(*mid, thick * 1.1), (mid[0], mid[1] + 0.008, mid[2], thick * 1.1)]
                f.limb(hem, _mix(paint, (0, 0, 0), 0.3), ends=False)
    waist = [(0.46, f.W * 0.9, f.D * 0.95), (0.56, f.W * 1.0, f.D * 1.05)]
    if "skirt" in kind:
        hem = 0.725 if kind == "skirt" else 0.9
        flare = 1.42 if kind == "skirt" else 1.62
        waist += [(hem, f.W * flare, f.D * flare * 1.1 + abs(f.stride) * 0.5)]
        f.barrel(waist, paint)
        for phi in (-2.6, -1.9, -1.2, -0.5, 0.2, 0.9, 1.6, 2.3, 3.0):
            if f.faces(phi):
                f.pen.line([f.on(phi, waist[1]), f.on(phi, waist[2])], (0, 0, 0, 60), _S)
        f.shade(waist)
    else:
        f.barrel(waist, paint)


def _shoe(f, ankle, shaft=False):
    x, y, z, r = ankle
    kind, paint = f.a["shoes"], f.paint["shoes_colour"]
    toe = 0.075 if kind != "sandals" else 0.07
    low = y + 0.042
    if kind == "sandals":
        f.limb([(x, low - 0.004, z - 0.015, 0.02), (x, low, z + toe, 0.018)], f.skin)
        f.limb([(x, low + 0.012, z - 0.03, 0.012), (x, low + 0.012, z + toe + 0.01, 0.012)], paint)
        f.limb([(x, low - 0.018, z, 0.024), (x, low - 0.012, z, 0.024)], paint, ends=False)
        f.limb(
            [(x, low - 0.006, z + 0.045, 0.021), (x, low + 0.004, z + 0.05, 0.021)],
            paint,
            ends=False,
        )
        return
    if kind == "sneakers":
        sole = (250, 250, 250) if f.a["shoes_colour"] != "white" else (150, 156, 168)
        f.limb([(x, low + 0.01, z - 0.022, 0.022), (x, low + 0.01, z + toe, 0.022)], sole)
    thick = 0.026 if kind != "leather shoes" else 0.021
    f.limb([(x, low - 0.008, z - 0.012, thick), (x, low, z + toe * 0.9, thick * 0.85)], paint)
    if shaft:
        f.limb([(x, y - 0.075, z, r * 1.28), (x, y + 0.03, z, r * 1.1)], paint)
        f.limb(
            [(x, y - 0.085, z, r * 1.4), (x, y - 0.07, z, r * 1.4)],
            _mix(paint, (0, 0, 0), 0.4),
            ends=False,
        )
    elif kind == "leather shoes":
        f.limb(
            [(x, low + 0.017, z - 0.03, 0.008), (x, low + 0.017, z + toe, 0.006)],
            (20, 18, 18),
            ends=False,
        )


def _torso_rows(f):
    a, w, d = f.a, f.W, f.D
    hem = {"coat": 0.68, "blazer": 0.555, "jacket": 0.53, "hoodie": 0.54, "tank top": 0.5}.get(
        a["upper"], 0.515
    )
    slim = 0.84 if a["gender"] == "woman" and a["build"] != "heavy" else 0.94
    loose = {"coat": 1.1, "hoodie": 1.07, "jacket": 1.06, "sweater": 1.04}.get(a["upper"], 1.0)
    belly = 1.12 if a["build"] == "heavy" else 1.0
    rows = [(0.178, w * 0.42, d * 0.5), (0.2, w * 0.88, d * 0.8), (0.235, w * 1.02, d),
            (0.32, w, d * 1.02), (0.42, w * slim * belly, d * 0.95 * belly),
            (0.5, w * belly, d * belly)]  # fmt: skip
    if hem > 0.5:
        rows.append((hem, w * (1.16 if a["upper"] == "coat" else 1.03) * belly, d * 1.1 * belly))
    return [(y, x * loose, z * loose) for y, x, z in rows]


def _band(rows, top, bottom):
    """The part of a barrel between two heights."""
    inside = [row for row in rows if top < row[0] < bottom]
    return [_row_at(rows, top), *inside, _row_at(rows, bottom)]


def _torso(f, rows):
    a, paint = f.a, f.paint["upper_colour"]
    second, hem = f.paint["pattern_colour"], rows[-1][0]
    if a["upper"] == "tank top":
        f.barrel(_band(rows, 0.178, 0.3), f.skin)
        body = [(0.285, rows[3][1], rows[3][2]), *rows[3:]]
        f.barrel(body, paint)
        for s in (-1, 1):
            for back in (0, math.pi):
                strap = [
                    (back + s * 0.35, 0.185),
                    (back + s * 0.75, 0.19),
                    (back + s * 1.1, 0.3),
                    (back + s * 0.1, 0.3),
                ]
                f.patch(strap, rows, paint)
    else:
        body = rows
        f.barrel(rows, paint)
    top = body[0][0]
    if a["pattern"] in ("striped", "checked"):
        for y in np.arange(top + 0.03, hem - 0.02, 0.062):
            f.barrel(_band(body, y, y + (0.03 if a["pattern"] == "striped" else 0.017)), second)
    if a["pattern"] == "checked":
        for phi in np.arange(-3.1, 3.1, 0.52):
            f.patch(
                [(phi, top + 0.02), (phi + 0.17, top + 0.02), (phi + 0.17, hem), (phi, hem)],
                body,
                second,
            )
    if a["pattern"] == "dotted":
        for i, y in enumerate(np.arange(top + 0.045, hem - 0.01, 0.052)):
            for phi in np.arange(-3.1 + 0.28 * (i % 2), 3.1, 0.56):
                if f.faces(phi):
                    x_, y_ = f.on(phi, _row_at(body, y))
                    r = 0.0135 * f.h
                    f.pen.ellipse((x_ - r, y_ - r, x_ + r, y_ + r), second)
    if a["pattern"] == "two-tone":
        f.barrel(_band(body, 0.36, hem), second)
    _details(f, rows)
    _prints(f, rows)
    f.shade(body)


def _details(f, rows):
    """What tells one garment from another: openings, collars, pockets and hems."""
    kind, paint, hem = f.a["upper"], f.paint["upper_colour"], rows[-1][0]
    dark, inner = _mix(paint, (0, 0, 0), 0.35), f.paint["inner_colour"]
    light = _mix(paint, (255, 255, 255), 0.3)
    if kind in ("jacket", "coat", "blazer"):
        open_ = {"jacket": hem, "coat": 0.45, "blazer": 0.42}[kind]
        low = 0.36 if kind == "jacket" else 0.03
        f.patch([(-0.5, 0.18), (0.5, 0.18), (low, open_), (-low, open_)], rows, inner)
        for s in (-1, 1):
            if kind == "jacket":
                f.patch(
                    [(s * 0.5, 0.18), (s * 0.68, 0.2), (s * 0.5, hem), (s * 0.34, hem)], rows, dark
                )
                f.patch(
                    [(s * 0.8, 0.43), (s * 1.15, 0.41), (s * 1.15, 0.43), (s * 0.8, 0.45)],
                    rows,
                    dark,
                )
            else:
                f.patch(
                    [(s * 0.45, 0.18), (s * 0.95, 0.24), (s * 0.75, 0.29), (s * 0.05, open_)],
                    rows,
                    light,
                )
                f.patch(
                    [(s * 0.6, 0.45), (s * 1.1, 0.45), (s * 1.1, 0.47), (s * 0.6, 0.47)], rows, dark
                )
        if kind != "jacket":
            f.patch([(-0.03, open_), (0.05, open_), (0.05, hem), (-0.03, hem)], rows, dark)
        if kind == "coat":
            f.barrel(_band(rows, 0.43, 0.455), dark)
            f.patch([(3.1, 0.5), (3.2, 0.5), (3.2, hem), (3.1, hem)], rows, dark)
        if kind == "jacket":
            f.barrel(_band(rows, hem - 0.03, hem), dark)
            f.patch(
                [(-0.36, hem - 0.03), (0.36, hem - 0.03), (0.36, hem), (-0.36, hem)], rows, inner
            )
    elif kind == "shirt":
        f.patch([(-0.06, 0.19), (0.06, 0.19), (0.06, hem), (-0.06, hem)], rows, light)
        for y in np.arange(0.23, hem, 0.055):
            f.patch(
                [(-0.08, y), (0.1, y), (0.1, y + 0.013), (-0.08, y + 0.013)], rows, (40, 40, 40)
            )
        for s in (-1, 1):
            f.patch(
                [(s * 0.03, 0.182), (s * 0.8, 0.18), (s * 0.75, 0.215), (s * 0.35, 0.23)],
                rows,
                light,
            )
    elif kind == "hoodie":
        f.patch([(-0.5, 0.42), (0.5, 0.42), (0.85, 0.51), (-0.85, 0.51)], rows, dark)
        f.barrel(_band(rows, hem - 0.025, hem), dark)
    elif kind == "sweater":
        f.barrel(_band(rows, hem - 0.04, hem), dark)
        for phi in np.arange(-3, 3.1, 0.35):
            f.patch(
                [(phi, hem - 0.04), (phi + 0.1, hem - 0.04), (phi + 0.1, hem), (phi, hem)],
                rows,
                paint,
            )


def _prints(f, rows):
    for place, middle in (("chest", 0.0), ("back", math.pi)):
        if f.a[place] != "none":
            for shape in _MOTIFS[f.a[place]]:
                corners = [
                    (
                        middle + (px if middle == 0 else -px) * 0.66,
                        (0.325 if middle == 0 else 0.37) + py * 0.075,
                    )
                    for px, py in shape
                ]
                f.patch(corners, rows, f.paint[f"{place}_colour"])


def _collar(f):
    kind, paint = f.a["upper"], f.paint["upper_colour"]
    dark = _mix(paint, (0, 0, 0), 0.3)
    if kind == "hoodie":
        if f.back:
            f.disc(0, 0.225, -f.D, 0.085, 0.06, dark)
            f.disc(0, 0.215, -f.D, 0.07, 0.045, paint)
        else:
            f.disc(0, 0.188, -0.03, 0.082, 0.032, dark)
            f.disc(0, 0.18, 0.01, 0.045, 0.03, f.skin)
            for s in (-1, 1):
                f.pen.line(
                    [f.at(s * 0.03, 0.205, f.D), f.at(s * 0.034, 0.285, f.D)],
                    (250, 250, 250, 230),
                    _S,
                )
    elif kind == "sweater":
        f.box(0, 0.176, 0, 0.056, 0.019, dark)
    elif kind in ("jacket", "coat") and not f.front:
        f.box(0, 0.175, -0.01, 0.06, 0.02, dark)
    elif kind == "t-shirt" and f.front:
        f.disc(0, 0.182, f.D * 0.5, 0.05, 0.024, dark)
        f.disc(0, 0.178, f.D * 0.5, 0.042, 0.02, f.skin)
    if f.a["scarf"] != "none":
        wool = f.paint["scarf"]
        f.box(
            0.05,
            0.27,
            f.D * 1.1,
            0.03,
            0.075,
            _mix(wool, (0, 0, 0), 0.12) if not f.back else wool,
            0.2,
        )
        f.box(0, 0.182, 0, 0.082, 0.029, wool, 1.0)
        f.box(0, 0.192, 0.01, 0.08, 0.008, _mix(wool, (0, 0, 0), 0.3), 1.0)


def _arm(f, s):
    a, paint = f.a, f.paint["upper_colour"]
    swing = -s * f.stride * 1.25
    hand = [s * (f.W + 0.042), 0.5, swing + 0.02]
    elbow = (s * (f.W + 0.032), 0.36, swing * 0.35 - 0.012)
    holds = f.view.held if s == -f.side else "none"
    if holds == "phone":
        elbow, hand = (s * (f.W + 0.04), 0.37, 0.0), [s * (f.W * 0.95), 0.3, f.D + 0.09]
    shoulder = (s * f.W * 0.95, 0.222, 0)
    thick = 0.036 + (f.W - 0.12) * 0.2
    bulk = thick * {
        "coat": 1.3,
        "hoodie": 1.25,
        "jacket": 1.25,
        "sweater": 1.2,
        "blazer": 1.15,
    }.get(a["upper"], 1.05)
    short = a["upper"] in ("t-shirt", "tank top")
    if short:
        f.limb([(*shoulder, thick), (*elbow, thick * 0.82), (*hand, thick * 0.62)], f.skin)
    f.disc(*hand, 0.027, 0.03, f.skin)
    if a["upper"] == "t-shirt":
        end = tuple(p + (q - p) * 0.72 for p, q in zip(shoulder, elbow, strict=True))
        f.limb([(*shoulder, thick * 1.25), (*end, thick * 1.28)], paint, ends=False)
        f.disc(*shoulder, thick * 1.25, thick * 1.2, paint)
        sleeve = (shoulder, end)
    elif not short:
        wrist = tuple(p + (q - p) * 0.9 for p, q in zip(elbow, hand, strict=True))
        f.limb([(*shoulder, bulk), (*elbow, bulk * 0.92), (*wrist, bulk * 0.8)], paint)
        cuff = tuple(p + (q - p) * 0.74 for p, q in zip(elbow, hand, strict=True))
        if a["upper"] in ("sweater", "hoodie", "jacket"):
            f.limb(
                [(*cuff, bulk * 0.9), (*wrist, bulk * 0.88)],
                _mix(paint, (0, 0, 0), 0.35),
                ends=False,
            )
        sleeve = (shoulder, elbow, cuff)
    if a["pattern"] in ("striped", "checked") and a["upper"] != "tank top":
        for p, q in zip(sleeve, sleeve[1:], strict=False):
            for t in (0.15, 0.5, 0.85):
                m = [(u + (v - u) * k) for k in (t, t + 0.16) for u, v in zip(p, q, strict=True)]
                f.limb(
                    [(*m[:3], bulk * 0.95), (*m[3:], bulk * 0.95)],
                    f.paint["pattern_colour"],
                    ends=False,
                )
    _held(f, holds, hand)
    if a["bag"] == "handbag" and s == f.side:
        bag = f.paint["bag_colour"]
        x, y = f.at(*hand)
        r = 0.04 * f.h
        f.pen.arc(
            (x - r, y - r * 0.3, x + r, y + r * 2.4), 180, 360, _mix(bag, (0, 0, 0), 0.3), 2 * _S
        )
        f.box(hand[0], hand[1] + 0.1, hand[2], 0.075, 0.052, bag)
        f.box(hand[0], hand[1] + 0.068, hand[2], 0.075, 0.02, _mix(bag, (0, 0, 0), 0.25))
        f.box(hand[0], hand[1] + 0.085, hand[2], 0.01, 0.01, (236, 206, 110))


def _held(f, thing, hand):
    x, y, z = hand
    if thing == "phone":
        f.box(x, y - 0.035, z, 0.018, 0.036, (26, 28, 34))
        f.box(x, y - 0.035, z, 0.012, 0.027, (150, 190, 225) if not f.back else (40, 42, 48))
    elif thing == "bottle":
        f.box(x, y + 0.03, z + 0.02, 0.02, 0.045, (120, 196, 232))
        f.box(x, y - 0.02, z + 0.02, 0.01, 0.014, (240, 240, 245))
    elif thing == "umbrella":
        f.limb(
            [
                (x, y - 0.03, z + 0.03, 0.008),
                (x, y + 0.05, z + 0.03, 0.022),
                (x, y + 0.33, z - 0.03, 0.005),
            ],
            (58, 62, 84),
        )


def _backpack(f):
    bag = f.paint["bag_colour"]
    dark, light = _mix(bag, (0, 0, 0), 0.35), _mix(bag, (255, 255, 255), 0.2)
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


def _straps(f, rows):
    if f.a["bag"] == "backpack":
        for s in (
            -1,
            1,
        ):  # webbing: black whatever the bag's colour, which the front must not give away
            webbing = [(s * 0.58, 0.185), (s * 0.82, 0.185), (s * 1.02, 0.37), (s * 0.86, 0.37)]
            f.patch(webbing, rows, (44, 44, 50))
    elif f.a["bag"] == "shoulder bag":
        dark, s = _mix(f.paint["bag_colour"], (0, 0, 0), 0.25), f.side
        for middle, turn in ((0.0, 1), (math.pi, -1)):
            if f.depth(0, math.cos(middle)) > 0.2:
                top, low = (middle - turn * s * 0.62, 0.185), (middle + turn * s * 1.25, 0.49)
                line = [f.on(p + (q - p) * t, _row_at(rows, y + (v - y) * t))
                        for t in (0, 0.35, 0.7, 1) for (p, y), (q, v) in [(top, low)]]  # fmt: skip
                f.pen.line(line, dark, int(0.026 * f.h), "curve")


def _shoulder_bag(f):
    bag, x = f.paint["bag_colour"], f.side * (f.W + 0.03)
    half = math.hypot(0.05 * f.cos, 0.085 * f.sin)
    f.box(x, 0.535, 0, half + 0.005, 0.066, _mix(bag, (0, 0, 0), 0.45))
    f.box(x, 0.535, 0, half, 0.06, bag)
    f.box(x, 0.508, 0, half, 0.034, _mix(bag, (0, 0, 0), 0.2))
    f.box(x, 0.54, 0, 0.009, 0.01, (226, 200, 120))


def _head(f):
    a, hair = f.a, f.paint["hair_colour"]
    rx, ry, y = 0.062, 0.08, 0.088
    f.limb([(0, 0.13, -0.005, 0.034), (0, 0.185, 0, 0.038)], f.skin)
    tucked = a["hat"] == "beanie" and a["hair"] in ("short", "bun")
    style = "bald" if tucked else a["hair"]
    turn = f.sin * rx
    if style == "bald":
        f.disc(0, y, 0, rx, ry, f.skin)
    else:
        f.disc(0, y - 0.004, -0.008, rx * 1.1, ry * 1.06, hair)
    if f.cos > -0.4:
        wide = rx * (0.66 + 0.3 * max(f.cos, 0))
        cx = turn * 0.5
        shift = (f.ox + cx * f.h, f.oy + (y + 0.016) * f.h, wide * f.h, ry * 0.84 * f.h)
        f.pen.ellipse(
            (shift[0] - shift[2], shift[1] - shift[3], shift[0] + shift[2], shift[1] + shift[3]),
            f.skin,
        )
        _face(f, y + 0.008, cx)
        if style != "bald":
            x_, top = f.ox + 0.3 * turn * f.h, f.oy + (y - ry) * f.h
            fringe = (x_ - rx * f.h, top, x_ + rx * f.h, top + 1.7 * ry * f.h)
            f.pen.chord(fringe, 203, 337, hair)
    elif style == "short":  # the nape stays bare
        f.box(0, 0.16, -0.02, 0.04, 0.016, f.skin)
    if f.cos <= 0.75 and not f.back and style not in ("long", "bob"):
        ear = (f.ox - 0.15 * turn * f.h, f.oy + (y + 0.02) * f.h, 0.014 * f.h)
        f.pen.ellipse((ear[0] - ear[2], ear[1] - ear[2], ear[0] + ear[2], ear[1] + ear[2]),
                      _mix(f.skin, (120, 40, 20), 0.2))  # fmt: skip
    _hair_behind(f, after=True)
    _hat(f, rx, ry, y, turn)
    cx, cy = f.at(0, y)
    start = -80 if f.dark > 0 else 100
    head = (cx - rx * f.h, cy - ry * f.h, cx + rx * f.h, cy + ry * f.h)
    f.pen.pieslice(head, start, start + 160, (0, 0, 20, 30))


def _face(f, y, cx):
    spread, there = 0.026, math.degrees(math.asin(f.sin)) if f.cos > 0 else 90
    eyes = [
        (cx + s * spread * max(f.cos, 0.2) + math.sin(math.radians(there)) * 0.022, s)
        for s in (-1, 1)
    ]
    if abs(f.sin) > 0.9:
        eyes = [(f.sin * 0.045, 1)]
    for ex, _ in eyes:
        x_, y_, r = f.ox + ex * f.h, f.oy + y * f.h, 0.0085 * f.h
        if f.a["glasses"] == "sunglasses":
            f.pen.rounded_rectangle(
                (x_ - 2.6 * r, y_ - 1.5 * r, x_ + 2.6 * r, y_ + 2 * r), r, (14, 14, 18)
            )
        else:
            f.pen.ellipse((x_ - r, y_ - r, x_ + r, y_ + r), (30, 24, 24))
            if f.a["glasses"] == "glasses":
                f.pen.ellipse(
                    (x_ - 2.7 * r, y_ - 2.4 * r, x_ + 2.7 * r, y_ + 2.6 * r),
                    (225, 240, 250, 120),
                    (20, 20, 24),
                    _S,
                )
    if f.a["glasses"] != "none" and f.cos < 0.95:
        start = f.ox + eyes[0 if f.sin > 0 else -1][0] * f.h
        f.pen.line(
            [(start, f.oy + y * f.h), (f.ox - f.sin * 0.02 * f.h, f.oy + y * f.h)], (20, 20, 24), _S
        )
    mx = f.ox + (cx + f.sin * 0.02) * f.h
    f.pen.line([(mx - 0.014 * f.h, f.oy + 0.142 * f.h), (mx + 0.014 * f.h, f.oy + 0.142 * f.h)],
               _mix(f.skin, (150, 30, 40), 0.55), _S)  # fmt: skip


def _hair_behind(f, after):
    """Hair below the head: before the body when it hangs behind it, after when it covers it."""
    style, hair = f.a["hair"], f.paint["hair_colour"]
    if after == f.front and style != "bun":
        return
    if style == "long":
        f.limb([(0, 0.1, -0.03, 0.068), (0, 0.215, -0.055, 0.068), (0, 0.235, -0.06, 0.056)], hair)
    elif style == "bob":
        f.box(0, 0.125, -0.022, 0.073, 0.055, hair, 0.7)
    elif style == "ponytail" and not f.front:
        z = -0.075
        f.limb([(0, 0.06, z, 0.028), (0, 0.15, z - 0.02, 0.033), (0, 0.25, z - 0.012, 0.012)], hair)
        f.disc(0, 0.062, z + 0.005, 0.02, 0.016, _mix(hair, (230, 60, 90), 0.8))
    elif style == "bun" and after and f.a["hat"] != "beanie":
        f.disc(0, 0.008, -0.03, 0.036, 0.032, hair)
        f.disc(0, 0.03, -0.03, 0.03, 0.008, _mix(hair, (0, 0, 0), 0.4))


def _hat(f, rx, ry, y, turn):
    kind, felt = f.a["hat"], f.paint["hat_colour"]
    if kind == "none":
        return
    dark = _mix(felt, (0, 0, 0), 0.3)
    wide, top, h = rx * 1.16, y - ry * 1.16, f.h
    low = top + ry * (1.6 if kind == "cap" else 1.7)
    f.pen.chord((f.ox - wide * h, f.oy + top * h, f.ox + wide * h, f.oy + low * h), 180, 360, felt)
    brow = (top + low) / 2
    if kind == "beanie":
        x, y0 = wide * 1.03 * h, f.oy + brow * h
        brim = (f.ox - x, y0 - 0.012 * h, f.ox + x, y0 + 0.022 * h)
        f.pen.rounded_rectangle(brim, 0.01 * h, dark)
        f.disc(0, top + 0.002, 0, 0.02, 0.018, _mix(felt, (255, 255, 255), 0.35))
    elif f.cos > -0.4:
        cx = f.ox + turn * 1.0 * h
        half = wide * (0.95 if f.front else 0.85) * h
        f.pen.ellipse(
            (cx - half, f.oy + (brow - 0.012) * h, cx + half, f.oy + (brow + 0.022) * h), dark
        )
    else:
        f.pen.rectangle(
            (f.ox - 0.02 * h, f.oy + (brow - 0.016) * h, f.ox + 0.02 * h, f.oy + brow * h),
            f.paint["hair_colour"],
        )


def _figure(f):
    rows = _torso_rows(f)
    x, y = f.at(0, 0.985)
    x += 0.05 * f.dark * f.h  # the shadow falls to the side that the light leaves dark
    f.pen.ellipse((x - 0.17 * f.h, y - 0.022 * f.h, x + 0.17 * f.h, y + 0.03 * f.h), (0, 0, 0, 90))
    arms = sorted((-1, 1), key=lambda s: f.depth(s * f.W, 0))
    sideways = abs(f.sin) > 0.5
    if f.a["bag"] == "backpack" and f.front:
        _backpack(f)
    _hair_behind(f, after=False)
    near_bag = f.depth(f.side, 0) > -0.9
    if sideways:
        _arm(f, arms[0])
    _legs(f)
    if f.a["bag"] == "shoulder bag" and near_bag and f.depth(f.side, 0) < -0.3:
        _shoulder_bag(f)
    _torso(f, rows)
    _straps(f, rows)
    _collar(f)
    if f.a["bag"] == "backpack" and not f.front:
        _backpack(f)
    for s in arms[1:] if sideways else arms:
        _arm(f, s)
    if f.a["bag"] == "shoulder bag" and near_bag and f.depth(f.side, 0) >= -0.3:
        _shoulder_bag(f)
    _head(f)


def _street(rng):
    """A background, painted at the final size and softened: depth of field."""
    w, h = WIDTH, HEIGHT
    tone = rng.integers(0, 40, 12)
    kind = ("pavement", "wall", "grass", "crossing", "shop")[int(rng.random() * 5)]
    far = int(h * (0.42 + 0.2 * rng.random()))
    image = Image.new("RGB", (w, h), (150 + tone[0], 152 + tone[1], 150 + tone[2]))
    pen = ImageDraw.Draw(image)
    if kind == "wall":
        brick = (138 + tone[3], 92 + tone[4], 78 + tone[5])
        pen.rectangle((0, 0, w, far + 30), brick)
        for row, y in enumerate(range(0, far + 30, 7)):
            pen.line((0, y, w, y), _mix(brick, (210, 200, 190), 0.4))
            for x in range(int(row % 2) * 7 - 3, w, 14):
                pen.line((x, y, x, y + 7), _mix(brick, (210, 200, 190), 0.4))
        pen.rectangle((0, far + 30, w, h), (128 + tone[6],) * 3)
    elif kind == "grass":
        pen.rectangle((0, 0, w, far), (172 + tone[3], 196 + tone[4], 212 + tone[5]))
        for _ in range(5):
            x, r = rng.random() * w, 10 + rng.random() * 14
            pen.ellipse(
                (x - r, far - 2.2 * r, x + r, far + 4),
                (60 + tone[6], 96 + tone[7], 56 + tone[8] // 2),
            )
        pen.rectangle((0, far, w, h), (98 + tone[9], 138 + tone[10], 76 + tone[11]))
        pen.polygon([(0, h), (w * 0.3, far), (w * 0.55, far), (w, h)], (186, 178 - tone[0], 150))
    elif kind == "shop":
        pen.rectangle((0, 0, w, far + 24), (96 + 2 * tone[3], 100 + tone[4], 110 + tone[5]))
        x = -int(rng.random() * 24)
        while x < w:
            pen.rectangle(
                (x + 2, 20, x + 26, far + 14), (176 + tone[6], 196 + tone[7], 206 + tone[8])
            )
            pen.line((x + 6, far, x + 18, 26), (225, 232, 236), 3)
            x += 29
        pen.rectangle((0, 6, w, 17), tuple(int(v) for v in rng.integers(60, 220, 3)))
        pen.rectangle((0, far + 24, w, h), (168 - tone[9],) * 3)
    else:
        pen.rectangle((0, 0, w, far), (126 + tone[3], 132 + tone[4], 142 + tone[5]))
        for x in range(int(rng.random() * -9), w, 13):
            for y in range(4, far - 8, 16):
                pen.rectangle((x, y, x + 6, y + 9), (96 + tone[6], 108 + tone[7], 124 + tone[8]))
        ground = 92 + tone[9] if kind == "crossing" else 166 + tone[9]
        pen.rectangle((0, far, w, h), (ground,) * 3)
        step = 0
        for y in range(far + 6, h, 13):
            if kind == "crossing":
                pen.rectangle((0, y, w, y + 6), (222, 222, 216))
            else:
                pen.line((0, y + step, w, y + step), (ground - 26,) * 3)
        if kind == "pavement":
            for x in range(-w, 2 * w, 22):
                pen.line((w // 2 + (x - w // 2) // 3, far, x, h), (ground - 26,) * 3)
    for _ in range(int(rng.random() * 3)):
        _clutter(pen, rng, far)
    soft = image.filter(ImageFilter.BoxBlur(0.6))
    return soft.resize((w * _S, h * _S), Image.Resampling.NEAREST)


def _clutter(pen, rng, far):
    x, c = rng.random() * WIDTH, tuple(int(v) for v in rng.integers(30, 220, 3))
    kind = int(rng.random() * 4)
    if kind == 0:  # somebody far away
        pen.ellipse((x - 3, far - 22, x + 3, far - 15), (190, 150, 120))
        pen.rounded_rectangle((x - 5, far - 15, x + 5, far + 5), 3, c)
        pen.rectangle((x - 4, far + 5, x + 4, far + 22), (50, 54, 70))
    elif kind == 1:  # a bin
        pen.rectangle((x - 7, far + 2, x + 7, far + 26), c)
        pen.rectangle((x - 8, far - 1, x + 8, far + 3), (40, 44, 44))
    elif kind == 2:  # a lamp post
        pen.rectangle((x - 1, 0, x + 1, far + 20), (66, 68, 72))
    else:  # a parked car
        pen.rounded_rectangle((x - 30, far - 4, x + 30, far + 14), 5, c)
        pen.rounded_rectangle((x - 18, far - 14, x + 18, far), 5, (70, 84, 96))
        pen.ellipse((x - 22, far + 8, x - 10, far + 20), (26, 26, 28))
        pen.ellipse((x + 10, far + 8, x + 22, far + 20), (26, 26, 28))


def _occlude(f, rng):
    w, h, side, kind = WIDTH * _S, HEIGHT * _S, f.view.occluded_side, f.view.occlusion
    c = tuple(int(v) for v in rng.integers(40, 210, 3))
    if kind == "pole":
        x, r = w / 2 + side * (0.23 + 0.06 * rng.random()) * w, (0.045 + 0.02 * rng.random()) * w
        f.pen.rectangle((x - r, 0, x + r, h), (92, 96, 100))
        f.pen.rectangle((x - r, 0, x - r * 0.3, h), (124, 128, 132))
    elif kind == "passer-by":
        x = w / 2 + side * 0.47 * w
        f.pen.rounded_rectangle((x - 0.2 * w, 0.14 * h, x + 0.2 * w, 0.56 * h), 0.1 * w, c)
        f.pen.rectangle((x - 0.16 * w, 0.54 * h, x + 0.16 * w, h), (52, 54, 66))
        f.pen.ellipse((x - 0.1 * w, 0.01 * h, x + 0.1 * w, 0.15 * h), (86, 62, 50))
    elif kind == "box":
        top = (0.865 - 0.02 * rng.random()) * h
        f.pen.rectangle((0.08 * w, top, 0.92 * w, h), (176, 132, 84))
        f.pen.rectangle((0.08 * w, top, 0.92 * w, top + 0.025 * h), (206, 164, 112))
        f.pen.rectangle((0.44 * w, top, 0.56 * w, h), (196, 170, 128))
    elif kind == "car":
        top = 0.47 * h
        f.pen.rounded_rectangle((-0.2 * w, top, 1.2 * w, 0.95 * h), 0.09 * w, c)
        f.pen.rounded_rectangle(
            (-0.1 * w, top + 0.04 * h, 1.1 * w, top + 0.15 * h), 0.05 * w, (66, 80, 94)
        )
        f.pen.rectangle((0, top + 0.24 * h, w, top + 0.25 * h), _mix(c, (0, 0, 0), 0.4))
        f.pen.rectangle((0.52 * w, top + 0.16 * h, 0.54 * w, 0.94 * h), _mix(c, (0, 0, 0), 0.4))
        f.pen.rectangle((0, 0.93 * h, w, h), (40, 40, 44))
        f.pen.ellipse((0.02 * w, 0.83 * h, 0.34 * w, h), (28, 28, 30))
        f.pen.ellipse((0.1 * w, 0.87 * h, 0.26 * w, 0.96 * h), (150, 152, 156))


def jpeg(person, view, yaw: float, rng: np.random.Generator) -> bytes:
    """Paint one view as a JPEG of 128 x 64 pixels (height x width).

    Args:
      person: a `demo.Identity`.
      view: a `demo.View`.
      yaw: degrees; 0 faces the camera.
      rng: the image's own generator: place, light, background, blur, noise and quality.
    """
    image = _street(rng)
    figure = _Figure(image, person, view, yaw, rng)
    _figure(figure)
    _occlude(figure, rng)
    image = image.reduce(_S)
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.BoxBlur(0.3 + 0.5 * rng.random()))
    gain = (0.72 + 0.42 * rng.random()) * (1 + 0.05 * rng.standard_normal(3))
    slope_w = 1 + np.linspace(-0.1, 0.1, WIDTH) * -figure.dark * rng.random()
    pixels_hwc = np.asarray(image) * (slope_w[:, None] * gain).astype(np.float32)
    grain, start = 2 + 5 * rng.random(), int(rng.integers(len(_NOISE) - pixels_hwc.size))
    pixels_hwc += np.float32(grain) * _NOISE[start : start + pixels_hwc.size].reshape(
        HEIGHT, WIDTH, 3
    )
    out = Image.fromarray(np.clip(pixels_hwc, 0, 255, out=pixels_hwc).astype(np.uint8))
    buffer = io.BytesIO()
    out.save(buffer, "JPEG", quality=int(rng.integers(80, 93)))
    return buffer.getvalue()
