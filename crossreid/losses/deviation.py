"""A loss that keeps features spread out, by their standard deviation."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.ops.precision import in_float32


@in_float32
def deviation(
    features: torch.Tensor,
    domains: torch.Tensor,
    within: str = "domain",
    by_channel: bool = False,
    logarithm: bool = True,
    normalize: bool = True,
) -> torch.Tensor:
    """Minus the logarithm of the standard deviation of features; minimised, it spreads them.

    The program of Choi et al. 2021 (MetaBIN) offers it in the place of ``intra_domain_scatter``.

    features: (N, D). domains: (N,) int.
    within: ``domain``, the mean over the domains of the deviation among the images of each; ``batch``, that of all
        images.
    by_channel: the deviation of each of the D channels, averaged, and not that of all numbers together. A domain
        with a single image then has none and is left out.
    logarithm: false takes minus the deviation itself.
    normalize: bring the features to unit length first.
    """
    if within not in ("domain", "batch"):
        raise ValueError(f"within is {within!r}: expected domain or batch")
    if normalize:
        features = F.normalize(features)
    same = domains[:, None] == domains
    together = (same if within == "domain" else torch.ones_like(same)).to(features)
    images = together.sum(1)
    mean = together @ features / images[:, None]
    if not by_channel:
        mean = mean.mean(1, keepdim=True)
    # In each row the numbers of the image's own domain, so that nothing needs to know how many domains there are.
    squares = together @ (features - mean).square()
    if by_channel:
        known, squares = images > 1, squares / (images - 1).clamp_min(1)[:, None]
    else:
        known, squares = images > 0, squares.sum(1, keepdim=True) / (images * features.shape[1] - 1)[:, None]
    spread = squares.clamp_min(1e-24).sqrt().mean(1)
    weight = known / images
    loss = -spread.log() if logarithm else -spread
    return (loss * weight).sum() / weight.sum().clamp_min(1e-12)
