"""Rules for pairs to disregard, as numbers that two such images share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossreid.records import Image


def identity_and_camera(images: Sequence[Image]) -> np.ndarray:
    """(N,) int64: equal for two images exactly if identity, camera and domain are."""
    keys = np.array([(image.domain, image.identity, image.camera) for image in images], dtype=np.int64)
    return np.unique(keys.reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(-1)
