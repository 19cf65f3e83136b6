"""Augmentations chosen by name: mixtures of many small changes, and patches of other images.

Each is a function of an ``image`` (h, w, 3) uint8 and ``rng``, the image's own numpy generator, where it names it also
of its ``modality`` (0 visible, 1 infrared). One that names ``batch`` gets the image as it was resized, cropped and
flipped, and with it all images of its batch in that state; all others get it as it was decoded. One without ``rng`` is
called as torchvision's transforms are: with a tensor (3, h, w) uint8, drawing from torch's generator.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from crossreid import outside
from crossreid.records import UserError, did_you_mean

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
    drawn = Image.fromarray(image)
    for name, probability, tenths in _POLICIES[rng.integers(len(_POLICIES))]:
        if rng.random() < probability:
            how = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[rng.integers(2)]
            drawn = _OPERATIONS[name](drawn, _sign(name, rng) * tenths / 10, _GREY, how)
    return np.array(drawn)


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
    patched = image.copy()
    patched[top : top + tall, left : left + wide] = patch
    return patched


def channel_exchange(
    image: np.ndarray, rng: np.random.Generator, modality: int = 0, probability: float = 0.5
) -> np.ndarray:
    """Red, green or blue of a visible image in the place of all three (Ye et al. 2021, "Channel augmented joint
    learning for visible-infrared recognition"); infrared images stay as they are."""
    if modality != 0 or rng.random() >= probability:
        return image
    return np.repeat(image[:, :, rng.integers(3), None], 3, axis=2)


AUGMENTATIONS: dict[str, Callable] = {
    "auto_augment": auto_augment,
    "augmix": augmix,
    "random_patch": random_patch,
    "channel_exchange": channel_exchange,
}
_GIVEN = ("image", "rng", "batch", "modality")


class Seeded:
    """A transform that draws from torch's generator, as torchvision's do, drawing by the image's own one instead;
    torch's is left as it was."""

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        import torch

        before = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            changed = self.transform(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())
        finally:
            torch.set_rng_state(before)
        return changed.permute(1, 2, 0).numpy()


def chosen(entries: Sequence[str | Mapping]) -> tuple[list[Callable], list[Callable]]:
    """What the setting ``data.augment`` lists, in its order: those that take images as decoded, and those that take
    them with their batch. Each is called by ``changed``.

    entries: names, or mappings of a name and options such as ``{name: random_patch, probability: 0.5}``. A name is of
    ``AUGMENTATIONS``, of ``torchvision.transforms.v2``, or ``package.module:Name``. Each that is not of this library is
    tried on a small image, so that a wrong option is found before training.
    """
    changes = [_one(entry) for entry in entries]
    early = [change for change in changes if "batch" not in _taken(change)]
    return early, [change for change in changes if "batch" in _taken(change)]


def changed(change: Callable, **given) -> np.ndarray:
    """The image after one of what ``chosen`` returned. given: image, rng, batch, modality."""
    return change(**{name: given[name] for name in _taken(change) if name in given})


def _taken(function: Callable) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _one(entry: str | Mapping) -> Callable:
    options: dict[str, Any] = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = options.pop("name", None)
    if name not in tuple(AUGMENTATIONS):
        return _from_elsewhere(name, options)
    function = AUGMENTATIONS[name]
    known = [key for key in _taken(function) if key not in _GIVEN]
    for key, value in options.items():
        if key not in known or not 0 <= value <= 1:
            raise UserError(
                f"data.augment gives {name} the option {key} {value!r}: it takes {', '.join(known) or 'none'}"
                + (", from 0 to 1" if known else "")
            )
    return partial(function, **options)


def _from_elsewhere(name: Any, options: dict[str, Any]) -> Callable:
    kind: Callable = outside.find(name) if outside.named(name) else _of_torchvision(name)
    given = f"data.augment: {name} with {options or 'no options'}"
    image = np.random.default_rng(0).integers(0, 256, (256, 128, 3), np.uint8)
    try:
        inspect.signature(kind).bind_partial(**options)
        change: Any = kind(**options) if inspect.isclass(kind) else partial(kind, **options)
        if "rng" not in _taken(change):
            change = Seeded(change)
        tried = [
            changed(change, image=image, rng=np.random.default_rng(seed), batch=[image], modality=seed % 2)
            for seed in range(4)
        ]
    except Exception as error:
        raise UserError(
            f"{given} fails on an image of 256 x 128 pixels ({type(error).__name__}: {error}): look up which options "
            "it takes, and choose one that changes single images of bytes"
        ) from error
    for each in tried:
        array = isinstance(each, np.ndarray)
        whole = array and each.dtype == np.uint8 and each.ndim == 3 and each.shape[2] == 3
        if not whole or ("batch" in _taken(change) and each.shape != image.shape):
            made = f"{each.dtype} of shape {each.shape}" if array else type(each).__name__
            raise UserError(
                f"{given} makes {made} of an image: expected bytes of three channels, and "
                "the same size where it takes the batch; images are resized and normalised elsewhere"
            )
    return change


def _of_torchvision(name: Any) -> type:
    from torchvision.transforms import v2

    kinds = {
        key: kind
        for key, kind in vars(v2).items()
        if inspect.isclass(kind) and issubclass(kind, v2.Transform) and kind is not v2.Transform
    }
    if not isinstance(name, str) or name not in kinds:
        raise UserError(
            f"data.augment has {name!r}{did_you_mean(name, (*AUGMENTATIONS, *kinds))}: choose one of "
            f"{', '.join(AUGMENTATIONS)}, a transform of torchvision.transforms.v2 such as RandAugment, or one of your "
            "own by package.module:Name"
        )
    return kinds[name]


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
