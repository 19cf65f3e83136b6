"""The report: one HTML file that needs nothing besides itself, and its figures as files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from crossreid.files import check_folder, replacing
from crossreid.report import (
    activations,
    curves,
    distances,
    embedding_map,
    figures,
    gates,
    rankings,
    results,
    settings_and_cost,
    stripes,
    views,
)
from crossreid.report.drawing import SERIES, SERIES_DARK, variables
from crossreid.report.figures import Section, slug
from crossreid.report.runs import Run, read_all


@dataclass(frozen=True)
class Choice:
    """What the figures of vectors show.

    feature: which of the method's features; None those that are stored. identities: how many the map draws, chosen by
        ``seed``, which also places the points. views: also a map of each branch and view, the runs above each other.
    """

    feature: str | None = None
    identities: int = embedding_map.IDENTITIES
    seed: int = 0
    views: bool = False


def write(
    runs: Sequence[Path], out: Path, *, figures_to: Path | None = None, choice: Choice | None = None
) -> Path:
    """Writes the report of one run, or of several side by side, and returns where it is.

    runs: run folders; each contributes what it holds. out: the file, or a folder that shall hold
        ``report.html``. figures_to: a folder for each figure as SVG, PNG and CSV.

    The page asks for nothing from elsewhere: images, charts and the files behind its links are inside it.
    Raises UserError for a folder that is not a run, or a file in it that cannot be understood, and, before anything is
    drawn, for a place that cannot be written to.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    read = read_all(runs)
    for folder in (out.parent, figures_to):
        if folder is not None:
            check_folder(Path(folder))
    found = sections(read, choice or Choice())
    text = page(read, found)
    with replacing(out) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    if figures_to is not None:
        figures.write([figure for section in found for figure in section.figures], figures_to)
    return out


def sections(runs: Sequence[Run], choice: Choice) -> list[Section]:
    """The parts of the page that have something to say, in its order."""
    found = [
        results.section(runs),
        Section("CMC curves", figures=curves.found_by_rank(runs)),
        Section("Training", figures=curves.training(runs)),
        gates.section(runs),
        rankings.section(runs),
        activations.section(runs, choice.feature),
        stripes.section(runs, choice.feature),
        *_of_vectors(runs, choice),
        *([views.section(runs, choice.identities, choice.seed)] if choice.views else []),
        settings_and_cost.settings(runs),
        settings_and_cost.cost(runs),
    ]
    return [section for section in found if section.body or section.figures]


def _of_vectors(runs: Sequence[Run], choice: Choice) -> list[Section]:
    from crossreid.report import evidence

    found = [(run, evidence.features(run, choice.feature)) for run in runs]
    stored = [(run, features) for run, features in found if features is not None]
    return [distances.section(found), embedding_map.section(stored, choice.identities, choice.seed)]


def page(runs: Sequence[Run], found: Sequence[Section]) -> str:
    style = resources.files("crossreid.report").joinpath("page.css").read_text(encoding="utf-8")
    style = style.replace("/*light*/", variables(SERIES)).replace("/*dark*/", variables(SERIES_DARK))
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs side by side"
    links = "".join(f'<li><a href="#{slug(each.title)}">{each.title}</a></li>' for each in found)
    bodies = "".join(
        f'<section aria-labelledby="{slug(each.title)}"><h2 id="{slug(each.title)}">{each.title}</h2>'
        f"{each.body}{figures.in_page(each.figures)}</section>"
        for each in found
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
        "'unsafe-inline'\">"
        f"<title>{escape(title)} · crossreid</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{_introduction(runs)}</header>"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{bodies}</main>'
        f'<footer class="quiet">{_origin(runs)}</footer></body></html>\n'
    )


def _introduction(runs: Sequence[Run]) -> str:
    parts = []
    for run in runs:
        evaluation = run.evaluation
        method = evaluation.get("method") or run.settings.get("method", {}).get("name")
        facts = [f"method <b>{escape(str(method))}</b>" if method else ""]
        if "checkpoint" in evaluation:
            facts.append(f"checkpoint <code>{escape(Path(str(evaluation['checkpoint'])).name)}</code>")
        if evaluation.get("epoch") is not None:
            facts.append(f"after epoch {escape(str(evaluation['epoch']))}")
        if evaluation.get("date"):
            facts.append(escape(str(evaluation["date"]).replace("T", " ")))
        if not evaluation.get("rows"):
            facts.append("not evaluated")
        name = f"<b>{escape(run.name)}</b>: " if len(runs) > 1 else ""
        parts.append(f'<p class="quiet">{name}{" · ".join(fact for fact in facts if fact)}</p>')
    protocols = {
        str(run.evaluation["protocol"].get("description")) for run in runs if run.evaluation.get("protocol")
    }
    if len(protocols) > 1:
        parts.append(
            _loud("These runs were evaluated by different protocols. Their numbers must not be compared.")
        )
    for run in runs:
        said = list(run.evaluation.get("notes") or ())
        selection = str(run.evaluation.get("selection") or "")
        if re.search(r"\btest set\b", selection, re.IGNORECASE):
            said.insert(
                0,
                f"Reported epoch: {selection}. Numbers chosen on the test set are better than those to "
                "expect on new data.",
            )
        parts += [_loud(str(text), run.name if len(runs) > 1 else "") for text in said]
    return "".join(parts)


def _loud(text: str, name: str = "") -> str:
    text = escape(text[:1].upper() + text[1:])
    name = f"<b>{escape(name)}</b>: " if name else ""
    return f'<div class="loud" role="note"><p><b aria-hidden="true">!</b> {name}{text}</p></div>'


def _origin(runs: Sequence[Run]) -> str:
    said = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in versions.items())
        for versions in (run.evaluation.get("versions") or {} for run in runs)
        if versions
    )
    return f"<p>Evaluated with {escape('; '.join(said))}.</p>" if said else ""
