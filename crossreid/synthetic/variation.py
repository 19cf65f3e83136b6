"""What real cameras and people do that a tidy rendering does not: how much of it a domain has, how it is drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from crossreid.images.decode import decode
from crossreid.synthetic.keys import between, generator, pick, tile

Pixels = np.ndarray


@dataclass(frozen=True)
class Variation:
    """Strengths from 0, none at all, to 1. With all at 0 images are byte for byte those without this module.

    bodies: builds, proportions, stoops, and what arms and legs do.
    cloth: colours beyond the season's palette, skin and hair, weaves, plaids, prints, creases of many sizes.
    sun: light with direction and colour, the shadows it casts on body and ground, shade of trees and walls.
    exposure: images too bright and too dark, clipped; veils of stray light.
    colour: colour casts, tone curves and saturation that differ between cameras and a little between images.
    detail: few pixels enlarged, compression, sharpening.
    motion: blur along a line.
    crowd: others at the edge, and more and odder things in front.
    places: any of many backgrounds, near or far, for every image of every person.
    frame: boxes that are narrow, wide, tilted or off the person.
    """

    bodies: float = 0.0
    cloth: float = 0.0
    sun: float = 0.0
    exposure: float = 0.0
    colour: float = 0.0
    detail: float = 0.0
    motion: float = 0.0
    crowd: float = 0.0
    places: float = 0.0
    frame: float = 0.0


NONE = Variation()
KINDS = tuple(field.name for field in fields(Variation))


def drawn(rng: np.random.Generator) -> Variation:
    """A domain's own mixture: most kinds, each more or less strong."""
    return Variation(**{kind: between(rng, 0.3, 1.0) * (rng.random() < 0.88) for kind in KINDS})


# Tone curves, shade and casts that belong to a camera rather than to an image.


@dataclass(frozen=True)
class Climate:
    """side, height: where the sun stands as seen by the camera, -1 left to 1 right and 0 low to 1 high. direct: its
    share of the light. warm, sky: colours (3,) of the lit and of the shaded side. gain: of the exposure.
    cast: gains (3,). gamma, saturation: of the tone. veil: share of stray light. lines: height of the image
    that the camera resolves, pixels. quality: of its stream, JPEG. edge: strength of its sharpening.
    aspect: width of a person against the true one."""

    side: float
    height: float
    direct: float
    warm: tuple[float, float, float]
    sky: tuple[float, float, float]
    gain: float
    cast: tuple[float, float, float]
    gamma: float
    saturation: float
    veil: float
    lines: float
    quality: int
    edge: float
    aspect: float


@lru_cache(maxsize=1024)
def climate(name: str, seed: int, number: int, modality: str, much: Variation) -> Climate:
    """What camera ``number`` of the domain called ``name`` adds of its own."""
    rng = generator("climate", seed, name, number, modality)
    warmth = between(rng, -0.1, 0.45) * much.sun
    casts = [between(rng, -0.30, 0.30) * much.colour for _ in range(3)]
    middle = sum(casts) / 3
    coarse = rng.random() ** 2
    return Climate(
        side=between(rng, -1, 1),
        height=between(rng, 0.15, 0.95),
        direct=much.sun * between(rng, 0.0, 0.85),
        warm=(float(np.exp(warmth * 0.5)), 1.0, float(np.exp(-warmth * 0.6))),
        sky=(
            float(np.exp(-0.22 * much.sun * rng.random())),
            1.0,
            float(np.exp(0.3 * much.sun * rng.random())),
        ),
        gain=float(np.exp(between(rng, -0.55, 0.65) * much.exposure)),
        cast=(
            float(np.exp(casts[0] - middle)),
            float(np.exp(casts[1] - middle)),
            float(np.exp(casts[2] - middle)),
        ),
        gamma=float(np.exp(between(rng, -0.35, 0.45) * much.colour)),
        saturation=1 + much.colour * between(rng, -0.75, 0.35),
        veil=much.exposure * max(0.0, between(rng, -0.25, 0.28)),
        lines=128 - 92 * much.detail * coarse,
        quality=int(92 - 66 * much.detail * rng.random()),
        edge=much.detail * max(0.0, between(rng, -1.0, 1.6)),
        aspect=float(np.exp(between(rng, -0.16, 0.16) * much.frame)),
    )


