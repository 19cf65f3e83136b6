"""The report: one HTML file that needs nothing besides itself."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from crossreid.report.charts import DARK, LIGHT, Chart, Line, Scatter, colours, png, svg
from crossreid.report.embedding_map import embedding_map
from crossreid.report.pictures import data_uri, thumbnail
from crossreid.report.runs import Run, differences, flatten, read_all
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
    "Rank-1": "the share of queries whose nearest allowed gallery picture shows the right person; rank-5, "
    "-10 and -20: at least one right picture among the first 5, 10 or 20. The CMC curve draws this share "
    "for every rank.",
    "mAP": "mean average precision: how near the top of the list all right pictures of a query stand, "
    "averaged over queries.",
    "mINP": "mean inverse negative penalty: the number of right pictures of a query over the rank of the "
    "last of them, averaged over queries. It is low where even one right picture is hard to find.",
}
KINDS = {"good": "Good queries", "median": "Median queries", "worst": "Worst queries"}


def write(runs: Sequence[Path], out: Path) -> Path:
    """Writes the report of one run, or of several side by side, and returns where it is.

    runs: run folders; each contributes what it holds. out: the file, or a folder that shall hold
        ``report.html``.

    The page asks for nothing from elsewhere: pictures, charts and the files behind its links are inside it.
    Raises UserError for a folder that is not a run, or a file in it that cannot be understood.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    text = page(read_all(runs))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, out)
    return out


