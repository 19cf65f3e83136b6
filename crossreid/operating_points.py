"""What a threshold at some distance would have done to the pairs of images of an evaluation.

A distance between two images alone says little: what it is worth follows from how far apart the same model put
images of one person (genuine pairs) and images of two (impostor pairs). Distances are 1 - cosine of the vectors,
from 0 to 2, as the gallery and ``crossreid compare`` give them, whatever the method's own metric is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossreid.bundled import located
from crossreid.records import MODALITIES, Trial, UserError

# Shares of the pairs whose distances are kept: finely where false positives are rare, as there thresholds are set.
SHARES = (
    *(digit * 10.0**power for power in range(-7, -2) for digit in (1, 2, 5)),
    *(percent / 100 for percent in range(1, 100)),
    0.995,
    0.999,
    1.0,
)
# More pairs of one row are thinned out by leaving out queries, evenly spread; this many take about a second.
PAIRS = 10_000_000


@dataclass(frozen=True)
class Place:
    """What a threshold did in one row of an evaluation; every pair at the distance or closer counts as accepted.

    row: name of the row. modalities: of its queries and of its gallery; ``"both"`` where they are mixed.
    true_positive, false_positive: accepted share of the genuine and of the impostor pairs.
    genuine, impostor: how many pairs there were, so that a share below one of them means "none of so many".
    """

    subset: str
    modalities: tuple[str, str]
    true_positive: float
    false_positive: float
    genuine: int
    impostor: int


def of(genuine, impostor) -> dict:
    """Sorted distances thinned out to ``SHARES``, as JSON can hold them.

    genuine, impostor: one-dimensional arrays of the distances of pairs of one person and of two, not empty.
    """
    return {"genuine": _thinned(genuine), "impostor": _thinned(impostor)}


def measure(vectors, identity, modality, trials: Iterable[Trial], pairs: int = PAIRS) -> list[dict]:
    """The operating points of every row of a protocol, over the pairs that its trials allow.

    vectors: (N, D) of any length. identity: (N,), equal for images of one person. modality: (N,) of
        ``"visible"`` and ``"infrared"``.
    trials: which images are compared; those of one row are pooled.
    Rows without a pair of either kind are left out.
    """
    vectors, identity, modality = np.asarray(vectors, np.float32), np.asarray(identity), np.asarray(modality)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rows: dict[str, list[Trial]] = {}
    for trial in trials:
        rows.setdefault(trial.subset, []).append(trial)
    measured = []
    for row, parts in rows.items():
        kinds: tuple[list, list] = [], []
        for trial in parts:
            count = max(1, min(len(trial.query), pairs // len(parts) // max(1, len(trial.gallery))))
            chosen = np.unique(np.linspace(0, len(trial.query) - 1, count).round().astype(int))
            query, gallery = np.asarray(trial.query)[chosen], np.asarray(trial.gallery)
            distance = 1 - unit[query] @ unit[gallery].T
            allowed = np.ones(distance.shape, bool)
            if trial.excluded is not None:
                allowed = np.asarray(trial.excluded[0])[chosen, None] != np.asarray(trial.excluded[1])
            same = identity[query, None] == identity[gallery]
            kinds[0].append(distance[same & allowed])
            kinds[1].append(distance[~same & allowed])
        genuine, impostor = (np.concatenate(kind) for kind in kinds)
        if len(genuine) and len(impostor):
            sides = [
                _modality_of(modality[np.concatenate([getattr(trial, side) for trial in parts])])
                for side in ("query", "gallery")
            ]
            measured.append({"subset": row, "modalities": sides, **of(genuine, impostor)})
    return measured


def place(points: Sequence[dict], distance: float, modalities: tuple[str, str] | None = None) -> list[Place]:
    """Where a distance lies in each row of ``measure`` that compared these modalities, in either direction."""
    return [
        Place(
            each["subset"],
            tuple(each["modalities"]),
            _share(each["genuine"], distance),
            _share(each["impostor"], distance),
            each["genuine"]["pairs"],
            each["impostor"]["pairs"],
        )
        for each in points
        if modalities is None or _compares(each["modalities"], modalities)
    ]


def read(
    model: str | Path, fingerprint: str | None = None, feature: str | None = None
) -> tuple[list[dict], str]:
    """The operating points that are known of a model, and a sentence that says from where, or why there are none.

    model: a checkpoint, beside which the evaluation of its run lies (``evaluation.json``, perhaps ``features.npz``),
        or an exported model, whose ``model.json`` carries them.
    fingerprint, feature: of the model, where known; an evaluation of another is then passed over.
    """
    model = located(model)
    exported = model.is_dir() or model.suffix.lower() == ".onnx"
    folder = model if model.is_dir() else model.parent
    found = folder / ("model.json" if exported else "evaluation.json")
    if not found.is_file():
        return [], f"no {found.name} lies beside {model.name}, so nothing says how this model was evaluated"
    again = f"evaluate the model with crossreid evaluate {model} --out {folder}"
    try:
        content = json.loads(found.read_text(encoding="utf-8"))
        mine = {"feature": feature, "fingerprint": fingerprint}
        if not exported:
            mine["checkpoint"] = model.name
        for what, value in mine.items():
            if value and content.get(what, value) != value:
                return (
                    [],
                    f"{found} is the evaluation of another model, whose {what} is {content[what]}; {again}",
                )
        points = content.get("operating_points") or []
        if points:
            place(points, 1.0)
            return points, str(found)
        features = folder / "features.npz"
        if features.is_file() and not exported:
            return _from_features(features), str(features)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{found} does not hold what crossreid writes there ({type(error).__name__}: {error}): {again}, or remove "
            "the file"
        ) from error
    if exported:
        again = "evaluate the checkpoint with crossreid evaluate, and export it again"
    return [], f"{found} says nothing of distances; {again}"


def _from_features(path: Path) -> list[dict]:
    """Measured over the trials that ``features.npz`` of an evaluation records."""
    with np.load(path, allow_pickle=False) as stored:
        trials = []
        for number, row in enumerate(json.loads(str(stored["record"]))["trials"]):
            rule = None
            if f"excluded_query_{number}" in stored:
                rule = stored[f"excluded_query_{number}"], stored[f"excluded_gallery_{number}"]
            trials.append(Trial(row, stored[f"query_{number}"], stored[f"gallery_{number}"], rule))
        who = np.stack([stored["domain"], stored["identity"]], 1)
        person = np.unique(who, axis=0, return_inverse=True)[1].reshape(-1)
        return measure(stored["vectors"], person, stored["modality"], trials)


def _thinned(distances) -> dict:
    distances = np.sort(np.asarray(distances, np.float64).reshape(-1))
    count = len(distances)
    if not count or not np.isfinite(distances[[0, -1]]).all():
        raise ValueError(f"{count} distances: expected one or more finite numbers")
    shares = [1 / count, *(share for share in SHARES if share > 1 / count)]
    # The smallest distance that accepts at least this share of the pairs.
    rows = [min(count, math.ceil(share * count - 1e-9)) - 1 for share in shares]
    return {
        "pairs": count,
        "share": [float(f"{share:.8g}") for share in shares],
        "distance": [float(f"{distances[row]:.7g}") for row in rows],
    }


def _share(kept: dict, distance: float) -> float:
    """Share of the pairs at ``distance`` or closer, interpolated between those that were kept."""
    shares, distances = kept["share"], kept["distance"]
    above = int(np.searchsorted(distances, distance, side="right"))
    if above == 0:
        return 0.0
    if above == len(distances):
        return 1.0
    low, high = distances[above - 1], distances[above]
    part = (distance - low) / (high - low)
    return shares[above - 1] + part * (shares[above] - shares[above - 1])


def _compares(row: Sequence[str], wanted: tuple[str, str]) -> bool:
    fits = [all(mine in (one, "both") for mine, one in zip(row, order)) for order in (wanted, wanted[::-1])]
    return any(fits)


def _modality_of(values: np.ndarray) -> str:
    found = [name for name in MODALITIES if (values == name).any()]
    return found[0] if len(found) == 1 else "both"
