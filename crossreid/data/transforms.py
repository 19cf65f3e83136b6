"""From decoded images to pixels of the network's size: what workers do to an image, step by step.

The steps work on (3, H, W) uint8 tensors. Random numbers come from one generator per image, so an image's
augmentation depends on nothing but that generator. Padding and cropping, flipping and greyscale commute in
distribution, so the one order used here (resize or translate, pad and crop, flip, then on the device grey, jitter,
normalise, erase) serves every published system. What ``data.augment`` lists comes before it, or between flip and grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from crossreid.data import augmentations
from crossreid.data.on_device import Draw, finish
from crossreid.images.resize import fit

# Random2DTranslation enlarges by an eighth before it crops back.
_TRANSLATION_SCALE = 1.125


def train_transform(config) -> Callable:
    """The whole of what a ``DataConfig`` describes: ``in_worker``, then ``on_device.finish``.

    Returns a function (arrays, modalities, generators) -> (B, 3, H, W) float32, where ``arrays`` are B uint8
    arrays (h, w, 3) of any sizes, ``modalities`` B indices (0 visible, 1 infrared) and ``generators`` B numpy
    generators, each consumed by its own image.
    """
    return lambda arrays, modalities, generators: finish(
        *in_worker(arrays, modalities, generators, config), config
    )


def test_transform(config) -> Callable:
    """Resize and normalise: a function of B uint8 arrays (h, w, 3) -> (B, 3, H, W) float32."""
    return lambda arrays: finish(resized(arrays, config), [], config)


def in_worker(
    arrays: Sequence[np.ndarray], modalities, generators, config
) -> tuple[torch.Tensor, list[Draw]]:
    """The part of training's transform that a worker does, (B, 3, H, W) uint8, and what it drew for the rest."""
    early, late = augmentations.chosen(config.augment)
    for change in early:
        arrays = [change(array, rng) for array, rng in zip(arrays, generators)]
    some = zip(arrays, modalities, generators)
    found = [augment(array, config, int(modality), rng) for array, modality, rng in some]
    pixels, draws = [image for image, _ in found], [draw for _, draw in found]
    for change in late:
        before = [image.permute(1, 2, 0).numpy() for image in pixels]
        pixels = [from_array(change(array, rng, before)) for array, rng in zip(before, generators)]
    return torch.stack(pixels), draws


def resized(arrays: Sequence[np.ndarray], config) -> torch.Tensor:
    """(B, 3, H, W) uint8 of B uint8 arrays (h, w, 3) of any sizes."""
    return torch.stack([resize(from_array(array), config.size, config.interpolation) for array in arrays])


def augment(array: np.ndarray, config, modality: int, rng: np.random.Generator) -> tuple[torch.Tensor, Draw]:
    """One (h, w, 3) uint8 array -> its (3, H, W) uint8 tensor, and what is left to do on the device."""
    image = from_array(array)
    if config.translate and rng.random() < config.translate:
        image = translate(image, config.size, config.interpolation, rng.random(), rng.random())
    else:
        image = resize(image, config.size, config.interpolation)
    if config.padding:
        top, left = rng.integers(0, 2 * config.padding + 1, size=2)
        image = pad_crop(image, config.padding, int(top), int(left))
    if config.flip and rng.random() < config.flip:
        image = image.flip(-1)
    grey = bool(config.grey) and rng.random() < config.grey
    return image, Draw(
        grey=grey and (config.grey_modality == "all" or modality == 0),
        jitter=None if config.jitter is None else jitter_amounts(rng, config.jitter),
        box=None if config.erase is None else erase_box(rng, config.erase, config.size),
    )


def from_array(array: np.ndarray) -> torch.Tensor:
    """A (3, h, w) view of an (h, w, 3) uint8 array."""
    return torch.from_numpy(array).permute(2, 0, 1)


def resize(image: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    """(3, h, w) -> (3, H, W) uint8 by ``crossreid.images.resize.fit``, as evaluation, use and export do it. What comes
    next copies it, and so nothing is copied here."""
    return from_array(fit(image.permute(1, 2, 0).numpy(), size, interpolation))


def translate(
    image: torch.Tensor, size: tuple[int, int], interpolation: str, down: float, right: float
) -> torch.Tensor:
    """Resize to 1.125 times ``size`` and cut ``size`` out at (down, right), fractions of the room there is
    (Random2DTranslation of AlignedReID++; the offset is rounded, so the two outermost ones are half as
    frequent)."""
    height, width = size
    larger = (round(height * _TRANSLATION_SCALE), round(width * _TRANSLATION_SCALE))
    image = resize(image, larger, interpolation)
    top, left = round(down * (larger[0] - height)), round(right * (larger[1] - width))
    return image[:, top : top + height, left : left + width]


def pad_crop(image: torch.Tensor, padding: int, top: int, left: int) -> torch.Tensor:
    """Surround with ``padding`` black pixels and cut the same size out again at (top, left), 0 to 2 padding
    each."""
    _, height, width = image.shape
    down, right = padding - top, padding - left
    result = image.new_zeros((3, height, width))
    result[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        :, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return result


def jitter_amounts(rng: np.random.Generator, config) -> tuple[tuple[float, ...], tuple[int, ...]] | None:
    """Amounts of brightness, contrast, saturation and hue, each drawn uniformly, and their order; None for none."""
    if rng.random() >= config.probability:
        return None
    spreads = (config.brightness, config.contrast, config.saturation)
    amounts = [float(rng.uniform(max(0.0, 1 - spread), 1 + spread)) for spread in spreads]
    amounts.append(float(rng.uniform(-config.hue, config.hue)))
    return tuple(amounts), tuple(rng.permutation(len(amounts)).tolist())


def erase_box(rng: np.random.Generator, config, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of the rectangle to erase, or None (Zhong et al. 2020).

    Its area is a uniform share of the image and its height over width uniform in ``config.aspect``; a
    rectangle that does not fit is drawn anew, ``config.attempts`` times in all.
    """
    if rng.random() >= config.probability:
        return None
    height, width = size
    for _ in range(config.attempts):
        area = rng.uniform(*config.area) * height * width
        aspect = rng.uniform(*config.aspect)
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < tall < height and 0 < wide < width:
            return int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1)), tall, wide
    return None
