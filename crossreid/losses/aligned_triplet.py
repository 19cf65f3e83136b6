"""Triplet losses of whole images and of their aligned stripes, over the same triplets."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.ops.alignment import aligned_pairs, unaligned_pairs
from crossreid.ops.distance import euclidean


def aligned_triplet(
    vectors: torch.Tensor,
    stripes: torch.Tensor | None,
    identities: torch.Tensor,
    margin: float = 0.3,
    unaligned: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Triplet losses with the farthest positive and the nearest negative of each anchor.

    Luo et al. 2019 (AlignedReID++). Both are chosen by the Euclidean distance of the vectors, and the loss of
    the stripes takes the aligned distances to the same two images. The anchor counts among its positives,
    at distance 1e-6. Of equal distances the first image is taken.

    vectors: (N, D), not necessarily of unit length.
    stripes: (N, S, C), of unit length, or None.
    identities: (N,) integers; how often each occurs is free.
    margin: in units of each distance.
    unaligned: compare the stripes at equal height instead of aligning them.

    Returns the loss of the vectors and that of the stripes (None without them), each the mean over the
    anchors in float32. A batch of one identity has no negatives, and both are 0.
    """
    same = identities[:, None] == identities
    usable = ~same.all(1)
    distance = euclidean(vectors, vectors)
    farthest, positive = distance.masked_fill(~same, float("-inf")).max(1)
    nearest, negative = distance.masked_fill(same, float("inf")).min(1)
    whole = F.relu(farthest - nearest + margin).mean()
    if stripes is None:
        return whole, None
    compare = unaligned_pairs if unaligned else aligned_pairs
    gap = compare(stripes, stripes[positive]) - compare(stripes, stripes[negative])
    return whole, (F.relu(gap + margin) * usable).mean()
