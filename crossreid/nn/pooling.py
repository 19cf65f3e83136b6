"""From a map to one vector."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

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


@in_float32
def maximum(maps: torch.Tensor) -> torch.Tensor:
    """Largest value over the positions: (N, C, H, W) to (N, C)."""
    return maps.amax((2, 3))


@in_float32
def average_and_maximum(maps: torch.Tensor) -> torch.Tensor:
    """Sum of both: (N, C, H, W) to (N, C)."""
    return maps.mean((2, 3)) + maps.amax((2, 3))


@in_float32
def clipped_average(maps: torch.Tensor) -> torch.Tensor:
    """Mean over the positions, kept from 0 to 1: (N, C, H, W) to (N, C)."""
    return maps.mean((2, 3)).clamp(0, 1)


class GeneralizedMean(nn.Module):
    """Generalized-mean pooling (N, C, H, W) to (N, C) of values that are raised to 1e-6 first, as fast-reid and
    MetaBIN have it; with a learned exponent it is that of Radenovic et al., arXiv 1711.02512, with one for all
    channels."""

    def __init__(self, power: float = 3.0, learned: bool = False):
        super().__init__()
        self.power = nn.Parameter(torch.full((1,), power)) if learned else power

    @in_float32
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.clamp_min(1e-6).pow(self.power).mean((2, 3)).pow(1 / self.power)


POOLINGS = {"average": average, "gem": generalized_mean}

# Name -> what makes such a layer, for methods that choose among all.
LAYERS: dict[str, Callable[[], Callable[[torch.Tensor], torch.Tensor]]] = {
    "average": lambda: average,
    "max": lambda: maximum,
    "average_max": lambda: average_and_maximum,
    "average_clipped": lambda: clipped_average,
    "gem": GeneralizedMean,
    "gem_learned": partial(GeneralizedMean, learned=True),
}
