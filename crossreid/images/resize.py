"""The one way an image is brought to the size of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as PILImage

FILTERS = {name: PILImage.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}


def fit(pixels: np.ndarray, size: Sequence[int], interpolation: str) -> np.ndarray:
    """Bring an image (h, w, 3) uint8 to the size (H, W) of a model, by Pillow's filter of that name, first across and
    then down.

    The one step between a decoded image and a model, for checkpoints and exported models alike
    (``crossreid.data.kernels`` does it for whole batches, to the same bytes). An image that already has the size comes
    back as it is.
    """
    if tuple(pixels.shape[:2]) == tuple(size):
        return pixels
    image, (height, width) = PILImage.fromarray(np.ascontiguousarray(pixels)), size
    if height < image.height:
        # Since version 13 Pillow itself may go down first here, which rounds otherwise.
        image = image.resize((width, image.height), FILTERS[interpolation])
    return np.array(image.resize((width, height), FILTERS[interpolation]))
