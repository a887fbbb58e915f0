"""A brush in body units: it turns points of a person by the yaw and lights tubes and barrels.

Units: 1 is the person's height; x to the person's left, y down, z out of the chest.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from data.demo.outfits import Identity
from data.demo.views import YAW, View

HEIGHT, WIDTH = 128, 64  # of the finished picture, in pixels
SCALE = 2  # supersampling
_PAINT = {
    'black': (36, 36, 42), 'white': (240, 240, 236), 'grey': (134, 137, 142),
    'red': (198, 34, 40), 'orange': (236, 122, 26), 'yellow': (240, 208, 48),
    'green': (42, 134, 68), 'blue': (38, 82, 188), 'purple': (118, 56, 156),
    'pink': (242, 142, 180), 'brown': (118, 78, 46), 'none': (0, 0, 0),
}  # fmt: skip
_HAIR = {
    'black': (32, 27, 30), 'brown': (98, 62, 38), 'blond': (220, 184, 100),
    'red': (176, 78, 36), 'grey': (166, 166, 168), 'none': (120, 100, 90),
}  # fmt: skip
_SKIN = ((250, 216, 186), (232, 184, 146), (198, 142, 100), (142, 94, 64), (96, 62, 44))
_SHADE = (0, 0, 20, 56)
_GLOSS = (255, 255, 255, 34)

Colour = tuple[int, ...]
Row = tuple[float, float, float]  # of a barrel: y, half width, half depth


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """A colour on the way from a to b."""
    return tuple([int(x + (y - x) * share) for x, y in zip(a, b, strict=True)])


def darker(colour: Colour, share: float) -> Colour:
    """Towards black: 1 is black."""
    return mix(colour, (0, 0, 0), share)


def lighter(colour: Colour, share: float) -> Colour:
    """Towards white: 1 is white."""
    return mix(colour, (255, 255, 255), share)


def between(p, q, share: float) -> tuple[float, ...]:
    """A point on the way from p to q."""
    return tuple([u + (v - u) * share for u, v in zip(p, q, strict=True)])


def row_at(rows: list[Row], y: float) -> Row:
    """The barrel at a height."""
    for (y0, w0, d0), (y1, w1, d1) in zip(rows, rows[1:], strict=False):
        if y <= y1:
            t = min(1.0, max(0.0, (y - y0) / (y1 - y0)))
            return y, w0 + (w1 - w0) * t, d0 + (d1 - d0) * t
    return y, *rows[-1][1:]


def band(rows: list[Row], top: float, low: float) -> list[Row]:
    """The part of a barrel between two heights."""
    return [row_at(rows, top), *[row for row in rows if top < row[0] < low], row_at(rows, low)]


class Brush:
    """Paints one view of one person.

    Attributes:
      pen: draws in pixels of the supersampled picture.
      a, side, view: the person's attributes, where a bag hangs, and the view.
      paint, skin: colours by attribute; the same in all views of a person.
      W, D: half width and half depth of the trunk.
      dark: -1 or 1, the side of the picture that the light leaves dark.
    """

    def __init__(self, image: Image.Image, person: Identity, view: View, rng: np.random.Generator):
        yaw, look = math.radians(YAW[view.viewpoint]), np.random.default_rng(person.look)
        self.pen = ImageDraw.Draw(image, 'RGBA')
        self.a, self.view, self.side = person.attributes, view, person.side
        self.cos, self.sin = math.cos(yaw), math.sin(yaw)
        self.front, self.back = self.cos > 0.3, self.cos < -0.3
        self.h = (0.9 + 0.07 * rng.random()) * HEIGHT * SCALE
        self.ox = WIDTH * SCALE * (0.5 + 0.06 * (rng.random() - 0.5))
        self.oy = HEIGHT * SCALE * (0.985 - 0.02 * rng.random()) - self.h
        if view.occlusion == 'cut':
            self.oy += self.h * (0.08 + 0.03 * rng.random())
        self.dark = 1 if rng.random() < 0.5 else -1
        wide = {'slim': 0.100, 'average': 0.122, 'heavy': 0.155}[self.a['build']]
        self.W = wide * (0.97 + 0.06 * look.random()) * (0.94 if self.a['gender'] == 'woman' else 1)
        self.D = self.W * (0.78 if self.a['build'] == 'heavy' else 0.62)
        self.skin = _SKIN[int(look.random() * 5)]
        shades = look.normal(0, 3, (16, 3)) + look.normal(0, 9, (16, 1))
        keys = [key for key in self.a if key.endswith('colour') or key == 'scarf']
        bases = [(_HAIR if key == 'hair_colour' else _PAINT)[self.a[key]] for key in keys]
        paint = np.clip(bases + shades[: len(keys)], 0, 255).astype(int).tolist()
        self.paint = {key: tuple(colour) for key, colour in zip(keys, paint, strict=True)}
        self.stride = 0.012
        if view.walking:
            self.stride = (0.075 + 0.035 * rng.random()) * (1 if rng.random() < 0.5 else -1)

    def at(self, x: float, y: float, z: float = 0.0) -> tuple[float, float]:
        """The pixel of a point of the body."""
        return self.ox + (x * self.cos + z * self.sin) * self.h, self.oy + y * self.h

    def flat(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point that does not turn with the body."""
        return self.ox + x * self.h, self.oy + y * self.h

    def depth(self, x: float, z: float) -> float:
        """How near a point is to the camera."""
        return z * self.cos - x * self.sin

    def around(self, pixel, rx: float, up: float, down: float | None = None):
        """The pixels of a rectangle about a pixel, its sides in body units."""
        (x, y), rx, up = pixel, rx * self.h, up * self.h
        return x - rx, y - up, x + rx, y + (up if down is None else down * self.h)

    def disc(self, x, y, z, rx: float, ry: float, colour: Colour) -> None:
        """An ellipse that faces the camera."""
        self.pen.ellipse(self.around(self.at(x, y, z), rx, ry), colour)

    def box(self, x, y, z, rx: float, ry: float, colour: Colour, round_: float = 0.3) -> None:
        """A rounded rectangle that faces the camera."""
        frame = self.around(self.at(x, y, z), rx, ry)
        self.pen.rounded_rectangle(frame, round_ * (min(rx, ry) * self.h), colour)

    def limb(self, joints, colour: Colour, ends: bool = True) -> None:
        """A chain of tapered tubes through (x, y, z, radius)."""
        d, flat = self.dark, [(*self.at(x, y, z), r * self.h) for x, y, z, r in joints]
        tubes = list(zip(flat, flat[1:], strict=False))
        for (ax, ay, ar), (bx, by, br) in tubes:
            long = math.hypot(bx - ax, by - ay) or 1.0
            nx, ny = (by - ay) / long, -(bx - ax) / long
            quad = [(ax - nx * ar, ay - ny * ar), (ax + nx * ar, ay + ny * ar),
                    (bx + nx * br, by + ny * br), (bx - nx * br, by - ny * br)]  # fmt: skip
            self.pen.polygon(quad, colour)
        for x, y, r in flat if ends else ():
            self.pen.ellipse((x - r, y - r, x + r, y + r), colour)
        for (ax, ay, ar), (bx, by, br) in tubes:
            dark = [(ax + d * ar * 0.25, ay), (ax + d * ar, ay),
                    (bx + d * br, by), (bx + d * br * 0.25, by)]  # fmt: skip
            self.pen.polygon(dark, _SHADE)

    def _strip(self, rows: list[Row], left: float, right: float, colour: Colour) -> None:
        """A barrel's part between two shares of its half width, as the camera sees it."""
        halves = [(math.hypot(w * self.cos, d * self.sin) * self.h, self.oy + y * self.h)
                  for y, w, d in rows]  # fmt: skip
        outline = [(self.ox + half * left, y) for half, y in halves]
        outline += [(self.ox + half * right, y) for half, y in reversed(halves)]
        self.pen.polygon(outline, colour)

    def barrel(self, rows: list[Row], colour: Colour) -> None:
        """A surface of revolution, more or less."""
        self._strip(rows, -1, 1, colour)

    def shade(self, rows: list[Row]) -> None:
        """A barrel's dark side and its gloss."""
        self._strip(rows, self.dark, self.dark * 0.35, _SHADE)
        self._strip(rows, -self.dark * 0.75, -self.dark * 0.4, _GLOSS)

    def on(self, phi: float, row: Row) -> tuple[float, float]:
        """The pixel of a barrel's surface; phi 0 is the middle of the chest, pi of the back."""
        y, w, d = row
        return self.at(w * math.sin(phi), y, d * math.cos(phi))

    def faces(self, phi: float) -> bool:
        """Whether the camera sees a barrel there."""
        return self.depth(math.sin(phi), math.cos(phi)) > -0.05

    def patch(self, corners, rows: list[Row], colour: Colour) -> None:
        """A polygon on a barrel through (phi, y)."""
        if self.faces(sum([phi for phi, _ in corners]) / len(corners)):
            self.pen.polygon([self.on(phi, row_at(rows, y)) for phi, y in corners], colour)
