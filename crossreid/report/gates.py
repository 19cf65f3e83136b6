"""How much of a batch-instance normalisation is batch and how much instance: the gates, by layer and over time.

``metrics.jsonl`` holds after each epoch, under ``gates``, how many channels of each layer have a gate in each tenth of
0 to 1. A gate of 1 takes all from the batch's statistics (BN), one of 0 all from the image's own (IN).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from crossreid.report.charts import Chart, Heatmap, Line
from crossreid.report.figures import Section, slug
from crossreid.report.runs import Run

COLUMNS = 40  # at most so many epochs are drawn, evenly spread; the CSV holds them all


def section(runs: Sequence[Run]) -> Section:
    several, figures, lines = len(runs) > 1, [], []
    for run in runs:
        logged = {epoch["epoch"] + 1: epoch["gates"] for epoch in run.epochs if epoch.get("gates")}
        if not logged:
            continue
        shares = {
            epoch: {layer: share(counts) for layer, counts in gates.items()}
            for epoch, gates in logged.items()
        }
        whole = {epoch: share(np.sum(list(gates.values()), axis=0)) for epoch, gates in logged.items()}
        lines.append(Line(run.name if several else "all channels", list(whole), list(whole.values())))
        figures += _tables(run, logged, shares, f" of {run.name}" if several else "")
    if not lines:
        return Section("Gates")
    words = (
        "<p>Each gate mixes two normalisations of its channel: by the statistics of the batch (BN, gate 1) and by "
        "those of the image alone (IN, gate 0). Gates are counted in tenths, so a layer's share of BN is "
        "known to within a tenth.</p>"
    )
    chart = Chart(
        "gates-over-time", "Share of BN over all channels", "Epoch", "Share of BN", lines, percent=True
    )
    return Section("Gates", words, [chart, *figures])


def share(counts: Sequence[int]) -> float:
    """Mean gate, the share of BN, of counts over equal parts of 0 to 1. The outermost parts count as 0 and 1, where
    the gates are clamped and most of them lie."""
    found = np.asarray(counts, float)
    centres = (np.arange(len(found)) + 0.5) / len(found)
    centres[0], centres[-1] = 0.0, 1.0
    return float((found * centres).sum() / max(found.sum(), 1))


def _tables(run: Run, logged: dict, shares: dict, name: str) -> list[Heatmap]:
    last = max(logged)
    layers = list(logged[last])
    counts = np.array([logged[last][layer] for layer in layers], float)
    parts = counts.shape[1]
    borders = [f"{part / parts:g}" for part in range(parts + 1)]
    beside = [f"{100 * shares[last][layer]:.0f} %" for layer in layers]
    end = Heatmap(
        f"gates-{slug(run.name)}-end",
        f"Gates by layer{name}, after epoch {last}",
        "Gate, from IN (0) to BN (1)",
        layers,
        borders,
        counts / np.maximum(counts.sum(axis=1, keepdims=True), 1),
        ("no channel", "all channels"),
        beside=beside,
        beside_title="BN",
        edges=True,
        data=(
            ["layer", *(f"{low}-{high}" for low, high in itertools.pairwise(borders)), "share of BN"],
            [[layer, *logged[last][layer], shares[last][layer]] for layer in layers],
        ),
    )
    epochs = sorted(shares)
    every = math.ceil(len(epochs) / COLUMNS)
    shown = epochs[every - 1 :: every]
    time = Heatmap(
        f"gates-{slug(run.name)}-time",
        f"Share of BN by layer and epoch{name}",
        "Epoch",
        layers,
        [str(epoch) for epoch in shown],
        np.array([[shares[epoch].get(layer, np.nan) for epoch in shown] for layer in layers]),
        ("IN", "BN"),
        middle=True,
        data=(
            ["layer", *(f"epoch {epoch}" for epoch in epochs)],
            [[layer, *(shares[epoch].get(layer, "") for epoch in epochs)] for layer in layers],
        ),
    )
    return [end, time]