# People.

MORE_PATTERNS = {
    "plaid": 1.0,
    "floral": 1.0,
    "gradient": 0.7,
    "heather": 1.6,
    "letters": 0.8,
    "panels": 0.8,
    "denim": 1.2,
}


# Kinds of colours: how frequent, and value, chroma and hue from least to most.
_TONES = {"dark": 3.4, "light": 1.6, "muted": 2.6, "blue": 1.4, "strong": 2.2}
_SPANS = {
    "dark": ((0.04, 0.28), (0, 0.2), (0, 1)),
    "light": ((0.62, 0.97), (0, 0.14), (0, 1)),
    "muted": ((0.25, 0.75), (0.1, 0.4), (0, 1)),
    "blue": ((0.18, 0.6), (0.3, 0.65), (0.54, 0.68)),
    "strong": ((0.35, 0.92), (0.45, 0.85), (0, 1)),
}


def colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """A garment's displayed colour as streets have them: dark and neutral mostly, any hue at times."""
    kind = pick(rng, _TONES)
    draws = rng.random((len(_TONES), 3)).tolist()[list(_TONES).index(kind)]
    value, chroma, hue = (low + (high - low) * draw for (low, high), draw in zip(_SPANS[kind], draws))
    wheel = [abs((hue * 6 + shift) % 6 - 3) - 1 for shift in (0, 4, 2)]
    red, green, blue = (value * (1 - chroma * (1 - min(1.0, max(0.0, part)))) for part in wheel)
    return red, green, blue


def dressed(who, much: Variation, rng: np.random.Generator):
    """A ``people.Person`` with a body and materials less alike than those of the season's shops."""
    materials = dict(who.materials)
    same = materials["sleeve"] is materials["upper"], materials["lower"] is materials["upper"]
    for name in (
        "upper",
        "sleeve",
        "inner",
        "lower",
        "shoes",
        "bag",
        "headwear",
        "scarf",
        "trim",
        "socks",
        "strap",
    ):
        material, change = materials[name], rng.random()
        first, second = colour(rng), colour(rng)
        pattern, size, crease = pick(rng, MORE_PATTERNS), between(rng, 0.5, 2.2), between(rng, 0.25, 1.6)
        folds = material.folds * between(rng, 0.5, 2.2)
        chosen, shine = rng.random(), between(rng, 0, 0.3) * (rng.random() < 0.3)
        if change < much.cloth:
            material = replace(material, colour=first, second=second, folds=folds, creases=crease)
            material = replace(material, gloss=material.gloss + shine, scale=material.scale * size)
            if name in ("upper", "sleeve", "lower", "inner", "bag") and chosen < 0.45:
                material = replace(material, pattern=pattern)
            elif chosen > 0.75:
                material = replace(material, pattern="plain")
        materials[name] = material
    if same[0]:
        materials["sleeve"] = materials["upper"]
    if same[1]:
        materials["lower"] = materials["upper"]
    # Skin reddens and pales; hair has strands, and some of it is dyed.
    for name, strength in (("skin", 0.10), ("hair", 0.14)):
        shift, tint = (
            between(rng, -0.9, 0.5) * strength,
            [between(rng, -0.4, 0.4) * strength for _ in range(3)],
        )
        dye, strands = colour(rng), rng.random()
        base = materials[name].colour
        if name == "hair" and rng.random() < 0.12 * much.cloth:
            base = dye
        new = [
            min(1.0, max(0.02, part + much.cloth * (shift * part + change)))
            for part, change in zip(base, tint)
        ]
        changed = replace(materials[name], colour=(new[0], new[1], new[2]))
        if name == "hair" and strands < much.cloth:
            lighter = tuple(min(1.0, 1.7 * part + 0.05) for part in new)
            changed = replace(changed, pattern="heather", second=lighter, scale=0.05, creases=0.6)
        materials[name] = changed
    wide = much.bodies
    return replace(
        who,
        materials=materials,
        build=who.build * float(np.exp(between(rng, -0.28, 0.26) * wide)),
        shoulders=who.shoulders * float(np.exp(between(rng, -0.12, 0.12) * wide)),
        hips=who.hips * float(np.exp(between(rng, -0.12, 0.14) * wide)),
        legs=who.legs * float(np.exp(between(rng, -0.07, 0.04) * wide)),
        head=who.head * float(np.exp(between(rng, -0.10, 0.16) * wide)),
        belly=who.belly + max(0.0, between(rng, -0.8, 0.9)) * wide,
        width=who.width * float(np.exp(between(rng, -0.1, 0.25) * wide)),
    )


