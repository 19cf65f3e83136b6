"""Features in a NumPy archive (``.npz``): what it holds, and what is wrong with it. Needs numpy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crossreid.formats.arrays import read_npz
from crossreid.formats.shape import NOTHING, TEXT, unlike
from crossreid.formats.text import parse_json
from crossreid.records import Metric, UserError

LABELS = ("identity", "camera", "modality", "domain")
EXPECTED = (
    "expected a NumPy archive with vectors (N, D), as `crossreid evaluate --evaluate.features true` or "
    "`crossreid embed` writes it"
)
_METRICS = {
    "*": {"feature?": (NOTHING, TEXT), "stripes?": (NOTHING, lambda value: value in ("aligned", "unaligned"))}
}


def stripes_size(path: Path, shape, half: bool) -> str:
    """How large the stripes will be, a sentence."""
    size = (2 if half else 4) * int(np.prod(shape))
    other = "" if half else ", half of it with float16"
    count, stripes, channels = shape
    return (
        f"the stripes of {count} images ({stripes} x {channels} numbers each) make {path} "
        f"{size / 1e6:.0f} MB larger{other}"
    )


def archive(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz``, of which none is ever unpickled."""
    if not path.is_file():
        raise UserError(f"there are no features at {path}: {EXPECTED}")
    return read_npz(path, EXPECTED)


def check_archive(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise UserError where the arrays are not features with a value of each label for each of them."""
    features = arrays.get("vectors")
    if features is None or features.ndim != 2 or not features.size:
        held = (
            f"vectors of shape {features.shape}" if features is not None else ", ".join(arrays) or "nothing"
        )
        raise UserError(f"{path} holds {held}: {EXPECTED}")
    if features.dtype.kind not in "fiu":
        raise UserError(
            f"{path} holds vectors of the type {features.dtype}: numbers are expected, whole or with a fraction"
        )
    for name in (*LABELS, "path", "array_index"):
        if name in arrays and arrays[name].shape != (len(features),):
            raise UserError(
                f"{path}: {name} has the shape {arrays[name].shape}, but there are {len(features)} vectors: one value "
                "each was expected"
            )
    stripes = arrays.get("stripes")
    if stripes is not None and (stripes.ndim != 3 or len(stripes) != len(features)):
        raise UserError(
            f"{path}: stripes have the shape {stripes.shape}, but there are {len(features)} vectors: (N, S, C) was "
            "expected, S stripes of C numbers for each"
        )


def written_metrics(metrics: Mapping[str, Metric]) -> str:
    """Metrics by the name of the feature, as an archive holds them."""
    return json.dumps({name: vars(metric) for name, metric in metrics.items()})


def read_metrics(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, Metric]:
    """Metrics by the name of the feature, of those that the arrays serve; none where the file does not tell them."""
    try:
        told = parse_json(str(arrays.get("metrics", "{}")))
        if wrong := unlike(told, _METRICS, "metrics"):
            raise ValueError(f"{wrong} is not understood")
        found = {name: Metric(**each) for name, each in told.items()}
        if Metric(None, None) in found.values():
            raise ValueError("one of the metrics compares nothing")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} does not say how its features are compared ({error}): write it again"
        ) from error
    return {name: each for name, each in found.items() if each.stripes is None or "stripes" in arrays}
