"""Cameras: where they stand, how they see colour and light, and what they do to an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from crossreid.records import INFRARED
from crossreid.synthetic.keys import between, generator, pick, tile
from crossreid.synthetic.styles import Style, style


@dataclass(frozen=True)
class Camera:
    """One camera of a domain.

    number: the data set's own. place: cameras of the same place have the same background.
    kind: of the scene. horizon: where wall meets floor, 0 top to 1 bottom. pitch: radians downwards.
    facing: the yaw at which most people walk past it, radians. balance: gains of red, green and blue.
    exposure: gain of all three. light: from where the light comes, -1 left to 1 right. ambient: share of
    light without direction. blur: standard deviation, share of the image's height. noise: standard
    deviation, share of full scale. quality: of the JPEG files.
    """

    number: int
    place: int
    modality: str
    style: Style
    seed: int
    kind: str
    horizon: float
    pitch: float
    facing: float
    balance: tuple[float, float, float]
    exposure: float
    gamma: float
    light: float
    ambient: float
    blur: float
    noise: float
    quality: int


@lru_cache(maxsize=1024)
def camera(
    number: int,
    seed: int = 0,
    domain: int | str | Style = "market1501",
    modality: str = "visible",
    place: int | None = None,
) -> Camera:
    """Camera ``number`` of a domain: a pure function of its arguments.

    place: cameras given the same place look at the same wall; the camera's own number if None.
    """
    look = style(domain, seed)
    place = number if place is None else place
    here = generator("place", seed, look.name, place)
    kind = pick(here, dict(look.scenes))
    pitch = between(here, *look.pitch)
    horizon = min(0.72, max(0.22, 0.66 - pitch / 55 + between(here, -0.06, 0.06)))
    facing = between(here, 0, 2 * np.pi)
    rng = generator("camera", seed, look.name, number, modality)
    # Warm against cold, and a little of green against magenta: what white balance really gets wrong.
    warm, green = between(rng, -1.4, 1.4) * look.balance, between(rng, -0.4, 0.4) * look.balance
    # Neighbouring numbers alternate between dark and bright, so that few cameras still differ.
    bright = (0.4 + 0.8 * rng.random()) * (1 if number % 2 else -1) * look.exposure
    balance = (np.exp(warm), np.exp(green), np.exp(-warm)) if modality != INFRARED else (1.0, 1.0, 1.0)
    return Camera(
        number,
        place,
        modality,
        look,
        seed,
        kind,
        horizon,
        float(np.radians(pitch)),
        facing,
        (float(balance[0]), float(balance[1]), float(balance[2])),
        float(np.exp(bright)),
        between(rng, 0.85, 1.2),
        between(rng, -0.9, 0.9),
        between(rng, 0.45, 0.8),
        between(rng, *look.blur) / 1000,
        between(rng, *look.noise),
        int(rng.integers(look.quality[0], look.quality[1] + 1)),
    )


def develop(light: np.ndarray, what: Camera, rng: np.random.Generator) -> np.ndarray:
    """Linear light (H, W, C) float, changed in place, to the image (H, W, 3) uint8 that the camera
    delivers."""
    look = what.style
    height, width, channels = light.shape
    if what.modality == INFRARED:
        # The lamp sits at the camera and lights the middle.
        x = np.linspace(-1, 1, width, dtype=np.float32) - np.float32(between(rng, -0.3, 0.3))
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - np.float32(between(rng, -0.4, 0.2))
        light *= (np.float32(1.12) / (1 + 0.42 * x * x + 0.30 * y * y))[:, :, None]
        light *= np.float32(np.exp(between(rng, -0.22, 0.22)))
    else:
        spread = [between(rng, -0.09, 0.09) for _ in range(3)]
        gains = np.float32(what.exposure * np.exp(between(rng, -0.25, 0.25))) * np.array(
            [gain * np.exp(part) for gain, part in zip(what.balance, spread)], np.float32
        )
        light *= gains
    image = np.sqrt(np.clip(light, 0, 1, out=light), out=light)
    if what.modality != INFRARED and look.saturation != 1:
        grey = image @ np.array([0.3, 0.59, 0.11], np.float32)
        image = grey[:, :, None] + np.float32(look.saturation) * (image - grey[:, :, None])
    if look.contrast != 1:
        image = np.float32(0.45) + np.float32(look.contrast) * (image - np.float32(0.45))
    image = np.clip(image * np.float32(255), 0, 255).astype(np.uint8)
    if channels == 1:
        image = image[:, :, 0]
    radius = what.blur * height * between(rng, 0.6, 1.4)
    if radius > 0.25:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    grain = _grain()
    need = image.size
    start = int(rng.integers(grain.size - need))
    strength = what.noise * 255 * (1.6 if what.modality == INFRARED else 1.0)
    noise = grain[start : start + need].reshape(image.shape) * np.float32(strength)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if channels == 1:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return image


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """A long run of noise with standard deviation 1, close to normal."""
    rng = generator("grain of the sensor")
    total = np.zeros(1 << 19, np.float32)
    for _ in range(4):
        total += rng.random(1 << 19, dtype=np.float32)
    return (total - 2) / np.float32((4 / 12) ** 0.5)


@lru_cache(maxsize=1)
def cloth_noise() -> np.ndarray:
    """Creases of cloth: (128, 128) noise that repeats without a seam."""
    return tile(generator("creases of cloth"), 128, 4)
