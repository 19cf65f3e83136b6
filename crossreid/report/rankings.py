"""Ranked lists: what was searched for, and what stands nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from crossreid.images.reading import read
from crossreid.images.thumbnail import thumbnail
from crossreid.records import UserError
from crossreid.report.drawing import data_uri
from crossreid.report.figures import Section
from crossreid.report.runs import Run, image_of

KINDS = {"good": "Good queries", "median": "Median queries", "worst": "Worst queries"}


def section(runs: Sequence[Run]) -> Section:
    parts = []
    for run in runs:
        lists = run.evaluation.get("ranked") or ()
        if not lists:
            continue
        if len(runs) > 1:
            parts.append(f"<h3>{escape(run.name)}</h3>")
        rows = list(dict.fromkeys(str(each["subset"]) for each in lists))
        for row in rows:
            body = []
            for kind in dict.fromkeys([*KINDS, *(each["kind"] for each in lists)]):
                chosen = [each for each in lists if str(each["subset"]) == row and each["kind"] == kind]
                if chosen:
                    body.append(f"<h4>{escape(KINDS.get(kind, str(kind)))}</h4>")
                    body += [_ranking(run, each) for each in chosen]
            opened = " open" if row == rows[0] else ""
            parts.append(f"<details{opened}><summary>{escape(row)}</summary>{''.join(body)}</details>")
    if not parts:
        return Section("Ranked lists")
    return Section(
        "Ranked lists",
        "<p>Left: the image searched for. Right of the line: the gallery, nearest first, without the "
        "images that the protocol disregards. A right person has a solid frame and ✓, a wrong one a "
        "dashed frame and ✕; the number on a "
        "image is its rank, the one below it its distance.</p>" + "".join(parts),
    )


def _ranking(run: Run, ranked: dict) -> str:
    query = ranked["query"]
    facts = []
    if ranked.get("average_precision") is not None:
        facts.append(f"Average precision {100 * ranked['average_precision']:.1f} %")
    if ranked.get("first_rank") is not None:
        facts.append(f"first right image at rank {ranked['first_rank']:g}")
    items = []
    for rank, record in enumerate(ranked["gallery"], start=1):
        right = bool(record["right"])
        word = "right" if right else "wrong"
        sign = "✓" if right else "✕"
        mark = f'<span class="mark"><span class="hidden">{word}, rank</span>{sign} {rank}</span>'
        distance = record.get("distance")
        about = f"<b>{distance:.3f}</b><br>" if distance is not None else ""
        items.append(f'<li class="{word}">{_person(run, record, f"rank {rank}, {word}", mark, about)}</li>')
    mark = '<span class="mark">query</span>'
    label = escape(f"Ranked list of identity {query.get('identity')}", quote=True)
    return (
        f'<p class="quiet">{escape(", ".join(facts))}</p><div class="ranking" tabindex="0" role="region" '
        f'aria-label="{label}">'
        f"{_person(run, query, 'query', mark, '')}<ol>{''.join(items)}</ol></div>"
    )


def _person(run: Run, record: dict, role: str, mark: str, about: str) -> str:
    known = {key: record[key] for key in ("identity", "camera", "modality") if record.get(key) is not None}
    words = ", ".join(str(value) if key == "modality" else f"{key} {value}" for key, value in known.items())
    source = _shown(run, record)
    alt = escape(f"{role}: {words}", quote=True)
    image = f'<img src="{source}" alt="{alt}">' if source else '<span class="missing">image not found</span>'
    below = "<br>".join(
        escape(str(value) if key == "modality" else f"{'id' if key == 'identity' else key} {value}")
        for key, value in known.items()
    )
    return f'<figure><div class="image">{image}{mark}</div><figcaption>{about}{below}</figcaption></figure>'


def _shown(run: Run, record: dict) -> str | None:
    """The image that a record of ``evaluation.json`` names, as a small JPEG in a data URI.

    None where it cannot be read, or lies neither below the run's data nor in its folder: a report of a run from
    another machine has its numbers all the same.
    """
    found = image_of(run, record)
    if found is None:
        return None
    try:
        return data_uri("image/jpeg", thumbnail(read(found)))
    except UserError:
        return None