def page(runs: Sequence[Run]) -> str:
    sections = {
        "Results": _results(runs),
        "CMC curves": _charts(_cmc_charts(runs)),
        "Training": _charts(_training_charts(runs)),
        "Ranked lists": _ranked(runs),
        "Embedding map": _maps(runs),
        "Settings": _settings(runs),
        "Cost": _cost(runs),
    }
    sections = {title: body for title, body in sections.items() if body}
    style = resources.files("crossreid.report").joinpath("page.css").read_text(encoding="utf-8")
    style = style.replace("/*light*/", colours(LIGHT)).replace("/*dark*/", colours(DARK))
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs side by side"
    links = "".join(f'<li><a href="#{_slug(name)}">{name}</a></li>' for name in sections)
    bodies = "".join(
        f'<section aria-labelledby="{_slug(name)}"><h2 id="{_slug(name)}">{name}</h2>{body}</section>'
        for name, body in sections.items()
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
            facts.append(f"after epoch {evaluation['epoch']}")
        if evaluation.get("date"):
            facts.append(escape(str(evaluation["date"]).replace("T", " ")))
        if not evaluation.get("rows"):
            facts.append("not evaluated")
        name = f"<b>{escape(run.name)}</b>: " if len(runs) > 1 else ""
        parts.append(f'<p class="quiet">{name}{" · ".join(fact for fact in facts if fact)}</p>')
    protocols = {
        str(run.evaluation["protocol"].get("words")) for run in runs if run.evaluation.get("protocol")
    }
    if len(protocols) > 1:
        parts.append(
            _loud("These runs were evaluated by different protocols. Their numbers must not be compared.")
        )
    for run in runs:
        said = list(run.evaluation.get("notes") or ())
        selection = str(run.evaluation.get("selection") or "")
        if re.search(r"\btest\b", selection, re.IGNORECASE):
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


def _results(runs: Sequence[Run]) -> str:
    found = all_results(runs)
    if not found:
        return "<p>No run here has been evaluated yet. <code>crossreid evaluate</code> adds the results.</p>"
    if repeated(runs):
        found += [Result(f"average of {len(runs)} runs", "", row) for row in average_runs(runs)]
    parts = [_tiles(found) if len(runs) == 1 else "", _table(found, alone=len(runs) == 1)]
    words = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in WORDS.items())
    parts.append(f'<dl class="words">{words}</dl>')
    said = {}
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
        (each for each in found if each.system not in ("", "re-ranked") and each.row["row"] == row["row"]),
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
            f"<div><dt>{MEASURES[measure]}, {escape(str(row['row']))}</dt><dd>{text} %{small}</dd></div>"
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _table(found: Sequence[Result], alone: bool) -> str:
    names = list(dict.fromkeys(name for result in found for name in result.row.get("verification") or ()))
    measures = [key for key in MEASURES if any(number(result.row, key) is not None for result in found)]
    head = [*(MEASURES[key] for key in measures), *names, "Trials", "Queries"]
    head = "".join(f'<th scope="col">{escape(name).replace("@", "<br>@")}</th>' for name in head)
    bodies = []
    for row in dict.fromkeys(str(result.row["row"]) for result in found):
        lines = [result for result in found if str(result.row["row"]) == row]
        cells = "".join(_results_line(result, measures, names, alone) for result in lines)
        span = len(measures) + len(names) + 3
        bodies.append(
            f'<tbody class="group"><tr><th scope="rowgroup" '
            f'colspan="{span}">{escape(row)}</th></tr>{cells}</tbody>'
        )
    spreads = any(len(result.row.get("trials") or ()) > 1 for result in found)
    caption = "Per cent, over the queries that have at least one right picture in the gallery."
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
            f"<p><b>{escape(str(protocol.get('name', '')))}.</b> {escape(str(protocol.get('words', '')))}</p>"
        )
    comparison = evaluation.get("comparison") or {}
    compared = [
        f"{name}: {escape(str(comparison[name]).replace('_', ' '))}"
        for name in ("vector", "stripes")
        if comparison.get(name)
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


def _cmc_charts(runs: Sequence[Run]) -> list[Chart]:
    found = [result for result in all_results(runs) if result.row.get("cmc")]
    charts = []
    for row in dict.fromkeys(str(result.row["row"]) for result in found):
        lines = []
        for result in found:
            if str(result.row["row"]) == row:
                cmc = result.row["cmc"][:20]
                label = (result.system or "this run") if len(runs) == 1 else result.label
                lines.append(Line(label, list(range(1, len(cmc) + 1)), cmc))
        charts.append(
            Chart(
                f"cmc-{_slug(row)}",
                f"CMC, {row}",
                "Rank",
                "Queries found",
                lines,
                percent=True,
                marks=(1, 5, 10, 15, 20),
            )
        )
    return charts


def _training_charts(runs: Sequence[Run]) -> list[Chart]:
    charts = []
    several = len(runs) > 1
    # One run: the losses of a phase in one chart. Several: a chart for each loss, a line for each run.
    losses = {}
    for run in runs:
        for name, line in _series(run, lambda epoch: epoch.get("losses") or {}).items():
            phase, _, loss = name.rpartition("/")
            chart, label = (name, run.name) if several else (phase or "train", loss)
            losses.setdefault(chart, []).append(Line(label, *line))
    for name, lines in losses.items():
        title = f"Loss {name}" if several else f"Losses, phase {name}"
        charts.append(Chart(f"loss-{_slug(name)}", title, "Epoch", "Mean over the epoch", lines))
    rates = {}
    for run in runs:
        for name, line in _series(run, _rates).items():
            rates.setdefault(name.partition(" ")[0], []).append(
                Line(f"{run.name}, {name}" if several else name, *line)
            )
    for name, lines in rates.items():
        values = [y for line in lines for y in line.y]
        wide = min(values) > 0 and max(values) > 20 * min(values)
        charts.append(
            Chart(
                f"rate-{_slug(name)}",
                f"Learning rate, optimizer {name}",
                "Epoch",
                "Rate",
                lines,
                logarithmic=wide,
            )
        )
    scores = {}
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
    for (split, row), lines in scores.items():
        lines = [Line(label, list(points), list(points.values())) for label, points in lines.items()]
        title = f"Scores during training, {row}, {split} split"
        charts.append(Chart(f"scores-{_slug(row)}-{split}", title, "Epoch", "Score", lines, percent=True))
    return charts


def _series(run: Run, values) -> dict[str, tuple[list, list]]:
    """Name -> (epochs finished, values), for the epochs where ``values`` of the record knows the name."""
    series = {}
    for epoch in run.epochs:
        for name, value in values(epoch).items():
            if isinstance(value, int | float):
                xs, ys = series.setdefault(name, ([], []))
                xs.append(epoch["epoch"] + 1)
                ys.append(value)
    return series


def _rates(epoch: dict) -> dict[str, float]:
    """The rates of an epoch by name of optimizer and group, groups of equal rate together."""
    named = {}
    for optimizer, groups in (epoch.get("rates") or {}).items():
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
    spans = []
    for value in numbers:
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in spans)