def posed(pose, much: Variation, rng: np.random.Generator):
    """A ``figure.Pose`` as people really stand and walk."""
    wide = much.bodies
    arms = pick(rng, {"as they swing": 1.0, "apart": 0.5 * wide, "folded": 0.35 * wide, "bent": 0.5 * wide})
    apart, bend = between(rng, 0.02, 0.09), between(rng, 0.7, 1.7)
    return replace(
        pose,
        stride=pose.stride * (1 + 0.35 * wide * rng.random()),
        gaze=pose.gaze * (1 + 1.2 * wide),
        lean=pose.lean + 0.06 * wide * between(rng, -1, 1),
        stoop=wide * between(rng, -0.05, 0.16),
        apart=apart if arms == "apart" else 0.01 * wide,
        fold=1.0 if arms == "folded" else 0.0,
        bend=1.45 if arms == "folded" else bend if arms == "bent" else pose.bend,
    )


def pattern(kind: str, angle: Pixels, along: Pixels, scale: float, shift: float, noise: Pixels) -> Pixels:
    """How much of the second colour shows, for the patterns of ``MORE_PATTERNS``; see ``rendering``."""
    x, y = angle * np.float32(0.11), along
    if kind == "plaid":
        wide = ((y / scale + shift) % 1 < 0.5) * 0.5 + ((x / scale + shift) % 1 < 0.5) * 0.5
        thin = ((y / scale + shift) % 0.5 < 0.07) | ((x / scale + shift) % 0.5 < 0.07)
        return np.maximum(0.8 * wide, thin)
    if kind == "gradient":
        return np.clip((y - 0.45 - 0.2 * shift) * 4, 0, 1)
    if kind == "panels":
        return (np.abs(np.cos(angle)) < 0.45) | (y > 0.76)
    rows, columns = int(128 * shift), int(57 * shift)
    step = {"heather": 900.0, "denim": 260.0, "letters": 150.0}.get(kind, 6.0 / scale)
    places = (y * step + rows).astype(np.int32) & 127, (x * (step * 1.1) + columns).astype(np.int32) & 127
    grain = noise[places]
    if kind == "floral":
        return np.abs(grain) > 0.75
    if kind == "letters":
        band = np.abs(y - 0.70 + 0.05 * shift) < 0.035 + 0.02 * shift
        return band & (np.abs(np.sin(angle)) < 0.75) & (grain > -0.2)
    strength = 0.16 if kind == "denim" else 0.22
    wash = 0.25 * np.clip(1 - np.abs(y - 0.38) / 0.1, 0, 1) if kind == "denim" else 0.0
    return np.clip(0.3 + strength * grain + wash, 0, 1)


# Light.


