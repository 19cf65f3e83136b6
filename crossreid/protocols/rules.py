"""Rules for pairs to exclude, as numbers that two such images share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossreid.records import Image, dense_numbers


def identity_and_camera(images: Sequence[Image]) -> np.ndarray:
    """(N,) int64: equal for two images exactly if identity, camera and domain are."""
    names = ("domain", "identity", "camera")
    return dense_numbers(*(np.array([getattr(image, name) for image in images], np.int64) for name in names))