def _charts(charts: Sequence[Chart | Scatter]) -> str:
    if not charts:
        return ""
    return f'<div class="charts">{"".join(_figure(chart) for chart in charts)}</div>'


def _figure(chart: Chart | Scatter) -> str:
    files = {
        "SVG": (".svg", "image/svg+xml", svg(chart, standalone=True).encode()),
        "CSV": (".csv", "text/csv", chart.csv().encode()),
    }
    picture = png(chart)
    if picture is not None:
        files["PNG"] = (".png", "image/png", picture)
    links = " ".join(
        f'<a href="{data_uri(kind, content)}" download="{escape(chart.name)}{ending}" '
        f'aria-label="{name} of {escape(chart.title)}">{name}</a>'
        for name, (ending, kind, content) in files.items()
    )
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>{svg(chart)}"
        f'<p class="files">Save as {links}</p></figure>'
    )


def _ranked(runs: Sequence[Run]) -> str:
    parts = []
    for run in runs:
        lists = run.evaluation.get("ranked") or ()
        if not lists:
            continue
        if len(runs) > 1:
            parts.append(f"<h3>{escape(run.name)}</h3>")
        rows = list(dict.fromkeys(str(each["row"]) for each in lists))
        for row in rows:
            body = []
            for kind in dict.fromkeys([*KINDS, *(each["kind"] for each in lists)]):
                chosen = [each for each in lists if str(each["row"]) == row and each["kind"] == kind]
                if chosen:
                    body.append(f"<h4>{escape(KINDS.get(kind, str(kind)))}</h4>")
                    body += [_ranking(each) for each in chosen]
            opened = " open" if row == rows[0] else ""
            parts.append(f"<details{opened}><summary>{escape(row)}</summary>{''.join(body)}</details>")
    if not parts:
        return ""
    return (
        "<p>Left: the picture searched for. Right of the line: the gallery, nearest first, without the "
        "pictures that the protocol disregards. A right person has a solid frame and ✓, a wrong one a "
        "dashed frame and ✕; the number on a "
        "picture is its rank, the one below it its distance.</p>" + "".join(parts)
    )


def _ranking(ranked: dict) -> str:
    query = ranked["query"]
    facts = []
    if ranked.get("average_precision") is not None:
        facts.append(f"Average precision {100 * ranked['average_precision']:.1f} %")
    if ranked.get("first_rank") is not None:
        facts.append(f"first right picture at rank {ranked['first_rank']:g}")
    items = []
    for rank, record in enumerate(ranked["gallery"], start=1):
        right = bool(record["right"])
        word = "right" if right else "wrong"
        sign = "✓" if right else "✕"
        mark = f'<span class="mark"><span class="hidden">{word}, rank</span>{sign} {rank}</span>'
        distance = record.get("distance")
        about = f"<b>{distance:.3f}</b><br>" if distance is not None else ""
        items.append(f'<li class="{word}">{_person(record, f"rank {rank}, {word}", mark, about)}</li>')
    mark = '<span class="mark">query</span>'
    label = escape(f"Ranked list of identity {query.get('identity')}", quote=True)
    return (
        f'<p class="quiet">{escape(", ".join(facts))}</p><div class="ranking" tabindex="0" role="region" '
        f'aria-label="{label}">'
        f"{_person(query, 'query', mark, '')}<ol>{''.join(items)}</ol></div>"
    )


def _person(record: dict, role: str, mark: str, about: str) -> str:
    known = {key: record[key] for key in ("identity", "camera", "modality") if record.get(key) is not None}
    words = ", ".join(str(value) if key == "modality" else f"{key} {value}" for key, value in known.items())
    source = thumbnail(record)
    alt = escape(f"{role}: {words}", quote=True)
    picture = (
        f'<img src="{source}" alt="{alt}">' if source else '<span class="missing">picture not found</span>'
    )
    below = "<br>".join(
        escape(str(value) if key == "modality" else f"{'id' if key == 'identity' else key} {value}")
        for key, value in known.items()
    )
    return (
        f'<figure><div class="picture">{picture}{mark}</div><figcaption>{about}{below}</figcaption></figure>'
    )


