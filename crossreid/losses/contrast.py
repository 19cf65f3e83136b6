"""A loss by which each image picks those of its identity out of the batch."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.ops.precision import in_float32


@in_float32
def contrast(features: torch.Tensor, targets: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Supervised contrastive loss over all pairs of a batch (Khosla et al. 2020, arXiv 2004.11362, eq. 2).

    The share of a pair is exp(cosine similarity / temperature) over the sum of those of all pairs of its anchor. The
    loss of an anchor is the mean over its positives of minus the logarithm of their shares, at least log P with P
    positives.

    features: (N, D), any length. targets: (N,) int. temperature: above 0.
    Returns the mean over the N anchors; one without positives has the loss 0. Raises ValueError for a temperature that
    is not above 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: expected a number above 0")
    unit = F.normalize(features)
    own = torch.eye(len(targets), dtype=torch.bool, device=features.device)
    scores = (unit @ unit.T / temperature).masked_fill(own, -1e9)
    positive = (targets[:, None] == targets) & ~own
    shares = scores - torch.logsumexp(scores, 1, keepdim=True)
    return -(shares * positive).sum(1).div(positive.sum(1).clamp_min(1)).mean()
