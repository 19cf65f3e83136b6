"""How far apart images of one identity and of two are: histograms, and the rates of accepting pairs.

The evaluation measured them when it compared the images (``crossreid.evaluation.verification`` and ``within_across``)
and left them in ``evaluation.json``; they are drawn here. Only where another feature is looked at are they measured
again, by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from crossreid.records import Embedding, Metric
from crossreid.report import plots
from crossreid.report.evidence import Features
from crossreid.report.figure import Plot, slug
from crossreid.report.groups import Group
from crossreid.report.runs import Run
from crossreid.report.section import Section, mean_line


def measured(run: Run, features: Features | None) -> tuple[list[dict], list[dict]] | None:
    """The pairs of each subset, and those within and across modalities, as ``evaluation.json`` holds them, or, where it
    does not, or another feature is looked at, as the stored features give them; None where those do not tell who is
    searched for where."""
    evaluation = run.evaluation
    kept = evaluation.get("pairs")
    known = features is None or features.name == evaluation.get("feature")
    if features is None or features.protocol is None or features.metric is None:
        return (kept, evaluation.get("within_across") or []) if kept and known else None
    if kept and known and "within_across" in evaluation:
        return kept, evaluation["within_across"] or []
    import torch

    from crossreid.evaluation import EvaluateConfig, score_subsets
    from crossreid.evaluation.within_across import within_and_across

    stripes = None if features.stripes is None else torch.from_numpy(features.stripes)
    embedding = Embedding(torch.from_numpy(features.vectors), stripes)
    metric = features.metric
    if not (kept and known):
        config = EvaluateConfig()
        found = score_subsets(features.protocol, embedding, metric, config, measures=("verification",))
        kept = [pairs for scores in found.values() for pairs in scores.results.get("pairs", ())]
    return kept, within_and_across(features.protocol, embedding, metric)


def section(groups: Sequence[Group], stored: Mapping[str, Features | None]) -> Section:
    """stored: name of a run -> its features. A run of which nothing tells the pairs says so in its place."""
    runs = [run for group in groups for run in group.runs]
    silent, drawn = [], {}
    folded: dict[str, list[Plot]] = {}
    for run in runs:
        features = stored.get(run.name)
        found = measured(run, features)
        if found is None:
            if features is not None:
                silent.append(run.name)
            continue
        drawn[run.name] = found[0]
        feature = features.name if features is not None else str(run.evaluation.get("feature"))
        name = f" of {run.name}" if len(runs) > 1 else ""
        folded[run.name] = list(_histograms(run, *found, feature, name))
    if not drawn:
        return Section("Distances", "silent.html" if silent else "", {"silent": silent})
    about = {"silent": silent, "rates": plots.OPERATING, "lines": _operating_points(drawn)}
    return Section("Distances", "distances.html", about, _curves(groups, drawn), folded)


def _histograms(run: Run, pairs: list[dict], grouped: list[dict], feature: str, name: str) -> Iterator[Plot]:
    for each in pairs:
        subset = str(each["subset"])
        yield plots.distances(
            each["edges"],
            {kind: counts for kind, counts in each["histogram"].items() if any(counts)},
            f"distances-{slug(run.name)}-{slug(subset)}",
            f"Distances{name}, {subset}",
            _axis(Metric(**each["metric"])),
            f"{each['genuine']:,} genuine, {each['impostor']:,} impostor pairs; feature {feature}",
        )
    for each in grouped:
        across = {"modality": "modalities", "domain": "domains"}[each["by"]]
        yield plots.distances(
            each["edges"],
            each["histogram"],
            f"distances-{slug(run.name)}-by-{each['by']}",
            f"Distances{name} within and across {across}",
            _axis(Metric(**each["metric"])),
            f"pairs of the identities searched for, by different cameras; feature {feature}",
        )


def _axis(metric: Metric) -> str:
    parts = {
        "cosine": "1 - cosine",
        "euclidean": "Euclidean",
        "squared_euclidean_unit": "2 - 2 cosine",
        None: "",
    }[metric.feature]
    stripes = f"{metric.stripes} stripes" if metric.stripes else ""
    return f"Distance ({' + '.join(filter(None, (parts, stripes)))})"


def _curves(groups: Sequence[Group], drawn: dict[str, list[dict]]) -> list[Plot]:
    """One run: a line for each subset. Several: a chart for each subset, a line for each group of runs."""
    several = len(drawn) > 1
    charts: dict[str, list[plots.Line]] = {}
    for group in groups:
        curves: dict[str, list[dict]] = {}
        for run in group.runs:
            for each in drawn.get(run.name, ()):
                if each["false_positive"]:
                    curve = dict(zip(each["false_positive"], each["true_positive"]))
                    curves.setdefault(str(each["subset"]), []).append(curve)
        for subset, parts in curves.items():
            line = mean_line(group.name if several else subset, parts)
            charts.setdefault(subset if several else "", []).append(line)
    return [
        plots.roc(
            {line.label: (line.x, line.y, line.spread) for line in lines},
            f"roc-{slug(subset)}" if subset else "roc",
            f"ROC, {subset}" if subset else "ROC",
        )
        for subset, lines in charts.items()
    ]


def _operating_points(drawn: dict[str, list[dict]]) -> list[dict]:
    """For each run and subset a label and, by rate, the true positive rate with its threshold, None where there are
    too few pairs."""
    lines = []
    for run, pairs in drawn.items():
        for each in pairs:
            cells = []
            for rate in plots.OPERATING:
                at = np.flatnonzero(np.isclose(each["false_positive"], rate, rtol=1e-6))
                cells.append((each["true_positive"][at[0]], each["threshold"][at[0]]) if len(at) else None)
            label = f"{run}, {each['subset']}" if len(drawn) > 1 else str(each["subset"])
            lines.append({"label": label, "cells": cells})
    return lines
