"""Batch-hard triplets whose positives and negatives are chosen by identity and domain."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch.nn import functional as F

from crossreid.ops.distance import euclidean

RELATIONS = ("same_identity", "same_domain", "other_domain")


def domain_triplet(
    vectors: torch.Tensor,
    targets: torch.Tensor,
    domains: torch.Tensor,
    positive: Collection[str],
    negative: Collection[str],
    margin: float | None,
) -> torch.Tensor:
    """Triplet loss with the hardest positive and negative of each anchor, over Euclidean distances.

    Every other image of the batch stands in one or more relations to an anchor: ``same_identity``, another
    image of its identity; ``same_domain``, another identity of its domain; ``other_domain``, anything from
    another domain. The anchor always counts among its own positives, at distance 0.

    vectors: (N, D), not necessarily of unit length. targets, domains: (N,) int.
    positive, negative: names of relations.
    margin: in units of distance, or None for the soft margin log(1 + exp(positive - negative)).

    Returns a scalar, the mean over the anchors that have a negative; 0 where none has.
    """
    for name in (*positive, *negative):
        if name not in RELATIONS:
            raise ValueError(f"unknown relation {name!r}: expected some of {', '.join(RELATIONS)}")
    identical = targets[:, None] == targets
    together = domains[:, None] == domains
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    related = {
        "same_identity": identical & ~itself,
        "same_domain": ~identical & together,
        "other_domain": ~together,
    }
    positives = torch.stack([itself, *(related[name] for name in positive)]).any(dim=0)
    negatives = torch.stack([related[name] for name in negative]).any(dim=0)

    distance = euclidean(vectors, vectors)
    farthest = distance.masked_fill(~positives, -torch.inf).amax(dim=1)
    nearest = distance.masked_fill(~negatives, torch.inf).amin(dim=1)
    gap = farthest - nearest  # minus infinity without a negative, where loss and gradient are 0
    loss = F.softplus(gap) if margin is None else F.relu(gap + margin)
    return loss.sum() / negatives.any(dim=1).sum().clamp_min(1)


def inter_domain_shuffle(vectors: torch.Tensor, targets: torch.Tensor, domains: torch.Tensor) -> torch.Tensor:
    """Pulls the farthest image of another domain nearer than the nearest other identity of the own domain.

    Choi et al. 2021 (MetaBIN, arXiv 2011.14670), the inter-domain shuffle loss. Shapes and result are those
    of ``domain_triplet``.
    """
    return domain_triplet(vectors, targets, domains, ("other_domain",), ("same_domain",), margin=None)
