"""One image of one person: the figure painted with its materials, in front of a place, through a camera."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image

from crossreid.records import INFRARED
from crossreid.synthetic.cameras import Camera, cloth_noise, develop
from crossreid.synthetic.figure import Pose, draw
from crossreid.synthetic.keys import between, generator, pick
from crossreid.synthetic.people import Material, Person, person
from crossreid.synthetic.scenes import HEIGHT, WIDTH, scene
from crossreid.synthetic.tubes import NUMBER, PARTS
from crossreid.synthetic.variation import (
    MORE_PATTERNS,
    NONE,
    Climate,
    body_light,
    climate,
    deliver,
    expose,
    long_shadow,
    pattern,
    posed,
    shade,
)

FINE = 2  # samples per pixel, each way
# What throws shadows on a body, and the first of those who only pass at the edge of an image.
_THROWS = np.isin(PARTS, ("skin", "hair", "sleeve", "bag", "headwear"))
_PASSING = 3_000_000


def render(
    person: Person,
    camera: Camera,
    view: int | str | tuple = 0,
    modality: str | None = None,
    *,
    size: tuple[int, int] = (128, 64),
    jitter: float = 1.0,
    occlusion: float = 0.12,
    yaw: float | None = None,
) -> np.ndarray:
    """The image (H, W, 3) uint8 of a person: a pure function of its arguments.

    view: names the moment; it settles pose, framing, light and noise.
    modality: the camera's own if None.
    size: (height, width) in pixels. jitter: strength of the errors of the box, 0 to 2. occlusion: share of
    images in which something stands in front. yaw: orientation in radians (0 front, pi back), drawn if
    None.
    """
    modality = modality or camera.modality
    key = view if isinstance(view, tuple) else (view,)
    rng = generator("view", camera.seed, camera.style.name, camera.number, modality, *key)
    height, width = size
    pose, turned = _pose(rng, camera.facing), between(rng, -0.12, 0.12)
    if yaw is not None:
        pose = replace(pose, yaw=yaw + turned)
    much = camera.style.vary
    more = generator("variation of view", camera.seed, camera.style.name, camera.number, modality, *key)
    if much != NONE:
        pose = posed(pose, much, more)
    here = climate(camera.style.name, camera.seed, camera.number, modality, much)

    scale = height * 0.88 * (1 + jitter * between(rng, -0.09, 0.08)) / (0.97 * np.cos(camera.pitch) + 0.02)
    foot = (
        width * (0.5 + jitter * between(rng, -0.07, 0.07)),
        height * (0.955 + jitter * between(rng, -0.04, 0.04)),
    )
    maps = draw(
        person,
        pose,
        camera.pitch,
        scale * FINE,
        (foot[0] * FINE, foot[1] * FINE),
        (height * FINE, width * FINE),
    )
    infrared = modality == INFRARED
    paint = _paint(maps, person, infrared, camera, rng, here, more)
    channels = paint.shape[2] - 1
    paint = _average(paint)

    ground = _ground(camera, modality, size, rng, more)
    alpha = paint[:, :, channels:]
    if much != NONE:
        ground *= np.float32(np.exp(between(more, -0.5, 0.6) * much.places))
        if not infrared:
            long_shadow(ground, alpha[:, :, 0], foot, here, more)
    _shadow(ground, foot, scale, camera)
    others = more.random() < 0.30 * much.crowd
    ahead = others and more.random() < 0.3
    if others and not ahead:
        _other(ground, camera, modality, more)
    image = ground * (1 - alpha) + paint[:, :, :channels]
    if ahead:
        _other(image, camera, modality, more)
    if rng.random() < occlusion:
        _occlude(image, rng, infrared)
    if much == NONE:
        return develop(image, camera, rng)
    if more.random() < occlusion * much.crowd:
        _something(image, camera, modality, more)
    if not infrared:
        shade(image, here, much, more)
    expose(image, 1.0 if infrared else camera.exposure, here, much, more)
    return deliver(develop(image, camera, rng), here, much, more, not infrared)


def _ground(
    camera: Camera,
    modality: str,
    size: tuple[int, int],
    rng: np.random.Generator,
    more: np.random.Generator,
) -> np.ndarray:
    """What lies behind the person: linear light (H, W, C)."""
    (height, width), much = size, camera.style.vary
    place, kind = (
        (camera.place, camera.kind) if more.random() >= 0.85 * much.places else _elsewhere(camera, more)
    )
    back = scene(place, kind, camera.style.name, camera.seed, camera.horizon)[modality]
    zoom = between(rng, 0.85, 1.1) * float(np.exp(between(more, -0.9, 0.15) * much.places))
    wide, tall = HEIGHT * zoom * 0.9 * width / height, HEIGHT * zoom * 0.9
    left, top = between(rng, 0, WIDTH - wide), between(rng, 0, max(0.0, HEIGHT - tall))
    back = back.resize(
        (width, height), Image.Resampling.BILINEAR, box=(left, top, left + wide, min(top + tall, HEIGHT))
    )
    ground = np.asarray(back, np.float32).reshape(height, width, -1) * np.float32(1 / 255)
    ground *= ground
    if modality == INFRARED:
        ground *= np.float32(0.55)  # the lamp fades with the square of the distance
    return ground


def _elsewhere(camera: Camera, rng: np.random.Generator) -> tuple[int, str]:
    """One of five other places of the domain."""
    place = 1000 + int(rng.integers(5))
    return place, pick(
        generator("elsewhere", camera.seed, camera.style.name, place), dict(camera.style.scenes)
    )


def _other(image: np.ndarray, camera: Camera, modality: str, rng: np.random.Generator) -> None:
    """Somebody else at the left or right edge, in place."""
    height, width, channels = image.shape
    figure = _passing(camera, modality, (height, width), int(rng.integers(6)))
    away = int(between(rng, 0.34, 0.75) * width) * (1 if rng.random() < 0.5 else -1)
    down = int(between(rng, -0.08, 0.12) * height)
    to = slice(max(down, 0), height + min(down, 0)), slice(max(away, 0), width + min(away, 0))
    of = slice(max(-down, 0), height - max(down, 0)), slice(max(-away, 0), width - max(away, 0))
    image[to] = image[to] * (1 - figure[of][:, :, channels:]) + figure[of][:, :, :channels]


@lru_cache(maxsize=256)
def _passing(camera: Camera, modality: str, size: tuple[int, int], number: int) -> np.ndarray:
    """Colour times coverage, and coverage (H, W, C + 1), of one of the people who pass a camera."""
    rng = generator("passing", camera.seed, camera.style.name, camera.number, modality, number)
    who = person(_PASSING + number, camera.seed, camera.style)
    height, width = size
    scale, foot = height * 0.85 * FINE, (width / 2 * FINE, height * 0.95 * FINE)
    maps = draw(who, _pose(rng, camera.facing), camera.pitch, scale, foot, (height * FINE, width * FINE))
    here = climate(camera.style.name, camera.seed, camera.number, modality, camera.style.vary)
    return _average(_paint(maps, who, modality == INFRARED, camera, rng, here, rng))


def _something(image: np.ndarray, camera: Camera, modality: str, rng: np.random.Generator) -> None:
    """A piece of another place in front of the person, in place."""
    height, width, channels = image.shape
    place, kind = _elsewhere(camera, rng)
    back = scene(place, kind, camera.style.name, camera.seed, camera.horizon)[modality]
    wide, tall = int(width * between(rng, 0.15, 0.45)), int(height * between(rng, 0.1, 0.4))
    x, y = int(rng.integers(WIDTH - wide)), int(rng.integers(max(1, HEIGHT - tall)))
    piece = np.asarray(back.crop((x, y, x + wide, y + tall)), np.float32).reshape(tall, wide, channels) / 255
    left = int(between(rng, -0.3, 1.0) * width)
    top = int(between(rng, 0.35, 0.95) * height)
    seen = np.s_[top : top + tall, max(left, 0) : max(left, 0) + wide]
    rows, columns = image[seen].shape[:2]
    image[seen] = np.square(piece[:rows, :columns])


def _average(fine: np.ndarray) -> np.ndarray:
    """Means over squares of 2 x 2 samples."""
    rows = fine[0::FINE] + fine[1::FINE]
    return (rows[:, 0::FINE] + rows[:, 1::FINE]) * np.float32(1 / FINE**2)


def _pose(rng: np.random.Generator, facing: float) -> Pose:
    # Half of the people follow the path past this camera, in either direction; the others walk anywhere.
    if rng.random() < 0.5:
        yaw = facing + (np.pi if rng.random() < 0.5 else 0.0) + between(rng, -0.5, 0.5)
    else:
        yaw = between(rng, 0, 2 * np.pi)
    yaw = (yaw + np.pi) % (2 * np.pi) - np.pi
    stride = between(rng, 0.0, 0.5)
    return Pose(
        float(yaw),
        between(rng, 0, 2 * np.pi),
        stride,
        between(rng, 0.1, 0.7),
        between(rng, -0.5, 0.5),
        between(rng, -0.03, 0.03),
        rng.random() < 0.08,
    )


def _paint(
    maps,
    person: Person,
    infrared: bool,
    camera: Camera,
    rng: np.random.Generator,
    here: Climate,
    more: np.random.Generator,
) -> np.ndarray:
    """Colour times coverage, and coverage: (H, W, 4) for visible light, (H, W, 2) for infrared, linear."""
    # Colours are planes (C, N): numpy is slow where the last axis has three places.
    shape = maps.part.shape
    where = np.flatnonzero(maps.part)
    part = maps.part.ravel()[where]
    angle = maps.angle.ravel()[where]
    along = maps.along.ravel()[where]
    across = maps.across.ravel()[where]
    channels = 1 if infrared else 3
    first, second = np.zeros((channels, len(PARTS)), np.float32), np.zeros((channels, len(PARTS)), np.float32)
    folds, gloss, creases = (np.zeros(len(PARTS), np.float32) for _ in range(3))
    weight = np.zeros(len(where), np.float32)
    present = np.bincount(part, minlength=len(PARTS))
    for name, material in person.materials.items():
        number = NUMBER[name]
        if not present[number]:
            continue
        # Reflectances are linear already, colours are as displayed.
        first[:, number] = material.infrared if infrared else np.square(material.colour)
        second[:, number] = max(0.03, material.second_infrared) if infrared else np.square(material.second)
        folds[number], gloss[number], creases[number] = material.folds, material.gloss, material.creases
        if material.pattern != "plain":
            rows = np.flatnonzero(part == number)
            weight[rows] = _pattern(
                material, angle[rows], along[rows], torso=name in ("upper", "inner", "bag")
            )

    noise = cloth_noise()
    drape = int(rng.integers(128))
    crease = noise[
        (along * (190 * creases[part]) + drape).astype(np.int32) & 127,
        (angle * (np.float32(64 / np.pi) * creases[part]) + drape).astype(np.int32) & 127,
    ]
    depth = np.sqrt(1 - across * across)
    if infrared:
        shade = 0.22 + 0.78 * depth
        shade *= 1 + 0.20 * crease * folds[part]
    else:
        light = np.float32(camera.light)
        lit = across * light + depth * np.float32(np.sqrt(1 - 0.8 * light * light))
        ambient = np.float32(camera.ambient)
        shade = ambient * (0.55 + 0.45 * depth) + (1 - ambient) * 1.15 * np.maximum(lit, 0)
        shade *= (1 + 0.24 * crease * folds[part]) * (0.86 + 0.2 * along)
    shade = np.maximum(shade, 0.03)
    colour = first.take(part, 1)
    colour += (second - first).take(part, 1) * weight
    colour *= shade
    if here.direct > 0 and not infrared:
        colour *= body_light(maps, where, across, depth, along, here, _THROWS, more)
    shiny = np.flatnonzero(gloss[part])
    colour[:, shiny] += gloss[part[shiny]] * depth[shiny] ** 8 * np.float32(0.35)
    paint = np.zeros((shape[0] * shape[1], channels + 1), np.float32)
    colour = np.minimum(colour, 1.2)
    for channel in range(channels):
        paint[where, channel] = colour[channel]
    paint[where, channels] = 1
    return paint.reshape(*shape, channels + 1)


def _pattern(material: Material, angle: np.ndarray, along: np.ndarray, torso: bool) -> np.ndarray:
    """How much of the second colour shows: (N,), 0 to 1."""
    kind, scale, shift = material.pattern, material.scale, material.shift
    if kind == "stripes":
        return (along / scale + shift) % 1 < 0.45
    if kind == "bars":
        return (angle * 0.11 / (0.75 * scale) + shift) % 1 < 0.42
    if kind == "check":
        return 0.5 * ((along / scale + shift) % 1 < 0.5) + 0.5 * ((angle * 0.11 / scale + shift) % 1 < 0.5)
    if kind == "dots":
        y, x = along / (0.8 * scale) + shift, angle * 0.11 / (0.8 * scale)
        x = x + 0.5 * (np.floor(y) % 2)
        return (x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.11
    if kind == "camouflage":
        rows = (along * (28 / scale) + 128 * shift).astype(np.int32) & 127
        columns = (angle * (3.2 / scale)).astype(np.int32) & 127
        return cloth_noise()[rows, columns] > 0.25
    if kind == "block":
        return along < 0.60 + 0.13 * shift
    if kind == "yoke":
        return along > 0.70 + 0.06 * shift
    if kind == "band":
        return np.abs(along - 0.63 - 0.11 * shift) < 0.30 * scale + 0.008
    if kind == "side":
        return np.abs(np.cos(angle)) < 0.34
    if kind == "faded":
        return np.clip(1 - np.abs(along - 0.36) / 0.09, 0, 1) * 0.55 * (np.cos(angle) > 0.2)
    if kind in MORE_PATTERNS:
        return pattern(kind, angle, along, scale, shift, cloth_noise())
    if not torso:
        return np.zeros(len(angle), np.float32)
    # A print: on the chest, for some people on the back as well, in one of five shapes.
    x = (angle + np.pi) % (2 * np.pi) - np.pi
    if shift % 0.4 > 0.2:
        x = np.where(np.abs(x) > np.pi / 2, np.pi - np.abs(x), x)
    y = (along - 0.715) / 0.062
    x = x / 0.68
    shape = int(shift * 5)
    if shape == 0:
        return x * x + y * y < 1
    if shape == 1:
        return (np.abs(x) < 0.9) & (np.abs(y) < 0.8)
    if shape == 2:
        return (np.abs(x) < 0.75 * (1 - y) / 2) & (np.abs(y) < 1)
    if shape == 3:
        return (np.abs(x) < 0.9) & (np.abs(y) < 0.95) & ((y * 1.6) % 1 < 0.55)
    ring = x * x + y * y
    return (ring < 1.1) & (ring > 0.4)


def _shadow(ground: np.ndarray, foot: tuple[float, float], scale: float, camera: Camera) -> None:
    """Darken the floor around the feet, away from the light."""
    height, width = ground.shape[:2]
    top = max(0, int(foot[1] - 0.09 * scale))
    y = (np.arange(top, height, dtype=np.float32)[:, None] - np.float32(foot[1])) / np.float32(0.05 * scale)
    x = (np.arange(width, dtype=np.float32) - np.float32(foot[0] - camera.light * 0.06 * scale)) / np.float32(
        0.2 * scale
    )
    ground[top:] *= (1 - 0.5 * np.exp(-(x * x + y * y)))[:, :, None]


def _occlude(image: np.ndarray, rng: np.random.Generator, infrared: bool) -> None:
    """Something in front of the person: a post, a low wall, a hedge, or somebody's arm at the side."""
    height, width, channels = image.shape
    colour = np.array([between(rng, 0.8, 1.25) for _ in range(channels)], np.float32) * np.float32(
        between(rng, 0.03, 0.4)
    )
    kind = int(rng.integers(4))
    if kind == 0:
        wide = max(2, int(width * between(rng, 0.06, 0.14)))
        left = int(rng.integers(0, width - wide))
        across = np.linspace(-1, 1, wide, dtype=np.float32)
        image[:, left : left + wide] = colour * (0.35 + 0.65 * np.sqrt(1 - across * across))[:, None]
    elif kind == 1:
        top = int(height * between(rng, 0.66, 0.86))
        image[top:] = colour
        image[top : top + 3] = np.minimum(colour * 1.7 + 0.05, 1)
    elif kind == 2:
        top = height * between(rng, 0.66, 0.84)
        noise = cloth_noise()
        edge = top + noise[int(rng.integers(128))][np.arange(width) * 2 & 127] * height * 0.025
        leaves = noise[np.ix_(np.arange(height) * 3 & 127, np.arange(width) * 3 & 127)][:, :, None]
        green = np.array([0.5] if infrared else [0.05, 0.12, 0.03], np.float32)
        cover = np.arange(height)[:, None] > edge
        image[cover] = np.clip(green * (1 + 0.45 * leaves), 0.005, 1)[cover]
    else:
        wide = max(2, int(width * between(rng, 0.12, 0.26)))
        reach = np.sqrt(np.linspace(0, 1, height, dtype=np.float32)) * wide
        columns = np.arange(width)
        columns = columns if rng.random() < 0.5 else columns[::-1]
        cover = columns < reach[:, None]
        image[cover] = colour * 0.7


def moment(identity: int, index: int) -> tuple:
    """The ``view`` of image ``index`` of an identity, for ``render``."""
    return ("moment", identity, index)