def body_light(
    maps, where: Pixels, across: Pixels, depth: Pixels, along: Pixels, here: Climate, near: Pixels,
    rng: np.random.Generator,
) -> Pixels:  # fmt: skip
    """Factors (3, N) for the pixels ``where`` of the figure: the sun's side, the sky's side, and the shadows that
    arms, head and bags throw on what is behind them.

    near: for the number of each part, whether it throws them.
    """
    side = min(1.0, max(-1.0, here.side + between(rng, -0.25, 0.25)))
    high = np.float32(here.height)
    front = np.float32(max(0.1, 1 - side * side) ** 0.5 * (1 - 0.4 * here.height))
    lit = np.maximum(across * np.float32(side) + depth * front, 0) * np.float32(1.25) + high * np.float32(
        0.25
    ) * (along - 0.4)
    height, width = maps.part.shape
    dark = np.zeros((height, width), bool)
    throws = near[maps.part]
    reach = between(rng, 0.015, 0.06) * height
    down, right = int(reach * (0.4 + here.height)), int(-reach * side * 1.2)
    rows, columns = slice(down, height), slice(max(right, 0), width + min(right, 0))
    source = slice(max(-right, 0), width - max(right, 0))
    dark[rows, columns] = throws[: height - down, source]
    dark &= ~throws
    lit = np.where(dark.ravel()[where], np.float32(0.12), lit)
    direct = np.float32(here.direct)
    warm, sky = np.array(here.warm, np.float32), np.array(here.sky, np.float32)
    open_sky = np.float32(0.75) + np.float32(0.25) * depth
    open_sky, lit = (1 - direct) * open_sky, (direct * np.float32(1.5)) * lit
    return np.stack([open_sky * blue + lit * yellow for blue, yellow in zip(sky, warm)])


def shade(image: Pixels, here: Climate, much: Variation, rng: np.random.Generator) -> None:
    """Shade of trees, walls and fences over everything (H, W, C) linear, in place."""
    kind = pick(
        rng, {"none": 1.0, "edge": 0.5 * much.sun, "leaves": 0.45 * much.sun, "bars": 0.15 * much.sun}
    )
    if kind == "none":
        return
    height, width, channels = image.shape
    x = np.arange(width, dtype=np.float32) / height
    y = (np.arange(height, dtype=np.float32) / height)[:, None]
    if kind == "leaves":
        noise, step = _leaves(), between(rng, 40, 130)
        rows = (y * step + int(rng.integers(128))).astype(np.int32) & 127
        columns = (x * step + int(rng.integers(128))).astype(np.int32) & 127
        cover = np.clip(noise[rows, columns] * 2.5 + between(rng, -0.6, 1.2), 0, 1)
    else:
        turn = between(rng, -1.2, 1.2)
        line = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
        if kind == "edge":
            sharp = between(rng, 4, 40) * (1 if rng.random() < 0.5 else -1)
            cover = np.clip((line - between(rng, -0.1, 0.6)) * sharp + 0.5, 0, 1)
        else:
            cover = ((line * between(rng, 3, 9)) % 1 < 0.5).astype(np.float32)
    strength = between(rng, 0.25, 0.8)
    tint = np.array(here.sky if channels == 3 else (1.0,), np.float32)
    image *= 1 - np.float32(strength) * cover[:, :, None] * (1 - 0.25 * (tint - 1))


@lru_cache(maxsize=1)
def _leaves() -> Pixels:
    return tile(generator("shade of leaves"), 128, 3)


def long_shadow(
    ground: Pixels, alpha: Pixels, foot: tuple[float, float], here: Climate, rng: np.random.Generator
) -> None:
    """The person's shadow on the floor, longer for a low sun, in place."""
    if here.direct < 0.1:
        return
    height, width = alpha.shape
    length = between(rng, 0.12, 0.35) * (1.2 - here.height) * (1 if rng.random() < 0.6 else -1)
    lean = -here.side * between(rng, 0.3, 1.0)
    ratio = lean / length
    shape = (1, ratio, -ratio * foot[1], 0, 1 / length, foot[1] * (1 - 1 / length))
    mask = Image.fromarray((alpha * 255).astype(np.uint8))
    thrown = np.asarray(
        mask.transform((width, height), Image.Transform.AFFINE, shape, Image.Resampling.BILINEAR)
    )
    ground *= 1 - np.float32(min(0.75, 0.9 * here.direct) / 255) * thrown[:, :, None]


# The camera.


