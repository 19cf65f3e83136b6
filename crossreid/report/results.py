"""The table of results, and by which protocol its numbers were found."""

from __future__ import annotations

from collections.abc import Sequence

from crossreid.report.groups import Group
from crossreid.report.runs import Run
from crossreid.report.section import Section
from crossreid.report.tables import (
    MEASURES,
    OWN,
    Result,
    all_results,
    best,
    number,
    percent,
    results,
    spread,
)


def section(groups: Sequence[Group]) -> Section:
    runs = [run for group in groups for run in group.runs]
    found = all_results(groups)
    if not found:
        return Section("Results", "results.html", {"tables": []})
    alone = len(runs) == 1
    single = [result for run in runs for result in results(run) if result.system in OWN]
    repeated = any(len(group.runs) > 1 for group in groups)
    about = {
        "tables": [_table(found, alone), *([_table(single, alone)] if repeated else [])],
        "repeated": repeated,
        "tiles": _tiles(found) if len(groups) == 1 else [],
        "protocols": _protocols(runs),
    }
    return Section("Results", "results.html", about)


def _tiles(found: Sequence[Result]) -> list[dict]:
    row = found[0].row
    baseline = next(
        (each for each in found if each.system not in OWN and each.row["subset"] == row["subset"]), None
    )
    tiles = []
    for measure in ("rank1", "mean_ap", "mean_inp"):
        deviation = spread(row, measure)
        beside = []
        if deviation is not None:
            over = f"{row['runs']} runs" if "runs" in row else f"{len(row['trials'])} trials"
            beside.append(f"± {100 * deviation:.1f} over {over}")
        if baseline is not None:
            beside.append(f"{baseline.system}: {percent(number(baseline.row, measure), digits=1)} %")
        value = percent(number(row, measure), digits=1)
        tiles.append({"name": f"{MEASURES[measure]}, {row['subset']}", "value": value, "beside": beside})
    return tiles


def _table(found: Sequence[Result], alone: bool) -> dict:
    """Heads, and a part for each subset: its lines, each with a label, cells, and whether it is a baseline."""
    names = list(dict.fromkeys(name for result in found for name in result.row.get("verification") or ()))
    measures = [key for key in MEASURES if any(number(result.row, key) is not None for result in found)]
    marked = best(found, [*measures, *names])
    parts: dict[str, list[dict]] = {}
    for place, result in enumerate(found):
        row = result.row
        cells = [
            {
                "value": percent(number(row, measure)),
                "spread": None
                if spread(row, measure) is None
                else f"{100 * (spread(row, measure) or 0):.2f}",
                "best": (place, measure) in marked,
            }
            for measure in (*measures, *names)
        ]
        label = (result.system or "this run") if alone else result.run
        parts.setdefault(str(row["subset"]), []).append(
            {
                "label": label,
                "system": "" if alone else result.system,
                "aside": result.system not in OWN,
                "cells": cells,
                "times": result.times,
                "queries": f"{row['valid']} of {row['queries']}"
                if "queries" in row and "valid" in row
                else "–",
            }
        )
    return {
        "heads": [*(MEASURES[key] for key in measures), *names],
        "parts": parts,
        "runs": any("runs" in result.row for result in found),
        "trials": any(
            "runs" not in result.row and len(result.row.get("trials") or ()) > 1 for result in found
        ),
        "best": bool(marked),
        "first": "System" if alone else "Run",
    }


def _protocols(runs: Sequence[Run]) -> list[dict]:
    """What differs between runs stands once for each of them, what does not once for all."""
    said: dict[str, dict] = {}
    for run in runs:
        described = _protocol(run)
        said.setdefault(repr(described), described | {"runs": []})["runs"].append(run.name)
    return [each for each in said.values() if each["facts"] or each["description"]]


def _protocol(run: Run) -> dict:
    evaluation = run.evaluation
    protocol = evaluation.get("protocol") or {}
    metric = evaluation.get("metric") or {}
    compared = [
        f"{name}: {str(metric[name]).replace('_', ' ')}"
        for name in ("feature", "stripes")
        if metric.get(name)
    ]
    facts = []
    if evaluation.get("feature"):
        facts.append(f"Feature: {evaluation['feature']}.")
    if compared:
        facts.append(f"Distance, {', '.join(compared)}.")
    if evaluation.get("selection"):
        facts.append(f"Reported epoch: {evaluation['selection']}.")
    counts = sorted({len(row.get("trials") or ()) or 1 for row in evaluation.get("rows") or ()})
    if counts:
        many = " or ".join(map(str, counts))
        facts.append(f"{many} {'trial' if counts == [1] else 'trials'} for each subset.")
    return {
        "name": str(protocol.get("name", "")),
        "description": str(protocol.get("description", "")),
        "facts": " ".join(facts),
    }
