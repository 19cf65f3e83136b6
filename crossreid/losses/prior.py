"""How far a distribution that a network gives is from a fixed one."""

from __future__ import annotations

import torch

from crossreid.ops.precision import in_float32


@in_float32
def divergence_from_normal(mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, deviation^2) || N(0, 1)), summed over the numbers of a row and averaged over the batch; 0 or
    more.

    Alemi et al., arXiv 1612.00410, eq. 17: what the conventional information bottleneck pays for what it keeps.

    mean, deviation: (N, D); deviations above 0.
    """
    return (mean.square() + deviation.square() - 1 - 2 * deviation.log()).sum(1).mean() / 2
