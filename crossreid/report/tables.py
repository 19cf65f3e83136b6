"""Rows of results: their numbers, the spread over trials or runs, averages, and tables as text, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crossreid.files import cell, check_folder, write_whole
from crossreid.records import UserError, by_key
from crossreid.report.groups import Group, grouped
from crossreid.report.runs import Run, read_all

RANKS = (1, 5, 10, 20)
MEASURES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "mean_ap": "mAP",
    "mean_inp": "mINP",
}
OWN = ("", "re-ranked")  # systems that are the run's own, no baseline
TABLES = (".md", ".csv", ".tex")


@dataclass(frozen=True)
class Result:
    """One line of a table of results.

    run: name of the run or of a group of runs, ``""`` for what is the same beside several runs.
    system: ``""`` for the method itself, else what stands beside it: ``re-ranked`` or the name of a baseline.
    row: a row of ``evaluation.json``: ``subset``, ``cmc``, ``mean_ap``, ``mean_inp``, ``trials``, ...; of a group also
        ``runs``, how many they are, which then stand in place of the trials.
    """

    run: str
    system: str
    row: dict

    @property
    def label(self) -> str:
        return ", ".join(filter(None, [self.run, self.system]))

    @property
    def times(self) -> str:
        """Over what its numbers are means."""
        trials = len(self.row.get("trials") or ()) or 1
        return f"{self.row['runs']} runs" if "runs" in self.row else str(trials)


def results(run: Run) -> Iterator[Result]:
    """The rows of the method, then those re-ranked, then those of the baselines."""
    for system, rows in _systems(run).items():
        for row in rows:
            yield Result(run.name, system, row)


def _systems(run: Run) -> dict[str, list[dict]]:
    evaluation = run.evaluation
    found = {"": evaluation.get("rows") or (), "re-ranked": evaluation.get("reranked") or ()}
    found |= {each["name"]: each["rows"] for each in evaluation.get("baselines") or ()}
    return {system: list(rows) for system, rows in found.items() if rows}


def all_results(groups: Sequence[Group]) -> list[Result]:
    """The results of several groups of runs, then their baselines; what is the same beside several stands once."""
    own: list[Result] = []
    beside: dict[tuple[str, str], list[Result]] = {}
    for group in groups:
        for result in _of_group(group):
            if result.system in OWN:
                own.append(result)
            else:
                same = beside.setdefault((result.system, json.dumps(result.row, sort_keys=True)), [])
                same.append(result)
    return own + [same[0] if len(same) == 1 else replace(same[0], run="") for same in beside.values()]


def _of_group(group: Group) -> Iterator[Result]:
    if len(group.runs) == 1:
        for result in results(group.runs[0]):
            yield replace(result, run=group.name)
        return
    systems = [_systems(run) for run in group.runs]
    for system in systems[0]:
        for row in systems[0][system]:
            rows = [
                each
                for one in systems
                for each in one.get(system, ())
                if str(each["subset"]) == str(row["subset"])
            ]
            if len({json.dumps(each, sort_keys=True) for each in rows}) == 1 and system not in OWN:
                yield Result(group.name, system, row)  # of the data alone, and so the same beside every run
            elif len(rows) == len(systems):
                yield Result(group.name, system, _averaged(rows))


def number(row: dict, measure: str) -> float | None:
    """A measure of a row as a fraction, or None where the row does not say: the rank-k rate is the k-th of
    ``cmc``."""
    if measure.startswith("rank"):
        rank, cmc = int(measure.removeprefix("rank")), row.get("cmc") or ()
        value = cmc[rank - 1] if rank <= len(cmc) else _mean(_trials(row, measure))
    else:
        value = row.get(measure, (row.get("verification") or {}).get(measure))
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


def best(found: Sequence[Result], measures: Sequence[str]) -> set[tuple[int, str]]:
    """(place in ``found``, measure) of the highest number, as it is printed, of each measure in each subset, among what
    is alike: the methods themselves, and the re-ranked results. None where only one result is there."""
    marked = set()
    alike = by_key(
        ((str(result.row["subset"]), result.system), place)
        for place, result in enumerate(found)
        if result.system in OWN
    )
    for places in alike.values():
        for measure in measures:
            values = {place: number(found[place].row, measure) for place in places}
            printed = {place: round(100 * value, 2) for place, value in values.items() if value is not None}
            if len(printed) > 1:
                most = max(printed.values())
                marked |= {(place, measure) for place, value in printed.items() if value == most}
    return marked


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


def write_table(runs: Sequence[Path], group_by: str | None = None) -> str:
    """The results of several runs as a Markdown table that also reads well as plain text.

    Per cent; mean ± population standard deviation where a row has more than one trial. A run without an
    evaluation has one line of dashes. Runs that differ only in ``group_by``, or by default in fold or seed, have one
    line, mean ± standard deviation over the runs. The best of several is in bold.
    """
    return _markdown(grouped(read_all(runs), group_by))


def save_table(runs: Sequence[Path], path: Path, group_by: str | None = None) -> None:
    """Writes the table by the ending of its name: ``.md`` (Markdown), ``.csv``, or ``.tex`` (LaTeX with booktabs)."""
    check_table(path)
    text = {".md": _markdown, ".csv": _csv, ".tex": _tex}[path.suffix.lower()](
        grouped(read_all(runs), group_by)
    )
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def check_table(path: Path) -> None:
    """Raise UserError where no table can be written there."""
    if path.suffix.lower() not in TABLES:
        raise UserError(
            f"--table {path}: the name of a table ends in {', '.join(TABLES[:-1])} or {TABLES[-1]}"
        )
    check_folder(path.absolute().parent)


def _markdown(groups: Sequence[Group]) -> str:
    found = all_results(groups)
    marked = best(found, list(MEASURES))
    lines = [["Run", "Subset", *MEASURES.values(), "Trials"]]
    for place, result in enumerate(found):
        cells = []
        for measure in MEASURES:
            text = percent(number(result.row, measure), spread(result.row, measure))
            cells.append(f"**{text}**" if (place, measure) in marked else text)
        lines.append([result.label, str(result.row["subset"]), *cells, result.times])
    lines += [
        [run.name, "not evaluated", *["–"] * len(MEASURES), "–"]
        for group in groups
        for run in group.runs
        if not run.evaluation.get("rows")
    ]
    lines = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = [
        [
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths))
        ]
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded) + "\n"


def _csv(groups: Sequence[Group]) -> str:
    """One line for each result, in per cent; a column of standard deviations behind each measure."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    found = all_results(groups)
    extra = list(dict.fromkeys(name for result in found for name in result.row.get("verification") or ()))
    heads = [part for name in (*MEASURES.values(), *extra) for part in (name, f"{name} std")]
    writer.writerow(["run", "system", "subset", "runs", "trials", *heads])
    for result in found:
        row = result.row
        values = [
            "" if value is None else f"{100 * value:.4f}"
            for measure in (*MEASURES, *extra)
            for value in (number(row, measure), spread(row, measure))
        ]
        count = row.get("runs", 1)
        trials = "" if "runs" in row else len(row.get("trials") or ()) or 1
        writer.writerow([*map(cell, (result.run, result.system, str(row["subset"]))), count, trials, *values])
    return file.getvalue()


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _tex(groups: Sequence[Group]) -> str:
    """A tabular for the package booktabs, a part for each subset."""
    found = all_results(groups)
    marked = best(found, list(MEASURES))
    names = " & ".join(MEASURES.values())
    lines = [
        f"% Per cent{_over(found)}. Bold: the best. Needs \\usepackage{{booktabs}}.",
        f"\\begin{{tabular}}{{l{'c' * len(MEASURES)}}}",
        "\\toprule",
        f"Method & {names} \\\\",
    ]
    subsets = list(dict.fromkeys(str(result.row["subset"]) for result in found))
    for subset in subsets:
        lines.append("\\midrule")
        if len(subsets) > 1:
            lines.append(f"\\multicolumn{{{len(MEASURES) + 1}}}{{l}}{{\\emph{{{_escaped(subset)}}}}} \\\\")
        for place, result in enumerate(found):
            if str(result.row["subset"]) == subset:
                cells = []
                for measure in MEASURES:
                    value, deviation = number(result.row, measure), spread(result.row, measure)
                    text = "--" if value is None else f"{100 * value:.2f}"
                    text = f"\\textbf{{{text}}}" if (place, measure) in marked else text
                    cells.append(text if deviation is None else f"{text} $\\pm$ {100 * deviation:.2f}")
                lines.append(f"{_escaped(result.label)} & {' & '.join(cells)} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _escaped(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _over(found: Sequence[Result]) -> str:
    """What stands after ±, where anything does: a part of a sentence."""
    runs = any("runs" in result.row for result in found)
    trials = any("runs" not in result.row and len(result.row.get("trials") or ()) > 1 for result in found)
    over = " or ".join(name for name, there in (("runs", runs), ("trials", trials)) if there)
    return f"; after the sign ± the standard deviation over {over} (population)" if over else ""


def _averaged(rows: Sequence[dict]) -> dict:
    names = [
        name
        for name in rows[0].get("verification") or {}
        if all(name in (r.get("verification") or {}) for r in rows)
    ]
    trials = [{measure: number(row, measure) for measure in (*MEASURES, *names)} for row in rows]
    length = min(len(row.get("cmc") or ()) for row in rows)
    curves = np.array([row["cmc"][:length] for row in rows]) if length else np.zeros((len(rows), 0))
    averaged = {
        "subset": rows[0]["subset"],
        "cmc": curves.mean(0).tolist(),
        "cmc_std": curves.std(0).tolist(),
        "mean_ap": _mean(_trials({"trials": trials}, "mean_ap")),
        "mean_inp": _mean(_trials({"trials": trials}, "mean_inp")),
        "verification": {name: _mean([row["verification"][name] for row in rows]) for name in names},
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
