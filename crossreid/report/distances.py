"""How far apart images of one person and of two are: histograms, and the rates of accepting pairs.

The evaluation measured them when it compared the images (``crossreid.evaluation.verification``) and left them in
``evaluation.json``; they are drawn here. Only pairs within and across modalities or data sets, which are no pairs of
the protocol, are compared here, from the stored features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from crossreid.evaluation.verification import Sample, histogram, histogram_edges
from crossreid.records import Embedding, Metric
from crossreid.report.charts import Chart, Histogram, Line
from crossreid.report.evidence import Features, identity_numbers
from crossreid.report.figures import Section, slug
from crossreid.report.runs import Run

OPERATING = (1e-2, 1e-3, 1e-4)
BLOCK_BYTES = 16 * 2**20


def measured(run: Run, features: Features | None) -> list[dict] | None:
    """The pairs of each subset as ``evaluation.json`` holds them, or, where it does not, or another feature is looked
    at, as the stored features give them; None where those do not tell who is searched for where."""
    kept = run.evaluation.get("pairs")
    if kept and (features is None or features.name == run.evaluation.get("feature")):
        return kept
    if features is None or features.protocol is None or features.metric is None:
        return None
    from crossreid.evaluation import EvaluateConfig, score_subsets

    found = score_subsets(
        features.protocol,
        _embedding(features),
        features.metric,
        EvaluateConfig(),
        measures=("verification",),
    )
    return [pairs for scores in found.values() for pairs in scores.results.get("pairs", ())]


def within_and_across(
    labels: dict[str, np.ndarray], key: str, rows: Callable
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Histograms of all pairs of images by different cameras, within one modality or domain and across two; each pair
    once: edges (B + 1,) and, by the kind of pair, counts (B,).

    key: ``modality`` or ``domain``. rows: the distances (stop - start, N) of these images to all.
    """
    person = identity_numbers(labels["domain"], labels["identity"])
    camera = (
        identity_numbers(labels["domain"], labels["camera"]) if "camera" in labels else np.arange(len(person))
    )
    group = np.unique(labels[key], return_inverse=True)[1].reshape(-1)
    places = (f"within a {key}", f"across {_plural(key)}")
    names = [f"{kind}, {where}" for kind in ("genuine", "impostor") for where in places]
    samples = [Sample() for _ in names]
    count = len(person)
    step = max(1, BLOCK_BYTES // (4 * max(1, count)))
    for start in range(0, count, step):
        stop = min(start + step, count)
        mine = slice(start, stop)
        kind = (person[mine, None] != person).astype(np.int64) * 2 + (group[mine, None] != group)
        kind[camera[mine, None] == camera] = -1
        kind[np.arange(start, stop)[:, None] >= np.arange(count)] = -1  # each pair once
        values = np.asarray(rows(start, stop), np.float32)
        for number, sample in enumerate(samples):
            sample.add(values[kind == number])
    filled = {name: sample for name, sample in zip(names, samples) if sample.total}
    if not filled:
        return np.zeros(0), {}
    edges = histogram_edges(list(filled.values()), [[each] for each in filled.values()])
    return edges, {name: histogram(sample, edges) for name, sample in filled.items()}


def _plural(key: str) -> str:
    return {"modality": "modalities", "domain": "domains"}[key]


def _embedding(features: Features, chosen=slice(None)) -> Embedding:
    import torch

    parts = (
        None if each is None else torch.from_numpy(each[chosen])
        for each in (features.vectors, features.stripes)
    )
    return Embedding(*parts)


def _rows(features: Features, metric: Metric, chosen: np.ndarray) -> Callable:
    """The distances of the chosen images from ``start`` to ``stop`` to all the chosen."""
    from crossreid.evaluation.scoring import distance_blocks

    some = _embedding(features, chosen)
    blocks = distance_blocks(metric, some, some)
    return lambda start, stop: blocks(start, stop).cpu().numpy()


def section(found: Sequence[tuple[Run, Features | None]]) -> Section:
    """Of (run, features) pairs; a run of which nothing tells the pairs says so in its place."""
    several, said, drawn = len(found) > 1, [], {}
    figures: list[Histogram] = []
    for run, features in found:
        pairs = measured(run, features)
        if pairs is None:
            if features is not None:
                said.append(
                    f"<p>No distances of {escape(run.name)}: its features.npz does not say who is searched for where. "
                    "<code>crossreid evaluate</code> writes one that does.</p>"
                )
            continue
        drawn[run.name] = pairs
        name = f" of {run.name}" if several else ""
        feature = features.name if features is not None else str(run.evaluation.get("feature"))
        for each in pairs:
            subset = str(each["subset"])
            figures.append(
                Histogram(
                    f"distances-{slug(run.name)}-{slug(subset)}",
                    f"Distances{name}, {subset}",
                    _axis(Metric(**each["metric"])),
                    each["edges"],
                    {kind: counts for kind, counts in each["histogram"].items() if any(counts)},
                    f"{each['genuine']:,} genuine, {each['impostor']:,} impostor pairs; feature {feature}",
                )
            )
        if features is not None and features.metric is not None:
            figures += _by_group(run, features, features.metric, name)
    if not drawn:
        return Section("Distances", "".join(said))
    words = _words() + "".join(said) + _operating_points(drawn)
    return Section("Distances", words, [*_curves(drawn), *figures])


def _by_group(run: Run, features: Features, metric: Metric, name: str) -> list[Histogram]:
    figures = []
    for key in ("modality", "domain"):
        if key in features.labels and len(np.unique(features.labels[key])) > 1:
            chosen = np.flatnonzero(features.searched())
            labels = {label: values[chosen] for label, values in features.labels.items()}
            edges, counts = within_and_across(labels, key, _rows(features, metric, chosen))
            if counts:
                figures.append(
                    Histogram(
                        f"distances-{slug(run.name)}-by-{key}",
                        f"Distances{name} within and across {_plural(key)}",
                        _axis(metric),
                        edges.tolist(),
                        {kind: each.tolist() for kind, each in counts.items()},
                        f"pairs of the people searched for, by different cameras; feature {features.name}",
                        [(int("impostor" in kind), 0 if "within" in kind else 1) for kind in counts],
                    )
                )
    return figures


def _axis(metric: Metric) -> str:
    parts = {
        "cosine": "1 - cosine",
        "euclidean": "Euclidean",
        "squared_euclidean_unit": "2 - 2 cosine",
        None: "",
    }[metric.feature]
    stripes = f"{metric.stripes} stripes" if metric.stripes else ""
    return f"Distance ({' + '.join(filter(None, (parts, stripes)))})"


def _curves(drawn: dict[str, list[dict]]) -> list[Chart]:
    """One run: a line for each subset. Several: a chart for each subset, a line for each run."""
    several = len(drawn) > 1
    charts: dict[str, list[Line]] = {}
    for run, pairs in drawn.items():
        for each in pairs:
            subset = str(each["subset"])
            if each["false_positive"]:
                line = Line(run if several else subset, each["false_positive"], each["true_positive"])
                charts.setdefault(subset if several else "", []).append(line)
    return [
        Chart(
            f"roc-{slug(subset)}" if subset else "roc",
            f"ROC, {subset}" if subset else "ROC",
            "False positive rate",
            "True positive rate",
            lines,
            percent=True,
            marks=OPERATING,
            logarithmic_x=True,
        )
        for subset, lines in charts.items()
    ]


def _operating_points(drawn: dict[str, list[dict]]) -> str:
    lines = []
    for run, pairs in drawn.items():
        for each in pairs:
            cells = []
            for rate in OPERATING:
                at = np.flatnonzero(np.isclose(each["false_positive"], rate, rtol=1e-6))
                cells.append(
                    f'<td>{100 * each["true_positive"][at[0]]:.2f}<span class="spread">below '
                    f"{each['threshold'][at[0]]:.4g}</span></td>"
                    if len(at)
                    else "<td>–</td>"
                )
            label = escape(f"{run}, {each['subset']}" if len(drawn) > 1 else str(each["subset"]))
            lines.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">TPR<br>@FPR={rate:g}</th>' for rate in OPERATING)
    return (
        '<div class="scroll results" tabindex="0" role="region" aria-label="Operating points"><table>'
        "<caption><span>Per cent of the genuine pairs that are accepted, and the distance below which a pair is; the "
        "mean over the trials. A dash: fewer impostor pairs than that rate needs.</span></caption>"
        f'<thead><tr><th scope="col">Row</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _words() -> str:
    return (
        "<p>A genuine pair shows one person, an impostor pair two. Pairs that the protocol disregards are left out, as "
        "in the scores above. Where the two histograms overlap, no threshold tells the pairs apart; the ROC curve "
        "says how many genuine pairs are accepted when so many impostors are.</p>"
    )
