"""Weighted regularised triplet loss."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.losses.triplet import same_identity
from crossreid.ops.distance import euclidean


def weighted_triplet(
    vectors: torch.Tensor, identities: torch.Tensor, stable: bool = False, normalize: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Triplet loss without a margin over softmax-weighted positives and negatives.

    Ye et al., arXiv 2001.04193, eq. 12 and 13, over Euclidean distances d, with positives P (the anchor among
    them) and negatives N of each anchor:
    log(1 + exp(sum_P w d - sum_N w d)), w proportional to exp(d) over P and to exp(-d) over N.

    By default the weights are those of the released program: 1e-6 is added to both sums of exponentials and
    the exponentials of the negatives are not shifted. When all negatives are farther than about 14 their
    weights then sum to less than 1 and the loss stops pushing them away.

    vectors: (N, D). identities: (N,) integers, at least two different ones.
    stable: true softmax weights instead, which always sum to 1.
    normalize: bring the vectors to unit length first.

    Returns the mean over the N anchors and, for the log, the mean sums of the positive and of the negative
    weights. Raises UserError when the batch has a single identity.
    """
    same = same_identity(identities)
    if normalize:
        vectors = F.normalize(vectors)
    distance = euclidean(vectors, vectors)
    if stable:
        positive = distance.masked_fill(~same, float("-inf")).softmax(1)
        negative = (-distance).masked_fill(same, float("-inf")).softmax(1)
    else:
        positive, negative = released_weights(distance, same, ~same)
    gap = (positive * distance).sum(1) - (negative * distance).sum(1)
    return F.softplus(gap).mean(), positive.sum(1).mean().detach(), negative.sum(1).mean().detach()


def released_weights(
    distance: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the positives and of the negatives of each row, as the released programs of AGW and MetaBIN weigh them.

    distance: (N, N), 0 or more. positive, negative: (N, N) boolean. A row without negatives has weights of 0 for
        them.
    """
    farthest = distance.masked_fill(~positive, float("-inf")).amax(1, keepdim=True)
    pull = (distance - farthest).masked_fill(~positive, float("-inf")).exp()
    push = (-distance).masked_fill(~negative, float("-inf")).exp()
    return pull / (pull.sum(1, keepdim=True) + 1e-6), push / (push.sum(1, keepdim=True) + 1e-6)
