"""How far apart images of one person and of two are: histograms, and the rates of accepting pairs.

The distances come block by block, twice. Those of genuine pairs, which are few, are kept; of the impostor pairs never
more than a block: the first time over, each falls into one of a million fine bins, the second time those in the bins
that hold a wanted threshold are sorted. What is found is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from crossreid.records import Metric, UserError
from crossreid.report.charts import Chart, Histogram, Line
from crossreid.report.evidence import identity_numbers
from crossreid.report.figures import Section, slug

OPERATING = (1e-2, 1e-3, 1e-4)
RATES = np.unique([*OPERATING, *(10.0 ** (power / 10) for power in range(-60, 1))])
MOST_BINS = 60
BLOCK_BYTES = 16 * 2**20
_SHIFT = 12  # a fine bin holds the float32 that differ in their last 12 bits


@dataclass(frozen=True)
class Trial:
    """Pairs to compare: ``rows(start, stop)`` gives the distances (stop - start, G) of these queries, and
    ``kinds(start, stop)`` says of each pair which kind it is, a position in the kinds' names, or -1 for a pair that is
    disregarded."""

    rows: Callable
    kinds: Callable
    queries: int
    gallery: int

    def blocks(self):
        """(values, kinds) of block after block, flat and without the disregarded pairs."""
        step = max(1, BLOCK_BYTES // (4 * max(1, self.gallery)))
        for start in range(0, self.queries, step):
            stop = min(start + step, self.queries)
            kinds = self.kinds(start, stop)
            kept = kinds >= 0
            yield np.asarray(self.rows(start, stop), np.float32)[kept], kinds[kept]


@dataclass(frozen=True)
class Distances:
    """What one row of a protocol shows of its pairs.

    edges: (B + 1,). counts: kind -> (B,) pairs, over all trials. rates: (R,) false positive rates, rising. true: (R,)
        true positive rates and thresholds: (R,) distances, the means over the trials; a pair is accepted when its
        distance is below the threshold. Empty where only histograms were asked for.
    """

    edges: np.ndarray
    counts: dict[str, np.ndarray]
    rates: np.ndarray
    true: np.ndarray
    thresholds: np.ndarray

    def at(self, rate: float) -> tuple[float, float] | None:
        """True positive rate and threshold where the false positive rate is ``rate``."""
        found = np.flatnonzero(np.isclose(self.rates, rate, rtol=1e-9))
        return (float(self.true[found[0]]), float(self.thresholds[found[0]])) if len(found) else None


def measure(trials: Sequence[Trial], kinds: Sequence[str], rates=RATES) -> Distances:
    """Histograms of every kind and, with ``rates``, the receiver operating characteristic of the kind 0, genuine,
    against the kind 1, impostor.

    The rate at a false positive rate r is the share of genuine pairs nearer than the impostor pair of rank
    floor(r n) among n, as ``ops.ranking.verification_rates`` has it. Rates below 1 / n are left out: n pairs cannot
    tell them.
    """
    low, high, first, sizes = math.inf, -math.inf, [], np.zeros(len(kinds), np.int64)
    for trial in trials:
        fine = np.zeros(2 ** (32 - _SHIFT), np.int64)
        genuine = []
        for values, kind in trial.blocks():
            sizes += np.bincount(kind, minlength=len(kinds))
            if len(values):
                low, high = min(low, float(values.min())), max(high, float(values.max()))
            if len(rates):
                genuine.append(values[kind == 0])
                fine += np.bincount(_keys(values[kind == 1]), minlength=len(fine))
        genuine = np.sort(np.concatenate(genuine)) if genuine else np.zeros(0, np.float32)
        first.append((genuine, _Wanted(fine, rates) if fine.any() and len(genuine) else None))
    if low > high:
        raise UserError(
            "there is no pair of images to compare: every pair is disregarded by the protocol's rule."
        )
    # The fewer pairs the smallest kind has, the wider the bars (as the rule of Rice has it, with half more of them).
    edges = _edges(low, high, min(MOST_BINS, max(20, round(3 * sizes[sizes > 0].min() ** (1 / 3)))))
    counts = np.zeros((len(kinds), len(edges) - 1), np.int64)
    curves = []
    for trial, (genuine, wanted) in zip(trials, first):
        for values, kind in trial.blocks():
            bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
            counts += np.bincount(kind * (len(edges) - 1) + bins, minlength=counts.size).reshape(counts.shape)
            if wanted is not None:
                wanted.keep(values[kind == 1])
        if wanted is not None:
            thresholds = wanted.values()
            curves.append((thresholds, np.searchsorted(genuine, thresholds) / len(genuine)))
    named = {kind: count for kind, count in zip(kinds, counts) if count.any()}
    if not curves:
        empty = np.zeros(0)
        return Distances(edges, named, empty, empty, empty)
    fewest = min(wanted.total for _, wanted in first if wanted is not None)
    told = np.asarray(rates) * fewest >= 1 - 1e-9
    # At a rate of 1 every pair is accepted and the threshold lies beyond them all.
    thresholds, true = (np.mean([curve[part] for curve in curves], axis=0)[told] for part in (0, 1))
    return Distances(
        edges, named, np.asarray(rates)[told], true, np.where(np.isfinite(thresholds), thresholds, high)
    )


class _Wanted:
    """The impostor distances of certain ranks, found without keeping the others."""

    def __init__(self, fine: np.ndarray, rates):
        ends = np.cumsum(fine)
        self.total = int(ends[-1])
        ranks = np.floor(np.asarray(rates) * self.total * (1 + 1e-12)).astype(np.int64)
        self.beyond = ranks >= self.total
        self.ranks = np.minimum(ranks, self.total - 1)
        bins = np.searchsorted(ends, self.ranks, side="right")
        chosen = np.unique(bins)
        self.marked = np.zeros(len(fine), bool)
        self.marked[chosen] = True
        starts = np.r_[0, np.cumsum(fine[chosen])]
        before = np.searchsorted(chosen, bins)
        self.places = starts[before] + self.ranks - (ends[bins] - fine[bins])
        self.kept: list[np.ndarray] = []

    def keep(self, values: np.ndarray) -> None:
        self.kept.append(values[self.marked[_keys(values)]])

    def values(self) -> np.ndarray:
        """(R,) thresholds; infinite where every impostor is accepted."""
        ranked = np.sort(np.concatenate(self.kept))
        return np.where(self.beyond, np.inf, ranked[self.places])


def _keys(values: np.ndarray) -> np.ndarray:
    """Fine bins of float32 values, in the order of the values: the upper bits, turned round below zero."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    ordered = np.where(bits < 0, ~bits, bits | np.int32(-(2**31))).view(np.uint32)
    return (ordered >> np.uint32(_SHIFT)).astype(np.int64)


