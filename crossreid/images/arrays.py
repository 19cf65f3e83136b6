"""Images that are arrays already, of NumPy or torch, as (H, W, 3) uint8."""

from __future__ import annotations

import warnings

import numpy as np

from crossreid.records import UserError

# Share of the pixels of a 16-bit image that may be black, and that may be white: dead pixels and lamps decide nothing.
CLIPPED = 0.005
# Fewer grey levels than these leave little to tell people apart by.
FEW_LEVELS = 32
BAND = 256  # rows at once


def is_tensor(source) -> bool:
    """Whether it is a tensor of torch, which is not loaded to find out."""
    return type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach")


def checked(source) -> np.ndarray:
    """An image given as an array or a tensor as (H, W, 3) uint8, its channels in the order they came in.

    source: uint8 of shape (H, W, 3), (H, W, 1) or (H, W); uint16 of shape (H, W) or (H, W, 1), see ``grey16``; or a
        tensor of torch of these, which may have its channels first and may be float from 0 to 1.
    Raises UserError for anything else.
    """
    array = _from_tensor(source) if is_tensor(source) else source
    # As readers of TIFF give them; others are as they are.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    if 0 in array.shape or not (
        grey or (array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8)
    ):
        raise UserError(
            f"an image given as an array has shape {tuple(source.shape)} and type {source.dtype}: expected (height, "
            "width, 3) uint8; (height, width) uint8 or uint16 where it is grey; or a torch tensor, also with its "
            "channels first or of floats from 0 to 1"
        )
    if grey:
        values = array if array.dtype == np.uint8 else grey16(array)
        return np.repeat(values[:, :, None], 3, axis=2)
    # Views such as frame[:, :, ::-1], the usual way from OpenCV's blue-first order, have steps torch does not take.
    return array if min(array.strides) > 0 else np.ascontiguousarray(array)


def grey16(values: np.ndarray) -> np.ndarray:
    """16-bit grey (H, W), whole numbers from 0 to 65535, as uint8.

    Linear between two levels of the image itself, which become black and white: half a percent of its pixels lie below
    the one and above the other. Thermal cameras use a small part of their 16 bits, and not always the same. Warns where
    few grey levels remain.
    """
    bands = [slice(top, top + BAND) for top in range(0, len(values), BAND)]
    counts = np.sum([np.bincount(values[band].ravel(), minlength=65536) for band in bands], axis=0).cumsum()
    allowed = int(CLIPPED * values.size)
    low = int(np.searchsorted(counts, allowed, side="right"))
    high = int(np.searchsorted(counts, values.size - allowed, side="left"))
    if high - low + 1 < FEW_LEVELS and high > low:
        warnings.warn(
            f"a 16-bit image has fewer than {FEW_LEVELS} grey levels between its darkest and its brightest half "
            "percent, which leave little to tell people apart by: give what the camera measured, not divided before",
            stacklevel=2,
        )
    table = np.clip((np.arange(65536) - low) * (255 / max(high - low, 1)) + 0.5, 0, 255).astype(np.uint8)
    # By bands, as an index takes eight bytes a pixel.
    grey = np.empty(values.shape, np.uint8)
    for band in bands:
        grey[band] = table[values[band]]
    return grey


def _from_tensor(tensor) -> np.ndarray:
    values = tensor.detach().cpu()
    # NumPy knows no bfloat16.
    array = (values.float() if values.is_floating_point() else values).numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if np.issubdtype(array.dtype, np.floating):
        if array.size and not (array.min() >= 0 and array.max() <= 1):
            raise UserError(
                f"an image given as a tensor of {tensor.dtype} has values from {array.min():g} to {array.max():g}: "
                "expected float from 0 to 1, not normalised by means, or uint8"
            )
        array = (array * 255 + 0.5).astype(np.uint8)
    return array
