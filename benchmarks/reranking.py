"""k-reciprocal re-ranking from features, against whole N x N matrices in numpy."""

import numpy as np
import torch
from measure import clustered, main
from peers import function

from crossreid.ops import rerank

SIZES = {
    "tiny": (20, 60, 16),
    "small": (400, 2000, 256),
    "market": (3368, 19732, 2048),
    "msmt17": (11659, 82161, 2048),
}


def make(queries, gallery, size):
    vectors, _ = clustered(queries + gallery, size, max(4, (queries + gallery) // 15))
    return vectors[:queries], vectors[queries:]


def plain(query, gallery, k1=20, k2=6, weight=0.3):
    vectors = np.concatenate([query, gallery])
    squares = np.square(vectors).sum(1)
    distance = squares[:, None] + squares - 2 * vectors @ vectors.T
    distance /= distance.max(axis=1, keepdims=True)
    order = np.argsort(distance, axis=1, kind="stable")

    def reciprocal(item, k):
        near = order[item, : k + 1]
        return near[(order[near, : k + 1] == item).any(axis=1)]

    encoding = np.zeros_like(distance)
    for item in range(len(vectors)):
        own = members = reciprocal(item, k1)
        for other in own:
            close = reciprocal(other, round(k1 / 2))
            if 3 * len(np.intersect1d(own, close)) > 2 * len(close):
                members = np.union1d(members, close)
        share = np.exp(-distance[item, members])
        encoding[item, members] = share / share.sum()
    encoding = np.stack([encoding[near[:k2]].mean(axis=0) for near in order])
    columns = [np.flatnonzero(encoding[:, column]) for column in range(len(vectors))]
    out = np.empty((len(query), len(gallery)), np.float32)
    for item in range(len(query)):
        overlap = np.zeros(len(vectors), np.float32)
        for column in np.flatnonzero(encoding[item]):
            rows = columns[column]
            overlap[rows] += np.minimum(encoding[item, column], encoding[rows, column])
        out[item] = ((1 - weight) * (1 - overlap / (2 - overlap)) + weight * distance[item])[len(query) :]
    return out


def streamed(query, gallery):
    """Block by block, as an evaluation takes it."""
    rows = rerank.k_reciprocal_rows(query, gallery)
    for start in range(0, len(query), 64):
        rows(start, min(start + 64, len(query)))


def fast_reid(folder):
    rank = function(folder, "fastreid/evaluation/rerank.py", "re_ranking")

    def away(x, y):
        return np.sqrt(np.maximum(2 - 2 * x @ y.T, 0))

    return rank and (lambda query, gallery: rank(*(away(*pair) for pair in (
        (query, gallery), (query, query), (gallery, gallery)))))  # fmt: skip


def aligned_reid(folder):
    rank = function(folder, "util/re_ranking.py", "re_ranking")
    return rank and (lambda query, gallery: rank(*map(torch.from_numpy, (query, gallery)), 20, 6, 0.3))


if __name__ == "__main__":
    main(
        "k-reciprocal re-ranking from features (queries, gallery, length)",
        {"ours": rerank.k_reciprocal, "ours streamed": streamed, "plain": plain},
        make,
        SIZES,
        lambda size: (2 * size[0], 2 * size[1], size[2]),
        {"fast-reid": fast_reid, "AlignedReID": aligned_reid},
    )
