"""Places: what stands behind and in front of people, in visible light and in infrared."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from crossreid.synthetic.keys import between, generator, tile

HEIGHT, WIDTH = 224, 512
# kind -> (wall colour, floor colour, elements of the wall, pattern of the floor)
_KINDS = {
    "campus": ((0.62, 0.58, 0.52), (0.52, 0.51, 0.49), ("bricks", "windows", "pillars"), "tiles"),
    "street": ((0.46, 0.46, 0.47), (0.36, 0.36, 0.37), ("windows", "doors", "car"), "asphalt"),
    "mall": ((0.76, 0.73, 0.68), (0.68, 0.64, 0.58), ("posters", "windows", "shelves"), "tiles"),
    "station": ((0.60, 0.62, 0.60), (0.40, 0.40, 0.41), ("panels", "posters", "pillars"), "lines"),
    "room": ((0.72, 0.71, 0.67), (0.50, 0.42, 0.34), ("doors", "shelves", "posters"), "boards"),
    "clutter": ((0.55, 0.54, 0.52), (0.46, 0.45, 0.43), (), "asphalt"),
    "park": ((0.30, 0.42, 0.24), (0.48, 0.46, 0.36), ("foliage", "trunks", "foliage"), "gravel"),
}


_ANY = (
    "bricks", "windows", "doors", "pillars", "posters", "shelves", "panels", "car", "foliage", "trunks",
)  # fmt: skip


@lru_cache(maxsize=64)
def scene(place: int, kind: str, domain: str, seed: int, horizon: float) -> dict[str, Image.Image]:
    """A wide image of one place, as ``{"visible": RGB, "infrared": L}``, HEIGHT x WIDTH pixels.

    horizon: where the wall meets the floor, 0 top to 1 bottom.
    """
    rng = generator("scene", seed, domain, place)
    plain_wall, plain_floor, elements, ground = _KINDS[kind]
    tint = [between(rng, 0.88, 1.12) for _ in range(3)]
    line = int(HEIGHT * horizon)
    visible, infrared = Image.new("RGB", (WIDTH, HEIGHT)), Image.new("L", (WIDTH, HEIGHT))
    pens = ImageDraw.Draw(visible), ImageDraw.Draw(infrared)

    def level(value):
        return int(255 * min(max(value, 0.0), 1.0))

    def box(x0, y0, x1, y1, colour, reflectance):
        shape = [x0, y0, max(x0, x1), max(y0, y1)]
        pens[0].rectangle(shape, fill=tuple(level(c) for c in colour))
        pens[1].rectangle(shape, fill=level(reflectance))

    def some(colour=None):
        grey = between(rng, 0.15, 0.75)
        base = colour or [grey * between(rng, 0.6, 1.4) for _ in range(3)]
        return [c * between(rng, 0.85, 1.15) for c in base], between(rng, 0.1, 0.6)

    wall = [c * t for c, t in zip(plain_wall, tint)]
    wall_ir, floor_ir = between(rng, 0.2, 0.5), between(rng, 0.15, 0.45)
    box(0, 0, WIDTH, line, wall, wall_ir)
    if kind == "clutter":
        # Anything may stand anywhere: what lies behind a person tells nothing.
        wall, elements = some()[0], _ANY
        box(0, 0, WIDTH, line, wall, wall_ir)
    chosen = [elements[int(rng.integers(len(elements)))] for _ in range(4 if kind == "clutter" else 2)]
    for element in chosen:
        _element(element, rng, box, pens, some, line, wall, wall_ir, level)
    floor = [c * between(rng, 0.85, 1.15) for c in plain_floor]
    box(0, line, WIDTH, HEIGHT, floor, floor_ir)
    _floor(ground, rng, pens, line, floor, floor_ir, level)
    if kind != "park":
        box(0, line - 4, WIDTH, line, [c * 0.55 for c in wall], wall_ir * 0.7)

    strength = 0.16 if kind == "park" else 0.07
    grain = 1 + strength * _stretch(tile(generator("grain", seed, domain, place), 128, 5))
    light = 1 + 0.10 * _stretch(tile(generator("light", seed, domain, place), 512, 1))
    shaded = np.asarray(visible, np.float32) * (grain * light)[:, :, None]
    other = np.asarray(infrared, np.float32) * grain
    return {
        "visible": Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8)),
        "infrared": Image.fromarray(np.clip(other, 0, 255).astype(np.uint8)),
    }


def _stretch(noise: np.ndarray) -> np.ndarray:
    rows, columns = -(-HEIGHT // noise.shape[0]), -(-WIDTH // noise.shape[1])
    return np.tile(noise, (rows, columns))[:HEIGHT, :WIDTH]


def _element(name, rng, box, pens, some, line, wall, wall_ir, level):
    if name == "bricks":
        step = int(rng.integers(7, 13))
        dark, dark_ir = [c * 0.78 for c in wall], wall_ir * 0.85
        for row, y in enumerate(range(0, line, step)):
            box(0, y, WIDTH, y, dark, dark_ir)
            for x in range((row % 2) * step, WIDTH, step * 2):
                box(x, y, x, min(y + step, line), dark, dark_ir)
    elif name == "windows":
        step, wide, top = int(rng.integers(46, 90)), int(rng.integers(22, 40)), int(rng.integers(5, 40))
        glass, glass_ir = some((0.35, 0.42, 0.50))
        frame, frame_ir = some((0.75, 0.74, 0.72))
        for x in range(int(rng.integers(0, 40)), WIDTH, step):
            lit = between(rng, 0.7, 1.3)
            box(x - 2, top - 2, x + wide + 2, line - 18, frame, frame_ir)
            box(x, top, x + wide, line - 20, [c * lit for c in glass], glass_ir)
            box(x + wide // 2, top, x + wide // 2 + 1, line - 20, frame, frame_ir)
    elif name == "doors":
        for x in range(int(rng.integers(0, 60)), WIDTH, int(rng.integers(90, 170))):
            colour, reflectance = some()
            box(x - 3, 15, x + 37, line, [c * 0.6 for c in wall], wall_ir * 0.8)
            box(x, 18, x + 34, line, colour, reflectance)
            box(x + 28, line - 45, x + 31, line - 41, (0.8, 0.8, 0.7), 0.7)
    elif name == "pillars":
        for x in range(int(rng.integers(0, 60)), WIDTH, int(rng.integers(80, 150))):
            wide = int(rng.integers(12, 24))
            for part in range(wide):
                lit = 0.65 + 0.5 * np.sin(np.pi * part / wide)
                box(x + part, 0, x + part, line, [c * lit for c in wall], wall_ir * lit)
    elif name == "posters":
        for x in range(int(rng.integers(0, 60)), WIDTH, int(rng.integers(70, 130))):
            top, tall = int(rng.integers(8, 40)), int(rng.integers(30, 70))
            colour, reflectance = some()
            box(x, top, x + 36, min(top + tall, line - 8), colour, reflectance)
            for _ in range(3):
                inner, inner_ir = some()
                a, b = int(rng.integers(2, 20)), int(rng.integers(2, max(3, tall - 12)))
                box(x + a, top + b, x + a + 13, min(top + b + 9, line - 9), inner, inner_ir)
    elif name == "shelves":
        for x in range(int(rng.integers(0, 40)), WIDTH, int(rng.integers(110, 180))):
            frame, frame_ir = some((0.45, 0.35, 0.25))
            box(x, 20, x + 78, line, frame, frame_ir)
            for y in range(26, line - 16, 22):
                box(x + 3, y, x + 75, y + 17, [c * 0.4 for c in frame], frame_ir * 0.5)
                for k in range(9):
                    colour, reflectance = some()
                    tall = int(rng.integers(6, 16))
                    box(x + 4 + 8 * k, y + 17 - tall, x + 10 + 8 * k, y + 17, colour, reflectance)
    elif name == "panels":
        step = int(rng.integers(28, 60))
        for y in range(0, line, step // 2):
            box(0, y, WIDTH, y + 1, [c * 0.8 for c in wall], wall_ir * 0.8)
        for x in range(0, WIDTH, step):
            box(x, 0, x + 1, line, [c * 0.75 for c in wall], wall_ir * 0.8)
        band, band_ir = some()
        box(0, line // 2, WIDTH, line // 2 + 9, band, band_ir)
    elif name == "car":
        for x in range(int(rng.integers(-20, 80)), WIDTH, int(rng.integers(190, 300))):
            colour, reflectance = some()
            box(x, line - 42, x + 120, line - 6, colour, reflectance)
            box(x + 22, line - 66, x + 96, line - 42, [c * 0.8 for c in colour], reflectance)
            box(x + 28, line - 62, x + 90, line - 44, (0.18, 0.21, 0.25), 0.15)
            for wheel in (x + 26, x + 94):
                for pen, fill in zip(pens, ((22, 22, 24), 30)):
                    pen.ellipse([wheel - 12, line - 20, wheel + 12, line + 2], fill=fill)
    elif name == "foliage":
        for _ in range(260):
            x, y, r = int(rng.integers(WIDTH)), int(rng.integers(line)), int(rng.integers(4, 16))
            lit = between(rng, 0.5, 1.5)
            shape = [x - r, y - r // 2, x + r, y + r // 2]
            pens[0].ellipse(shape, fill=tuple(level(c * lit) for c in (0.22, 0.36, 0.16)))
            pens[1].ellipse(shape, fill=level(between(rng, 0.45, 0.85)))
    elif name == "trunks":
        for x in range(int(rng.integers(0, 60)), WIDTH, int(rng.integers(60, 140))):
            wide, lit = int(rng.integers(6, 16)), between(rng, 0.7, 1.2)
            box(x, 0, x + wide, line, [c * lit for c in (0.30, 0.24, 0.18)], between(rng, 0.3, 0.5))


def _floor(name, rng, pens, line, floor, floor_ir, level):
    dark = tuple(level(c * 0.82) for c in floor), level(floor_ir * 0.8)
    light = tuple(level(c * 1.25 + 0.08) for c in floor), level(floor_ir * 1.3 + 0.05)

    def stroke(points, ink, width=1):
        for pen, fill in zip(pens, ink):
            pen.line(points, fill=fill, width=width)

    if name in ("tiles", "boards"):
        for x in range(-WIDTH, 2 * WIDTH, 26 if name == "tiles" else 14):
            stroke([WIDTH / 2 + (x - WIDTH / 2) * 0.6, line, x, HEIGHT], dark)
    if name == "tiles":
        y, step = float(line), 5.0
        while y < HEIGHT:
            stroke([0, y, WIDTH, y], dark)
            y, step = y + step, step * 1.3
    elif name == "lines":
        for part in (0.3, 0.42):
            y = line + (HEIGHT - line) * part
            stroke([0, y, WIDTH, y], light, 4)
    elif name == "asphalt":
        for x in range(int(rng.integers(80)), WIDTH, 150):
            stroke([x, HEIGHT, WIDTH / 2 + (x - WIDTH / 2) * 0.7, line + 6], light, 5)
    else:
        for _ in range(300):
            x, y = int(rng.integers(WIDTH)), int(rng.integers(line, HEIGHT))
            stroke([x, y, x + int(rng.integers(2, 6)), y], dark if rng.random() < 0.5 else light, 2)
