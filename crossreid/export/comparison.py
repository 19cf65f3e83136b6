"""How the files of an exported model are compared before they are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossreid import synthetic
from crossreid.images.resize import fit
from crossreid.records import MODALITIES, Embedding

BATCHES = (1, 2, 5)
TOLERANCE = {"float32": 1e-4, "float16": 3e-2}


def rendered(size: Sequence[int], interpolation: str) -> dict[str, np.ndarray]:
    """Rendered people of a model's size, (5, H, W, 3) of each modality."""

    def image(number: int, modality: str) -> np.ndarray:
        crop = synthetic.render(synthetic.person(number), synthetic.camera(1, modality=modality), number)
        return fit(crop, size, interpolation)

    return {name: np.stack([image(number, name) for number in range(max(BATCHES))]) for name in MODALITIES}


def difference(expected: Embedding, found: Embedding) -> float:
    """Largest distance of a vector, or a stripe, to its counterpart, as a share of its length; NaN if any is."""
    pairs = [(expected.feature, found.feature)]
    if expected.stripes is not None:
        pairs.append((expected.stripes, found.stripes))
    return max(
        float(np.max(np.linalg.norm(a - b, axis=-1) / np.maximum(np.linalg.norm(a, axis=-1), 1e-6)))
        for a, b in pairs
    )


def recorded(errors: list[float], precision: str) -> dict:
    """What the description says of a comparison that found these differences."""
    return {
        "images": "rendered people",
        "batches": list(BATCHES),
        "largest_relative_difference": max(errors),
        "tolerance": TOLERANCE[precision],
    }
