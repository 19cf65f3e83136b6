"""Images of people matched stripe by stripe: which stripe meets which on the cheapest path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossreid.records import UserError
from crossreid.report import evidence
from crossreid.report.figure import slug
from crossreid.report.images import stripe_pairs
from crossreid.report.runs import Run
from crossreid.report.section import Section


@dataclass(frozen=True)
class Pair:
    """Two images and their stripes.

    pixels: two of (H, W, 3) uint8. stripes: (S, C) and (S', C), of unit length, from top to bottom. words: what the
        pair is, such as ``right, rank 1``. right: whether both show one person.
    """

    pixels: tuple[np.ndarray, np.ndarray]
    stripes: tuple[np.ndarray, np.ndarray]
    words: str
    right: bool


@dataclass(frozen=True)
class StripePath:
    """The cheapest path of a pair, [(i, j, distance of stripe i to stripe j), ...], the sum along it, and the sum over
    stripes at equal height, None where the numbers of stripes differ."""

    path: list[tuple[int, int, float]]
    aligned: float
    unaligned: float | None


def stripe_path(left, right) -> StripePath:
    """left: (S, C), right: (S', C) unit stripes; see ``ops.alignment``."""
    from crossreid.ops import alignment

    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    lengths = np.linalg.norm(left[:, None] - right[None], axis=2)
    steps = np.tanh(lengths / 2)
    path = [(i, j, float(steps[i, j])) for i, j in alignment.alignment_path(left, right)]
    straight = float(np.trace(steps)) if len(left) == len(right) else None
    return StripePath(path, sum(step for _, _, step in path), straight)


def section(runs: Sequence[Run], feature: str | None = None) -> Section:
    """For methods with stripes: of the first good, median and worst query, the nearest right and wrong image."""
    folded, failed = {}, {}
    for run, lists in evidence.with_model(runs):
        try:
            method = evidence.model(run)
            wanted = [feature, run.evaluation.get("feature"), *method.features]
            named = [name for name in wanted if name in method.features and method.metric(name).stripes]
            if not named:
                continue
            pairs = [
                pair
                for ranked in evidence.first_of_each_kind(lists)
                for pair in _pairs(run, method, named[0], ranked)
            ]
        except UserError as error:
            failed[run.name] = str(error)
            continue
        title = f"Aligned stripes of {run.name}" if len(runs) > 1 else "Aligned stripes"
        note = f"subset {lists[0]['subset']}, feature {named[0]}"
        folded[run.name] = [stripe_pairs(pairs, f"stripes-{slug(run.name)}", title, note)]
    about = {"failed": failed, "drawn": bool(folded)}
    return Section("Aligned stripes", "stripes.html" if folded or failed else "", about, folded=folded)


def _pairs(run: Run, method, feature: str, ranked: dict) -> list[Pair]:
    """The query with the nearest right and the nearest wrong image of its list."""
    import torch

    chosen: dict[bool, tuple[int, dict]] = {}
    for rank, record in enumerate(ranked["gallery"], start=1):
        chosen.setdefault(bool(record["right"]), (rank, record))
    chosen = {right: chosen[right] for right in (True, False) if right in chosen}
    pixels, images, modality = evidence.shown(
        run, [ranked["query"], *(record for _, record in chosen.values())], method
    )
    with torch.no_grad():
        stripes = method.embed(images, modality=modality, feature=feature).stripes.numpy()
    return [
        Pair(
            (pixels[0], pixels[index]),
            (stripes[0], stripes[index]),
            f"{ranked['kind']} query, {'right' if right else 'wrong'} at rank {rank}",
            right,
        )
        for index, (right, (rank, _)) in enumerate(chosen.items(), start=1)
    ]
