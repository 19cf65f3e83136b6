"""What is done to a whole batch where the network works: grey, changed colours, normalisation, erasing.

Workers send bytes, a quarter of the memory of numbers, and with them what each image's own generator drew. Nothing here
draws, and nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crossreid.records import take


@dataclass(frozen=True)
class Draw:
    """What was drawn for one image.

    grey: whether it loses its colour.
    jitter: None, or the amounts of brightness, contrast, saturation and hue, and the order of these four.
    box: None, or (top, left, height, width) of the rectangle to erase.
    """

    grey: bool = False
    jitter: tuple[tuple[float, ...], tuple[int, ...]] | None = None
    box: tuple[int, int, int, int] | None = None


def finish(pixels: torch.Tensor, draws: Sequence[Draw], config) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> float32 for the network, on the same device. draws: one for each image, or none."""
    batch = normalise(recolour(pixels, draws), config)
    boxes = [(place, draw.box) for place, draw in enumerate(draws) if draw.box is not None]
    if boxes:
        fill = torch.tensor(config.erase.fill).view(3, 1, 1).to(batch.device, non_blocking=True)
        for place, (top, left, tall, wide) in boxes:
            batch[place, :, top : top + tall, left : left + wide] = fill
    return batch


def recolour(pixels: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> uint8 after grey and jitter; the pixels given are left as they are where nothing was
    drawn, and may be overwritten otherwise."""
    rows = np.array([place for place, draw in enumerate(draws) if draw.grey], np.int64)
    if len(rows):
        pixels[_index(rows, pixels)] = grey(take(pixels, rows))
    drawn = [(place, draw.jitter) for place, draw in enumerate(draws) if draw.jitter is not None]
    if drawn:
        rows = np.array([place for place, _ in drawn])
        amounts = np.array([amounts for _, (amounts, _) in drawn], np.float32)
        orders = np.array([order for _, (_, order) in drawn])
        pixels[_index(rows, pixels)] = jitter(take(pixels, rows), amounts, orders)
    return pixels


def normalise(pixels: torch.Tensor, config) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> float32, (value / 255 - mean) / std."""
    mean, std = np.array(config.mean), np.array(config.std)
    factor, less = (each.astype(np.float32) for each in (1 / (255 * std), mean / std))
    batch = torch.empty(pixels.shape, device=pixels.device)
    if pixels.device.type == "cpu":
        from crossreid.data import kernels

        kernels.normalise(pixels.contiguous().numpy(), factor, less, batch.numpy())
        return batch
    scale, shift = (
        torch.from_numpy(each).view(3, 1, 1).to(pixels.device, non_blocking=True) for each in (factor, less)
    )
    return batch.copy_(pixels).mul_(scale).sub_(shift)


def grey(pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) uint8: three equal channels of brightness (ITU-R 601, rounded in fixed point as Pillow does)."""
    red, green, blue = pixels.int().unbind(1)
    brightness = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return brightness.to(torch.uint8)[:, None].expand_as(pixels)


def jitter(pixels: torch.Tensor, amounts: np.ndarray, orders: np.ndarray) -> torch.Tensor:
    """Change brightness, contrast, saturation and hue of (B, 3, H, W) uint8.

    amounts: (B, 4) float32, one for each of these, factors and a shift in turns of the colour circle. orders: (B, 4),
    which comes first, second, ... in each image. Values are cut to whole ones after each of the four.
    """
    values = pixels.float()
    drawn = torch.from_numpy(amounts).to(values.device, non_blocking=True)
    for place in range(orders.shape[1]):
        for number, change in enumerate((_brightness, _contrast, _saturation, _hue)):
            rows = np.flatnonzero(orders[:, place] == number)
            if len(rows):
                changed = change(take(values, rows), take(drawn, rows)[:, number, None, None, None])
                values[_index(rows, values)] = changed.floor_()
    return values.to(torch.uint8)


def _index(rows: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(rows).to(like.device, non_blocking=True)


def _blend(values: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return (values * share + other * (1 - share)).clamp_(0, 255)


def _luminance(values: torch.Tensor) -> torch.Tensor:
    red, green, blue = values.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[:, None].floor_()


def _brightness(values: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (values * factor).clamp_(0, 255)


def _contrast(values: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(values, _luminance(values).mean((1, 2, 3), keepdim=True), factor)


def _saturation(values: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(values, _luminance(values), factor)


def _hue(values: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Through hue, saturation and value: https://en.wikipedia.org/wiki/HSL_and_HSV"""
    red, green, blue = (values / 255).unbind(1)
    value, lowest = (values / 255).amax(1), (values / 255).amin(1)
    chroma = value - lowest
    divisor = torch.where(chroma == 0, 1, chroma)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue = hue + 6 * shift[:, 0]
    channels = []
    for corner in (5, 3, 1):
        angle = (corner + hue).remainder(6)
        channels.append(value - chroma * torch.minimum(angle, 4 - angle).clamp(0, 1))
    return torch.stack(channels, dim=1) * 255.999
