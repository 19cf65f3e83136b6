"""How far the features of domains are from one another, as distributions."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.ops.precision import in_float32


@in_float32
def mmd(
    features: torch.Tensor,
    domains: torch.Tensor,
    count: int,
    kernels: int = 5,
    ratio: float = 2.0,
    bandwidth: float | None = None,
    distance: str = "squared",
    normalize: bool = True,
) -> torch.Tensor:
    """Maximum mean discrepancy with several Gaussian kernels (Gretton et al. 2012, JMLR 13), the mean over all
    pairs of the domains in the batch; 0 where there is one only.

    Of two domains X and Y: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), each over all pairs of images, also of
    an image with itself, where k is the sum of exp(-d / b) over bandwidths b that are a factor ``ratio`` apart.

    features: (N, D). domains: (N,) int from 0 to ``count`` - 1, each with any number of images.
    bandwidth: the middle one; None takes the mean of d over the different images of both domains, without a gradient.
    distance: d, ``squared`` Euclidean, or ``absolute``, the sum of absolute differences.
    normalize: bring the features to unit length first.
    """
    if distance not in ("squared", "absolute"):
        raise ValueError(f"unknown distance {distance!r}: expected squared or absolute")
    if normalize:
        features = F.normalize(features)
    difference = features[:, None] - features
    d = (difference.abs() if distance == "absolute" else difference.square()).sum(2)
    inside = (domains[:, None] == torch.arange(count, device=domains.device)).to(d)
    number = inside.sum(0)
    a, b = torch.triu_indices(count, count, 1, device=domains.device)
    if bandwidth is None:
        sums = inside.T @ d.detach() @ inside
        both = number[a] + number[b]
        middle = (sums[a, a] + sums[b, b] + 2 * sums[a, b]) / (both * (both - 1)).clamp_min(1)
    else:
        middle = torch.full_like(number[a], bandwidth)
    # By pairs of domains, one kernel at a time: (pairs, N, N).
    middle = middle.clamp_min(torch.finfo(d.dtype).tiny)[:, None, None]
    kernel = sum((-d / (middle * ratio ** (place - kernels // 2))).exp() for place in range(kernels))
    share = (inside / number.clamp_min(1)).T
    means = ((x[:, None] @ kernel @ y[:, :, None])[:, 0, 0] for x, y in _sides(share[a], share[b]))
    within_a, within_b, across = means
    present = (number[a] * number[b] > 0).to(d)
    return ((within_a + within_b - 2 * across) * present).sum() / present.sum().clamp_min(1)


def _sides(a, b):
    return (a, a), (b, b), (a, b)
