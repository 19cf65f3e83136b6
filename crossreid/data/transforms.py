"""From decoded images to normalised tensors: what training and testing do to an image, step by step.

The steps work on (3, H, W) uint8 tensors. Random numbers come from one generator per image, so an image's
augmentation depends on nothing but that generator. Padding and cropping, flipping and greyscale commute in
distribution, so the one order used here (resize or translate, pad and crop, flip, grey, jitter, normalise,
erase) serves every published system.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from crossreid.images.resize import fit

# Random2DTranslation enlarges by an eighth before it crops back.
_TRANSLATION_SCALE = 1.125


def train_transform(config) -> Callable:
    """The augmentation that a ``DataConfig`` describes: ``on_pixels``, then ``to_float``.

    Returns a function (arrays, modalities, generators) -> (B, 3, H, W) float32, where ``arrays`` are B uint8
    arrays (h, w, 3) of any sizes, ``modalities`` B indices (0 visible, 1 infrared) and ``generators`` B numpy
    generators, each consumed by its own image.
    """
    return lambda arrays, modalities, generators: to_float(
        *on_pixels(arrays, modalities, generators, config), config
    )


def test_transform(config) -> Callable:
    """Resize and normalise: a function of B uint8 arrays (h, w, 3) -> (B, 3, H, W) float32."""
    return lambda arrays: to_float(resized(arrays, config), [], config)


def on_pixels(arrays: Sequence[np.ndarray], modalities, generators, config) -> tuple[torch.Tensor, list]:
    """The part of training's transform that a worker does: (B, 3, H, W) uint8, and for every image the box to
    erase or None. Bytes, because they cross to the training process in a quarter of the memory."""
    rows, boxes = [], []
    for array, modality, rng in zip(arrays, modalities, generators):
        rows.append(augment(array, config, int(modality), rng))
        boxes.append(None if config.erase is None else erase_box(rng, config.erase, config.size))
    return torch.stack(rows), boxes


def resized(arrays: Sequence[np.ndarray], config) -> torch.Tensor:
    """(B, 3, H, W) uint8 of B uint8 arrays (h, w, 3) of any sizes."""
    return torch.stack([resize(from_array(array), config.size, config.interpolation) for array in arrays])


def to_float(pixels: torch.Tensor, boxes: Sequence, config) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> float32, (value / 255 - mean) / std, with the boxes erased."""
    mean = torch.tensor(config.mean, dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(config.std, dtype=torch.float64).view(3, 1, 1)
    scale, shift = (1 / (255 * std)).float(), (mean / std).float()
    batch = torch.empty(pixels.shape)
    # Image by image rather than as a whole batch: an image fits into the processor's cache.
    for image, row in zip(batch, pixels):
        image.copy_(row).mul_(scale).sub_(shift)
    for image, box in zip(batch, boxes):
        if box is not None:
            erase(image, box, config.erase.fill)
    return batch


def augment(array: np.ndarray, config, modality: int, rng: np.random.Generator) -> torch.Tensor:
    """All steps on pixels: (h, w, 3) uint8 array -> (3, H, W) uint8 tensor."""
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
    if config.grey and rng.random() < config.grey and (config.grey_modality == "all" or modality == 0):
        image = grey(image)
    if config.jitter is not None and rng.random() < config.jitter.probability:
        image = jitter(image, config.jitter, rng)
    return image


def from_array(array: np.ndarray) -> torch.Tensor:
    """A (3, h, w) view of an (h, w, 3) uint8 array."""
    return torch.from_numpy(array).permute(2, 0, 1)


def resize(image: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    """(3, h, w) -> (3, H, W) uint8 by ``crossreid.images.resize.fit``, as evaluation, use and export do it."""
    return from_array(fit(image.permute(1, 2, 0).numpy(), size, interpolation)).contiguous()


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


def grey(image: torch.Tensor) -> torch.Tensor:
    """Three equal channels of brightness (ITU-R 601, rounded in fixed point as Pillow does)."""
    red, green, blue = image.int()
    brightness = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return brightness.to(torch.uint8).expand(3, -1, -1)


def jitter(image: torch.Tensor, config, rng: np.random.Generator) -> torch.Tensor:
    """Change brightness, contrast, saturation and hue in random order, each by a uniformly drawn amount."""
    from torchvision.transforms.v2 import functional as colour

    def factor(spread: float) -> float:
        return float(rng.uniform(max(0.0, 1 - spread), 1 + spread))

    steps = [
        (colour.adjust_brightness, factor(config.brightness)),
        (colour.adjust_contrast, factor(config.contrast)),
        (colour.adjust_saturation, factor(config.saturation)),
        (colour.adjust_hue, float(rng.uniform(-config.hue, config.hue))),
    ]
    for place in rng.permutation(len(steps)):
        step, amount = steps[place]
        image = step(image, amount)
    return image


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


def erase(image: torch.Tensor, box: tuple[int, int, int, int], fill) -> None:
    """Overwrite the box (top, left, height, width) of a normalised (3, H, W) image, in place."""
    top, left, tall, wide = box
    image[:, top : top + tall, left : left + wide] = torch.tensor(fill, dtype=image.dtype).view(3, 1, 1)
