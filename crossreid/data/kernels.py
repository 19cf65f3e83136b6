"""Compiled loops over images: cut and resized as ``images.resize.fit`` does it, to the byte, and normalised.

Pillow copies an image six times on its way from an array to a flipped cut of an array; these go once across and once
down and write where the batch lies. Imported inside functions only, since numba takes its time to load.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import numpy as np

from crossreid.ops.kernels import compiled

# Weights are whole numbers, this many of which make 1, and sums are rounded to bytes after each of the two passes.
_ONE = 1 << 22


def _bilinear(distance: float) -> float:
    return max(1 - abs(distance), 0.0)


def _bicubic(distance: float) -> float:
    distance = abs(distance)
    if distance < 1:
        return (1.5 * distance - 2.5) * distance * distance + 1
    return (((distance - 5) * distance + 8) * distance - 4) * -0.5 if distance < 2 else 0.0


def _lanczos(distance: float) -> float:
    return _sinc(distance) * _sinc(distance / 3) if -3 <= distance < 3 else 0.0


def _sinc(value: float) -> float:
    return math.sin(value * math.pi) / (value * math.pi) if value else 1.0


# Each filter with the distance in pixels from which on it is zero.
_FILTERS: dict[str, tuple[Callable[[float], float], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


@functools.lru_cache(maxsize=4096)
def _weights(given: int, wanted: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """How each of ``wanted`` pixels is made of ``given`` ones: (wanted, 2) the first of them and their number, and
    (wanted, most) int32 their weights, in units of 1 / ``_ONE``."""
    weigh, reach = _FILTERS[interpolation]
    scale = given / wanted
    stretch = max(scale, 1.0)
    reach *= stretch
    spans = np.empty((wanted, 2), np.int64)
    weights = np.zeros((wanted, math.ceil(reach) * 2 + 1), np.int32)
    for at in range(wanted):
        centre = (at + 0.5) * scale
        first, end = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), given)
        values = [weigh((pixel - centre + 0.5) * (1 / stretch)) for pixel in range(first, end)]
        # One after the other, as Pillow adds them: Python's sum is more exact.
        total = functools.reduce(operator.add, values)
        spans[at] = first, end - first
        for place, value in enumerate(values):
            share = value / total * _ONE
            weights[at, place] = int(share + 0.5 if share >= 0 else share - 0.5)
    return spans, weights


def place(
    array: np.ndarray,
    out: np.ndarray,
    size: tuple[int, int],
    interpolation: str,
    cut: tuple[int, int] = (0, 0),
    shift: tuple[int, int] = (0, 0),
    flip: bool = False,
) -> None:
    """Bring an image (h, w, 3) uint8 to ``size``, cut a piece of ``out``'s size out of it, move that, mirror it, and
    write it to ``out`` (3, H, W) uint8.

    cut: the piece's first row and column, inside the resized image. shift: how far up and left the piece is moved; what
    it leaves free is black.
    """
    # One kind of array, since each kind is compiled on its own; rows of a prepared array may not be written to.
    array = np.require(np.asarray(array), requirements=("C", "W"))
    height, width = out.shape[1:]
    spans, weights = _weights(array.shape[1], size[1], interpolation)
    across = spans[cut[1] : cut[1] + width], weights[cut[1] : cut[1] + width]
    spans, weights = _weights(array.shape[0], size[0], interpolation)
    down = spans[cut[0] : cut[0] + height], weights[cut[0] : cut[0] + height]
    if array.shape == (height, width, 3) and tuple(size) == (height, width):
        _copy(array, out, *shift, flip)
    else:
        _resample(array, out, *across, *down, *shift, flip)


def normalise(pixels: np.ndarray, scale: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
    """(B, 3, H, W) uint8 -> float32 ``out``: each value times its channel's scale, less its shift, both (3,)."""
    shape = (len(pixels), 3, -1)
    _scale(pixels.reshape(shape), scale, shift, out.reshape(shape))


