"""The report: one HTML file that needs nothing besides itself, and its figures as files."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossreid import pages
from crossreid.data import SOURCES
from crossreid.data import get as get_source
from crossreid.files import check_folder, write_whole
from crossreid.report import (
    activations,
    curves,
    distances,
    embedding_map,
    evidence,
    figure,
    gates,
    rankings,
    results,
    settings_and_cost,
    stripes,
    views,
)
from crossreid.report.figure import KINDS, Plot, data_uri, slug
from crossreid.report.groups import Group, grouped
from crossreid.report.runs import Run, read_all
from crossreid.report.section import Section

WIDE = 6.5  # inches; a figure wider than this has a line of the page to itself


@dataclass(frozen=True)
class Choice:
    """What the page shows.

    feature: which of the method's features; None those that are stored. identities: how many the map draws, chosen by
        ``seed``, which also places the points. views: also a map of each branch and view, the runs above each other.
    group_by: the setting by which runs are averaged; None finds runs that differ in their seed or fold alone.
    """

    feature: str | None = None
    identities: int = embedding_map.IDENTITIES
    seed: int = 0
    views: bool = False
    group_by: str | None = None


def write(
    runs: Sequence[Path],
    out: Path,
    *,
    figures_to: Path | None = None,
    choice: Choice | None = None,
    links: Mapping[str, str] | None = None,
) -> Path:
    """Writes the report of one run, or of several side by side, and returns where it is.

    runs: run folders; each contributes what it holds. out: the file, or a folder that shall hold
        ``report.html``. figures_to: a folder for each figure as SVG, PNG, PDF and CSV. links: text -> the relative
        address of another page that belongs to these runs.

    The page asks for nothing from elsewhere: images, charts and the files behind its links are inside it.
    Raises UserError for a folder that is not a run, or a file in it that cannot be understood, and, before anything is
    drawn, for a place that cannot be written to.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    read, choice = read_all(runs), choice or Choice()
    groups = grouped(read, choice.group_by)
    for folder in (out.parent, figures_to):
        if folder is not None:
            check_folder(Path(folder))
    found = sections(groups, choice, saving=figures_to is not None)
    figures = [each for section in found for each in section.every]
    drawn = {} if figures_to is None else {each: each.files() for each in figures}
    text = page(groups, found, links or {}, drawn)
    write_whole(out, text.encode("utf-8", "backslashreplace"))
    if figures_to is not None:
        figure.write(figures, figures_to, drawn)
    return out


def sections(groups: Sequence[Group], choice: Choice, saving: bool) -> list[Section]:
    """The parts of the page that have something to say, in its order. saving: with the figures that are files only."""
    runs = [run for group in groups for run in group.runs]
    stored = {run.name: evidence.features(run, choice.feature) for run in runs}
    found = [
        results.section(groups),
        Section("CMC curves", figures=list(curves.found_by_rank(groups))),
        Section("Training", figures=curves.training(groups)),
        gates.section(groups),
        rankings.section(runs, saving),
        activations.section(runs, choice.feature),
        stripes.section(runs, choice.feature),
        distances.section(groups, stored),
        embedding_map.section(stored, choice.identities, choice.seed),
        *([views.section(runs, choice.identities, choice.seed)] if choice.views else []),
        settings_and_cost.settings(runs),
        settings_and_cost.cost(runs),
    ]
    return [section for section in found if section]


def page(
    groups: Sequence[Group],
    found: Sequence[Section],
    links: Mapping[str, str],
    drawn: Mapping[Plot, Mapping[str, bytes]],
) -> str:
    """The page's HTML. drawn: figure -> its files, where they are there already."""
    runs = [run for group in groups for run in group.runs]
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in each.items())
        for each in (run.evaluation.get("versions") or {} for run in runs)
        if each
    )
    return pages.render(
        "report.html",
        title=title(runs),
        runs=[_facts(run) for run in runs],
        several=len(runs) > 1,
        warnings=_warnings(runs),
        links=links,
        sections=[
            {
                "title": each.title,
                "id": slug(each.title),
                "template": each.template,
                "about": each.about,
                "figures": [_shown(one, drawn, files=True) for one in _open(each, len(runs) > 1)],
                "folded": {
                    name: [_shown(one, drawn, files=False) for one in part]
                    for name, part in each.folded.items()
                }
                if len(runs) > 1
                else {},
            }
            for each in found
        ],
        versions="; ".join(versions),
    )


