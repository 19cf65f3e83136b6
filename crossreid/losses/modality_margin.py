"""A ranking loss with one margin inside a modality and another across."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from crossreid.losses.triplet import same_identity
from crossreid.ops.distance import euclidean


def modality_margin(
    vectors: torch.Tensor,
    identities: torch.Tensor,
    modalities: torch.Tensor,
    margins: tuple[float, float] = (0.9, 1.0),
    cross_margins: tuple[float, float] = (2.2, 2.0),
    temperature: float = 1.0,
) -> torch.Tensor:
    """Draws positives within ``radius - margin`` and pushes negatives beyond ``radius``, by Euclidean
    distances of unit vectors.

    The ranked list loss (Wang et al., arXiv 1903.03238, eq. 4 to 8) kept apart for pairs of one modality and
    pairs across, as MVD's program has it: for each anchor the mean of max(0, d - (radius - margin)) over the
    positives, the anchor left out, and the mean of radius - d over the negatives within the radius, weighted
    by exp(temperature (radius - d)). A gradient flows through these weights. Without such pairs a term is 0.

    vectors: (N, D), brought to unit length here, so that no distance is above 2. identities, modalities: (N,)
        integers.
    margins, cross_margins: inside a modality, across modalities.

    Returns the mean over the N anchors of the four terms' sum, in float32. Raises UserError when the batch
    has a single identity.
    """
    same = same_identity(identities)
    unit = F.normalize(vectors)
    distance = euclidean(unit, unit)
    positive = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    inside = modalities[:, None] == modalities
    total = distance.new_zeros(len(distance))
    for related, margin, radius in zip((inside, ~inside), margins, cross_margins):
        chosen = positive & related
        far = F.relu(distance + margin - radius).masked_fill(~chosen, 0)
        total = total + far.sum(1) / (chosen.sum(1, dtype=far.dtype) + 1e-5)
        chosen = ~same & related & (distance < radius)
        near = (radius - distance).masked_fill(~chosen, 0)
        weights = (temperature * near).exp().masked_fill(~chosen, 0)
        total = total + (weights * near).sum(1) / (weights.sum(1) + 1e-5)
    return total.mean()