@compiled
def _scale(pixels, scale, shift, out):
    for image in range(pixels.shape[0]):
        for channel in range(3):
            values, into = pixels[image, channel], out[image, channel]
            factor, less = scale[channel], shift[channel]
            for at in range(len(values)):
                into[at] = np.float32(values[at]) * factor - less


@compiled
def _seen(out, up, left, flip):
    """The first row and the end of the rows of an image of ``out``'s size that are seen where it is moved and mirrored
    as ``place`` says, the same of its columns, and the column of ``out`` where these begin; black is what is left."""
    height, width = out.shape[1], out.shape[2]
    top, bottom = max(up, 0), min(height + up, height)
    start, end = max(left, 0), min(width + left, width)
    if start >= end:  # moved out of sight
        top = bottom = start = end = 0
    margin = width - end + left if flip else start - left
    for y in range(height):
        if top <= y + up < bottom:
            out[:, y, :margin] = 0
            out[:, y, margin + end - start :] = 0
        else:
            out[:, y] = 0
    return top, bottom, start, end, margin


@compiled
def _copy(array, out, up, left, flip):
    """Each channel of an image that has ``out``'s size already, moved and mirrored as ``place`` says."""
    top, bottom, start, end, margin = _seen(out, up, left, flip)
    for row in range(top, bottom):
        y, pixels = row - up, array[row, start:end]
        # Of one channel each, with plain steps of one, because only so are these loops compiled to vector instructions.
        red, green, blue = (
            out[0, y, margin : margin + end - start],
            out[1, y, margin : margin + end - start],
            out[2, y, margin : margin + end - start],
        )
        if flip:
            last = len(pixels) - 1
            for x in range(len(pixels)):
                red[x], green[x], blue[x] = pixels[last - x, 0], pixels[last - x, 1], pixels[last - x, 2]
        else:
            for x in range(len(pixels)):
                red[x], green[x], blue[x] = pixels[x, 0], pixels[x, 1], pixels[x, 2]


@compiled
def _resample(array, out, columns, column_weights, rows, row_weights, up, left, flip):
    """Resized, moved and mirrored as ``place`` says: across for the rows that count, then down."""
    top, bottom, start, end, margin = _seen(out, up, left, flip)
    if top >= bottom:
        return
    first = rows[top, 0]
    between = _across(
        array[first : rows[bottom - 1, 0] + rows[bottom - 1, 1]],
        columns[start:end],
        column_weights[start:end],
        flip,
    )
    sums = np.empty(end - start, np.int32)
    for row in range(top, bottom):
        for channel in range(3):
            sums[:] = _ONE >> 1
            for place in range(rows[row, 1]):
                weight = row_weights[row, place]
                pixels = between[channel, rows[row, 0] - first + place]
                for x in range(len(sums)):
                    sums[x] += np.int32(pixels[x]) * weight
            _round(sums, out[channel, row - up, margin : margin + end - start])


@compiled
def _across(array, columns, weights, flip):
    """(h, w, 3) -> (3, h, W): each row resized. Goes along the columns, whose pixels are put side by side before."""
    height, width = array.shape[0], len(columns)
    turned = np.empty((array.shape[1], 3, height), np.uint8)
    for y in range(height):
        for x in range(array.shape[1]):
            for channel in range(3):
                turned[x, channel, y] = array[y, x, channel]
    resized = np.empty((3, width, height), np.uint8)
    sums = np.empty(height, np.int32)
    for x in range(width):
        for channel in range(3):
            sums[:] = _ONE >> 1
            for place in range(columns[x, 1]):
                weight = weights[x, place]
                pixels = turned[columns[x, 0] + place, channel]
                for y in range(height):
                    sums[y] += np.int32(pixels[y]) * weight
            _round(sums, resized[channel, width - 1 - x if flip else x])
    out = np.empty((3, height, width), np.uint8)
    for channel in range(3):
        for y in range(height):
            for x in range(width):
                out[channel, y, x] = resized[channel, x, y]
    return out


@compiled
def _round(sums, out):
    """Sums of weighted pixels as bytes."""
    for at in range(len(out)):
        out[at] = min(max(sums[at] >> 22, np.int32(0)), np.int32(255))