def title(runs: Sequence[Run]) -> str:
    """The methods and the data sets; rendered ones are called so."""
    methods = dict.fromkeys(_method(run) for run in runs if _method(run))
    data = dict.fromkeys(_data(run) for run in runs if _data(run))
    text = " on ".join(filter(None, [_and(methods), _and(data)])) or runs[0].name
    return text if len(runs) == 1 else f"{text}: {len(runs)} runs side by side"


def _and(names: Collection[str]) -> str:
    """As in ``agw, ddag and mvd``."""
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _method(run: Run) -> str:
    method = run.settings.get("method")
    return str(run.evaluation.get("method") or (method.get("name") if isinstance(method, dict) else "") or "")


def _data(run: Run) -> str:
    provenance = (run.evaluation.get("protocol") or {}).get("provenance")
    if provenance:
        return str(provenance)
    data = run.settings.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    names = [str(each) for each in (name if isinstance(name, list) else [name] if name else ())]
    return " + ".join(get_source(each).title if each in SOURCES else each for each in names)


def _open(section: Section, several: bool) -> list[Plot]:
    """The figures that are not folded away."""
    if several:
        return section.figures
    return [*section.figures, *(each for part in section.folded.values() for each in part)]


def _shown(plot: Plot, drawn: Mapping[Plot, Mapping[str, bytes]], files: bool) -> dict:
    """A figure for the template. files: with its files behind links; images would carry themselves three times over, so
    these have their data alone."""
    made = drawn.get(plot) or (plot.files() if files and not plot.shows_images else {})
    kept = {"csv": plot.csv().encode("utf-8", "backslashreplace")} if plot.shows_images else made
    saved = {kind: data_uri(KINDS[kind], content) for kind, content in kept.items()} if files else {}
    wide = bool(plot.get_figwidth() > WIDE)
    return {
        "title": plot.title,
        "name": plot.name,
        "svg": plot.in_page(made.get("svg")),
        "files": saved,
        "wide": wide,
    }


def _facts(run: Run) -> dict:
    evaluation = run.evaluation
    facts = []
    if evaluation.get("epoch") is not None:
        facts.append(f"after epoch {evaluation['epoch']}")
    if not evaluation.get("rows"):
        facts.append("not evaluated")
    elif evaluation.get("date"):
        facts.append(f"evaluated {readable_date(str(evaluation['date']))}")
    checkpoint = Path(str(evaluation["checkpoint"])).name if "checkpoint" in evaluation else None
    return {"name": run.name, "method": _method(run), "checkpoint": checkpoint, "facts": facts}


def readable_date(text: str) -> str:
    """``2026-11-28T08:05:30+00:00`` as ``28 November 2026, 08:05 UTC``; what is no such moment stays as it is."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    day = f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"
    if "T" not in text:
        return day
    zone = moment.tzname() or ""
    return f"{day}, {moment:%H:%M} {zone}".strip()


_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def _warnings(runs: Sequence[Run]) -> list[dict]:
    """What must be read before the numbers: ``{"run": name or "", "text": ...}``."""
    found = []
    protocols = {
        str(run.evaluation["protocol"].get("description")) for run in runs if run.evaluation.get("protocol")
    }
    if len(protocols) > 1:
        text = "These runs were evaluated by different protocols. Their numbers must not be compared."
        found.append({"run": "", "text": text})
    notes: dict[str, list[str]] = {}
    for run in runs:
        said = [str(text) for text in run.evaluation.get("notes") or ()]
        selection = str(run.evaluation.get("selection") or "")
        if re.search(r"\btest set\b", selection, re.IGNORECASE):
            said.insert(
                0,
                f"Reported epoch: {selection}. Numbers chosen on the test set are better than those to "
                "expect on new data.",
            )
        for text in said:
            notes.setdefault(text[:1].upper() + text[1:], []).append(run.name)
    for text, names in notes.items():
        found.append({"run": "" if len(names) == len(runs) else ", ".join(names), "text": text})
    return found
