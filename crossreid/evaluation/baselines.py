"""What can be recognised without learning: two plain descriptions to hold a trained network against."""

from __future__ import annotations

import numpy as np


def raw_pixels(images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, 1536) float32: 32 x 16 averaged colours, without their mean, of unit
    length."""
    small = _shrink(np.asarray(images), 32, 16).reshape(len(images), -1)
    return _unit(small - small.mean(axis=1, keepdims=True))


def striped_histogram(images: np.ndarray, stripes: int = 6) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, stripes x 128) float32 of unit length: for each horizontal stripe of the
    middle 70 hundredths of the width, the joint histogram of hue (8), saturation (4) and value (4).

    The square root is taken of each count, so that the inner product is the Bhattacharyya coefficient.
    """
    images = np.asarray(images)
    count, height, width, _ = images.shape
    images = images[:, :, round(0.15 * width) : round(0.85 * width)].astype(np.float32) / 255
    value = images.max(axis=3)
    spread = value - images.min(axis=3)
    red, green, blue = np.moveaxis(images, 3, 0)
    safe = np.where(spread > 0, spread, 1)
    hue = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = np.where(spread > 0, hue / 6 % 1, 0)
    saturation = spread / np.where(value > 0, value, 1)
    bins = (np.minimum(hue * 8, 7).astype(np.int64) * 4 + np.minimum(saturation * 4, 3).astype(np.int64)) * 4
    bins += np.minimum(value * 4, 3).astype(np.int64)
    stripe = np.arange(height) * stripes // height
    bins += (np.arange(count)[:, None, None] * stripes + stripe[:, None]) * 128
    counts = np.bincount(bins.ravel(), minlength=count * stripes * 128).reshape(count, -1)
    return _unit(np.sqrt(counts.astype(np.float32)))


def _shrink(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages over the cells of a height x width grid: (N, height, width, 3) float32."""
    rows = np.arange(height) * images.shape[1] // height
    columns = np.arange(width) * images.shape[2] // width
    total = np.add.reduceat(images, rows, axis=1, dtype=np.float32)
    total = np.add.reduceat(total, columns, axis=2)
    tall = np.diff(np.append(rows, images.shape[1]))[:, None, None]
    wide = np.diff(np.append(columns, images.shape[2]))[:, None]
    return total / (tall * wide)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