def _maps(runs: Sequence[Run]) -> str:
    charts = []
    for run in runs:
        if run.features is None:
            continue
        try:
            drawn = embedding_map(run.features)
        except ImportError:
            return (
                "<p>The map of the stored features needs scikit-learn: "
                "install <code>crossreid[plot]</code>.</p>"
            )
        if drawn is not None:
            title = "t-SNE" if len(runs) == 1 else f"t-SNE of {run.name}"
            charts += drawn.charts(f"map-{_slug(run.name)}", title)
    if not charts:
        return ""
    words = (
        "<p>Each point is a picture; t-SNE lays pictures with similar vectors near each other. Distances "
        "between far "
        "groups and the axes themselves mean nothing. Hold the pointer over a point to read what it is.</p>"
    )
    return words + _charts(charts)


def _settings(runs: Sequence[Run]) -> str:
    known = [run for run in runs if run.settings]
    parts = []
    if len(known) > 1:
        changed = differences(known)
        if changed:
            head = "".join(f'<th scope="col">{escape(run.name)}</th>' for run in known)
            lines = "".join(
                f'<tr><th scope="row"><code>{escape(key)}</code></th>'
                + "".join(f'<td class="text">{_setting(value)}</td>' for value in values)
                + "</tr>"
                for key, values in changed.items()
            )
            parts.append(
                '<div class="scroll settings" tabindex="0" role="region" '
                'aria-label="Settings that differ"><table>'
                f'<caption>What differs</caption><thead><tr><th scope="col">Setting</th>{head}</tr></thead>'
                f"<tbody>{lines}</tbody></table></div>"
            )
        else:
            parts.append("<p>All settings are the same.</p>")
    for run in known:
        tables = "".join(_heading(name, value) for name, value in run.settings.items())
        opened = " open" if len(known) == 1 else ""
        title = "All settings" if len(known) == 1 else f"All settings of {run.name}"
        parts.append(
            f"<details{opened}><summary>{escape(title)}</summary>"
            f'<div class="columns">{tables}</div></details>'
        )
    return "".join(parts)


def _heading(name: str, value) -> str:
    lines = flatten(value) if isinstance(value, dict) else {"": value}
    body = "".join(
        f'<tr><th scope="row"><code>{escape(str(key))}</code></th><td class="text">{_setting(each)}</td></tr>'
        for key, each in lines.items()
    )
    return (
        f'<div class="scroll settings"><table><caption>{escape(str(name))}</caption>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _setting(value) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)) or "none")
    return escape(str(value))


def _cost(runs: Sequence[Run]) -> str:
    facts = {
        "seconds": ("Training time", _duration),
        "step_ms": ("One step", lambda value: f"{value:.1f} ms"),
        "parameters": ("Parameters", lambda value: f"{value / 1e6:.2f} million"),
        "checkpoint_bytes": ("Checkpoint", _size),
        "peak_memory_bytes": ("Peak memory", _size),
        "device": ("Device", str),
        "processes": ("Processes", str),
    }
    known = [run for run in runs if run.summary]
    lines = []
    for key, (title, told) in facts.items():
        values = [run.summary.get(key) for run in known]
        if any(value is not None for value in values):
            cells = "".join(f'<td class="text">{"–" if v is None else escape(told(v))}</td>' for v in values)
            lines.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    if not lines:
        return ""
    head = "".join(f'<th scope="col" class="text">{escape(run.name)}</th>' for run in known)
    return (
        '<div class="scroll settings" tabindex="0" role="region" aria-label="Cost"><table>'
        "<caption>What the training cost</caption>"
        f'<thead><tr><th scope="col">Measure</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _origin(runs: Sequence[Run]) -> str:
    said = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in versions.items())
        for versions in (run.evaluation.get("versions") or {} for run in runs)
        if versions
    )
    return f"<p>Evaluated with {escape('; '.join(said))}.</p>" if said else ""


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "figure"