def _edges(low: float, high: float, bins: int) -> np.ndarray:
    """At most about so many equal steps of a round width over the values."""
    raw = max(high - low, 1e-6) / bins
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return np.round(np.arange(first, last + 1) * step, 12)


def by_protocol(protocol, vectors, stripes, metric: Metric) -> dict[str, Distances]:
    """Row -> the distances of its trials, with the pairs left out that the metrics leave out."""
    identity = identity_numbers(
        [image.domain for image in protocol.images], [image.identity for image in protocol.images]
    )
    rows: dict[str, list[Trial]] = {}
    for trial in protocol.trials():
        query, gallery = np.asarray(trial.query), np.asarray(trial.gallery)
        rows.setdefault(trial.subset, []).append(
            Trial(
                _rows(vectors, stripes, metric, query, gallery),
                _genuine_or_impostor(identity[query], identity[gallery], trial.excluded),
                len(query),
                len(gallery),
            )
        )
    return {row: measure(trials, ("genuine", "impostor")) for row, trials in rows.items()}


def _genuine_or_impostor(query, gallery, excluded):
    def kinds(start, stop):
        kind = (query[start:stop, None] != gallery).astype(np.int64)
        if excluded is not None:
            kind[np.asarray(excluded[0])[start:stop, None] == np.asarray(excluded[1])] = -1
        return kind

    return kinds


def within_and_across(labels: dict[str, np.ndarray], key: str, rows: Callable) -> Distances:
    """All pairs of images by different cameras, within one modality or domain and across two; each pair once.

    key: ``modality`` or ``domain``. rows: the distances (stop - start, N) of these images to all.
    """
    person = identity_numbers(labels["domain"], labels["identity"])
    camera = (
        identity_numbers(labels["domain"], labels["camera"]) if "camera" in labels else np.arange(len(person))
    )
    group = np.unique(labels[key], return_inverse=True)[1].reshape(-1)
    count = len(person)

    def kinds(start, stop):
        mine = slice(start, stop)
        kind = (person[mine, None] != person).astype(np.int64) * 2 + (group[mine, None] != group)
        kind[camera[mine, None] == camera] = -1
        kind[np.arange(start, stop)[:, None] >= np.arange(count)] = -1  # each pair once
        return kind

    places = (f"within a {key}", f"across {_plural(key)}")
    names = [f"{kind}, {where}" for kind in ("genuine", "impostor") for where in places]
    return measure([Trial(rows, kinds, count, count)], names, rates=())


