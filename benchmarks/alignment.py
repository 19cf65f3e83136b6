"""Stripe alignment distance of all pairs, against whole arrays in numpy."""

import numpy as np
import torch
from measure import clustered, main
from peers import function

from crossreid.ops import alignment

SIZES = {
    "tiny": (4, 6, 8, 16),
    "small": (300, 1500, 8, 128),
    "market": (3368, 19732, 8, 128),
}


def make(queries, gallery, stripes, size):
    vectors, _ = clustered((queries + gallery) * stripes, size, 200)
    vectors = vectors.reshape(queries + gallery, stripes, size)
    return vectors[:queries], vectors[queries:]


def product(x, y):
    """The inner products of all stripes, which every way has to make, in blocks that stay in cache."""
    own, other = (torch.as_tensor(part).flatten(0, 1) for part in (x, y))
    out = torch.empty(512, 2048)
    for left in range(0, len(other), 2048):
        part = other[left : left + 2048].T.contiguous()
        for top in range(0, len(own), 512):
            rows = own[top : top + 512]
            torch.matmul(rows, part, out=out[: len(rows), : part.shape[1]])


def plain(x, y):
    out = []
    for part in np.array_split(x, len(x) // 200 + 1):
        squares = np.square(part).sum(2)[:, :, None, None] + np.square(y).sum(2)
        squares = squares - 2 * np.einsum("msc,ntc->msnt", part, y, optimize=True)
        grown = np.exp(np.sqrt(np.maximum(squares, 0)))
        steps = ((grown - 1) / (grown + 1)).transpose(1, 3, 0, 2)
        cost = np.empty_like(steps)
        for i in range(len(steps)):
            for j in range(len(steps[0])):
                if i and j:
                    before = np.minimum(cost[i - 1, j], cost[i, j - 1])
                else:
                    before = cost[i - 1, j] if i else cost[i, j - 1] if j else 0
                cost[i, j] = steps[i, j] + before
        out.append(cost[-1, -1])
    return np.concatenate(out)


def aligned_reid(folder):
    local = function(folder, "util/distance.py", "low_memory_local_dist")
    return local and (lambda x, y: local(x, y, aligned=True))


if __name__ == "__main__":
    main(
        "Stripe alignment of all pairs (queries, gallery, stripes, length)",
        {"ours": alignment.aligned, "product alone": product, "plain": plain},
        make,
        SIZES,
        lambda size: (2 * size[0], 2 * size[1], *size[2:]),
        {"AlignedReID": aligned_reid},
    )
