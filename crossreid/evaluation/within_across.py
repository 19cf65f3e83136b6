"""Distances of pairs within and across modalities or data sets: histograms that the report draws.

These are no pairs of the protocol, but all pairs of images by different cameras, of the identities that are searched
for, or of 30,000 of these; they are compared as the protocol's are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossreid.evaluation.verification import Sample, histogram, histogram_edges
from crossreid.records import Embedding, Metric, dense_numbers

BLOCK_BYTES = 16 * 2**20
MOST = 30_000  # images; of more, so many are drawn
KEPT = 2**24  # distances of a kind that are kept as they are: 64 MiB
PLURALS = {"modality": "modalities", "domain": "domains"}


def within_and_across(protocol, embedding: Embedding, metric: Metric, device=None) -> list[dict]:
    """What ``evaluation.json`` holds: for the modality and for the domain, where the images have more than one,
    ``{"by": "modality", "metric": ..., "edges": [...], "histogram": {kind: [...]}}``.
    device: where the distances are computed."""
    from crossreid.evaluation.scoring import distance_blocks

    names = ("identity", "camera", "modality", "domain")
    labels = {name: np.array([getattr(image, name) for image in protocol.images]) for name in names}
    person = dense_numbers(labels["domain"], labels["identity"])
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
    if device is not None:  # once, and not for each block
        stripes = None if some.stripes is None else some.stripes.to(device)
        some = Embedding(some.feature.to(device), stripes)

    def rows(start: int, stop: int) -> np.ndarray:
        return distance_blocks(metric, some[start:stop], some[start:])(0, stop - start).cpu().numpy()

    found = []
    for key in keys:
        edges, counts = histograms(labels, key, rows)
        if counts:
            found.append(
                {
                    "by": key,
                    "metric": vars(metric),
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

    key: ``modality`` or ``domain``. rows: the distances (stop - start, N - start) of these images to themselves and
        those after them.
    """
    person = dense_numbers(labels["domain"], labels["identity"])
    camera = dense_numbers(labels["domain"], labels["camera"])
    group = dense_numbers(labels[key])
    places = (f"within a {key}", f"across {PLURALS[key]}")
    names = [f"{kind}, {where}" for kind in ("genuine", "impostor") for where in places]
    samples = [Sample(limit=KEPT) for _ in names]
    count, start = len(person), 0
    while start < count:
        stop = min(count, start + max(1, BLOCK_BYTES // (4 * (count - start))))
        mine, after = slice(start, stop), slice(start, None)
        kind = (person[mine, None] != person[after]) * np.int8(2) + (group[mine, None] != group[after])
        kind[camera[mine, None] == camera[after]] = -1
        kind[np.arange(stop - start)[:, None] >= np.arange(count - start)] = -1  # each pair once
        values = np.asarray(rows(start, stop), np.float32)
        for number, sample in enumerate(samples):
            sample.add(values[kind == number])
        start = stop
    filled = {name: sample for name, sample in zip(names, samples) if sample.total}
    if not filled:
        return np.zeros(0), {}
    edges = histogram_edges(list(filled.values()), [[each] for each in filled.values()])
    return edges, {name: histogram(sample, edges) for name, sample in filled.items()}
