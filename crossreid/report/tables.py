"""Rows of results: their numbers, the spread over trials, averages over runs, and a plain table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crossreid.records import UserError
from crossreid.report.runs import Run, differences, read_all

RANKS = (1, 5, 10, 20)
MEASURES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "mean_ap": "mAP",
    "mean_inp": "mINP",
}


@dataclass(frozen=True)
class Result:
    """One line of a table of results.

    run: name of the run, ``""`` for what is the same beside several runs.
    system: ``""`` for the method itself, else what stands beside it: ``re-ranked`` or the name of a baseline.
    row: a row of ``evaluation.json``: ``row``, ``cmc``, ``mean_ap``, ``mean_inp``, ``trials``, ...
    """

    run: str
    system: str
    row: dict

    @property
    def label(self) -> str:
        return ", ".join(filter(None, [self.run, self.system]))


def results(run: Run) -> Iterator[Result]:
    """The rows of the method, then those re-ranked, then those of the baselines."""
    evaluation = run.evaluation
    for row in evaluation.get("rows") or ():
        yield Result(run.name, "", row)
    for row in evaluation.get("reranked") or ():
        yield Result(run.name, "re-ranked", row)
    for baseline in evaluation.get("baselines") or ():
        for row in baseline["rows"]:
            yield Result(run.name, baseline["name"], row)


def all_results(runs: Sequence[Run]) -> list[Result]:
    """The results of several runs, then their baselines; what is the same beside several runs stands once."""
    own: list[Result] = []
    beside: dict[tuple[str, str], list[Result]] = {}
    for run in runs:
        for result in results(run):
            if result.system in ("", "re-ranked"):
                own.append(result)
            else:
                same = beside.setdefault((result.system, json.dumps(result.row, sort_keys=True)), [])
                same.append(result)
    return own + [same[0] if len(same) == 1 else replace(same[0], run="") for same in beside.values()]


def number(row: dict, measure: str) -> float | None:
    """A measure of a row as a fraction, or None where the row does not say: the rank-k rate is the k-th of
    ``cmc``."""
    if measure.startswith("rank"):
        rank, cmc = int(measure.removeprefix("rank")), row.get("cmc") or ()
        value = cmc[rank - 1] if rank <= len(cmc) else _mean(_trials(row, measure))
    else:
        value = row.get(measure)
    return None if value is None or math.isnan(value) else float(value)


def spread(row: dict, measure: str) -> float | None:
    """Population standard deviation of a measure over the trials of a row, or None with fewer than two
    trials."""
    values = _trials(row, measure)
    return float(np.std(values)) if len(values) > 1 else None


def percent(value: float | None, deviation: float | None = None, digits: int = 2) -> str:
    """A fraction in per cent without the sign: ``61.23``, ``61.23 ± 0.41``, or a dash where there is none."""
    if value is None:
        return "–"
    text = f"{100 * value:.{digits}f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.{digits}f}"


def average(runs: Sequence[Path]) -> list[dict]:
    """The rows of several runs of one experiment (folds, seeds), averaged.

    Each is of the form of a row of ``evaluation.json`` with the runs in place of its trials, and holds
    besides ``runs``, how many they were, and ``mean`` and ``std``, measure -> fraction; ``std`` is the
    population standard deviation over the runs.

    Raises UserError where a run has not been evaluated, or where protocols or rows differ.
    """
    return average_runs(read_all(runs))


def average_runs(runs: Sequence[Run]) -> list[dict]:
    for run in runs:
        if not run.evaluation.get("rows"):
            raise UserError(
                f"The run {run.name} has no results to average: {run.folder / 'evaluation.json'} with at "
                "least one row was expected. Run `crossreid evaluate` on its checkpoint first."
            )
    first = runs[0]
    names = [row["subset"] for row in first.evaluation["rows"]]
    for run in runs[1:]:
        others = [row["subset"] for row in run.evaluation["rows"]]
        protocols = [each.evaluation.get("protocol", {}).get("name") for each in (first, run)]
        if set(others) != set(names) or protocols[0] != protocols[1]:
            raise UserError(
                f"The runs {first.name} and {run.name} cannot be averaged: the first has the rows "
                f"{', '.join(names)} of the protocol {protocols[0]}, the second {', '.join(others)} of "
                f"{protocols[1]}. Average runs that differ only in their fold or seed, or evaluate them "
                "again with one protocol."
            )
    return [
        _averaged([next(row for row in run.evaluation["rows"] if row["subset"] == name) for run in runs])
        for name in names
    ]


def repeated(runs: Sequence[Run]) -> bool:
    """Whether the runs are one experiment repeated: evaluated alike, with settings equal but for the fold and
    seed."""
    if len(runs) < 2 or not all(run.settings and run.evaluation.get("rows") for run in runs):
        return False
    changed = {key.rpartition(".")[2] for key in differences(runs)}
    alike = {
        (
            run.evaluation.get("protocol", {}).get("name"),
            frozenset(row["subset"] for row in run.evaluation["rows"]),
        )
        for run in runs
    }
    return bool(changed) and changed <= {"fold", "seed", "run"} and len(alike) == 1


def write_table(runs: Sequence[Path]) -> str:
    """The results of several runs as a Markdown table that also reads well as plain text.

    Per cent; mean ± population standard deviation where a row has more than one trial. A run without an
    evaluation has one line of dashes. Where the runs differ only in fold or seed, their average ends the
    table.
    """
    read = read_all(runs)
    lines = [["Run", "Row", *MEASURES.values(), "Trials"]]
    lines += [_line(result) for result in all_results(read)]
    lines += [
        [run.name, "not evaluated", *["–"] * len(MEASURES), "–"]
        for run in read
        if not run.evaluation.get("rows")
    ]
    if repeated(read):
        lines += [_line(Result(f"average of {len(read)} runs", "", row)) for row in average_runs(read)]
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = [
        [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ]
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded) + "\n"


def _line(result: Result) -> list[str]:
    row = result.row
    numbers = [percent(number(row, measure), spread(row, measure)) for measure in MEASURES]
    return [result.label, str(row["subset"]), *numbers, str(len(row.get("trials") or ()) or 1)]


def _averaged(rows: Sequence[dict]) -> dict:
    trials = [{measure: number(row, measure) for measure in MEASURES} for row in rows]
    length = min(len(row.get("cmc") or ()) for row in rows)
    cmc = np.mean([row["cmc"][:length] for row in rows], axis=0).tolist() if length else []
    rates = [row.get("verification") or {} for row in rows]
    averaged = {
        "subset": rows[0]["subset"],
        "cmc": cmc,
        "mean_ap": _mean(_trials({"trials": trials}, "mean_ap")),
        "mean_inp": _mean(_trials({"trials": trials}, "mean_inp")),
        "verification": {
            name: _mean([rate[name] for rate in rates]) for name in rates[0] if all(name in r for r in rates)
        },
        # Of one run, as everywhere: a query that several runs were asked is one query.
        **{name: round(float(np.mean([row.get(name, 0) for row in rows]))) for name in ("valid", "queries")},
        "trials": trials,
        "runs": len(rows),
    }
    averaged["mean"] = {measure: number(averaged, measure) for measure in MEASURES}
    averaged["std"] = {measure: spread(averaged, measure) for measure in MEASURES}
    return averaged


def _trials(row: dict, measure: str) -> list[float]:
    values = [trial.get(measure) for trial in row.get("trials") or ()]
    return [value for value in values if value is not None and not math.isnan(value)]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
