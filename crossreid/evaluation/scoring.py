"""From the vectors and stripes of a protocol's images to scores and ranked lists."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import torch

from crossreid.ops import ranking
from crossreid.protocols.results import mean_scores, people
from crossreid.records import Embedding, Metric, Scores, Trial

LISTED = 10


def distance_rows(metric: Metric, query: Embedding, gallery: Embedding) -> torch.Tensor:
    """Distances (Q, G) as the metric defines them; see ``records.Metric``."""
    return distance_blocks(metric, query, gallery)(0, len(query))


def distance_blocks(metric: Metric, query: Embedding, gallery: Embedding, device=None) -> ranking.Rows:
    """Distances of Q queries to G gallery images, block by block, as the metric defines them; see
    ``records.Metric``.

    device: where they are computed, by default where the embeddings are.
    """
    shape = len(query), len(gallery)
    vectors = None
    if metric.feature:
        vectors = ranking.blocks(query.feature, gallery.feature, metric.feature, device)
    if metric.stripes is None:
        return vectors
    from crossreid.ops import alignment

    compare = alignment.aligned if metric.stripes == "aligned" else alignment.unaligned
    x, y = (part.stripes if device is None else part.stripes.to(device) for part in (query, gallery))

    def rows(start: int, stop: int) -> torch.Tensor:
        found = compare(x[start:stop], y)
        return found if vectors is None else found + vectors(start, stop)

    return ranking.Rows(shape, rows)


def score_rows(protocol, embedding: Embedding, metric: Metric, config, device=None) -> dict[str, Scores]:
    """Scores of every row of the protocol, each the mean over its trials.

    config: an ``EvaluateConfig``. device: where distances are computed.
    Trials that follow each other with the same queries share one pass over all their gallery images.
    """
    identity, camera = people(protocol)
    how = {"cmc": protocol.cmc, "ranks": config.ranks, "verification": config.verification, "progress": True}
    rows: dict[str, list[Scores]] = {}
    for (row, _), some in groupby(protocol.trials(), key=lambda trial: (trial.subset, trial.query.tobytes())):
        trials = list(some)
        query = trials[0].query
        gallery = trials[0].gallery
        if len(trials) > 1:
            gallery = np.unique(np.concatenate([trial.gallery for trial in trials]))
        distances = distance_blocks(metric, take(embedding, query), take(embedding, gallery), device)
        people_of = identity[query], identity[gallery]
        if len(trials) > 1:
            chosen = [(np.searchsorted(gallery, trial.gallery), trial.excluded) for trial in trials]
            found = ranking.evaluate_trials(distances, *people_of, chosen, **how)
        else:
            cameras = camera[query], camera[gallery]
            excluded = trials[0].excluded
            found = [ranking.evaluate_blocks(distances, *people_of, *cameras, excluded=excluded, **how)]
        rows.setdefault(row, []).extend(found)
    return {row: mean_scores(found, protocol.average) for row, found in rows.items()}


def rerank_rows(protocol, embedding: Embedding, metric: Metric, config, device=None) -> dict[str, Scores]:
    """The same after k-reciprocal re-ranking (k1, k2 and weight of ``config``), which is done for each trial, since
    the gallery's own neighbours take part."""
    from crossreid.ops import rerank

    both = metric.feature and metric.stripes
    use = "both" if both else "stripes" if metric.stripes else "vector"
    identity, camera = people(protocol)
    rows: dict[str, list[Scores]] = {}
    for trial in protocol.trials():
        query, gallery = take(embedding, trial.query), take(embedding, trial.gallery)
        unit = query.feature, gallery.feature
        if use != "stripes":
            # The published algorithm takes squared Euclidean distances of unit vectors whatever the method's own.
            unit = [torch.nn.functional.normalize(vectors, dim=1) for vectors in unit]
        streamed = rerank.k_reciprocal_rows(
            *unit,
            k1=config.k1,
            k2=config.k2,
            weight=config.weight,
            use=use,
            unaligned=metric.stripes == "unaligned",
            query_stripes=query.stripes,
            gallery_stripes=gallery.stripes,
            device=device,
            progress=True,
        )
        found = ranking.evaluate_blocks(
            streamed,
            identity[trial.query],
            identity[trial.gallery],
            camera[trial.query],
            camera[trial.gallery],
            excluded=trial.excluded,
            cmc=protocol.cmc,
            ranks=config.ranks,
            progress=True,
        )
        rows.setdefault(trial.subset, []).append(found)
    return {row: mean_scores(found, protocol.average) for row, found in rows.items()}


def ranked_lists(
    protocol, embedding: Embedding, metric: Metric, rows: dict[str, Scores], count: int
) -> list[dict]:
    """Ranked lists of the best, the median and the worst queries of each row's first trial, in the metrics' order;
    plain values for ``evaluation.json``."""
    listed = []
    identity, _ = people(protocol)
    first: dict[str, Trial] = {}
    for trial in protocol.trials():
        first.setdefault(trial.subset, trial)
    for row, trial in first.items():
        scores = rows[row].per_trial[0] if rows[row].per_trial else rows[row]
        precision = scores.per_query["average_precision"]
        order = [int(i) for i in np.argsort(-precision, kind="stable") if np.isfinite(precision[i])]
        middle = max(0, len(order) // 2 - count // 2)
        chosen = (
            [("good", i) for i in order[:count]]
            + [("median", i) for i in order[middle : middle + count]]
            + [("worst", i) for i in order[::-1][:count]]
        )
        numbers = np.array([number for _, number in chosen], np.int64)
        query = embedding[trial.query[numbers]]
        excluded = trial.excluded and (trial.excluded[0][numbers], trial.excluded[1])
        distances = distance_rows(metric, query, take(embedding, trial.gallery)).numpy()
        best = ranking.ranked(distances, excluded=excluded, top=LISTED)
        for (kind, number), away, nearest in zip(chosen, distances, best):
            person = protocol.images[trial.query[number]]
            listed.append(
                {
                    "subset": row,
                    "kind": kind,
                    "average_precision": float(precision[number]),
                    "first_rank": float(scores.per_query["first_rank"][number]),
                    "query": _shown(person),
                    "gallery": [
                        _shown(protocol.images[trial.gallery[i]])
                        | {
                            "distance": float(away[i]),
                            "right": bool(identity[trial.gallery[i]] == identity[trial.query[number]]),
                        }
                        for i in nearest[nearest >= 0]
                    ],
                }
            )
    return listed


def take(embedding: Embedding, rows: np.ndarray) -> Embedding:
    """The rows of an embedding, without a copy where they follow each other."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return embedding[int(rows[0]) : int(rows[0]) + len(rows)]
    return embedding[rows]


def _shown(image) -> dict:
    return {
        "path": str(image.path.resolve()),
        "identity": image.identity,
        "camera": image.camera,
        "modality": image.modality,
        "array_index": image.array_index,
        "box": image.box,
    }
