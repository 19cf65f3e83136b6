"""CMC, average precision and inverse negative penalty from features, against a stable sort of every row."""

import numpy as np
from measure import clustered, main
from peers import function

from crossreid.ops import ranking

SIZES = {
    "tiny": (40, 90, 16, 8),
    "small": (800, 4000, 256, 300),
    "market": (3368, 19732, 2048, 1501),
    "msmt17": (11659, 82161, 2048, 3060),
}


def make(queries, gallery, size, identities):
    vectors, ids = clustered(queries + gallery, size, identities)
    cameras = np.random.default_rng(1).integers(0, 6, len(ids))
    return (
        vectors[:queries],
        vectors[queries:],
        ids[:queries],
        ids[queries:],
        cameras[:queries],
        cameras[queries:],
    )


def plain(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras):
    distance = 1 - query @ gallery.T
    order = np.argsort(distance, axis=1, kind="stable")
    curves, precisions, penalties = [], [], []
    for row, identity, camera in zip(order, query_ids, query_cameras):
        row = row[(gallery_ids[row] != identity) | (gallery_cameras[row] != camera)]
        ranks = np.flatnonzero(gallery_ids[row] == identity) + 1
        if len(ranks):
            curves.append(np.arange(1, 51) >= ranks[0])
            precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
            penalties.append(len(ranks) / ranks[-1])
    return np.mean(curves, axis=0), np.mean(precisions), np.mean(penalties)


def fast_reid(folder):
    rank = function(folder, "fastreid/evaluation/rank.py", "evaluate_rank")
    return rank and (lambda query, gallery, *people: rank(1 - query @ gallery.T, *people))


if __name__ == "__main__":
    main(
        "Evaluation from features (queries, gallery, length, identities)",
        {"ours": ranking.evaluate, "plain": plain},
        make,
        SIZES,
        lambda size: (2 * size[0], 2 * size[1], *size[2:]),
        {"fast-reid": fast_reid},
    )