def expose(light: Pixels, later: float, here: Climate, much: Variation, rng: np.random.Generator) -> None:
    """Exposure and colour cast of linear light (H, W, C), in place. later: the gain that is still to come."""
    # As a camera does: most of what is too dark or too bright on the whole is evened out.
    # A lamp at the camera keeps its own strength.
    coloured = light.shape[2] == 3
    level = (0.19 / max(0.005, later * float(light[::2, ::2].mean()))) ** 0.7 if coloured else 0.85
    gain = np.float32(level * here.gain * np.exp(between(rng, -0.4, 0.45) * much.exposure))
    if coloured:
        wobble = [np.exp(between(rng, -0.08, 0.08) * much.colour) for _ in range(3)]
        light *= gain * np.array(here.cast, np.float32) * np.array(wobble, np.float32)
    else:
        light *= gain
    if (veil := here.veil * rng.random()) > 0.01:
        light *= np.float32(1 - veil)
        light += np.float32(0.55 * veil)


def deliver(
    image: Pixels, here: Climate, much: Variation, rng: np.random.Generator, coloured: bool
) -> Pixels:
    """What is left of an image (H, W, 3) uint8 after tone curve, lens, movement, stream and detector."""
    height, width = image.shape[:2]
    picture = _toned(image, here) if coloured and much.colour > 0 else Image.fromarray(image)
    if rng.random() < 0.4 * much.motion:
        image = _moved(np.asarray(picture), between(rng, 0.01, 0.045) * height, between(rng, -0.6, 0.6), rng)
        picture = Image.fromarray(image)
    if much.detail > 0:
        lines = here.lines * np.exp(between(rng, -0.35, 0.2) * much.detail)
        rows = max(20, min(height, int(lines * height / 128)))
        columns = max(10, rows * width // height)
        way = Image.Resampling.BILINEAR if rng.random() < 0.6 else Image.Resampling.BOX
        if rows < height:
            picture = picture.resize((columns, rows), way)
        if rng.random() < 0.75:
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=max(14, here.quality + int(rng.integers(-8, 9))))
            picture = Image.fromarray(decode(stream.getvalue()))
        if rows < height:
            ways = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST)
            chosen = ways[min(2, int(rng.integers(7)) // 3)]
            picture = picture.resize((width, height), chosen)
        if here.edge > 0.2:
            picture = picture.filter(ImageFilter.UnsharpMask(1.2, int(100 * here.edge), 2))
    if much.frame > 0:
        picture = _framed(
            picture, here.aspect * float(np.exp(between(rng, -0.08, 0.08) * much.frame)), much, rng
        )
    return np.asarray(picture)


def _toned(image: Pixels, here: Climate) -> Image.Image:
    curve = (255 * (np.arange(256) / 255) ** here.gamma).astype(np.uint8)
    return ImageEnhance.Color(Image.fromarray(curve[image])).enhance(max(0.1, here.saturation))


def _moved(image: Pixels, length: float, slope: float, rng: np.random.Generator) -> Pixels:
    steps = max(2, int(length) + 1)
    total = np.zeros(image.shape, np.float32)
    for step in range(steps):
        total += np.roll(image, (int(step * slope), step - steps // 2), (0, 1))
    return (total / steps).astype(np.uint8)


def _framed(picture: Image.Image, aspect: float, much: Variation, rng: np.random.Generator) -> Image.Image:
    """The box as a detector draws it: squeezed, tilted, moved."""
    width, height = picture.size
    turn, slope = between(rng, -0.06, 0.06) * much.frame, between(rng, -0.10, 0.10) * much.frame
    zoom = float(np.exp(between(rng, -0.10, 0.06) * much.frame))
    right, down = (
        between(rng, -0.06, 0.06) * much.frame * width,
        between(rng, -0.05, 0.05) * much.frame * height,
    )
    x, y = width / 2, height / 2
    a, b, d, e = zoom / aspect, slope - turn, turn * 0.5, zoom
    shape = (a, b, x - a * x - b * y + right, d, e, y - d * x - e * y + down)
    # What lies outside of the image repeats its edge.
    edge = max(8, width // 3)
    rows, columns = (np.arange(-edge, side + edge).clip(0, side - 1) for side in (height, width))
    wide = np.asarray(picture)[rows][:, columns]
    shape = (a, b, shape[2] + edge, d, e, shape[5] + edge)
    return Image.fromarray(wide).transform(
        (width, height), Image.Transform.AFFINE, shape, Image.Resampling.BILINEAR
    )
