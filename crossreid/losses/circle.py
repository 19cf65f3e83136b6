"""A loss on similarities whose pairs are weighted by how far they are from where they should be."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.ops.precision import in_float32


@in_float32
def circle(
    features: torch.Tensor, targets: torch.Tensor, margin: float = 0.25, scale: float = 128.0
) -> torch.Tensor:
    """Circle loss over all pairs of a batch (Sun et al. 2020, arXiv 2002.10857, eq. 6, weighted as in eq. 5).

    With the cosine similarity s, a positive pair has the weight max(0, 1 + margin - s) and lacks 1 - margin - s, a
    negative pair has the weight max(0, s + margin) and exceeds by s - margin; no gradient flows through the
    weights. The loss of an anchor is log(1 + P N), where P and N are the sums over its positives and negatives of
    exp(scale x weight x (what it lacks, exceeds)).

    MetaBIN's program counts in P also every image that is no positive, and in N every one that is no negative,
    with the similarity 0; its exp(120) of P then hides all positives nearer than that. Here only pairs count.

    features: (N, D), any length. targets: (N,) int.
    Returns the mean over the N anchors; one without positives or without negatives has the loss 0.
    """
    unit = F.normalize(features)
    similarity = unit @ unit.T
    fixed = similarity.detach()
    same = targets[:, None] == targets
    positive = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    usable = positive.any(1) & ~same.all(1)
    lacking = scale * (1 + margin - fixed).clamp_min(0) * (1 - margin - similarity)
    exceeding = scale * (fixed + margin).clamp_min(0) * (similarity - margin)
    # The sum over nothing has no logarithm, so an anchor that lacks a kind of pairs sums over everything and is
    # left out.
    pull = lacking.masked_fill(~positive & usable[:, None], -torch.inf).logsumexp(1)
    push = exceeding.masked_fill(same & usable[:, None], -torch.inf).logsumexp(1)
    return F.softplus(pull + push).masked_fill(~usable, 0).mean()
