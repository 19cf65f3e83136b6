"""Ranked lists: what was searched for, and what stands nearest to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossreid.files import isolated
from crossreid.images.decode import decode
from crossreid.images.reading import read
from crossreid.images.thumbnail import thumbnail
from crossreid.records import UserError
from crossreid.report.figure import Plot, data_uri, slug
from crossreid.report.images import Ranked, ranked_lists
from crossreid.report.runs import Run, image_of
from crossreid.report.section import Section

KINDS = {"good": "Good queries", "median": "Median queries", "worst": "Worst queries"}


def section(runs: Sequence[Run], saving: bool) -> Section:
    """The lists as text and images for reading, which a phone shows too. saving: also as figures for files."""
    shown = []
    saved: dict[str, list[Plot]] = {}
    for run in runs:
        lists = run.evaluation.get("ranked") or ()
        if not lists:
            continue
        subsets = []
        for subset in dict.fromkeys(str(each["subset"]) for each in lists):
            kinds = []
            for kind in dict.fromkeys([*KINDS, *(each["kind"] for each in lists)]):
                chosen = [each for each in lists if str(each["subset"]) == subset and each["kind"] == kind]
                if chosen:
                    described = [_described(run, each) for each in chosen]
                    kinds.append({"title": KINDS.get(kind, str(kind)), "lists": described})
            subsets.append({"title": subset, "kinds": kinds})
            if saving:
                saved.setdefault(run.name, []).append(_figure(run, lists, subset, len(runs) > 1))
        shown.append({"run": run.name, "subsets": subsets})
    template = "rankings.html" if shown else ""
    return Section("Ranked lists", template, {"runs": shown, "several": len(runs) > 1}, saved=saved)


def _described(run: Run, ranked: dict) -> dict:
    """What the template shows of a list."""
    facts = []
    if ranked.get("average_precision") is not None:
        facts.append(f"Average precision {100 * ranked['average_precision']:.1f} %")
    if ranked.get("first_rank") is not None:
        facts.append(f"first right image at rank {ranked['first_rank']:g}")
    return {
        "facts": ", ".join(facts),
        "label": f"Ranked list of identity {ranked['query'].get('identity')}",
        "query": _record(run, ranked["query"]),
        "gallery": [_record(run, each) | {"right": bool(each["right"])} for each in ranked["gallery"]],
    }


def _record(run: Run, record: dict) -> dict:
    known = _known(record)
    missing = None if image_of(run, record) else "outside this run's data"
    return {
        "image": _shown(run, record),
        "missing": missing or "image not found",
        "words": ", ".join(
            str(value) if key == "modality" else f"{key} {isolated(str(value))}"
            for key, value in known.items()
        ),
        "lines": _lines(known),
        "distance": record.get("distance"),
    }


def _known(record: dict) -> dict:
    return {key: record[key] for key in ("identity", "camera", "modality") if record.get(key) is not None}


def _lines(known: dict) -> list[str]:
    return [
        str(value) if key == "modality" else f"{'id' if key == 'identity' else key} {value}"
        for key, value in known.items()
    ]


def _figure(run: Run, lists: Sequence[dict], subset: str, several: bool) -> Plot:
    """The first list of each kind, as papers show them."""
    first = {each["kind"]: each for each in reversed(lists) if str(each["subset"]) == subset}
    chosen = [first[kind] for kind in dict.fromkeys([*KINDS, *first]) if kind in first]
    names = [
        str(each["kind"])
        + (
            f"\nAP {100 * each['average_precision']:.1f} %"
            if each.get("average_precision") is not None
            else ""
        )
        for each in chosen
    ]
    drawn = []
    for each in chosen:
        line = [Ranked(_pixels(run, each["query"]), None, None, _about(each["query"]))]
        line += [
            Ranked(_pixels(run, one), bool(one["right"]), one.get("distance"), _about(one))
            for one in each["gallery"]
        ]
        drawn.append(line)
    title = f"Ranked lists of {run.name}, {subset}" if several else f"Ranked lists, {subset}"
    return ranked_lists(drawn, names, f"ranked-{slug(run.name)}-{slug(subset)}", title)


def _about(record: dict) -> list[str]:
    return _lines(_known(record))


def _thumbnail(run: Run, record: dict) -> bytes | None:
    """The image that a record of ``evaluation.json`` names, as a small JPEG; it is read once.

    None where it cannot be read, or lies neither below the run's data nor in its folder: a report of a run from
    another machine has its numbers all the same.
    """
    key = ("thumbnail", str(record["path"]), record.get("array_index"), str(record.get("box")))
    if key not in run.loaded:
        found = image_of(run, record)
        try:
            run.loaded[key] = None if found is None else thumbnail(read(found))
        except UserError:
            run.loaded[key] = None
    return run.loaded[key]


def _shown(run: Run, record: dict) -> str | None:
    content = _thumbnail(run, record)
    return None if content is None else data_uri("image/jpeg", content)


def _pixels(run: Run, record: dict) -> np.ndarray | None:
    content = _thumbnail(run, record)
    return None if content is None else decode(content)
