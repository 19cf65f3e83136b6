"""Augmentations chosen by name: mixtures of many small changes, and patches of other images.

Each is a function of an image (h, w, 3) uint8 and the image's own numpy generator. Those of ``EARLY`` get the
image as it was decoded, those of ``LATE`` as it was resized, cropped and flipped, and with it all images of its
batch in that state.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from crossreid.records import UserError, check_choice

_GREY, _BLACK = (128, 128, 128), (0, 0, 0)


def _enhanced(kind) -> Callable:
    return lambda image, amount, fill, how: kind(image).enhance(0.1 + 1.8 * amount)


def _sheared(across: float, down: float) -> Callable:
    def shear(image, amount, fill, how):
        matrix = (1, across * amount, 0, down * amount, 1, 0)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, how, fillcolor=fill)

    return shear


# What changes an image, by an amount from 0 to 1: of most it is the strength, of posterize what is left, of
# solarize where it begins, of the enhancements a factor from 0.1 to 1.9. Those of ``_SIGNED`` go either way.
_OPERATIONS: dict[str, Callable] = {
    "contrast_stretch": lambda image, amount, fill, how: ImageOps.autocontrast(image),
    "equalize": lambda image, amount, fill, how: ImageOps.equalize(image),
    "invert": lambda image, amount, fill, how: ImageOps.invert(image),
    "posterize": lambda image, amount, fill, how: ImageOps.posterize(image, 4 + int(4 * amount)),
    "solarize": lambda image, amount, fill, how: ImageOps.solarize(image, int(256 * amount)),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "rotate": lambda image, amount, fill, how: image.rotate(30 * amount, how, fillcolor=fill),
    "shear_x": _sheared(0.3, 0),
    "shear_y": _sheared(0, 0.3),
}
_SIGNED = ("rotate", "shear_x", "shear_y")

# Cubuk et al. 2019 (arXiv 1805.09501), table 9, the policies found for ImageNet: two operations each, with their
# probability and their amount in tenths. Five stand there twice and are drawn twice as often.
_POLICIES = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("contrast_stretch", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("contrast_stretch", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)
# Of AugMix, as programs for persons have them: without what moves or turns a person far.
_MIXED = (
    *("contrast_stretch", "equalize", "posterize", "shear_x", "shear_y"),
    *("color", "contrast", "brightness", "sharpness"),
)


def auto_augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the policies that Cubuk et al. found for ImageNet (AutoAugment); what an image leaves empty is grey."""
    changed = Image.fromarray(image)
    for name, probability, tenths in _POLICIES[rng.integers(len(_POLICIES))]:
        if rng.random() < probability:
            how = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[rng.integers(2)]
            changed = _OPERATIONS[name](changed, _sign(name, rng) * tenths / 10, _GREY, how)
    return np.array(changed)


def augmix(image: np.ndarray, rng: np.random.Generator, batch: Sequence[np.ndarray]) -> np.ndarray:
    """AugMix (Hendrycks et al. 2020, arXiv 1912.02781) of severity 1: three chains of one to three operations,
    mixed by weights from Dirichlet(1, 1, 1), and that mixture with the image by a share from Beta(1, 1)."""
    weights, share = rng.dirichlet([1.0] * 3), rng.beta(1, 1)
    mixture = np.zeros(image.shape)
    for weight in weights:
        chain = Image.fromarray(image)
        for _ in range(rng.integers(1, 4)):
            name = _MIXED[rng.integers(len(_MIXED))]
            amount = 0.0 if name == "posterize" else _sign(name, rng) * rng.uniform(0.01, 0.1)
            chain = _OPERATIONS[name](chain, amount, _BLACK, Image.Resampling.BILINEAR)
        mixture += weight * np.asarray(chain)
    return ((1 - share) * image + share * mixture).round().astype(np.uint8)


def random_patch(
    image: np.ndarray, rng: np.random.Generator, batch: Sequence[np.ndarray], probability: float = 0.5
) -> np.ndarray:
    """A patch of another image of the batch, anywhere on this one (Zhou et al. 2019, arXiv 1905.00953).

    The patch has an even share of 1 to 50 % of its image and a height over width from 0.1 to 10; half of them are
    mirrored and half turned by up to 10 degrees. Their programs collect patches of all images in a worker's
    memory; these come from the batch, so that what an image looks like depends on its batch alone.
    """
    height, width = image.shape[:2]
    place = _box(rng, height, width) if rng.random() < probability else None
    if place is None:
        return image
    top, left, tall, wide = place
    other = batch[int(rng.integers(len(batch)))]
    patch = Image.fromarray(other[top : top + tall, left : left + wide])
    if rng.random() < 0.5:
        patch = ImageOps.mirror(patch)
    if rng.random() < 0.5:
        patch = patch.rotate(int(rng.integers(-10, 11)))
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    changed = image.copy()
    changed[top : top + tall, left : left + wide] = patch
    return changed


EARLY: dict[str, Callable] = {"auto_augment": auto_augment}
LATE: dict[str, Callable] = {"augmix": augmix, "random_patch": random_patch}


def chosen(entries: Sequence[str | Mapping]) -> tuple[list[Callable], list[Callable]]:
    """Those of ``EARLY`` and those of ``LATE`` that the setting ``data.augment`` lists, in its order: names, or
    mappings of a name and options such as ``{name: random_patch, probability: 0.5}``."""
    early: list[Callable] = []
    late: list[Callable] = []
    for entry in entries:
        options: dict[str, Any] = {"name": entry} if isinstance(entry, str) else dict(entry)
        name = options.pop("name", None)
        check_choice("data.augment", name, (*EARLY, *LATE))
        function = (EARLY | LATE)[name]
        known = [
            key for key in inspect.signature(function).parameters if key not in ("image", "rng", "batch")
        ]
        for key, value in options.items():
            if key not in known or not 0 <= value <= 1:
                raise UserError(
                    f"data.augment gives {name} the option {key} {value!r}: it takes {', '.join(known) or 'none'}"
                    + (", from 0 to 1" if known else "")
                )
        (early if name in EARLY else late).append(partial(function, **options))
    return early, late


def _sign(name: str, rng: np.random.Generator) -> int:
    return int(rng.choice((-1, 1))) if name in _SIGNED else 1


def _box(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a patch inside the image; None where none of a hundred fits."""
    for _ in range(100):
        area, aspect = rng.uniform(0.01, 0.5) * height * width, rng.uniform(0.1, 10)
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < tall < height and 0 < wide < width:
            return int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1)), tall, wide
    return None
