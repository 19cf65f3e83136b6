"""From decoded images to pixels of the network's size: what workers do to an image, step by step.

Random numbers come from one generator per image, so an image's augmentation depends on nothing but that generator.
Padding and cropping, flipping and greyscale commute in distribution, so the one order used here (resize or translate,
pad and crop, flip, then on the device grey, jitter, normalise, erase) serves every published system. What
``data.augment`` lists comes before it, or between flip and grey.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from crossreid.data import augmentations
from crossreid.data.on_device import Draw

# Random2DTranslation enlarges by an eighth before it crops back.
_TRANSLATION_SCALE = 1.125


def in_worker(
    arrays: Sequence[np.ndarray], modalities, generators, config, changes=None
) -> tuple[torch.Tensor, list[Draw]]:
    """The part of training's transform that a worker does, (B, 3, H, W) uint8, and what it drew for the rest, which
    ``on_device.finish`` does.

    arrays: B uint8 arrays (h, w, 3) of any sizes. modalities: B indices, 0 visible and 1 infrared. generators: B of
        NumPy, each consumed by its own image.
    changes: what ``augmentations.chosen`` made of the settings' list, where it has been made.
    """
    early, late = changes or augmentations.chosen(config.augment)
    for change in early:
        arrays = [
            augmentations.changed(change, image=array, rng=rng, modality=int(modality))
            for array, rng, modality in zip(arrays, generators, modalities)
        ]
    pixels = torch.empty((len(arrays), 3, *config.size), dtype=torch.uint8)
    draws = [
        augment(array, config, int(modality), rng, out)
        for array, modality, rng, out in zip(arrays, modalities, generators, pixels.numpy())
    ]
    for change in late:
        before = [image.permute(1, 2, 0).numpy() for image in pixels]
        after = [
            augmentations.changed(change, image=array, rng=rng, batch=before, modality=int(modality))
            for array, rng, modality in zip(before, generators, modalities)
        ]
        pixels = torch.from_numpy(np.stack(after)).permute(0, 3, 1, 2)
    return pixels.contiguous(), draws


def resized(arrays: Sequence[np.ndarray], config) -> torch.Tensor:
    """(B, 3, H, W) uint8 of B uint8 arrays (h, w, 3) of any sizes."""
    from crossreid.data.kernels import place

    pixels = torch.empty((len(arrays), 3, *config.size), dtype=torch.uint8)
    for array, out in zip(arrays, pixels.numpy()):
        place(array, out, config.size, config.interpolation)
    return pixels


def augment(array: np.ndarray, config, modality: int, rng: np.random.Generator, out: np.ndarray) -> Draw:
    """Write one (h, w, 3) uint8 array to ``out``, (3, H, W) uint8, resized, cut and mirrored; what is left to do on the
    device."""
    from crossreid.data.kernels import place

    size, cut, shift = config.size, (0, 0), (0, 0)
    if config.translate and rng.random() < config.translate:
        size, cut = translation(config.size, rng.random(), rng.random())
    if config.padding:
        # A piece of the padded image is the image moved by as much, with black behind it.
        top, left = rng.integers(0, 2 * config.padding + 1, size=2)
        shift = int(top) - config.padding, int(left) - config.padding
    flip = bool(config.flip) and rng.random() < config.flip
    place(array, out, size, config.interpolation, cut, shift, flip)
    grey = bool(config.grey) and rng.random() < config.grey
    return Draw(
        grey=grey and (config.grey_modality == "all" or modality == 0),
        jitter=None if config.jitter is None else jitter_amounts(rng, config.jitter),
        box=None if config.erase is None else erase_box(rng, config.erase, config.size),
    )


def translation(size: tuple[int, int], down: float, right: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """1.125 times ``size``, and the first row and column of the piece that is cut out of it at (down, right), fractions
    of the room there is (Random2DTranslation of AlignedReID++; the offset is rounded, so the two outermost ones are
    half as frequent)."""
    height, width = size
    larger = (round(height * _TRANSLATION_SCALE), round(width * _TRANSLATION_SCALE))
    return larger, (round(down * (larger[0] - height)), round(right * (larger[1] - width)))


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

    Its area is a uniform share of the image and ``config.ratio`` uniform in ``config.aspect``; a rectangle that
    does not fit is drawn anew, ``config.attempts`` times in all.
    """
    if rng.random() >= config.probability:
        return None
    height, width = size
    for _ in range(config.attempts):
        area = rng.uniform(*config.area) * height * width
        if config.ratio == "logarithmic":
            low, high = config.aspect
            aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            aspect = rng.uniform(*config.aspect)
        if config.ratio == "width_over_height":
            aspect = 1 / aspect
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < tall < height and 0 < wide < width:
            return int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1)), tall, wide
    return None
