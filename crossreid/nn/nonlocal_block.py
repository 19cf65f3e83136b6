"""Non-local attention without softmax, as AGW uses it."""

from __future__ import annotations

import torch
from torch import nn

from crossreid.ops.precision import in_float32


class NonLocal(nn.Module):
    """z = x + BN(W y), y_i = 1/n sum_j (theta(x_i) . phi(x_j)) g(x_j) over the n positions of a map.

    Wang et al., arXiv 1711.07971, in the dot-product form; Ye et al., arXiv 2001.04193, eq. 10. The
    normalisation starts at zero, so that the block starts as the identity.

    channels: width of the map.
    width: inner width m. The published models have 1, whatever ``channels`` is.
    """

    def __init__(self, channels: int, width: int = 1):
        super().__init__()
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        mixed = _mix(self.theta(maps).flatten(2), self.phi(maps).flatten(2), self.g(maps).flatten(2))
        mixed = mixed.to(maps.dtype).unflatten(2, maps.shape[2:])
        return maps + self.norm(self.out(mixed))


@in_float32
def _mix(theta, phi, g):
    """(N, m, n) each to (N, m, n). Without a softmax the product associates, so that the n x n matrix of
    similarities, the large one, is never made."""
    summary = phi @ g.transpose(1, 2) / theta.shape[2]
    return summary.transpose(1, 2) @ theta
