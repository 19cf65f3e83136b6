"""Small copies of images, for galleries, the search page and reports."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PILImage

# Width and height at most: enough for a look, and little beside a feature.
SIZE = 96, 192


def thumbnail(pixels: np.ndarray, size: tuple[int, int] = SIZE) -> bytes:
    """A JPEG of (H, W, 3) uint8 that fits into ``size`` (width, height); nothing is enlarged, and nothing else that a
    file held, such as its metadata, is in it."""
    image, file = PILImage.fromarray(pixels), io.BytesIO()
    image.thumbnail(size)
    image.save(file, format="JPEG", quality=85)
    return file.getvalue()
