"""Curves: found by rank, losses, learning rates and scores by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from crossreid.report.charts import Chart, Line
from crossreid.report.figures import slug
from crossreid.report.runs import Run
from crossreid.report.tables import MEASURES, all_results, number


def found_by_rank(runs: Sequence[Run]) -> list[Chart]:
    found = [result for result in all_results(runs) if result.row.get("cmc")]
    charts = []
    for row in dict.fromkeys(str(result.row["subset"]) for result in found):
        lines = []
        for result in found:
            if str(result.row["subset"]) == row:
                cmc = result.row["cmc"][:20]
                label = (result.system or "this run") if len(runs) == 1 else result.label
                lines.append(Line(label, list(range(1, len(cmc) + 1)), cmc))
        charts.append(
            Chart(
                f"cmc-{slug(row)}",
                f"CMC, {row}",
                "Rank",
                "Queries found",
                lines,
                percent=True,
                marks=(1, 5, 10, 15, 20),
            )
        )
    return charts


def training(runs: Sequence[Run]) -> list[Chart]:
    charts = []
    several = len(runs) > 1
    # One run: the losses of a phase in one chart. Several: a chart for each loss, a line for each run.
    losses: dict[str, list[Line]] = {}
    for run in runs:
        for name, line in _series(run, lambda epoch: epoch.get("losses") or {}).items():
            phase, _, loss = name.rpartition("/")
            chart, label = (name, run.name) if several else (phase or "train", loss)
            losses.setdefault(chart, []).append(Line(label, *line))
    for name, lines in losses.items():
        title = f"Loss {name}" if several else f"Losses, phase {name}"
        charts.append(Chart(f"loss-{slug(name)}", title, "Epoch", "Mean over the epoch", lines))
    lrs: dict[str, list[Line]] = {}
    for run in runs:
        for name, line in _series(run, _lrs).items():
            lrs.setdefault(name.partition(" ")[0], []).append(
                Line(f"{run.name}, {name}" if several else name, *line)
            )
    for name, lines in lrs.items():
        values = [y for line in lines for y in line.y]
        wide = min(values) > 0 and max(values) > 20 * min(values)
        charts.append(
            Chart(
                f"rate-{slug(name)}",
                f"Learning rate, optimizer {name}",
                "Epoch",
                "Rate",
                lines,
                logarithmic=wide,
            )
        )
    scores: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for run in runs:
        for record in run.evaluations:
            for row, values in (record.get("rows") or {}).items():
                split = record.get("split", "test")
                for measure in ("rank1", "mean_ap"):
                    if number({"trials": [values]}, measure) is None and values.get(measure) is None:
                        continue
                    name = MEASURES[measure]
                    label = f"{run.name}, {name}" if several else name
                    scores.setdefault((split, row), {}).setdefault(label, {})[record["epoch"] + 1] = values[
                        measure
                    ]
    for (split, row), found in scores.items():
        lines = [Line(label, list(points), list(points.values())) for label, points in found.items()]
        title = f"Scores during training, {row}, {split} split"
        charts.append(Chart(f"scores-{slug(row)}-{split}", title, "Epoch", "Score", lines, percent=True))
    return charts


def _series(run: Run, values) -> dict[str, tuple[list, list]]:
    """Name -> (epochs finished, values), for the epochs where ``values`` of the record knows the name."""
    series: dict[str, tuple[list, list]] = {}
    for epoch in run.epochs:
        for name, value in values(epoch).items():
            if isinstance(value, int | float):
                xs, ys = series.setdefault(name, ([], []))
                xs.append(epoch["epoch"] + 1)
                ys.append(value)
    return series


def _lrs(epoch: dict) -> dict[str, float]:
    """The rates of an epoch by name of optimizer and group, groups of equal rate together."""
    named = {}
    for optimizer, groups in (epoch.get("lrs") or {}).items():
        for value in dict.fromkeys(groups):
            numbers = [index + 1 for index, other in enumerate(groups) if other == value]
            alone = len(numbers) == len(groups)
            text = (
                optimizer
                if alone
                else f"{optimizer} {'group' if len(numbers) == 1 else 'groups'} {_ranges(numbers)}"
            )
            named[text] = value
    return named


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 5 as ``1-3, 5``."""
    spans: list[list[int]] = []
    for value in numbers:
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in spans)
