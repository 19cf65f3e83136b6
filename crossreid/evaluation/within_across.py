"""Distances of pairs within and across modalities or data sets: histograms that the report draws.

These are no pairs of the protocol, but all pairs of images by different cameras, of the identities that are searched
for, or of 30,000 of these; they are compared as the protocol's are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossreid.evaluation.verification import Sample, histogram, histogram_edges
from crossreid.records import Embedding, Metric

BLOCK_BYTES = 16 * 2**20
MOST = 30_000  # images; of more, so many are drawn
PLURALS = {"modality": "modalities", "domain": "domains"}


def within_and_across(protocol, embedding: Embedding, metric: Metric, device=None) -> list[dict]:
    """What ``evaluation.json`` holds: for the modality and for the domain, where the images have more than one,
    ``{"by": "modality", "metric": ..., "edges": [...], "histogram": {kind: [...]}}``.
    device: where the distances are computed."""
    from crossreid.evaluation.scoring import distance_blocks

    names = ("identity", "camera", "modality", "domain")
    labels = {name: np.array([getattr(image, name) for image in protocol.images]) for name in names}
    person = _numbers(labels["domain"], labels["identity"])
    queries = [np.asarray(trial.query) for trial in protocol.trials()]
    if not queries:
        return []
    chosen = np.flatnonzero(np.isin(person, person[np.unique(np.concatenate(queries))]))
    if len(chosen) > MOST:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST, replace=False))
    labels = {name: values[chosen] for name, values in labels.items()}
    keys = [key for key in PLURALS if len(np.unique(labels[key])) > 1]
    if not keys:
        return []
    some = embedding[chosen]
    blocks = distance_blocks(metric, some, some, device)
    found = []
    for key in keys:
        edges, counts = histograms(labels, key, lambda start, stop: blocks(start, stop).cpu().numpy())
        if counts:
            found.append(
                {
                    "by": key,
                    "metric": {"feature": metric.feature, "stripes": metric.stripes},
                    "edges": edges.tolist(),
                    "histogram": {kind: each.tolist() for kind, each in counts.items()},
                }
            )
    return found


def histograms(
    labels: dict[str, np.ndarray], key: str, rows: Callable[[int, int], np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Histograms of all pairs of images by different cameras, within one modality or domain and across two; each pair
    once: edges (B + 1,) and, by the kind of pair, counts (B,).

    key: ``modality`` or ``domain``. rows: the distances (stop - start, N) of these images to all.
    """
    person = _numbers(labels["domain"], labels["identity"])
    camera = _numbers(labels["domain"], labels["camera"])
    group = np.unique(labels[key], return_inverse=True)[1].reshape(-1)
    places = (f"within a {key}", f"across {PLURALS[key]}")
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


def _numbers(domain, number) -> np.ndarray:
    """Equal numbers for equal numbers of one domain."""
    pairs = np.stack([np.asarray(domain), np.asarray(number)], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
