"""How much of a batch-instance normalisation is batch and how much instance: the gates, by layer and over time.

``metrics.jsonl`` holds after each epoch, under ``gates``, how many channels of each layer have a gate in each tenth of
0 to 1. A gate of 1 takes all from the batch's statistics (BN), one of 0 all from the image's own (IN).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from crossreid.report import plots
from crossreid.report.figure import Plot, slug
from crossreid.report.groups import Group
from crossreid.report.runs import Run
from crossreid.report.section import Section, mean_line

COLUMNS = 40  # at most so many epochs are drawn, evenly spread; the CSV holds them all


def section(groups: Sequence[Group]) -> Section:
    runs = [run for group in groups for run in group.runs]
    several, folded, lines = len(runs) > 1, {}, []
    for group in groups:
        parts = []
        for run in group.runs:
            logged = {epoch["epoch"] + 1: epoch["gates"] for epoch in run.epochs if epoch.get("gates")}
            if not logged:
                continue
            parts.append(
                {epoch: share(np.sum(list(gates.values()), axis=0)) for epoch, gates in logged.items()}
            )
            folded[run.name] = tables(run, logged, f" of {run.name}" if several else "")
        if parts:
            lines.append(mean_line(group.name if several else "all channels", parts))
    if not lines:
        return Section("Gates")
    title = "Share of BN over all channels"
    chart = plots.lines("gates-over-time", title, "Epoch", "Share of BN", lines, percent=True)
    return Section("Gates", "gates.html", figures=[chart], folded=folded)


def share(counts: Sequence[int]) -> float:
    """Mean gate, the share of BN, of counts over equal parts of 0 to 1. The outermost parts count as 0 and 1, where
    the gates are clamped and most of them lie."""
    found = np.asarray(counts, float)
    middles = (np.arange(len(found)) + 0.5) / len(found)
    middles[0], middles[-1] = 0.0, 1.0
    return float((found * middles).sum() / max(found.sum(), 1))


def tables(run: Run, logged: dict, name: str) -> list[Plot]:
    """The gates of each layer after the last epoch, and their share of BN over the epochs. logged: epoch -> layer ->
    counts."""
    shares = {
        epoch: {layer: share(counts) for layer, counts in gates.items()} for epoch, gates in logged.items()
    }
    last = max(logged)
    layers = list(logged[last])
    counts = np.array([logged[last][layer] for layer in layers], float)
    parts = counts.shape[1]
    borders = [f"{part / parts:g}" for part in range(parts + 1)]
    end = plots.heatmap(
        f"gates-{slug(run.name)}-end",
        f"Gates by layer{name}, after epoch {last}",
        "Gate, from IN (0) to BN (1)",
        layers,
        borders,
        counts / np.maximum(counts.sum(axis=1, keepdims=True), 1),
        ("no channel", "all channels"),
        (
            ["layer", *(f"{low}-{high}" for low, high in itertools.pairwise(borders)), "share of BN"],
            [[layer, *logged[last][layer], shares[last][layer]] for layer in layers],
        ),
        beside=[f"{100 * shares[last][layer]:.0f} %" for layer in layers],
        beside_title="BN",
        edges=True,
    )
    epochs = sorted(shares)
    every = math.ceil(len(epochs) / COLUMNS)
    shown = epochs[every - 1 :: every]
    time = plots.heatmap(
        f"gates-{slug(run.name)}-time",
        f"Share of BN by layer and epoch{name}",
        "Epoch",
        layers,
        [str(epoch) for epoch in shown],
        np.array([[shares[epoch].get(layer, np.nan) for epoch in shown] for layer in layers]),
        ("IN", "BN"),
        (
            ["layer", *(f"epoch {epoch}" for epoch in epochs)],
            [[layer, *(shares[epoch].get(layer, "") for epoch in epochs)] for layer in layers],
        ),
        middle=True,
    )
    return [end, time]
