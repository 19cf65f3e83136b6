"""Classification that looks away from what is already classified well."""

from __future__ import annotations

import torch

from crossreid.ops.precision import in_float32


@in_float32
def focal(
    logits: torch.Tensor, targets: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> torch.Tensor:
    """Focal loss (Lin et al. 2017, arXiv 1708.02002, eq. 5): -alpha (1 - p)^gamma log p, p the softmax probability
    of the true class.

    logits: (N, C). targets: (N,) class indices. Returns the mean over the batch. gamma 0 is alpha times cross
        entropy.
    """
    log_p = logits.log_softmax(1).gather(1, targets[:, None])[:, 0]
    return -(alpha * (1 - log_p.exp()).pow(gamma) * log_p).mean()
