"""Triplet loss with the hardest positive and negative."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from crossreid.ops.distance import euclidean
from crossreid.ops.precision import in_float32
from crossreid.records import Labels, UserError


def batch_hard_triplet(
    vectors: torch.Tensor, identities: torch.Tensor, margin: float | None = 0.3
) -> torch.Tensor:
    """Triplet loss with the farthest positive and the nearest negative of each anchor.

    Hermans et al., arXiv 1703.07737, eq. 5, over Euclidean distances. As in the published systems the anchor
    itself counts as a positive (distance 1e-6), so an identity with one image has a loss too.

    vectors: (N, D), not necessarily of unit length.
    identities: (N,) integers, at least two different ones.
    margin: in units of distance, or None for the soft margin, log(1 + exp(positive - negative)).

    Returns the mean over the N anchors, in float32. Raises UserError when the batch has a single identity.
    """
    same = same_identity(identities)
    distance = euclidean(vectors, vectors)
    positive = distance.masked_fill(~same, float("-inf")).amax(1)
    negative = distance.masked_fill(same, float("inf")).amin(1)
    gap = positive - negative
    return F.softplus(gap).mean() if margin is None else F.relu(gap + margin).mean()


@in_float32
def modality_centres(
    vectors: torch.Tensor,
    identities: torch.Tensor,
    modalities: torch.Tensor,
    labels: Labels | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of each identity's vectors of each modality, to be compared in the place of the images (Liu et al.,
    arXiv 2008.06223).

    vectors: (N, D). identities, modalities (0 or 1): (N,) integers. labels: the same as the host knows them; without
        them a device is waited for.

    Returns the centroids (M, D) and their identities (M,), identities ascending and visible before infrared.
    """
    if labels is None:
        target, modality = identities.cpu().numpy(), modalities.cpu().numpy()
    else:
        target, modality = labels.target, labels.modality
    number = len(np.unique(2 * target + modality))
    keys, order = torch.sort(2 * identities + modalities, stable=True)
    place = torch.zeros_like(order).scatter(0, order[1:], (keys[1:] != keys[:-1]).cumsum(0))
    groups = keys.new_zeros(number).scatter(0, place[order], keys)
    counts = keys.new_zeros(number).index_add(0, place, torch.ones_like(place))
    sums = vectors.new_zeros(number, vectors.shape[1]).index_add(0, place, vectors)
    return sums / counts[:, None], groups // 2


def same_identity(identities: torch.Tensor) -> torch.Tensor:
    """(N, N) boolean: whether two rows are of one identity. Raises UserError when all are; on a device, which is not
    waited for, ``check_identities`` of the labels does that."""
    same = identities[:, None] == identities[None, :]
    if same.device.type == "cpu" and bool(same.all()):
        check_identities(identities.numpy())
    return same


def check_identities(targets: np.ndarray) -> None:
    """Raise UserError when the images of a batch are all of one identity."""
    if len(np.unique(targets)) < 2:
        raise UserError(
            f"a triplet loss needs at least two identities in every batch, but all {len(targets)} images of this one "
            f"are of identity {targets[0] if len(targets) else 'none'}: draw more of them (data.loaders, identities)"
        )
