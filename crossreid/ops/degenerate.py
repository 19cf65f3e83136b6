"""Features that cannot tell images apart, and what is said of them. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossreid import memory
from crossreid.records import UserError, counted

BLOCK = 4096


def notes(features: np.ndarray, names: Sequence[object], least: int = 2) -> list[str]:
    """Sentences on features that are all zero, or all equal; none where nothing is wrong.

    features: (N, D). names: of the N images. least: fewer are not called equal.

    Raises UserError that names the first image whose feature is not a finite number.
    """
    features = np.asarray(features)
    zero, equal = [], len(features) >= least
    for start in range(0, len(features), BLOCK):
        part = features[start : start + BLOCK]
        finite = np.isfinite(part).all(axis=1)
        if not finite.all():
            raise UserError(
                f"the feature of {names[start + int(np.argmin(finite))]} is not a finite number: look at "
                "that image, and at the training that gave these weights"
            )
        zero += (start + np.flatnonzero(~part.any(axis=1))).tolist()
        # What rounding leaves between images that the model sees alike.
        near = 1e-6 * max(float(np.abs(features[0]).max(initial=0)), 1e-30)
        equal = equal and bool((np.abs(part - features[0]) <= near).all())
        memory.let_go(part)
    found = []
    if zero:
        found.append(
            f"The features of {len(zero)} of {counted(len(features), 'image')} are all zero, the first is "
            f"that of {names[zero[0]]}: nothing can be said of them."
        )
    if equal and len(zero) < len(features):
        found.append(
            f"All {len(features)} features are equal, so that no image is nearer than another: the model tells nothing "
            "apart. Look at its training, or at how the images were read."
        )
    return found
