"""The one way an image is brought to the size of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as PILImage

FILTERS = {name: PILImage.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}


def fit(pixels: np.ndarray, size: Sequence[int], interpolation: str) -> np.ndarray:
    """Bring an image (h, w, 3) uint8 to the size (H, W) of a model, by Pillow's filter of that name.

    The one step between a decoded image and a model, for checkpoints and exported models alike. An image that
    already has the size comes back as it is.
    """
    if tuple(pixels.shape[:2]) == tuple(size):
        return pixels
    image = PILImage.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((size[1], size[0]), FILTERS[interpolation]))
