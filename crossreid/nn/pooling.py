"""From a map to one vector."""

from __future__ import annotations

import torch

from crossreid.ops.precision import in_float32


@in_float32
def average(maps: torch.Tensor) -> torch.Tensor:
    """Mean over the positions: (N, C, H, W) to (N, C)."""
    return maps.mean((2, 3))


@in_float32
def generalized_mean(maps: torch.Tensor, power: float = 3.0) -> torch.Tensor:
    """Generalized-mean pooling with a fixed exponent: (N, C, H, W), not negative, to (N, C).

    Ye et al., arXiv 2001.04193, eq. 11. In float32 because the third power leaves half precision above 40.
    """
    return (maps.pow(power).mean((2, 3)) + 1e-12).pow(1 / power)


POOLINGS = {"average": average, "gem": generalized_mean}
