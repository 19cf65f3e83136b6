"""Small copies of images, which a gallery keeps beside their vectors."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PILImage

# Enough for a look, and little beside a vector.
SIZE = 96, 192
# Columns of an entry that hold the box of a person in a frame.
EDGES = ("left", "top", "right", "bottom")


def thumbnail(pixels: np.ndarray) -> bytes:
    """A JPEG of (H, W, 3) uint8, at most 96 x 192 pixels large."""
    image, file = PILImage.fromarray(pixels), io.BytesIO()
    image.thumbnail(SIZE)
    image.save(file, format="JPEG", quality=85)
    return file.getvalue()
