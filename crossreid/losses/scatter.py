"""A loss that keeps the images of a domain apart."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from crossreid.ops.precision import in_float32
from crossreid.records import take


@in_float32
def intra_domain_scatter(vectors: torch.Tensor, domains: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Mean cosine similarity of the images of a domain to their centre; minimised, it spreads them.

    Choi et al. 2021 (MetaBIN, arXiv 2011.14670), the intra-domain scatter loss.

    vectors: (N, D), any length; they are brought to unit length first. domains: (N,) int, better an
        array than a tensor on a device, which is waited for.
    Returns a scalar from -1 to 1: the mean over the domains of the mean over their images.
    """
    unit = F.normalize(vectors, dim=1)
    means = []
    if isinstance(domains, torch.Tensor):
        domains = domains.cpu().numpy()
    for domain in np.unique(domains):
        own = take(unit, np.flatnonzero(domains == domain))
        means.append((own @ F.normalize(own.mean(dim=0), dim=0)).mean())
    return torch.stack(means).mean()
