"""Curves: found by rank, losses, learning rates and scores by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from crossreid.records import by_key
from crossreid.report import plots
from crossreid.report.figure import Plot, slug
from crossreid.report.groups import Group
from crossreid.report.plots import Line
from crossreid.report.runs import Run
from crossreid.report.section import mean_line
from crossreid.report.tables import MEASURES, all_results, number

Series = dict[str, dict[float, float]]  # name -> epochs finished -> value


def found_by_rank(groups: Sequence[Group]) -> Iterator[Plot]:
    found = [result for result in all_results(groups) if result.row.get("cmc")]
    for subset in dict.fromkeys(str(result.row["subset"]) for result in found):
        lines = []
        for result in found:
            if str(result.row["subset"]) == subset:
                cmc, spread = result.row["cmc"][:20], result.row.get("cmc_std")
                alone = len(groups) == 1 and len(groups[0].runs) == 1
                label = (result.system or "this run") if alone else result.label
                ranks = list(range(1, len(cmc) + 1))
                lines.append(Line(label, ranks, cmc, spread[: len(cmc)] if spread else None))
        yield plots.ranks(f"cmc-{slug(subset)}", f"CMC, {subset}", lines)


def training(groups: Sequence[Group]) -> list[Plot]:
    return [*_losses(groups), *_lrs(groups), *_scores(groups)]


def _losses(groups: Sequence[Group]) -> Iterator[Plot]:
    """One run: the losses of a phase in one chart. Several: a chart for each loss, a line for each run."""
    charts: dict[tuple[str, str], list[Line]] = {}
    several = len(groups) > 1
    for group in groups:
        for name, line in _lines(group, lambda epoch: epoch.get("losses") or {}).items():
            phase, _, term = name.rpartition("/")
            kind = _kind(term)
            if kind == "weight" and len({f"{value:.2g}" for value in line.y}) == 1:
                continue  # a weight that stays what it is tells nothing
            chart, label = (name, group.name) if several else (phase or "train", term)
            charts.setdefault((kind, chart), []).append(Line(label, line.x, line.y, line.spread))
    for (kind, name), lines in charts.items():
        word = {"loss": "Loss", "accuracy": "Accuracy", "weight": "Weight"}[kind]
        many = {"loss": "Losses", "accuracy": "Training accuracy", "weight": "Weights"}[kind]
        title = f"{word} {name}" if several else f"{many}, phase {name}"
        percent = kind == "accuracy"
        file = f"{kind}-{slug(name)}"
        yield plots.lines(file, title, "Epoch", "Mean over the epoch", _merged(lines), percent=percent)


def _kind(term: str) -> str:
    """Methods log more than losses beside them: the share of the batch that is classified rightly, weights of pairs."""
    if term.endswith("accuracy"):
        return "accuracy"
    return "weight" if term.endswith(("weight", "weights")) else "loss"


def _lrs(groups: Sequence[Group]) -> Iterator[Plot]:
    charts: dict[str, list[Line]] = {}
    for group in groups:
        for name, line in _lines(group, _lr).items():
            label = f"{group.name}, {name}" if len(groups) > 1 else name
            charts.setdefault(name.partition(" ")[0], []).append(Line(label, line.x, line.y))
    for name, lines in charts.items():
        values = [y for line in lines for y in line.y]
        wide = min(values) > 0 and max(values) > 20 * min(values)
        title = f"Learning rate, optimizer {name}"
        yield plots.lines(f"lr-{slug(name)}", title, "Epoch", "Learning rate", _merged(lines), log_y=wide)


def _merged(lines: Sequence[Line]) -> list[Line]:
    """Lines that lie on each other become one, which bears all their names."""
    merged = []
    for alike in by_key(((tuple(line.x), tuple(line.y)), line) for line in lines).values():
        names = [line.label for line in alike]
        ends = {name.rpartition(", ")[2] for name in names}
        if len(names) == len(lines) > 1 and len(ends) == 1:
            label = f"all runs, {ends.pop()}" if ", " in names[0] else "all runs"
        elif len(names) > 3:
            label = f"{names[0]} and {len(names) - 1} others"
        else:
            label = " = ".join(names)
        merged.append(Line(label, alike[0].x, alike[0].y, alike[0].spread))
    return merged


def _scores(groups: Sequence[Group]) -> list[Plot]:
    """Scores during training: a chart for each subset and split."""
    charts: dict[tuple[str, str], list[Line]] = {}
    places = {
        (record.get("split", "test"), subset)
        for group in groups
        for run in group.runs
        for record in run.evaluations
        for subset in record.get("rows") or {}
    }
    for split, subset in sorted(places):
        for group in groups:
            for measure in ("rank1", "mean_ap"):
                parts = [part for run in group.runs if (part := _noted(run, split, subset, measure))]
                if len(parts) == len(group.runs):
                    label = f"{group.name}, {MEASURES[measure]}" if len(groups) > 1 else MEASURES[measure]
                    charts.setdefault((split, subset), []).append(mean_line(label, parts))
    return [
        plots.lines(
            f"scores-{slug(subset)}-{split}",
            f"Scores during training, {subset}, {split} split",
            "Epoch",
            "Score",
            lines,
            percent=True,
        )
        for (split, subset), lines in charts.items()
    ]


def _noted(run: Run, split: str, subset: str, measure: str) -> dict[float, float]:
    found = {}
    for record in run.evaluations:
        row = (record.get("rows") or {}).get(subset) or {}
        value = number({"trials": [row]}, measure) if measure.startswith("rank") else row.get(measure)
        if record.get("split", "test") == split and value is not None:
            found[record["epoch"] + 1] = value
    return found


def _lines(group: Group, values: Callable[[dict], dict]) -> dict[str, Line]:
    """Name -> a line, for the names that all runs of the group know."""
    series = [_series(run, values) for run in group.runs]
    names = [name for name in series[0] if all(name in each for each in series)]
    lines = {name: mean_line(name, [each[name] for each in series]) for name in names}
    return {name: line for name, line in lines.items() if len(line.x)}


def _series(run: Run, values: Callable[[dict], dict]) -> Series:
    """For the epochs where ``values`` of the record knows the name."""
    series: Series = {}
    for epoch in run.epochs:
        for name, value in values(epoch).items():
            if isinstance(value, int | float):
                series.setdefault(name, {})[epoch["epoch"] + 1] = value
    return series


def _lr(epoch: dict) -> dict[str, float]:
    """The learning rates of an epoch by name of optimizer and group, groups of equal rate together."""
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