def _plural(key: str) -> str:
    return {"modality": "modalities", "domain": "domains"}[key]


def _rows(vectors, stripes, metric: Metric, query, gallery) -> Callable:
    """The distances of queries from ``start`` to ``stop`` to the gallery, as the metrics compute them."""
    import torch

    from crossreid import evaluation
    from crossreid.ops import ranking
    from crossreid.records import Embedding

    def part(values, rows):
        return None if values is None else torch.from_numpy(values[rows])

    if metric.stripes is None:
        blocks = ranking.blocks(part(vectors, query), part(vectors, gallery), metric.feature)
        return lambda start, stop: blocks(start, stop).numpy()
    left = Embedding(part(vectors, query), part(stripes, query))
    right = Embedding(part(vectors, gallery), part(stripes, gallery))
    return lambda start, stop: evaluation.distance_rows(metric, left[start:stop], right).numpy()


def section(found: Sequence[tuple]) -> Section:
    """Of (run, features) pairs; a run whose file does not tell the trials says so in its place."""
    several, said, measured, figures = len(found) > 1, [], {}, []
    for run, features in found:
        metric = features.metric
        if features.protocol is None or metric is None:
            said.append(
                f"<p>No distances of {escape(run.name)}: its features.npz does not say who is searched for where. "
                "<code>crossreid evaluate</code> writes one that does.</p>"
            )
            continue
        measured[run.name] = by_protocol(features.protocol, features.vectors, features.stripes, metric)
        name = f" of {run.name}" if several else ""
        unit = _axis(metric)
        for row, distances in measured[run.name].items():
            sums = ", ".join(f"{int(count.sum()):,} {kind}" for kind, count in distances.counts.items())
            figures.append(
                Histogram(
                    f"distances-{slug(run.name)}-{slug(row)}",
                    f"Distances{name}, {row}",
                    unit,
                    distances.edges,
                    distances.counts,
                    f"{sums} pairs; feature {features.name}",
                )
            )
        for key in ("modality", "domain"):
            if key in features.labels and len(np.unique(features.labels[key])) > 1:
                chosen = np.flatnonzero(features.searched())
                rows = _rows(features.vectors, features.stripes, metric, chosen, chosen)
                labels = {label: values[chosen] for label, values in features.labels.items()}
                distances = within_and_across(labels, key, rows)
                figures.append(
                    Histogram(
                        f"distances-{slug(run.name)}-by-{key}",
                        f"Distances{name} within and across {_plural(key)}",
                        unit,
                        distances.edges,
                        distances.counts,
                        f"pairs of the people searched for, by different cameras; feature {features.name}",
                        [
                            (int("impostor" in kind), 0 if "within" in kind else 1)
                            for kind in distances.counts
                        ],
                    )
                )
    figures = _curves(measured) + figures
    if not measured:
        return Section("Distances", "".join(said))
    return Section("Distances", _words() + "".join(said) + _operating_points(measured), figures)


def _axis(metric: Metric) -> str:
    parts = {
        "cosine": "1 - cosine",
        "euclidean": "Euclidean",
        "squared_euclidean_unit": "2 - 2 cosine",
        None: "",
    }[metric.feature]
    stripes = f"{metric.stripes} stripes" if metric.stripes else ""
    return f"Distance ({' + '.join(filter(None, (parts, stripes)))})"


def _curves(measured: dict[str, dict[str, Distances]]) -> list[Chart]:
    """One run: a line for each row. Several: a chart for each row, a line for each run."""
    several = len(measured) > 1
    charts: dict[str, list[Line]] = {}
    for run, rows in measured.items():
        for row, distances in rows.items():
            if len(distances.rates):
                line = Line(run if several else row, distances.rates.tolist(), distances.true.tolist())
                charts.setdefault(row if several else "", []).append(line)
    return [
        Chart(
            f"roc-{slug(row)}" if row else "roc",
            f"ROC, {row}" if row else "ROC",
            "False positive rate",
            "True positive rate",
            lines,
            percent=True,
            marks=OPERATING,
            logarithmic_x=True,
        )
        for row, lines in charts.items()
    ]


def _operating_points(measured: dict[str, dict[str, Distances]]) -> str:
    lines = []
    for run, rows in measured.items():
        for row, distances in rows.items():
            cells = []
            for rate in OPERATING:
                point = distances.at(rate)
                cells.append(
                    "<td>–</td>"
                    if point is None
                    else f'<td>{100 * point[0]:.2f}<span class="spread">below {point[1]:.4g}</span></td>'
                )
            label = escape(f"{run}, {row}" if len(measured) > 1 else row)
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
