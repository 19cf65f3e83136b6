"""Which distance means "the same person": thresholds from what an evaluation of the model measured.

A distance between two images alone says little: what it is worth follows from how far apart the same model put images
of one person (genuine pairs) and images of two (impostor pairs). Distances are 1 - cosine of the features, from 0 to 2.
``crossreid.evaluation.verification`` defines the rates and measures them. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np

from crossreid.bundled import located
from crossreid.files import understood
from crossreid.formats.text import read_json
from crossreid.records import MODALITIES, UserError


@dataclass(frozen=True)
class ThresholdStats:
    """What a threshold did in one subset of an evaluation; every pair at the distance or nearer counts as accepted.

    subset: its name. modalities: of its queries and of its gallery; ``"both"`` where they are mixed.
    true_positive, false_positive: accepted share of the genuine and of the impostor pairs.
    genuine, impostor: how many pairs there were, so that a share below one of them means "none of so many".
    """

    subset: str
    modalities: tuple[str, str]
    true_positive: float
    false_positive: float
    genuine: int
    impostor: int


@dataclass(frozen=True)
class Threshold:
    """A distance below which two images count as the same person.

    distance: 1 - cosine. false_positive: at most this share of the impostor pairs is accepted. true_positive: the
    share of the genuine pairs that is. subset, modalities, genuine, impostor: on what it was measured, see
    ``ThresholdStats``.
    """

    distance: float
    false_positive: float
    true_positive: float
    subset: str
    modalities: tuple[str, str]
    genuine: int
    impostor: int

    def accepts(self, distance: float) -> bool:
        """Whether a pair at this distance counts as the same person."""
        return distance < self.distance


def thresholds(
    points: Sequence[Mapping], false_positive: float = 0.01, modalities: tuple[str, str] | None = None
) -> list[Threshold]:
    """The threshold of a false positive rate in each subset that compared these modalities, in either direction.

    points: the operating points of an evaluation. false_positive: the share of impostor pairs to accept at most; the
    nearest rate at or below it that was measured is taken, of ten for each power of ten.

    Raises UserError for a rate that no number of pairs can have, or fewer than there were.
    """
    if not isinstance(false_positive, Real) or not 0 < false_positive <= 1:
        raise UserError(
            f"a false positive rate of {false_positive!r} was asked for: expected a share above 0 and up to 1, "
            "such as 0.01 for one pair of strangers in a hundred"
        )
    pair = list(modalities) if isinstance(modalities, Sequence) else []
    if modalities is not None and (len(pair) != 2 or any(each not in MODALITIES for each in pair)):
        raise UserError(
            f"modalities are {modalities!r}: expected those of the two images that are compared, such as "
            "('visible', 'infrared')"
        )
    found = []
    for each in points:
        if modalities is not None and not _compares(each["modalities"], modalities):
            continue
        rates = each["curve"]["false_positive"]
        at = int(np.searchsorted(rates, false_positive * (1 + 1e-9), side="right")) - 1
        if at < 0:
            raise UserError(
                f"a false positive rate of {false_positive:g} was asked for, but {each['subset']} has "
                f"{each['impostor']['pairs']} pairs of two people, which can tell rates from {rates[0]:.2g} "
                "on: ask for a larger rate, or evaluate on more images"
            )
        found.append(
            Threshold(
                each["curve"]["threshold"][at],
                rates[at],
                each["curve"]["true_positive"][at],
                each["subset"],
                tuple(each["modalities"]),
                each["genuine"]["pairs"],
                each["impostor"]["pairs"],
            )
        )
    return found


def strictest(points: Sequence[Mapping], false_positive: float, modalities, source: str) -> Threshold:
    """Of the subsets' thresholds the smallest, so that the rate is kept in each of them.

    source: what is known of the model, for the message. Raises UserError where nothing is.
    """
    found = thresholds(points, false_positive, modalities)
    if not found:
        raise UserError(f"no threshold is known: {source}")
    return min(found, key=lambda each: each.distance)


def stats_at(
    points: Sequence[Mapping], distance: float, modalities: tuple[str, str] | None = None
) -> list[ThresholdStats]:
    """What a threshold at a distance did in each subset that compared these modalities, in either direction."""
    return [
        ThresholdStats(
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


def known(
    model: str | Path, fingerprint: str | None = None, feature: str | None = None
) -> tuple[list[dict], str]:
    """The operating points that are known of a model, and a clause that says from where, or why there are none.

    model: a checkpoint, beside which the evaluation of its run lies (``evaluation.json``), or an exported model, whose
        ``model.json`` carries them.
    fingerprint, feature: of the model, where known; an evaluation of another is then passed over.
    """
    model = located(model)
    exported = model.is_dir() or model.suffix.lower() in (".onnx", ".mindir")
    folder = model if model.is_dir() else model.parent
    found = folder / ("model.json" if exported else "evaluation.json")
    if not found.is_file():
        return [], f"no {found.name} lies beside {model.name}, so nothing says how this model was evaluated"
    again = f"evaluate the model with crossreid evaluate {model} --out {folder}"
    expected = f"what crossreid writes there was expected: {again}, or remove the file"
    with understood(found, expected):
        content = read_json(found, expected)
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
        stats_at(points, 1.0)
        thresholds(points, 1.0)
    if points:
        # An exported model keeps with each point what the evaluation said of its images.
        rendered = (content.get("protocol") or {}).get("provenance") or points[0].get("provenance")
        if not rendered:
            return points, str(found)
        return [point | {"provenance": rendered} for point in points], f"{found}, on {rendered}"
    if exported:
        again = "evaluate the checkpoint with crossreid evaluate, and export it again"
    return [], f"{found} says nothing of distances; {again}"


def _share(kept: Mapping, distance: float) -> float:
    """Share of the pairs at ``distance`` or nearer, interpolated between those that were kept."""
    shares, distances = kept["share"], kept["distance"]
    above = int(np.searchsorted(distances, distance, side="right"))
    if above == 0:
        return 0.0
    if above == len(distances):
        return 1.0
    low, high = distances[above - 1], distances[above]
    part = (distance - low) / (high - low)
    return shares[above - 1] + part * (shares[above] - shares[above - 1])


def _compares(subset: Sequence[str], wanted: tuple[str, str]) -> bool:
    fits = [
        all(mine in (one, "both") for mine, one in zip(subset, order)) for order in (wanted, wanted[::-1])
    ]
    return any(fits)
