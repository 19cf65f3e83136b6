"""Triplet losses whose positives and negatives are chosen by identity and domain."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import torch
from torch.nn import functional as F

from crossreid.losses.weighted_triplet import released_weights
from crossreid.ops.distance import cosine, euclidean

RELATIONS = ("same_identity", "same_domain", "other_domain")
DISTANCES = {"euclidean": euclidean, "cosine": cosine}


def domain_triplet(
    features: torch.Tensor,
    targets: torch.Tensor,
    domains: torch.Tensor,
    positive: Collection[str] | None = None,
    negative: Collection[str] | None = None,
    margin: float | None = 0.3,
    mining: str = "hard",
    distance: str = "euclidean",
    normalize: bool = False,
) -> torch.Tensor:
    """Triplet loss over the positives and negatives that each anchor's relations choose.

    Every other image of the batch stands in one or more relations to an anchor: ``same_identity``, another
    image of its identity; ``same_domain``, another identity of its domain; ``other_domain``, anything from
    another domain. The anchor always counts among its own positives, at distance 0.

    features: (N, D), not necessarily of unit length. targets, domains: (N,) int.
    positive, negative: names of relations; None goes by identity alone, whatever the domains.
    margin: in units of distance, or None for the soft margin log(1 + exp(positive - negative)).
    mining: ``hard`` takes the farthest positive and the nearest negative; ``soft`` the means of all, weighted as in
        ``weighted_triplet``.
    distance: ``euclidean``, or ``cosine``, one minus the cosine. normalize: bring the features to unit length first.

    Returns a scalar, the mean over the anchors that have a negative; 0 where none has.
    """
    for name in (*(positive or ()), *(negative or ())):
        if name not in RELATIONS:
            raise ValueError(f"unknown relation {name!r}: expected some of {', '.join(RELATIONS)}")
    if mining not in ("hard", "soft"):
        raise ValueError(f"unknown mining {mining!r}: expected hard or soft")
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}: expected {' or '.join(DISTANCES)}")
    identical = targets[:, None] == targets
    together = domains[:, None] == domains
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    related = {
        "same_identity": identical & ~itself,
        "same_domain": ~identical & together,
        "other_domain": ~together,
    }
    positives, negatives = identical, ~identical
    if positive is not None:
        positives = torch.stack([itself, *(related[name] for name in positive)]).any(dim=0)
    if negative is not None:
        negatives = torch.stack([itself & False, *(related[name] for name in negative)]).any(dim=0)

    if normalize:
        features = F.normalize(features)
    far = DISTANCES[distance](features, features)
    if mining == "hard":
        farthest = far.masked_fill(~positives, -torch.inf).amax(dim=1)
        nearest = far.masked_fill(~negatives, torch.inf).amin(dim=1)
    else:
        pull, push = released_weights(far, positives, negatives)
        farthest, nearest = (pull * far).sum(dim=1), (push * far).sum(dim=1)
        nearest = nearest.masked_fill(~negatives.any(dim=1), torch.inf)
    gap = farthest - nearest  # minus infinity without a negative, where loss and gradient are 0
    loss = F.softplus(gap) if margin is None else F.relu(gap + margin)
    return loss.sum() / negatives.any(dim=1).sum().clamp_min(1)


# Pulls the farthest image of another domain nearer than the nearest other identity of the own domain: the
# inter-domain shuffle loss of Choi et al. 2021 (MetaBIN, arXiv 2011.14670).
inter_domain_shuffle = partial(
    domain_triplet, positive=("other_domain",), negative=("same_domain",), margin=None
)
