"""Cost of moving one set of vectors onto another."""

from __future__ import annotations

import torch

from crossreid.ops.precision import in_float32


@in_float32
def sinkhorn(
    first: torch.Tensor,
    second: torch.Tensor,
    blur: float = 0.01,
    iterations: int = 100,
    tolerance: float = 0.1,
) -> torch.Tensor:
    """Entropic optimal transport between two sets of N vectors, each of weight 1 / N, over squared distances.

    Cuturi, arXiv 1306.0895, in logarithms. It compares the sets and not the pairs of rows: which row of one
    belongs to which of the other plays no part. The small numbers added inside the logarithms are those of
    MVD's program. The gradient runs through all iterations.

    first, second: (N, D). blur: weight of the entropy, in units of squared distance.
    iterations: how many at most; they end once the potentials of the first set change by less than ``tolerance``
        in sum.
    """
    cost = (first[:, None] - second[None]).square().sum(2)
    weight = torch.log(torch.full_like(cost[0], 1 / len(cost)) + 1e-8)
    u = v = torch.zeros_like(weight)
    done = torch.zeros((), dtype=torch.bool, device=cost.device)
    for _ in range(iterations):
        further = blur * (weight - _logsumexp((u[:, None] + v - cost) / blur, 1)) + u
        change = (further - u).detach().abs().sum()
        u = torch.where(done, u, further)
        v = torch.where(done, v, blur * (weight - _logsumexp((u[:, None] + v - cost) / blur, 0)) + v)
        done = done | (change < tolerance)
        if _can_be_asked(done) and done:
            break
    return (((u[:, None] + v - cost) / blur).exp() * cost).sum()


def _can_be_asked(value: torch.Tensor) -> bool:
    """Whether the host has the value at once. Asking a device costs more than iterations that change nothing."""
    return value.device.type == "cpu"


def _logsumexp(values, dim):
    return (values.exp().sum(dim) + 1e-6).log()
