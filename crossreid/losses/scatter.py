"""A loss that keeps the images of a domain apart."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.ops.precision import in_float32


@in_float32
def intra_domain_scatter(
    features: torch.Tensor, domains: torch.Tensor, distance: str = "cosine", normalize: bool = True
) -> torch.Tensor:
    """Mean cosine similarity of the images of a domain to their centre; minimised, it spreads them.

    Choi et al. 2021 (MetaBIN, arXiv 2011.14670), the intra-domain scatter loss.

    features: (N, D), any length. domains: (N,) int.
    distance: ``cosine`` as above; ``euclidean`` takes minus the mean Euclidean distance to the centre.
    normalize: bring the features to unit length before they are averaged.
    Returns a scalar, for cosine from -1 to 1: the mean over the domains of the mean over their images.
    """
    if distance not in ("cosine", "euclidean"):
        raise ValueError(f"unknown distance {distance!r}: expected cosine or euclidean")
    if normalize:
        features = F.normalize(features)
    together = (domains[:, None] == domains).to(features)
    images = together.sum(1)
    centre = together @ features / images[:, None]
    if distance == "cosine":
        near = F.cosine_similarity(features, centre, eps=1e-12)
    else:
        near = -(features - centre).square().sum(1).clamp_min(1e-12).sqrt()
    # Each domain counts alike, and so does each of its images: nothing needs to know how many domains there are.
    return (near / images).sum() / (1 / images).sum()
