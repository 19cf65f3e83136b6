"""The table of results, what its numbers mean, and by which protocol they were found."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from crossreid.report.figures import Section
from crossreid.report.runs import Run
from crossreid.report.tables import (
    MEASURES,
    Result,
    all_results,
    average_runs,
    number,
    percent,
    repeated,
    spread,
)

WORDS = {
    "Rank-1": "the share of queries whose nearest allowed gallery image shows the right person; rank-5, "
    "-10 and -20: at least one right image among the first 5, 10 or 20. The CMC curve draws this share "
    "for every rank.",
    "mAP": "mean average precision: how near the top of the list all right images of a query stand, "
    "averaged over queries.",
    "mINP": "mean inverse negative penalty: the number of right images of a query over the rank of the "
    "last of them, averaged over queries. It is low where even one right image is hard to find.",
}


def section(runs: Sequence[Run]) -> Section:
    return Section("Results", _results(runs))


def _results(runs: Sequence[Run]) -> str:
    found = all_results(runs)
    if not found:
        return "<p>No run here has been evaluated yet. <code>crossreid evaluate</code> adds the results.</p>"
    if repeated(runs):
        found += [Result(f"average of {len(runs)} runs", "", row) for row in average_runs(runs)]
    parts = [_tiles(found) if len(runs) == 1 else "", _table(found, alone=len(runs) == 1)]
    words = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in WORDS.items())
    parts.append(f'<dl class="words">{words}</dl>')
    said: dict[str, list[str]] = {}
    for run in runs:
        said.setdefault(_protocol(run), []).append(run.name)
    for text, names in said.items():
        if text:
            title = "Protocol" if len(said) == 1 else f"Protocol of {', '.join(names)}"
            parts.append(f'<div class="card"><h3 style="margin-top:0">{escape(title)}</h3>{text}</div>')
    return "".join(parts)


def _tiles(found: Sequence[Result]) -> str:
    row = found[0].row
    baseline = next(
        (
            each
            for each in found
            if each.system not in ("", "re-ranked") and each.row["subset"] == row["subset"]
        ),
        None,
    )
    tiles = []
    for measure in ("rank1", "mean_ap", "mean_inp"):
        deviation = spread(row, measure)
        text = percent(number(row, measure), digits=1)
        beside = (
            [f"± {100 * deviation:.1f} over {len(row['trials'])} trials"] if deviation is not None else []
        )
        if baseline is not None:
            beside.append(f"{baseline.system}: {percent(number(baseline.row, measure), digits=1)} %")
        small = "".join(f"<small>{escape(each)}</small>" for each in beside)
        tiles.append(
            f"<div><dt>{MEASURES[measure]}, {escape(str(row['subset']))}</dt><dd>{text} %{small}</dd></div>"
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _table(found: Sequence[Result], alone: bool) -> str:
    names = list(dict.fromkeys(name for result in found for name in result.row.get("verification") or ()))
    measures = [key for key in MEASURES if any(number(result.row, key) is not None for result in found)]
    columns = [*(MEASURES[key] for key in measures), *names, "Trials", "Queries"]
    head = "".join(f'<th scope="col">{escape(name).replace("@", "<br>@")}</th>' for name in columns)
    bodies = []
    for row in dict.fromkeys(str(result.row["subset"]) for result in found):
        lines = [result for result in found if str(result.row["subset"]) == row]
        cells = "".join(_results_line(result, measures, names, alone) for result in lines)
        span = len(measures) + len(names) + 3
        bodies.append(
            f'<tbody class="group"><tr><th scope="rowgroup" '
            f'colspan="{span}">{escape(row)}</th></tr>{cells}</tbody>'
        )
    spreads = any(len(result.row.get("trials") or ()) > 1 for result in found)
    caption = "Per cent, over the queries that have at least one right image in the gallery."
    if spreads:
        caption += " After ±: the standard deviation over the trials (population)."
    return (
        f'<div class="scroll results" tabindex="0" role="region" '
        f'aria-label="Table of results"><table><caption><span>{caption}</span></caption>'
        f'<thead><tr><th scope="col">{"System" if alone else "Run"}</th>{head}</tr></thead>'
        f"{''.join(bodies)}</table></div>"
    )


def _results_line(result: Result, measures: Sequence[str], names: Sequence[str], alone: bool) -> str:
    row = result.row
    cells = []
    for measure in (*measures, *names):
        value = number(row, measure) if measure in MEASURES else (row.get("verification") or {}).get(measure)
        deviation = spread(row, measure)
        beside = f' <span class="spread">± {100 * deviation:.2f}</span>' if deviation is not None else ""
        cells.append(f"<td>{percent(value)}{beside}</td>")
    trials = f"{row['runs']} runs" if "runs" in row else str(len(row.get("trials") or ()) or 1)
    queries = f"{row['valid']} of {row['queries']}" if "queries" in row and "valid" in row else "–"
    aside = result.system not in ("", "re-ranked")
    if alone:
        label = escape(result.system or "this run")
    else:
        system = f"<span>{escape(result.system)}</span>" if result.system else ""
        label = " ".join(filter(None, [escape(result.run), system]))
    return (
        f'<tr{" class=aside" if aside else ""}><th scope="row">{label}</th>{"".join(cells)}'
        f"<td>{trials}</td><td>{queries}</td></tr>"
    )


def _protocol(run: Run) -> str:
    evaluation = run.evaluation
    protocol = evaluation.get("protocol") or {}
    parts = []
    if protocol:
        parts.append(
            f"<p><b>{escape(str(protocol.get('name', '')))}.</b> {escape(str(protocol.get('description', '')))}</p>"
        )
    metric = evaluation.get("metric") or {}
    compared = [
        f"{name}: {escape(str(metric[name]).replace('_', ' '))}"
        for name in ("feature", "stripes")
        if metric.get(name)
    ]
    facts = []
    if evaluation.get("feature"):
        facts.append(f"Feature: {escape(str(evaluation['feature']))}.")
    if compared:
        facts.append(f"Distance, {', '.join(compared)}.")
    if evaluation.get("selection"):
        facts.append(f"Reported epoch: {escape(str(evaluation['selection']))}.")
    counts = sorted({len(row.get("trials") or ()) or 1 for row in evaluation.get("rows") or ()})
    if counts:
        many = " or ".join(map(str, counts))
        facts.append(f"{many} {'trial' if counts == [1] else 'trials'} for each row.")
    return "".join(parts) + (f"<p>{' '.join(facts)}</p>" if facts else "")
