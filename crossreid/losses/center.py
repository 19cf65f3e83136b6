"""Each identity's features gather around a point that is learned with them."""

from __future__ import annotations

import torch

from crossreid.ops.precision import in_float32


@in_float32
def center(features: torch.Tensor, targets: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Center loss: the squared distance of each feature to the center of its identity (Wen et al., "A Discriminative
    Feature Learning Approach for Deep Face Recognition", ECCV 2016), without the paper's factor 1/2, as
    reid-strong-baseline has it.

    features: (N, D), any length. targets: (N,) int. centers: (classes, D), learned.
    Returns the mean over the N images.
    """
    return (features - centers[targets]).square().sum(1).mean()
