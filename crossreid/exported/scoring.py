"""Ranks and their means in NumPy: the numbers of ``crossreid.ops.ranking`` where torch and numba are absent.

Sorting each query's whole row is slower than counting ranks with compiled loops, and short. Equal distances rank in
gallery order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossreid.records import Embedding, Metric, Scores, UserError

BLOCK_BYTES = 64 * 2**20


def score(
    rows: Callable[[int, int], np.ndarray],
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    excluded: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    cmc: str = "image",
    ranks: int = 50,
    block: int = 64,
) -> Scores:
    """Scores of a search whose distances are made block by block.

    rows: called with the first query and the last plus one, returns their distances (stop - start, G).
    query_ids (Q,), gallery_ids (G,): identities. excluded: pairs whose numbers (Q,) and (G,) are equal are
        disregarded. cmc, ranks: as in ``crossreid.ops.ranking.evaluate``.

    Raises UserError when a distance is not finite, or when no query has a valid match.
    """
    found = np.full((len(query_ids), 4), np.nan)
    for start in range(0, len(query_ids), block):
        for query, row in enumerate(rows(start, min(start + block, len(query_ids))), start):
            if not np.isfinite(row).all():
                raise UserError(f"a distance of query {query} is not a finite number: look at its image")
            allowed = np.ones(len(row), bool) if excluded is None else excluded[1] != excluded[0][query]
            order = np.flatnonzero(allowed)
            identities = gallery_ids[order[np.argsort(row[order], kind="stable")]]
            places = np.flatnonzero(identities == query_ids[query]) + 1
            if len(places):
                nearer = len(np.unique(identities[: places[0] - 1]))
                precision = np.mean(np.arange(1, len(places) + 1) / places)
                found[query] = precision, len(places) / places[-1], places[0], nearer + 1
    precision, penalty, first, identity_rank = found.T
    valid = ~np.isnan(first)
    if not valid.any():
        raise UserError(
            f"none of the {len(query_ids)} queries has a valid match among the {len(gallery_ids)} gallery images: "
            "check that both number their identities alike, and the cameras"
        )
    hit = (identity_rank if cmc == "identity" else first)[valid]
    per_query = {
        "average_precision": precision,
        "inverse_negative_penalty": penalty,
        "first_rank": first,
    }
    return Scores(
        cmc=np.array([np.mean(hit <= rank) for rank in range(1, ranks + 1)]),
        mean_ap=float(precision[valid].mean()),
        mean_inp=float(penalty[valid].mean()),
        verification={},
        per_query=per_query | ({"first_identity_rank": identity_rank} if cmc == "identity" else {}),
        valid=int(valid.sum()),
        queries=len(query_ids),
    )


def distances(metric: Metric, query: Embedding, gallery: Embedding) -> Callable[[int, int], np.ndarray]:
    """A function of (start, stop) that gives these queries' distances (stop - start, G), see ``Metric``.

    Vectors are of unit length, so that the Euclidean metrics follow from the cosine.
    """

    def rows(start: int, stop: int) -> np.ndarray:
        total = 0
        if metric.feature:
            total = 1 - query.feature[start:stop] @ gallery.feature.T
            if metric.feature != "cosine":
                total *= 2
            if metric.feature == "euclidean":
                total = np.sqrt(np.maximum(total, 0))
        if metric.stripes:
            aligned = metric.stripes == "aligned"
            total = total + stripe_distances(query.stripes[start:stop], gallery.stripes, aligned)
        return total

    return rows


def stripe_distances(x: np.ndarray, y: np.ndarray, aligned: bool) -> np.ndarray:
    """Distances (M, N) of stripes (M, S, C) and (N, S', C), along the cheapest path or at equal height.

    See ``crossreid.ops.alignment``, which does the same faster.
    """
    out = np.empty((len(x), len(y)), np.float32)
    step = max(1, BLOCK_BYTES // (4 * y.shape[1] * x.shape[1] * max(len(y), 1)))
    other = y.reshape(-1, y.shape[2]).T
    for start in range(0, len(x), step):
        part = x[start : start + step]
        products = (part.reshape(-1, x.shape[2]) @ other).reshape(*part.shape[:2], *y.shape[:2])
        squares = np.square(part).sum(2)[:, :, None, None] + np.square(y).sum(2) - 2 * products
        costs = np.tanh(np.sqrt(np.maximum(squares, 0)) / 2).transpose(1, 3, 0, 2)
        if aligned:
            out[start : start + step] = _cheapest(costs)
        else:
            out[start : start + step] = sum(costs[height, height] for height in range(len(costs)))
    return out


def _cheapest(costs: np.ndarray) -> np.ndarray:
    """(S, S', ...) distances of stripes -> (...) cost of the cheapest path from the top pair to the bottom pair."""
    above: list = []
    for row in costs:
        here: list = []
        for column, cost in enumerate(row):
            before = [*above[column : column + 1], *here[-1:]]
            here.append(cost + (np.minimum.reduce(before) if before else 0))
        above = here
    return above[-1]
